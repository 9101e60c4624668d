"""Characters that code about text must know: Han ranges, invisible ones, look-alikes."""

from __future__ import annotations

INVISIBLE = frozenset(
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200c\u200d\u200e\u200f"
    "\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff"
)
"""Soft hyphens, joiners, direction marks and the byte order mark."""

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Ranges of Han characters, for use inside a regular expression's brackets."""

LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕԁһӏԛԝАВЕКМНОРСТУХІЈЅԌԚԜαινορυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
    "aeopcyxijsdhlqwABEKMHOPCTYXIJSGQWaivopuxABEZHIKMNOPTYX",
)
"""Cyrillic and Greek letters drawn like Latin ones. Source: Unicode UTS 39, confusables."""
