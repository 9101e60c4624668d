"""Chinese addresses: chains of divisions, streets and numbers, written from large to small.

A place is personal from the street or village on: a province with its city alone is where laws and
news happen. So each address holds a number with its unit (号, 栋, 室), and grows from there to
larger divisions on its left and smaller ones on its right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from plumbline.core.characters import HAN
from plumbline.curation.pii.names.gazetteer import sections
from plumbline.curation.pii.spans import Span

_RECOGNIZER = "addresses"
_NUMBER = (
    r"(?:\d{1,5}(?:[-—]\d{1,4}){0,2}[A-Za-z]?|[一二三四五六七八九十百零〇]{1,5}|[A-Za-z]\d{0,3})"
)
_STREET = (
    "大街|大道|大路|街道|路|街|巷|弄|胡同|里|道|村|镇|乡|屯|庄|新区|开发区|园区|小区|花园|广场|大厦|公寓"
    "|家园|新城|苑|庭|府|湾|社区|组"
)
_UNIT = "号楼|号院|弄|号|栋|幢|座|单元|楼|层|室|房|户|组|队"
_ANCHOR = re.compile(rf"(?:{_STREET})(?:[东西南北中]段)?{_NUMBER}(?:{_UNIT})")
_ANCHOR_SIGN = re.compile(
    r"\d(?:号|栋|幢|座|弄|室|单元|楼|层)|[一二三四五六七八九十](?:号|栋|单元|组|室)"
)
"""Cheap to find; text without any has no address."""
_UNIT_SIGNS = "号栋幢座弄室元楼层组"
_TAIL = re.compile(
    rf"(?:[,]?\s?(?:[{HAN}A-Za-z]{{1,10}}(?:大厦|广场|公寓|小区|花园|家园|中心|大楼|宿舍|社区|苑|城))?"
    rf"{_NUMBER}(?:{_UNIT})){{1,5}}(?:之[一二三四五六七八九十\d])?"
)
_LEVEL = re.compile(
    rf"[{HAN}\d]{{1,8}}?(?:特别行政区|自治区|自治州|自治县|地区|省|市|区|县|旗|州|盟)"
)
_BACK = 40
_STOP = frozenset(
    "在于至到往从是为住址将把被由与和及或的了位寄去回搬迁租赁购送经向对因即叫说我你他她它们"
    ":,。;、!?! \t\n()\"'“”<>[]"
)
"""What no street's name holds: before it the address begins."""
_BREAKS = ',。;、!?:\n "“”'
_LABEL = re.compile(
    rf"(?:地址|住址|住所地?|户籍地址|户籍所在地|户籍地?|籍贯|家住|现居住?于?在?|居住[于在]|住在|寄往|寄到|送到|送至|收货地|办公地点)"
    rf"(?:是|为|在|于)?[::]?\s?(?P<place>[{HAN}\dA-Za-z\-#()·]{{4,50}})"
)
_LABEL_SIGNS = ("址", "居", "住", "籍", "寄", "送", "地点", "收货")
_DIVISIONS = re.compile("省|市|区|县|镇|乡|村|路|街|道|巷|里|号|栋|幢|楼|室|小区|花园|苑")


class HanAddresses:
    """Finds Chinese addresses."""

    def __init__(self) -> None:
        places = sections("han_places")
        names = sorted((*places["provinces"], *places["cities"]), key=len, reverse=True)
        self._begins = re.compile(f"(?:{'|'.join(names)})")

    def find(self, text: str) -> list[Span]:
        """Proposals in a normalized text."""
        if text.isascii():
            return []
        found: list[Span] = []
        if any(sign in text for sign in _UNIT_SIGNS) and _ANCHOR_SIGN.search(text):
            found.extend(self._numbered(text))
        if any(sign in text for sign in _LABEL_SIGNS):
            found.extend(self._labelled(text))
        return found

    def _numbered(self, text: str) -> Iterator[Span]:
        last = 0
        for match in _ANCHOR.finditer(text):
            if match.start() < last:
                continue
            end = match.end()
            tail = _TAIL.match(text, end)
            if tail:
                end = tail.end()
            start, levels = self._beginning(text, match.start(), last)
            if start < match.start():
                last = end
                yield Span(start, end, "ADDRESS", 0.9 if levels else 0.7, _RECOGNIZER)

    def _beginning(self, text: str, anchor: int, lowest: int) -> tuple[int, int]:
        """Where the address that holds an anchor begins, and how many divisions it names."""
        left = max(lowest, anchor - _BACK)
        left = max(left, *(text.rfind(mark, left, anchor) + 1 for mark in _BREAKS))
        window = text[left:anchor]
        levels = list(_LEVEL.finditer(window))
        known = self._begins.search(window)
        if known and levels:
            return left + known.start(), len(levels)
        start = anchor
        while start > left and text[start - 1] not in _STOP and anchor - start < 16:
            start -= 1
        return start, sum(level.end() > start - left for level in levels)

    def _labelled(self, text: str) -> Iterator[Span]:
        """Places after a word for an address, where they name at least two divisions."""
        for match in _LABEL.finditer(text):
            start, end = match.span("place")
            if not self._begins.match(text, start) and not any(map(str.isdigit, match["place"])):
                continue
            ends = [part.end() for part in _DIVISIONS.finditer(text, start, end)]
            if len(ends) < 2:
                continue
            place_end = ends[-1]
            number = re.compile(r"\d{1,5}").match(text, place_end)
            if number:
                place_end = number.end()
            yield Span(start, place_end, "ADDRESS", 0.75, _RECOGNIZER)
