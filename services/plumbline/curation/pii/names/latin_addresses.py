"""Addresses in Latin script: house numbers with street words, on either side, and what follows.

Numbers are the anchors, because few texts hold many: ahead of a number may stand a street
(Schillerstraße 12, Via Roma 8), behind it one (221 Baker Street), and either way the address goes
on with a flat, a town, a state and a postal code, also on the next lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from plumbline.curation.pii.names.gazetteer import sections
from plumbline.curation.pii.spans import Span

_RECOGNIZER = "addresses"
_U = "A-ZÀ-ÖØ-ÞĀ-Ž\u0386-\u03ab"
_W = rf"[{_U}][\w'’.-]*"
_PLAIN = rf"[{_U}][\w'’-]+"
_NUMBER = re.compile(
    r"[0-9](?<![\w.,:$€£#%/@+=-][0-9])\d{0,5}(?:[A-Za-z]\b|(?:[-/]\d{1,4})?\b)(?![%:@]|[.,]\d)"
)
"""What may not stand before the number is looked at after its first digit: a search for a fixed
set of characters is several times as fast as one that begins by looking behind."""
_LOOK_BACK = 60
_ORDINAL = r"\d{1,3}(?:st|nd|rd|th)"
_DIRECTION = (
    r"(?:North|South|East|West|Northeast|Northwest|Southeast|Southwest|[NSEW]\.?|NE|NW|SE|SW)"
)
_BOX = re.compile(
    r"\b(?:\d{1,6} )?(?:P\.? ?O\.? ?Box|Postbox|Postfach|Apartado|Casella Postale)\s?\d{1,6}\b",
    re.I,
)
_BOX_SIGNS = ("Box ", "BOX ", "Postbox ", "Postfach ", "PO A", "Apartado ", "Postale ")
_MILITARY = re.compile(
    r"\b(?:(?:PSC|Unit|CMR)\s\d{1,5},?\s?Box\s\d{1,6}|US(?:NS|S|NV|CGC)\s[A-Z][\w-]+),?\s{1,2}"
    r"[AFD]PO\s(?:AE|AP|AA)\s\d{5}(?:-\d{4})?",
    re.I,
)
_ABBREVIATED = re.compile(r"\b\w{1,4}\.$")
_YEAR = re.compile("1[5-9]\\d\\d|20\\d\\d")
_CORNER = re.compile(
    rf"(?=[{_U}\d])[\w.'/ -]{{2,45}}? and (?:{_PLAIN}|\d{{1,4}})"
    rf"(?: (?:{_PLAIN}|\d{{1,4}}|de|la)){{0,4}}"
)
_STATE = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
    r"|[A-Z]{2,3})"
)
_POSTCODE = r"(?:\d{3,6}(?:-\d{3,4})?|[A-Z]{1,2}\d{1,2}[A-Z]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d)"
_TOWN = rf"{_W}(?:[ -](?:{_W}|de|del|di|da|do|la|na|nad|upon|sur|am|\d)\b){{0,4}}(?: \({_W}\))?"
_GAP = r"\s{0,2},?\s{1,3}"
_MORE = re.compile(
    rf",\s{{1,2}}(?:[A-Z]{{1,2}}-)?\d{{4,5}} {_TOWN}"
    rf"|(?:{_GAP}(?:{_TOWN}|nan)){{0,3}}?{_GAP}(?:{_STATE}\s{{1,3}})?{_POSTCODE}\b"
    rf"|(?:,\s{{1,2}}{_TOWN}){{2,3}}"
    rf"|(?:\s?\n,?\s?(?:{_TOWN}|nan)){{1,3}}"
)
"""Towns, a state and a postal code; without a code two places, or lines of their own."""
_TOWN_AFTER_UNIT = re.compile(rf" {_TOWN}(?: nan\b)?")
_ASKS = re.compile(
    r"(?i:\b(?:liv(?:es?|ing)|resid(?:es?|ing|ent)|residence|located|stay(?:s|ing)?|moved|home|house|office"
    r"|shop|store|address(?:es)?|meet\s(?:you|me|us)|deliver\w*|ship\w*|send|sent|mail\w*|billing"
    r"|visit\s(?:us|me))\b[^.!?\n]{0,24}?(?:\s(?:at|to|on|is|are|with|in)|:)\s{0,3}(?:the\scorner\sof\s)?)$"
)


class LatinAddresses:
    """Finds addresses in Latin script."""

    def __init__(self) -> None:
        word = sections("street_words")
        beginning, secondary = _any_of(word["beginnings"]), _any_of(word["secondary"])
        core, other = _any_of(word["core"]), _any_of(word["other"])
        small = r"of|the|de|del|della|dei|des|du|da|do|dos|di|la|le|les|el|y"
        parts = rf"(?:(?:{_W}|{_ORDINAL}|of|the|de|la|\d{{1,4}}) ){{1,5}}"
        unit = (
            rf"(?:,?\s{{1,3}}(?:{secondary})\.?\s?#?\s?[\dA-Z][\dA-Z-]{{0,6}}\b"
            r"|,?\s#\s?\d{1,5}\b)"
        )
        self._behind = re.compile(
            rf" (?:{_DIRECTION} )?{parts}(?:(?P<core>{core})|{other})\b"
            r"(?:(?<=\b\w\w)\.|(?<=\bAve)\.|(?<=\bBlvd)\.)?"
            rf"(?: {_DIRECTION}(?!\w))?(?:(?<=Highway) \d{{1,4}}\b)?(?P<unit>(?:{unit}){{0,2}})"
        )
        self._behind_first = re.compile(
            rf",? (?:\d{{1,4}} )?(?i:{beginning})\.? (?:(?:{_PLAIN}|{small}) ){{0,4}}"
            rf"(?:[dl]['’])?{_PLAIN}(?: \d{{1,4}}\b)?"
        )
        self._with_unit = re.compile(
            rf",? (?:(?:{_W}|{small}|\d{{1,5}}) ){{0,5}}(?:{_W}|\d{{1,5}})(?:{unit}){{1,2}}"
        )
        self._alone = re.compile(rf"(?:{unit}){{1,2}}")
        self._alone_at_end = re.compile(rf"(?:{unit})$")
        self._any_street = re.compile(
            rf" (?:\d{{1,4}} )?(?:{_DIRECTION} )?(?:the |The )?{_PLAIN}"
            rf"(?: (?:{_PLAIN}|{small}|{_any_of(word['endings'])})\b){{0,4}}(?: \d{{1,4}}\b\.?)?"
        )
        self._beginnings = frozenset(word["beginnings"])
        self._endings = tuple(word["grown"])
        self._whole_endings = frozenset(word["endings"])
        self._first = re.compile(
            rf"\b(?:{beginning})\.? (?:(?:{_W}|{small}|\d{{1,4}}) ?){{1,5}},? ?$"
        )
        self._last = re.compile(
            rf"(?:{_W} ){{1,4}}(?:{_any_of(word['endings'])})\.? ?$"
            rf"|{_W}(?:{_any_of(word['grown'])})\.? ?$"
        )

    def find(self, text: str) -> list[Span]:
        """Proposals in a normalized text."""
        if text.islower():
            # Without capitals there is no telling streets from other words; titles are as long.
            raised = text.title()
            text = raised if len(raised) == len(text) else text
        found: list[Span] = []
        last = 0
        for match in _NUMBER.finditer(text):
            if match.start() < last:
                continue
            place = self._around(text, match.start(), match.end(), last)
            if place:
                begin, end, confidence = place
                last = self._continued(text, end)
                found.append(Span(begin, last, "ADDRESS", confidence, _RECOGNIZER))
        corners = re.finditer("(?:the )?corner of ", text) if "corner of " in text else ()
        for sign in corners:
            corner = _CORNER.match(text, sign.end())
            if corner:
                found.append(Span(sign.start(), corner.end(), "ADDRESS", 0.9, _RECOGNIZER))
        if any(sign in text for sign in _BOX_SIGNS):
            found.extend(self._boxes(text))
        return found

    def _around(
        self, text: str, start: int, end: int, lowest: int
    ) -> tuple[int, int, float] | None:
        """(start, end, confidence) of a street with this number."""
        candidates = [
            place
            for place in (
                self._street_behind(text, start, end),
                self._street_ahead(text, start, end, lowest),
            )
            if place
        ]
        if not candidates:
            unit = self._with_unit.match(text, end)
            return (start, unit.end(), 0.75) if unit else None
        return max(candidates, key=lambda place: place[1] - place[0])

    def _street_behind(self, text: str, start: int, end: int) -> tuple[int, int, float] | None:
        """A street that follows its number."""
        ahead = text[end : end + 3].lstrip(" ,")[:1]
        if not ahead.isalnum():
            return None
        street = self._behind.match(text, end)
        first = self._behind_first.match(text, end)
        if first and (not street or first.end() > street.end()):
            return start, first.end(), 0.75
        if street and (
            street["unit"]
            or (street["core"] and not _YEAR.fullmatch(text, start, end))
            or _is_asked_for(text, start)
        ):
            return start, street.end(), 0.85
        if end - start > 1 and (ahead.isupper() or ahead.isdigit()):
            street = self._any_street.match(text, end)
            if street and _is_asked_for(text, start):
                return start, street.end(), 0.65
        return None

    def _street_ahead(
        self, text: str, start: int, end: int, lowest: int
    ) -> tuple[int, int, float] | None:
        """A street that its number follows."""
        window = text[max(lowest, start - _LOOK_BACK) : start]
        pieces = window.replace(",", " ").split()
        if not pieces:
            return None
        last = pieces[-1].rstrip(".")
        street = None
        if last in self._whole_endings or (
            pieces[-1][0].isupper() and last.endswith(self._endings)
        ):
            street = self._last.search(window)
        if not street and not self._beginnings.isdisjoint(piece.rstrip(".") for piece in pieces):
            street = self._first.search(window)
        if not street:
            return None
        begin = start - len(window) + street.start()
        return self._with_leading_number(text, begin, lowest), end, 0.75

    def _with_leading_number(self, text: str, begin: int, lowest: int) -> int:
        """An address may have a number on both sides; then it begins with the first."""
        number = re.compile(r"\d{1,6} $").search(text, max(lowest, begin - 7), begin)
        return number.start() if number else begin

    def _continued(self, text: str, end: int) -> int:
        """Where an address ends whose street ends here."""
        for pattern in (self._alone, _MORE):
            more = pattern.match(text, end)
            if more:
                end = more.end()
        if text[end - 1].isdigit() and self._alone_at_end.search(text, max(0, end - 12), end):
            town = _TOWN_AFTER_UNIT.match(text, end)
            end = town.end() if town else end
        if text[end - 1] == "." and not _ABBREVIATED.search(text, max(0, end - 6), end):
            return end - 1
        return end

    def _boxes(self, text: str) -> Iterator[Span]:
        for pattern in (_MILITARY, _BOX):
            for match in pattern.finditer(text):
                end = self._continued(text, match.end()) if pattern is _BOX else match.end()
                yield Span(match.start(), end, "ADDRESS", 0.85, _RECOGNIZER)


def _any_of(words: tuple[str, ...]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


def _is_asked_for(text: str, position: int) -> bool:
    """Whether the words before a position ask for an address."""
    return _ASKS.search(text, max(0, position - _LOOK_BACK), position) is not None
