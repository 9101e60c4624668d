"""How laws mark their parts: articles, and the chapters above them, in Chinese and in English."""

from __future__ import annotations

import re
from dataclasses import dataclass

from plumbline.retriever.readers.numerals import HAN_NUMBER, han_number

_NUMBER = f"[{HAN_NUMBER}0-9０-９]+"
_HAN_ARTICLE = re.compile(
    rf"(?P<label>第(?P<number>{_NUMBER})"
    # A space may have slipped to the wrong side: `第五 条为了`.
    rf"(?:\s条(?!之)|条(?:之(?P<sub>{_NUMBER}))?(?=[\s【（(:：]|$)))\s*(?P<rest>.*)"
)
_HAN_UNIT = re.compile(rf"(?P<label>第{_NUMBER}(?P<unit>分编|编|篇|章|节))(?:\s+(?P<heading>.*))?$")
_HAN_ITEM = re.compile(rf"(?P<label>(?P<number>{_NUMBER})、)(?P<rest>.*)")
_HAN_RANKS = {"编": 10, "篇": 10, "分编": 15, "章": 20, "节": 30}

_PLACE = r"(?:\d+(?:[A-Za-z]{1,3}|\.\d+)*|[IVXLC]+)\b"
_AFTER = r"(?:\s*$|\s*[.:–—-]\s*|\s+(?=[A-Z(\"“\[]))"
"""A marker stands alone, or is followed by punctuation or a new sentence; `Section 3 of the Act`
is a reference."""
_ENGLISH_ARTICLE = re.compile(
    rf"(?P<label>(?P<unit>(?i:Article|Art\.|Section|Sec\.|§))\s*(?P<number>{_PLACE}))"
    rf"{_AFTER}(?P<rest>.*)"
)
_ENGLISH_UNIT = re.compile(
    rf"(?P<label>(?P<unit>(?i:Part|Title|Schedule|Chapter|Subchapter|Division|Section))\s+"
    rf"(?P<number>{_PLACE}))(?:\s*$|\s*[.:–—-]\s*|\s+)(?P<heading>.*)$"
)
_ENGLISH_RANKS = {
    "part": 10,
    "title": 10,
    "schedule": 10,
    "chapter": 20,
    "subchapter": 25,
    "division": 30,
    "section": 30,
}
_ARTICLE_WORDS = {"article": "article", "art.": "article", "section": "section", "sec.": "section"}
_LONGEST_HEADING = 120
_BETWEEN_HAN = re.compile(r"(?<=[\u3400-\u9fff])\s+(?=[\u3400-\u9fff])")


@dataclass(frozen=True, slots=True)
class Article:
    """The line on which an article begins."""

    number: str
    """As ids have it: `14`, `14-1`, `12A`."""
    label: str
    """As the law has it: `第十四条之一`, `Section 12A`."""
    rest: str
    """What follows on the line."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A heading above articles."""

    heading: str
    level: int
    """Number of `#` before it; 0 for a line without."""
    rank: int = 0
    """Of a part, a chapter and so on, lower is further out; 0 for a heading that names none."""
    goes_on: bool = False
    """The next line may be the rest of it."""

    def closes(self, other: Unit) -> bool:
        """Does this heading end what stands under another one?"""
        if self.rank and other.rank:
            return other.rank >= self.rank
        return other.level >= self.level


class Markers:
    """What counts as an article in one document.

    Args:
        text: the document; English laws number either articles or sections, and where they
            number articles their sections are headings.
    """

    def __init__(self, text: str) -> None:
        words = {
            _ARTICLE_WORDS.get(match["unit"].lower(), "section")
            for line in text.split("\n")
            if (match := _ENGLISH_ARTICLE.match(line.strip().lstrip("#* ")))
        }
        self._article = "article" if "article" in words else "section"

    def article(self, line: str) -> Article | None:
        """The article that begins on a line without its Markdown signs; None where none does."""
        match = _HAN_ARTICLE.match(line)
        if match:
            number = str(han_number(match["number"]))
            if match["sub"]:
                number += f"-{han_number(match['sub'])}"
            label = "".join(match["label"].split())
            return Article(number, label, match["rest"].strip())
        match = _ENGLISH_ARTICLE.match(line)
        if match and _ARTICLE_WORDS.get(match["unit"].lower(), "section") == self._article:
            return Article(match["number"], match["label"].strip(), match["rest"].strip())
        return None

    def unit(self, line: str, *, level: int) -> Unit | None:
        """The heading that a line is; None where it is text.

        Args:
            level: number of `#` before it; 0 for a line without, which must then name a unit.
        """
        if len(line) <= _LONGEST_HEADING:
            match = _HAN_UNIT.match(line)
            if match:
                heading = f"{match['label']} {closed_up(match['heading'] or '')}".strip()
                return Unit(heading, level, _HAN_RANKS[match["unit"]], goes_on=True)
            match = _ENGLISH_UNIT.match(line)
            if match and (level or _stands_alone(match)):
                rank = _ENGLISH_RANKS[match["unit"].lower()]
                return Unit(" ".join(line.split()), level, rank, goes_on=not match["heading"])
        return Unit(closed_up(line), level) if level else None


def item(line: str) -> Article | None:
    """The item `一、` that begins on a line, of a document that numbers no articles."""
    match = _HAN_ITEM.match(line)
    if match is None:
        return None
    return Article(str(han_number(match["number"])), match["label"].rstrip("、"), match["rest"])


def closed_up(heading: str) -> str:
    """A heading without the spaces that spread its Han characters out: `总　则` is `总则`."""
    return " ".join(_BETWEEN_HAN.sub("", heading).split())


def _stands_alone(match: re.Match[str]) -> bool:
    """Without `#`, a unit's heading is capitalised and does not end as a sentence does."""
    heading = match["heading"]
    return match["label"][0].isupper() and (
        not heading or (heading[0].isupper() and heading[-1] not in ".;,")
    )
