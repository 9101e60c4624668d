"""Bank cards and international bank account numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from plumbline.curation.pii.scan import NOT_BEFORE, Scan, digits_of
from plumbline.curation.pii.spans import Span

_CARD = re.compile(
    r"(?<![0-9A-Za-z_])(?<![0-9]\.)(?<![0-9A-Za-z][-/])(?<![+-])"
    r"(?:[0-9]{12,19}|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{3,4}(?:\1[0-9]{3})?"
    r"|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5})" + NOT_BEFORE
)
_CARD_CONTEXT = re.compile(
    r"(?:(?<![a-z<_])(?:card|credit|debit|visa|master ?card|maestro|amex|american express|discover"
    r"|unionpay|jcb|diners|pan)(?![a-z_])"
    r"|卡号|银行卡|信用卡|储蓄卡|借记卡|银联|账号|账户|帐号|卡|银行)[^0-9\n<]{0,24}$",
    re.IGNORECASE,
)
_ISSUERS = re.compile(
    r"4(?:[0-9]{15}|[0-9]{18})"
    r"|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)[0-9]{12}"
    r"|3[47][0-9]{13}|35(?:2[89]|[3-8][0-9])[0-9]{12}"
    r"|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}|62[0-9]{14,17}"
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}"
)
"""Issuer ranges with their lengths: Visa, Mastercard, American Express, JCB, Discover, UnionPay,
Diners Club. Shorter and longer ones (Maestro has 12 to 19 digits) need context."""

_IBAN_START = re.compile(
    r"(?<![0-9A-Za-z_])(?<![0-9A-Za-z]-)([A-Z]{2})[0-9]{2}(?=[ -]?[0-9A-Z])", re.IGNORECASE
)
_IBAN_LENGTHS = {
    **{"NO": 15, "BE": 16, "DK": 18, "FI": 18, "FK": 18, "FO": 18, "GL": 18, "NL": 18, "SD": 18},
    **{"MK": 19, "SI": 19, "AT": 20, "BA": 20, "EE": 20, "KZ": 20, "LT": 20, "LU": 20, "XK": 20},
    **{"MN": 20, "CH": 21, "CR": 22, "LI": 21, "HR": 21, "LV": 21, "BG": 22, "BH": 22, "DE": 22},
    **{"GB": 22, "GE": 22, "IE": 22, "ME": 22, "RS": 22, "AE": 23, "GI": 23, "IL": 23, "IQ": 23},
    **{"OM": 23, "SO": 23, "TL": 23, "AD": 24, "CZ": 24, "ES": 24, "MD": 24, "PK": 24, "RO": 24},
    **{"SA": 24, "SE": 24, "SK": 24, "TN": 24, "VG": 24, "LY": 25, "PT": 25, "ST": 25, "IS": 26},
    **{"TR": 26, "BI": 27, "DJ": 27, "FR": 27, "GR": 27, "IT": 27, "MC": 27, "MR": 27, "SM": 27},
    **{"AL": 28, "AZ": 28, "BY": 28, "CY": 28, "DO": 28, "GT": 28, "HU": 28, "LB": 28, "NI": 28},
    **{"PL": 28, "SV": 28, "BR": 29, "EG": 29, "PS": 29, "QA": 29, "UA": 29, "JO": 30, "KW": 30},
    **{"MU": 30, "YE": 30, "MT": 31, "SC": 31, "LC": 32, "RU": 33},
}
"""Characters of an account number by country. Source: SWIFT IBAN registry."""


def find_cards(scan: Scan) -> Iterator[Span]:
    """Numbers with a right check digit that an issuer gives out or that the context calls cards."""
    if scan.digits < 12:
        return
    for start, end in scan.windows:
        for match in _CARD.finditer(scan.text, start, end):
            number = digits_of(match.group())
            if not passes_luhn(number) or len(set(number)) == 1:
                continue
            in_context = _CARD_CONTEXT.search(scan.before(match.start()))
            if _ISSUERS.fullmatch(number):
                yield Span(match.start(), match.end(), "BANK_CARD", 0.95 if in_context else 0.8)
            elif in_context:
                yield Span(match.start(), match.end(), "BANK_CARD", 0.75)


def passes_luhn(number: str) -> bool:
    """Source: ISO/IEC 7812-1, annex B."""
    total = 0
    for position, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def find_ibans(scan: Scan) -> Iterator[Span]:
    """Account numbers of a known country's length with right check digits, spaced or not."""
    if scan.digits < 7 or not scan.number_runs:
        return
    for match in _IBAN_START.finditer(scan.text):
        length = _IBAN_LENGTHS.get(match.group(1).upper())
        end = _end_of_account(scan.text, match.start(), length) if length else None
        if end and is_iban(re.sub(r"[ -]", "", scan.text[match.start() : end])):
            yield Span(match.start(), end, "IBAN", 0.99)


def _end_of_account(text: str, start: int, length: int) -> int | None:
    """Where `length` characters end, single spaces or dashes between them left out."""
    taken = 0
    for position in range(start, len(text)):
        character = text[position]
        if character.isascii() and character.isalnum():
            taken += 1
        elif character not in " -" or text[position - 1] in " -":
            return None
        if taken == length:
            following = text[position + 1 : position + 2]
            whole = not (following.isascii() and (following.isalnum() or following == "_"))
            return position + 1 if whole else None
    return None


def is_iban(number: str) -> bool:
    """Whether the check digits are right. Source: ISO 13616-1, ISO 7064 MOD 97-10."""
    rearranged = (number[4:] + number[:4]).upper()
    return int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1
