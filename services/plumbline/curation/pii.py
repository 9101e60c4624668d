"""E-mail addresses, phone numbers and Chinese resident identity numbers in text.

Boundaries are ASCII look-arounds, because `\\b` and `\\w` take Han characters for word characters
and so miss a number glued to Chinese text. What a pattern proposes is checked: phone numbers by
phonenumbers' metadata, identity numbers by date and the ISO 7064 MOD 11-2 check digit.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import phonenumbers

from plumbline.curation.config import Action, AnonymizeConfig
from plumbline.curation.normalize import NormalizedText, normalize

_NOT_AFTER = r"(?<![0-9A-Za-z_])(?<![0-9]\.)(?<![0-9A-Za-z][-/])"
_NOT_BEFORE = r"(?![0-9A-Za-z_])(?!\.[0-9])(?!-[0-9A-Za-z])"

_EMAIL = re.compile(
    r"(?<![0-9A-Za-z._%+-])"
    r"[0-9A-Za-z_](?:[0-9A-Za-z._%+-]{0,62}[0-9A-Za-z_+-])?"
    r"(?:@|\s?[\[(]\s?at\s?[\])]\s?)"
    r"(?:[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)){1,6}"
    r"[A-Za-z]{2,24}"
    r"(?![0-9A-Za-z_-])",
    re.IGNORECASE,
)
_NATIONAL_ID = re.compile(
    _NOT_AFTER
    + r"([1-9][0-9]{5})[ -]?((?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01]))"
    + r"[ -]?([0-9]{3}[0-9Xx])"
    + _NOT_BEFORE
)
_EXTENSION = r"(?: ?(?:x|ext\.?) ?[0-9]{1,6})?"
_INTERNATIONAL = re.compile(
    r"(?<![0-9A-Za-z_+])(?:\+|00)[1-9](?:[ ().-]{0,2}[0-9]){6,14}" + _EXTENSION + _NOT_BEFORE
)
_ANY_NUMBER = re.compile(
    r"(?<![0-9A-Za-z_.])[(+]{0,2}[0-9](?:[ ().-]{0,2}[0-9]){6,14}"
    + _EXTENSION
    + r"(?![0-9A-Za-z_])"
)
_PHONE_CONTEXT = re.compile(
    r"(?:(?<![a-z])(?:phone|telephone|tel|mobile|cell|fax|call|ring|dial|whatsapp"
    r"|reach(?:ed)?(?: (?:me|us|him|her|them))? (?:at|on))(?![a-z])"
    r"|电话|手机|座机|传真|热线|致电|拨打|联系方式)[^0-9\n]{0,30}$",
    re.IGNORECASE,
)
"""Text that ends soon after a word for telephones."""
_ID_SHAPE = re.compile(r"(?<![0-9A-Za-z_])[1-9][0-9]{14}(?:[0-9]{2}[0-9Xx])?(?![0-9A-Za-z_])")
_ID_CONTEXT = re.compile(
    r"(?:身份证|(?<![a-z])(?:id(?:entity)?(?: card)? (?:number|no\.?)|resident id))[^0-9\n]{0,20}$",
    re.IGNORECASE,
)
"""Text that ends soon after a word for identity cards; those before 1999 have 15 digits."""
_CONTEXT_CHARACTERS = 64
_SEVEN_DIGITS = re.compile(r"[0-9](?:[ ().-]{0,2}[0-9]){6}")
"""Part of every phone number that is looked for."""
_DATE = re.compile(r"(?:19|20)[0-9]{2}[-. ][0-9]{1,2}[-. ]")
_NATIONAL = {
    "CN": re.compile(
        _NOT_AFTER
        + r"(?:1[3-9][0-9]([ -]?)[0-9]{4}\1[0-9]{4}"
        + r"|\(?0[1-9][0-9]{1,2}\)?[ -][0-9]{3,4}[ -]?[0-9]{4})"
        + _NOT_BEFORE
    ),
    "US": re.compile(
        _NOT_AFTER
        + r"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"
        + _EXTENSION
        + _NOT_BEFORE
    ),
    "GB": re.compile(
        _NOT_AFTER
        + r"(?:07[0-9]{3} ?[0-9]{3} ?[0-9]{3}|\(?0[12][0-9]{1,3}\)? [0-9]{3,4} [0-9]{3,4})"
        + _NOT_BEFORE
    ),
}

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
_PRIORITY = {"NATIONAL_ID": 0, "EMAIL": 1, "PHONE": 2}
_QUICK = re.compile(r"[0-9@]|[\[(]\s?at", re.IGNORECASE)
"""Text without any of these holds nothing that the patterns could match."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of personal data in the original text; end exclusive."""

    start: int
    end: int
    type: str
    """EMAIL, PHONE or NATIONAL_ID."""
    confidence: float
    """0 to 1: checked numbers near 1, shapes that could be something else lower."""


