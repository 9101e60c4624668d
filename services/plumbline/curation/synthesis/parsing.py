"""Reads what a policy wrote: numbered lists, examples, one-word judgements, ratings."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = re.compile(
    r"^[ \t]*(?:[*#]+[ \t]*)?(?:task[ \t]*|任务[ \t]*)?\d{1,3}[ \t]*[.、:：)）．][ \t*]*",
    re.IGNORECASE | re.MULTILINE,
)
_LABELS = re.compile(r"^(?:instruction|task|指令|任务)[ \t]*[:：][ \t]*", re.IGNORECASE)
_EXAMPLE = re.compile(
    r"^[ \t]*(?:[*#]+[ \t]*)?(?:example|示例|例子?)[ \t]*\d+[ \t]*[:：.*]*[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_FIELD = re.compile(
    r"^[ \t]*[*]*(?P<name>input|输入|output|输出|(?:class )?label|标签)[ \t]*[*]*[:：][*]*[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_FIELD_NAMES = {
    "input": "input",
    "输入": "input",
    "output": "output",
    "输出": "output",
    "label": "output",
    "class label": "output",
    "标签": "output",
}
_NO_INPUT = re.compile(
    r"[<\[(（【]?\s*(?:none|n/a|no ?input|not needed|无|没有|无需输入)\s*[>\])）】]?\.?。?",
    re.IGNORECASE,
)
_YES = re.compile(r"\W*(?:yes\b|是(?!否)|可以)", re.IGNORECASE)
_NO = re.compile(r"\W*(?:no\b|否|不)", re.IGNORECASE)
_DIFFERENT = re.compile(r"not (?:the )?(?:equal|same)|different|不同|不相同", re.IGNORECASE)
_EQUAL = re.compile(r"\b(?:equal|same)\b|相同", re.IGNORECASE)
_RATING = re.compile(r"(?:score|rating|评分|分数|得分)\s*[:：]?\s*([0-5])(?![\d.])", re.IGNORECASE)
_BARE_RATING = re.compile(r"\s*([0-5])(?![\d.])")
_QUOTES = {'"': '"', "“": "”", "「": "」", "'": "'"}


@dataclass(frozen=True, slots=True)
class Instance:
    """One input with its output."""

    input: str
    output: str


def parse_instructions(text: str, *, finished: bool) -> list[str]:
    """Items of a numbered list; the prompt ended with the first item's number.

    A lead-in such as "Here are some tasks:" is no item, nor is a last one that was cut off.
    """
    pieces = _NUMBER.split(text)
    if pieces[0].rstrip().endswith((":", "：")):
        pieces = pieces[1:]
    if not finished:
        pieces = pieces[:-1]
    items = (_item(piece) for piece in pieces)
    return [item for item in items if item]


def _item(piece: str) -> str:
    paragraph = piece.strip().split("\n\n")[0]
    return unquoted(_LABELS.sub("", " ".join(paragraph.split())).strip("* "))


def parse_instances(text: str, first_field: str, *, finished: bool) -> list[Instance]:
    """Examples of fields; those without an output, or cut off, are left out.

    Args:
        first_field: `input` or `label`, with which the prompt ended.
    """
    if not _EXAMPLE.match(text.lstrip()) and not _FIELD.match(text.lstrip()):
        text = f"{first_field}: {text}"
    blocks = [block for block in _EXAMPLE.split(text) if block.strip()]
    if not finished:
        blocks = blocks[:-1]
    found = (_instance(block) for block in blocks)
    return [instance for instance in found if instance is not None]


def _instance(block: str) -> Instance | None:
    marks = list(_FIELD.finditer(block))
    ends = [mark.start() for mark in marks[1:]] + [len(block)]
    fields: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=True):
        name = _FIELD_NAMES[mark["name"].lower()]
        if name in fields:
            break
        fields[name] = block[mark.end() : end].strip()
    if not fields.get("output"):
        return None
    material = fields.get("input", "")
    return Instance("" if _NO_INPUT.fullmatch(material) else material, fields["output"])


def parse_yes_no(text: str) -> bool | None:
    """The judgement with which an answer begins; None where it begins with none."""
    if _NO.match(text):
        return False
    return True if _YES.match(text) else None


def parse_equal(text: str) -> bool | None:
    """Whether two prompts were judged equal; None where neither word stands there."""
    if _DIFFERENT.search(text):
        return False
    return True if _EQUAL.search(text) else None


def parse_rating(text: str) -> int | None:
    """A rating of 0 to 5: the last one that is named, or a bare number at the start."""
    named = _RATING.findall(text)
    if named:
        return int(named[-1])
    bare = _BARE_RATING.match(text)
    return int(bare[1]) if bare else None


def parse_single(text: str) -> str:
    """One instruction: without the marker that it was asked for with, code fences or quotes."""
    text = re.sub(r"^\s*#[^#\n]{1,30}#\s*[:：]?", "", text).strip()
    text = re.sub(r"^(?:request|请求|prompt|提示)\s*[:：]\s*", "", text, flags=re.IGNORECASE)
    return unquoted(text)


def unquoted(text: str) -> str:
    """Without a pair of quotation marks around all of it."""
    text = text.strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[-1] not in text[1:-1]:
        return text[1:-1].strip()
    return text
