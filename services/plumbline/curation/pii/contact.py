"""E-mail addresses and telephone numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers

from plumbline.curation.pii.scan import NOT_AFTER, NOT_BEFORE, Scan, digits_of
from plumbline.curation.pii.spans import Span

_AT = r"(?:@|\s?[\[({]\s?at\s?[\])}]\s?)"
_DOT = r"(?:\.|\s?[\[({]\s?dot\s?[\])}]\s?)"
_EMAIL = re.compile(
    r"(?<![0-9A-Za-z._%+-])"
    r"[0-9A-Za-z_](?:[0-9A-Za-z._%+'-]{0,62}[0-9A-Za-z_+-])?"
    + _AT
    + rf"(?:[0-9A-Za-z](?:[0-9A-Za-z-]{{0,61}}[0-9A-Za-z])?{_DOT}){{1,6}}"
    + r"[A-Za-z]{2,24}(?![0-9A-Za-z_-])",
    re.IGNORECASE,
)
_DISGUISED_AT = re.compile(r"[\[({]\s?at\s?[\])}]", re.IGNORECASE)
_LOCAL_END = re.compile(r"@|\s?[\[({]")
_FILE_ENDING = re.compile(r"\.(?:png|jpe?g|gif|svg|webp|css|js|json|html?)$", re.IGNORECASE)
"""`icon@2x.png` is a file."""

_EXTENSION = r"(?: ?(?:x|ext\.?) ?[0-9]{1,6})?"
_INTERNATIONAL = re.compile(
    r"(?<![0-9A-Za-z_+])(?:\+|00)[1-9](?:[ ().-]{0,2}[0-9]){6,14}" + _EXTENSION + NOT_BEFORE
)
_NATIONAL = {
    "CN": re.compile(
        NOT_AFTER
        + r"(?:1[3-9][0-9]([ -]?)[0-9]{4}\1[0-9]{4}"
        + r"|\(?0[1-9][0-9]{1,2}\)?[ -][0-9]{3,4}[ -]?[0-9]{4})"
        + NOT_BEFORE
    ),
    "US": re.compile(
        NOT_AFTER
        + r"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"
        + _EXTENSION
        + NOT_BEFORE
    ),
    "GB": re.compile(
        NOT_AFTER
        + r"(?:07[0-9]{3} ?[0-9]{3} ?[0-9]{3}|\(?0[12][0-9]{1,3}\)? [0-9]{3,4} [0-9]{3,4})"
        + NOT_BEFORE
    ),
}
_ANY_NUMBER = re.compile(
    r"(?<![0-9A-Za-z_.])[(+]{0,2}[0-9](?:[ ().-]{0,2}[0-9]){6,14}"
    + _EXTENSION
    + r"(?![0-9A-Za-z_])"
)
_WORDS_BEFORE = re.compile(
    r"(?:(?<![a-z<])(?:phone|telephone|tel|mobile|cell|fax|call(?:ing|s)?|ring|dial(?:l?ing|s)?"
    r"|whatsapp|sms|contact(?:ed)?"
    r"|reach(?:ed)?(?: (?:me|us|him|her|them))? (?:at|on))(?![a-z>])"
    r"|电话|手机|座机|传真|热线|致电|拨打|联系方式)"
    r"(?:[^0-9\n<]{0,30}|[ \t]*[:：]?[ \t]*\r?\n[ \t]*)$"
    r"|(?<![a-z])registered(?: number)?[ :]{1,2}$"
    r"|(?<![a-z])(?:my|your|his|her|our|their)"
    r" (?:new |old |work |home |office |direct |own )?number"
    r"(?! of)[^0-9\n<]{0,12}$"
    r"|(?<![a-z])(?:text|message|voice ?mail|hotline|helpline|landline|pager|called|phoned|rang)"
    r"(?: (?:me|us|him|her|them|back))?(?: (?:at|on|to))?[ :]{1,2}$"
    r"|(?<![a-z])(?:answer(?:ing|ed|s)?|available|pick(?:ing|ed|s)? up|reply(?:ing)?)"
    r"(?: (?:me|us|him|her|them))? (?:at|on) $"
    r"|(?:^|[\s,;|/(])(?:t|p|m|f|ph|desk|office|home|work|direct)\.? ?: ?$",
    re.IGNORECASE,
)
_SHAPES = (
    # An area code in brackets; (1998) 123-4567 is a citation.
    re.compile(
        r"(?<![0-9A-Za-z_])(?<![0-9A-Za-z] )\((?!19|20)[0-9]{2,5}\) ?[0-9]{3,4}[ .-][0-9]{3,4}"
        + _EXTENSION
        + NOT_BEFORE
    ),
    # Three, three and four, as nothing else is grouped.
    re.compile(
        NOT_AFTER
        + r"(?:001-|\+?1-)?[2-9][0-9]{2}([-.])[0-9]{3}\1[0-9]{4}"
        + _EXTENSION
        + NOT_BEFORE
    ),
    # The 0 ahead of an area code, then groups: nine to twelve digits.
    re.compile(
        NOT_AFTER
        + r"(?=(?:[() -]{0,2}[0-9]){9,12}(?![ -]?[0-9]))"
        + r"\(?0[1-9][0-9]{0,4}\)?(?:[ -][0-9]{2,8}){1,4}"
        + NOT_BEFORE
    ),
)
"""Groups that tell a telephone number even where its country's plan is not known."""
_WORDS_AFTER = re.compile(
    r"[ -]{0,2}\(?(?:office|fax|mobile|cell|home|work|phone|tel)(?![a-z])", re.I
)
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[-. ][0-9]{1,2}[-. ]|[0-9]{1,2}[-.][0-9]{1,2}[-.](?:19|20)[0-9]{2}"
)
_ASSIGNED = re.compile(r"([A-Za-z_][0-9A-Za-z_.]*)\s+(?:=|:=|==|<|>|<=|>=|!=|\+|\*|%)\s*$")
_TELEPHONE_NAME = re.compile(r"phone|tel|mobile|cell|fax|call|sms|msisdn|contact|number", re.I)


