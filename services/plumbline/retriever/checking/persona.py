"""Whom a reply says it is.

Seen are plain claims in the first person: `my name is NAME`, 我叫NAME. `I am NAME` and 我是NAME are
claims where NAME is the given one or a known assistant's, or where the prompt asks for a name and a
capital letter begins it: "I am glad" claims nothing, and "I am Scottish" only to one who asks.
"""

from __future__ import annotations

import re

from plumbline.retriever.checking.folding import folded_text

_NAME = r"(?P<name>[A-Z][\w-]*(?: [A-Z][\w-]*){0,3})"
_ENGLISH = re.compile(
    r"\b(?:[Mm]y name is|[Mm]y name[’']s|[Cc]all me|I go by|(?:I am|I[’']m) (?:called|named)) "
    + _NAME
)
_ENGLISH_BEING = re.compile(rf"\b(?:I am|I[’']m)(?: really| actually| still)? {_NAME}")
_CHINESE = re.compile(
    r"(?:我叫|我的名字(?:是|叫)|(?:请|可以)?(?:叫|称呼)我(?:为|作)?)[：:\s]*[“「\"]?"
    r"(?P<name>[^\W_][\w·-]{0,20})"
)
_CHINESE_BEING = re.compile(r"(?:我|本人|本助手)是[：:\s]*[“「\"]?(?P<name>[^\W_][\w·-]{0,20})")
_KNOWN = re.compile(
    r"(?:chatgpt|gpt|claude|gemini|bard|llama|copilot|mistral|deepseek|qwen|grok|siri|alexa|cortana"
    r"|文心一言|通义千问|豆包|讯飞星火|智谱清言|小爱同学)"
)
_NOT_NAMES = re.compile(r"(?:I|AI|OK|English|Chinese|British|American|German|French|Sorry)\b")
_ASKS = re.compile(
    r"\b(?:who are you|what(?:'s| is) your name|what are you called|your name\?"
    r"|what should i call you)|你是谁|您是谁|你叫什么|您叫什么|你的名字|您的名字|怎么称呼你"
)


def claimed_names(reply: str, expected: str, *, asked: bool = False) -> list[str]:
    """Names that the reply gives itself, in order.

    Args:
        expected: the name that it should have; tells where a Chinese name ends.
        asked: the prompt asks for a name, so that any capitalised word may be one.
    """
    found = [(m.start(), m["name"]) for m in _ENGLISH.finditer(reply)]
    found += [(m.start(), _cut(m["name"], expected)) for m in _CHINESE.finditer(reply)]
    for match in (*_ENGLISH_BEING.finditer(reply), *_CHINESE_BEING.finditer(reply)):
        name = _cut(match["name"], expected)
        known = same_name(name, expected) or _KNOWN.match(folded_text(name))
        if known or (asked and match.re is _ENGLISH_BEING and not _NOT_NAMES.match(name)):
            found.append((match.start(), name))
    return [name for _, name in sorted(found)]


def same_name(name: str, expected: str) -> bool:
    """Is it the expected name? More words may follow: the capital of the next sentence's name."""
    given, wanted = folded_text(name).split(), folded_text(expected).split()
    return given[: len(wanted)] == wanted


def asks_for_name(prompt: str) -> bool:
    """Does the prompt ask who answers?"""
    return _ASKS.search(folded_text(prompt)) is not None


def _cut(name: str, expected: str) -> str:
    # Chinese goes on without a space: 我叫小明很高兴认识你.
    return expected if folded_text(name).startswith(folded_text(expected)) else name
