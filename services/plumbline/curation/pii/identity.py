"""Numbers and dates that states give to people: identity cards, passports, plates, birth dates."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

from plumbline.curation.pii.scan import NOT_AFTER, NOT_BEFORE, Scan
from plumbline.curation.pii.spans import Span

_NATIONAL_ID = re.compile(
    NOT_AFTER
    + r"([1-9][0-9]{5})[ -]?((?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01]))"
    + r"[ -]?([0-9]{3}[0-9Xx])"
    + NOT_BEFORE
)
_ID_SHAPE = re.compile(
    r"(?<![0-9A-Za-z_])[1-9][0-9]{5}[ -]?(?:[0-9]{8}[ -]?[0-9]{3}[0-9Xx]|[0-9]{9})(?![0-9A-Za-z_])"
)
"""Cards before 1999 have 15 digits."""
_ID_CONTEXT = re.compile(
    r"(?:身份证|身份号|证件号|身份证明|公民身份|身份证件"
    r"|(?<![a-z])(?:(?:national |resident )?id(?:entity|entification)?(?: card)?"
    r"(?:'s)? (?:number|no\.?|num)|resident id(?:entity card)?|id card|national id))"
    r"[^0-9\n<]{0,20}$",
    re.IGNORECASE,
)
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_PROVINCES = frozenset(
    (
        *("11", "12", "13", "14", "15", "21", "22", "23", "31", "32", "33", "34", "35", "36", "37"),
        *("41", "42", "43", "44", "45", "46", "50", "51", "52", "53", "54", "61", "62", "63", "64"),
        *("65", "71", "81", "82", "83", "91"),
    )
)
"""First two digits of identity numbers. Source: GB/T 2260."""

_SSN = re.compile(
    r"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][-/.])([0-9]{3})([ -]?)([0-9]{2})\2([0-9]{4})" + NOT_BEFORE
)
_SSN_CONTEXT = re.compile(
    r"(?<![a-z<_])(?:social security|ssn|ss ?#|soc\.? sec)[^0-9\n<]{0,30}$", re.IGNORECASE
)
_PASSPORT = re.compile(NOT_AFTER + r"(?:[A-Z]{1,2}[0-9]{6,9}|[0-9]{8,9})" + NOT_BEFORE, re.I)
_PASSPORT_CONTEXT = re.compile(r"(?:护照|(?<![a-z<])passport)[^0-9\n<]{0,24}$", re.IGNORECASE)
_PLATE = re.compile(
    r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"
    r"[A-HJ-NP-Z][ ·•-]?"
    r"(?:[DF][0-9A-HJ-NP-Z][0-9]{4}|[0-9]{5}[DF]"
    r"|(?=[A-Z]{0,3}[0-9][A-Z]{0,2}[0-9])[0-9A-HJ-NP-Z]{4}[0-9A-HJ-NP-Z挂学警港澳])"
    r"(?![0-9A-Za-z])"
)
"""Five signs after the city's letter, six for new energy; two of them digits at least.
Source: GA 36-2018."""
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_MONTH = rf"(?:{_MONTHS})[a-z]{{0,6}}\.?"
_BIRTH_DATE = re.compile(
    r"(?<![0-9A-Za-z])(?:"
    r"(?:19|20)[0-9]{2}[-/.](?:1[0-2]|0?[1-9])[-/.](?:3[01]|[12][0-9]|0?[1-9])"
    r"|(?:3[01]|[12][0-9]|0?[1-9])[-/.](?:3[01]|[12][0-9]|0?[1-9])[-/.](?:(?:19|20)[0-9]{2}|[0-9]{2})"
    r"|(?:19|20)[0-9]{2} ?年 ?(?:1[0-2]|0?[1-9]) ?月(?: ?(?:3[01]|[12][0-9]|0?[1-9]) ?[日号])?"
    r"|(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:3[01]|[12][0-9]|0[1-9])"
    rf"|(?:3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th)?(?: of)? {_MONTH},? (?:19|20)[0-9]{{2}}"
    rf"|{_MONTH} (?:3[01]|[12][0-9]|0?[1-9])(?:st|nd|rd|th)?,? (?:19|20)[0-9]{{2}}"
    r")(?![0-9A-Za-z])",
    re.IGNORECASE,
)
_BIRTH_LABEL = re.compile(
    r"(?:出生日期|出生年月日?|生日|出生时间"
    r"|(?<![a-z<_])(?:date of birth|birth ?date|birthday|d\.?o\.?b\.?))"
    r"(?![a-z_])[^0-9\n<]{0,16}$",
    re.IGNORECASE,
)
_BIRTH_VERB = re.compile(r"(?:出生于|(?<!产)(?<!发)生于|(?<![a-z])born(?: on)?)[ ,:]{0,2}$", re.I)
_BORN_AFTER = re.compile(r" ?(?:出生|生(?![产活效成]))")
_BIRTH_WORDS = ("birth", "born", "dob", "d.o.b")
_BIRTH_WORDS_ZH = ("出生", "生日", "生于", "日生")


def find_national_ids(scan: Scan) -> Iterator[Span]:
    """Valid Chinese resident numbers anywhere; in context any number of their shape."""
    if scan.digits < 15 or not scan.number_runs:
        return
    for start, end in scan.windows:
        for match in _NATIONAL_ID.finditer(scan.text, start, end):
            if is_resident_id("".join(match.groups())):
                yield Span(match.start(), match.end(), "NATIONAL_ID", 0.99)
        for match in _ID_SHAPE.finditer(scan.text, start, end):
            if _ID_CONTEXT.search(scan.before(match.start())):
                yield Span(match.start(), match.end(), "NATIONAL_ID", 0.7)


def is_resident_id(number: str) -> bool:
    """Whether 18 characters are a Chinese resident identity number; never raises.

    Source: GB 11643-1999; ISO 7064 MOD 11-2.
    """
    if not re.fullmatch(r"[0-9]{17}[0-9Xx]", number) or number[:2] not in _PROVINCES:
        return False
    try:
        datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return resident_check(number[:17]) == number[17].upper()


def resident_check(body: str) -> str:
    """Check character of 17 digits."""
    total = sum(int(d) * w for d, w in zip(body, _ID_WEIGHTS, strict=True))
    return _ID_CHECKS[total % 11]


def find_ssns(scan: Scan) -> Iterator[Span]:
    """US social security numbers: with dashes anywhere, in other forms in context."""
    if scan.digits < 9:
        return
    for start, end in scan.windows:
        for match in _SSN.finditer(scan.text, start, end):
            area, separator, group, serial = match.groups()
            if group == "00" or serial == "0000":
                continue
            if _SSN_CONTEXT.search(scan.before(match.start())):
                yield Span(match.start(), match.end(), "US_SSN", 0.95)
            elif separator == "-" and area not in ("000", "666") and area < "900":
                yield Span(match.start(), match.end(), "US_SSN", 0.75)


def find_passports(scan: Scan) -> Iterator[Span]:
    """Numbers in passport context; without it their shape says too little."""
    if scan.digits < 6 or not scan.mentions("passport", "护照"):
        return
    for match in _PASSPORT.finditer(scan.text):
        if _PASSPORT_CONTEXT.search(scan.before(match.start())):
            yield Span(match.start(), match.end(), "PASSPORT", 0.85)


def find_plates(scan: Scan) -> Iterator[Span]:
    if scan.digits < 2 or scan.text.isascii():
        return
    for match in _PLATE.finditer(scan.text):
        yield Span(match.start(), match.end(), "LICENCE_PLATE", 0.85)


def find_birth_dates(scan: Scan) -> Iterator[Span]:
    """Dates that the words around them call somebody's birth."""
    if scan.digits < 5 or not (
        scan.mentions(*_BIRTH_WORDS)
        or (not scan.text.isascii() and any(word in scan.text for word in _BIRTH_WORDS_ZH))
    ):
        return
    for match in _BIRTH_DATE.finditer(scan.text):
        before = scan.before(match.start())
        if _BIRTH_LABEL.search(before):
            yield Span(match.start(), match.end(), "DATE_OF_BIRTH", 0.85)
        elif _BIRTH_VERB.search(before) or _BORN_AFTER.match(scan.text, match.end()):
            yield Span(match.start(), match.end(), "DATE_OF_BIRTH", 0.7)