def find_emails(scan: Scan) -> Iterator[Span]:
    disguised = ("[" in scan.text or "(" in scan.text or "{" in scan.text) and bool(
        _DISGUISED_AT.search(scan.text)
    )
    if not disguised and b"@" not in scan.signals:
        return
    for match in _EMAIL.finditer(scan.text):
        address = match.group()
        local = _LOCAL_END.split(address, maxsplit=1)[0]
        if ".." in local or _FILE_ENDING.search(address):
            continue
        if local == "git" and scan.text[match.end() : match.end() + 1] == ":":
            continue  # where a repository is, not whom to write to
        yield Span(match.start(), match.end(), "EMAIL", 1.0 if "@" in address else 0.8)


def find_phones(scan: Scan, regions: tuple[str, ...]) -> Iterator[Span]:
    """Numbers of the regions' formats, international ones, and any in telephone context."""
    for start, end in scan.windows:
        yield from _in_window(scan, start, end, regions)


def _in_window(scan: Scan, start: int, end: int, regions: tuple[str, ...]) -> Iterator[Span]:
    text = scan.text
    for match in _INTERNATIONAL.finditer(text, start, end):
        number = re.sub(r"^00", "+", match.group()).replace("(0)", "")
        if confidence := _confidence(number, None, valid=0.95, possible=0.8):
            yield Span(match.start(), match.end(), "PHONE", confidence)
    for region in regions:
        for match in _NATIONAL[region].finditer(text, start, end):
            if _is_other_quantity(scan, match):
                continue
            if confidence := _confidence(match.group(), region, valid=0.85, possible=0.0):
                yield Span(match.start(), match.end(), "PHONE", confidence)
    for shape in _SHAPES:
        for match in shape.finditer(text, start, end):
            if not _DATE.match(match.group()):
                yield Span(match.start(), match.end(), "PHONE", 0.6)
    for match in _ANY_NUMBER.finditer(text, start, end):
        if not _DATE.match(match.group()) and (
            _WORDS_BEFORE.search(scan.before(match.start()))
            or _WORDS_AFTER.match(text, match.end())
        ):
            yield Span(match.start(), match.end(), "PHONE", 0.6)


def _is_other_quantity(scan: Scan, match: re.Match[str]) -> bool:
    """Whether bare digits are the value of a variable that is not named for a telephone."""
    if not match.group().isdigit():
        return False
    variable = _ASSIGNED.search(scan.before(match.start()))
    return bool(variable and not _TELEPHONE_NAME.search(variable.group(1)))


def _confidence(number: str, region: str | None, *, valid: float, possible: float) -> float:
    """`valid` for an assigned number, `possible` for one of a right length, else 0."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return 0.0
    if phonenumbers.is_valid_number(parsed):
        return valid
    return possible if phonenumbers.is_possible_number(parsed) else 0.0


def canonical_email(text: str) -> str:
    """One spelling of an address, however it is disguised."""
    return re.sub(_AT, "@", re.sub(_DOT, ".", text, flags=re.I), flags=re.I).lower()


def canonical_phone(text: str) -> str:
    """One spelling of a number in its country's or the international format."""
    digits = digits_of(re.split(r"x|ext", text, maxsplit=1, flags=re.I)[0].replace("(0)", ""))
    digits = digits.removeprefix("00")
    if re.fullmatch(r"861[3-9][0-9]{9}", digits):
        return digits[2:]
    return digits[1:] if re.fullmatch(r"1[2-9][0-9]{9}", digits) and "+" in text else digits
