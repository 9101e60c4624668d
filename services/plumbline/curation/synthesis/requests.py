"""Tells a request's instruction from the material that it is about.

People put the material before the instruction ("... Please analyse the sentence above"), after it
("Translate this:"), or leave it out. Only layouts that say so are split: a wrong cut would teach
half of a request.
"""

from __future__ import annotations

import re

_POINTS_BACK = re.compile(
    r"\b(?:above|preceding|foregoing)\b|上面|上述|以上|上文|前面的|这(?:句|段|首|篇)",
    re.IGNORECASE,
)
_POINTS_FORWARD = re.compile(
    r"\b(?:below|following)\b|下面|下列|以下|如下",
    re.IGNORECASE,
)
_ANSWER_SLOT = re.compile(
    r"\n[ \t]*(?:output|answer|response|输出|答案|回答|答)[ \t]*[:：][ \t]*\Z", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"(?<=[。！？!?\n])(?!\Z)|(?<=[.])(?=\s)")
_IMPERATIVE = re.compile(
    r"^\s*(?:please\b|translate\b|summari[sz]e\b|rewrite\b|analy[sz]e\b|classify\b|explain\b|"
    r"identify\b|correct\b|paraphrase\b|convert\b|请|帮我|把|将|翻译|总结|概括|改写|分析|解释|判断|"
    r"指出|提取)",
    re.IGNORECASE,
)
_MAX_INSTRUCTION_CHARACTERS = 400
"""A longer piece is material, whatever it says."""


def split_request(text: str) -> tuple[str, str]:
    """Instruction and material; the material is empty where no layout tells them apart."""
    text = _ANSWER_SLOT.sub("", text.strip())
    for split in (_material_first, _first_line, _after_colon):
        found = split(text)
        if found is not None:
            return found
    return text, ""


def _material_first(text: str) -> tuple[str, str] | None:
    """Material, then an imperative that points back at it."""
    ends = [match.start() for match in _SENTENCE_END.finditer(text)]
    if not ends:
        return None
    material, last = text[: ends[-1]], text[ends[-1] :]
    if not (_POINTS_BACK.search(last) and _IMPERATIVE.search(last)):
        return None
    return _checked(last, material)


def _first_line(text: str) -> tuple[str, str] | None:
    """An instruction on the first line, its material on those after it."""
    first, separator, rest = text.partition("\n")
    if not separator or first.lstrip().startswith(("-", "*", "•", "```", "{", "[", "|")):
        return None
    says_so = _IMPERATIVE.search(first) or _POINTS_FORWARD.search(first)
    if not says_so and not first.rstrip().endswith((".", "?", "!", ":", "。", "？", "！", "：")):
        return None
    return _checked(first, rest)


def _after_colon(text: str) -> tuple[str, str] | None:
    """An imperative that points forward and ends in a colon, then its material."""
    match = re.match(r"([^\n:：]{4,}[:：])[ \t]*(\S.*)", text, re.DOTALL)
    if match is None or not _IMPERATIVE.search(match[1]):
        return None
    return _checked(match[1], match[2])


def _checked(instruction: str, material: str) -> tuple[str, str] | None:
    instruction, material = instruction.strip(), material.strip()
    if not instruction or not material or len(instruction) > _MAX_INSTRUCTION_CHARACTERS:
        return None
    return instruction, material