@dataclass(frozen=True, slots=True)
class Anonymized:
    """Text without its personal data, and what was found."""

    text: str
    spans: tuple[Span, ...]
    replacements: tuple[str, ...]


class PiiDetector:
    """Finds personal data of the configured types."""

    def __init__(self, config: AnonymizeConfig) -> None:
        self._config = config
        finders: dict[str, Callable[[str], Iterator[Span]]] = {
            "NATIONAL_ID": _find_national_ids,
            "EMAIL": _find_emails,
            "PHONE": partial(_find_phones, regions=config.phone_regions),
        }
        self._finders = [finders[name] for name in sorted(set(config.types), key=_PRIORITY.get)]  # type: ignore[arg-type]

    def find(self, text: str) -> tuple[Span, ...]:
        """Spans in the original text, in order, without overlaps."""
        view = normalize(text)
        if not _QUICK.search(view.text):
            return ()
        found = [span for find in self._finders for span in find(view.text)]
        return _without_overlaps([_in_original(view, span) for span in found])

    def anonymize(self, text: str, action: Action | None = None) -> Anonymized:
        """Replace every span; a second run changes nothing."""
        spans = self.find(text)
        replacements = tuple(_replacement(span, action or self._config.action) for span in spans)
        pieces: list[str] = []
        position = 0
        for span, replacement in zip(spans, replacements, strict=True):
            pieces += [text[position : span.start], replacement]
            position = span.end
        return Anonymized("".join([*pieces, text[position:]]), spans, replacements)


def _replacement(span: Span, action: Action) -> str:
    return f"<{span.type}>" if action == "redact" else "*" * (span.end - span.start)


def _in_original(view: NormalizedText, span: Span) -> Span:
    start, end = view.original_span(span.start, span.end)
    return Span(start, end, span.type, span.confidence)


def _without_overlaps(spans: list[Span]) -> tuple[Span, ...]:
    """Identity numbers win over phone numbers inside them; then the longer span wins."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (_PRIORITY[s.type], s.start - s.end, s.start)):
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    return tuple(sorted(kept, key=lambda span: span.start))


def _find_emails(text: str) -> Iterator[Span]:
    for match in _EMAIL.finditer(text):
        local = re.split(r"@|\s?[\[(]", match.group(), maxsplit=1)[0]
        if ".." not in local:
            yield Span(match.start(), match.end(), "EMAIL", 1.0 if "@" in match.group() else 0.8)


def _find_national_ids(text: str) -> Iterator[Span]:
    for match in _NATIONAL_ID.finditer(text):
        if is_resident_id("".join(match.groups())):
            yield Span(match.start(), match.end(), "NATIONAL_ID", 0.99)
    for match in _ID_SHAPE.finditer(text):
        if _ID_CONTEXT.search(_before(text, match)):
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
    total = sum(int(d) * w for d, w in zip(number[:17], _ID_WEIGHTS, strict=True))
    return _ID_CHECKS[total % 11] == number[17].upper()


def _find_phones(text: str, *, regions: tuple[str, ...]) -> Iterator[Span]:
    if not _SEVEN_DIGITS.search(text):
        return
    for match in _INTERNATIONAL.finditer(text):
        number = re.sub(r"^00", "+", match.group()).replace("(0)", "")
        confidence = _phone_confidence(number, None, valid=0.95, possible=0.8)
        if confidence:
            yield Span(match.start(), match.end(), "PHONE", confidence)
    for region in regions:
        for match in _NATIONAL[region].finditer(text):
            if confidence := _phone_confidence(match.group(), region, valid=0.85, possible=0.0):
                yield Span(match.start(), match.end(), "PHONE", confidence)
    for match in _ANY_NUMBER.finditer(text):
        if not _DATE.match(match.group()) and _PHONE_CONTEXT.search(_before(text, match)):
            yield Span(match.start(), match.end(), "PHONE", 0.6)


def _before(text: str, match: re.Match[str]) -> str:
    return text[max(0, match.start() - _CONTEXT_CHARACTERS) : match.start()]


def _phone_confidence(number: str, region: str | None, *, valid: float, possible: float) -> float:
    """`valid` for an assigned number, `possible` for one of a right length, else 0."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return 0.0
    if phonenumbers.is_valid_number(parsed):
        return valid
    return possible if phonenumbers.is_possible_number(parsed) else 0.0
