"""Numbers and dates as laws write them, in Chinese and in English."""

from __future__ import annotations

import datetime
import re
import unicodedata

HAN_NUMBER = "零〇○一二三四五六七八九十百千两"
"""Characters of a Chinese number; a class for regular expressions."""

_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")}
_DIGITS |= {"〇": 0, "○": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_MONTH = "|".join(_MONTHS)
_ANY = f"[0-9{HAN_NUMBER}]"
_HAN_DATE = re.compile(rf"({_ANY}{{4}})年({_ANY}{{1,3}})月({_ANY}{{1,3}})日")
_ENGLISH_DATE = re.compile(
    rf"(?:(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?P<month>{_MONTH})"
    rf"|(?P<month2>{_MONTH})\s+(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?,?)\s+(?P<year>\d{{4}})",
    re.IGNORECASE,
)
_ISO_DATE = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)")


def han_number(text: str) -> int:
    """`一百二十三` as 123, `二〇` as 20, `123` (of any width) as 123; -1 where it is no number."""
    plain = unicodedata.normalize("NFKC", text)
    if plain.isascii() and plain.isdigit():
        return int(plain)
    if plain and all(character in _DIGITS for character in plain):
        return int("".join(str(_DIGITS[character]) for character in plain))
    total = digit = 0
    for character in plain:
        if character in _UNITS:
            # A leading ten has no digit before it: 十五 is 15.
            total += (digit or 1) * _UNITS[character]
            digit = 0
        elif character in _DIGITS:
            digit = _DIGITS[character]
        else:
            return -1
    return total + digit if plain else -1


def dates_in(text: str) -> list[datetime.date]:
    """The dates that a text writes out, in order of their place; days that no month has are none.

    Accepted: 2004年1月1日, 一九九二年九月三十日, 1 January 2004, January 1, 2004, 2004-01-01.
    """
    found: list[tuple[int, datetime.date]] = []
    for match in _HAN_DATE.finditer(text):
        _add(found, match, *(han_number(part) for part in match.groups()))
    for match in _ENGLISH_DATE.finditer(text):
        month = _MONTHS.index((match["month"] or match["month2"]).lower()) + 1
        _add(found, match, int(match["year"]), month, int(match["day"] or match["day2"]))
    for match in _ISO_DATE.finditer(text):
        _add(found, match, *(int(part) for part in match.groups()))
    return [day for _, day in sorted(found)]


def _add(
    found: list[tuple[int, datetime.date]], match: re.Match[str], year: int, month: int, day: int
) -> None:
    try:
        found.append((match.start(), datetime.date(year, month, day)))
    except ValueError:
        return
