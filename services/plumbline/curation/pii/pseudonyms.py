"""Stand-ins for personal data: the same value of the same tenant and scope always gets the same.

A stand-in keeps the shape of what it replaces, but lies where no real value can: reserved domains
and address ranges, area codes that are not given out, wrong check digits, invented names. That
makes it recognisable as a stand-in, so that a second run leaves it alone, and it can equal nothing
that is real. Which one it is comes from HMAC-SHA256 over (tenant, scope, type, value): without the
key nobody can find the value again by trying, nor join two tenants' data.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

from plumbline.core.characters import HAN
from plumbline.core.errors import ConfigError
from plumbline.core.settings import Settings
from plumbline.curation.normalize import normalize
from plumbline.curation.pii.config import PseudonymConfig
from plumbline.curation.pii.contact import canonical_email, canonical_phone
from plumbline.curation.pii.finance import is_iban, passes_luhn
from plumbline.curation.pii.identity import resident_check
from plumbline.curation.pii.scan import digits_of

MIN_KEY_BYTES = 32
KEYS_VARIABLE = "PLUMBLINE_PSEUDONYM_KEYS_FILE"


def _words(text: str) -> list[str]:
    return text.split()


_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_UPPER = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_FIRST = _words("Bel Cor Dal Fen Gar Hal Jor Kel Lor Mar Nor Pel Quin Ros Sel Tam Ul Vel Wen Yar")
_MIDDLE = _words("ab ad am an ar av eb ed el en er ev il im in ir ol on or ov ul um un ur")
_LAST = _words("bry dane drick dwen ffin gard kesh lith mond nwy quist rax stow thor vane wick")
"""Syllables of invented names; no list of real names holds what they make."""
_SURNAMES = _words(
    "亓官 壤驷 夹谷 太叔 公冶 澹台 颛孙 巫马 闾丘 漆雕 宰父 谷梁 百里 东郭 南荣 羊舌"
)
"""Compound family names that hardly anybody bears."""
_GIVEN = "安白澄川丹恩帆歌禾锦可澜麦南诺朋青然杉棠维溪雪言意禹珍知舟岸"
_PLATE_CITY = "I"
"""A letter that no city has on its plates."""
_STREETS = _words("青枫 白榆 听雨 望岚 栖云 枕石 拾穗 观澜")
_TOWN = "云栖市"

_TWO_DIGIT_COUNTRIES = _words(
    "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 "
    "65 66 81 82 84 86 90 91 92 93 94 95 98"
)
"""Country codes of two digits; 1 and 7 have one, all others three. Source: ITU-T E.164."""

_NAME = rf"(?:{'|'.join(_FIRST)})(?:{'|'.join(_MIDDLE)})(?:{'|'.join(_LAST)})"
_HAN_NAME = rf"(?:{'|'.join(_SURNAMES)})[{_GIVEN}]{{2}}"
_SEPARATOR = r"[ ().-]{0,2}"
_SHAPES = {
    "EMAIL": r"p-[a-z2-7]{12}@example\.(?:com|net|org)(?![0-9A-Za-z_-])",
    "URL_CREDENTIALS": r"user-[a-z2-7]{8}:secret-[a-z2-7]{12}",
    "API_KEY": r"pseudonym-key-[a-z2-7]{20}",
    "PRIVATE_KEY": r"pseudonym-private-key-[a-z2-7]{20}",
    "NATIONAL_ID": r"(?<![0-9])990000[ -]?[0-9]{8}[ -]?[0-9]{3}[0-9X](?![0-9])"
    r"|(?<![0-9])990000[0-9]{9}(?![0-9])",
    "BANK_CARD": rf"(?<![0-9])9{_SEPARATOR}9{_SEPARATOR}9{_SEPARATOR}9{_SEPARATOR}9{_SEPARATOR}9"
    rf"(?:{_SEPARATOR}[0-9]){{6,13}}(?![0-9])",
    "IBAN": r"(?<![0-9A-Za-z])[A-Za-z]{2}00(?:[ -]?[0-9A-Za-z]){11,31}(?![0-9A-Za-z])",
    "US_SSN": r"(?<![0-9])000[ -]?[0-9]{2}[ -]?[0-9]{4}(?![0-9])",
    "IP_ADDRESS": r"(?<![0-9A-Za-z.])(?:2(?:4[0-9]|5[0-5])(?:\.[0-9]{1,3}){3}"
    r"|2001:db8(?::[0-9a-f]{4}){6})(?![0-9A-Za-z])",
    "MAC_ADDRESS": r"(?<![0-9A-Za-z_])0[Ee][:-]00[:-]00(?:[:-][0-9A-Fa-f]{2}){3}(?![0-9A-Za-z])",
    "PASSPORT": r"(?<![0-9A-Za-z])[A-Za-z]{0,2}000[0-9]{3,6}(?![0-9A-Za-z])",
    "LICENCE_PLATE": rf"[\u4e00-\u9fff]{_PLATE_CITY}[ ·•-]?[0-9A-Z]{{5,6}}(?![0-9A-Za-z])",
    "DATE_OF_BIRTH": r"(?<![0-9])18[0-9]{2}(?:[-/.][0-9]{2}[-/.][0-9]{2}|[0-9]{4}"
    r"|年[0-9]{1,2}月(?:[0-9]{1,2}日)?)(?![0-9])"
    r"|(?<![0-9])[0-9]{2}[-/.][0-9]{2}[-/.]18[0-9]{2}(?![0-9])",
    "PHONE": rf"(?<![0-9])(?:(?:\+|00)[1-9][0-9]{{0,2}}{_SEPARATOR})?[(]?"
    rf"(?:0{_SEPARATOR}0{_SEPARATOR}0(?:{_SEPARATOR}[0-9]){{4,12}}"
    rf"|5{_SEPARATOR}5{_SEPARATOR}5{_SEPARATOR}0(?:{_SEPARATOR}[0-9]){{6}}"
    r"|(?<![0-9][-/])12[0-9](?P<gap>[ -]?)[0-9]{4}(?P=gap)[0-9]{4})"
    r"(?: ?(?:x|ext\.?) ?[0-9]{1,6})?(?![0-9])",
    "ADDRESS": rf"{_TOWN}(?:{'|'.join(_STREETS)})路[0-9]{{4}}号"
    rf"|(?<![0-9])9[0-9]{{3}} {_NAME} Street, {_NAME}",
    "PERSON": rf"(?<![A-Za-z]){_NAME}(?: {_NAME}){{0,3}}(?![A-Za-z])|{_HAN_NAME}",
}
"""What stand-ins look like, in normalized text."""


def read_keys(path: Path | None) -> Mapping[str, bytes]:
    """Keys by name from a JSON file {name: base64 of 32 bytes or more}.

    Raises:
        ConfigError: no file is named, it cannot be read, or a key is too short.
    """
    if path is None:
        raise ConfigError(
            f"pseudonyms need keys, and {KEYS_VARIABLE} is not set; it names a JSON file "
            f"{{name: base64 of at least {MIN_KEY_BYTES} bytes}}",
            field="pseudonym_keys_file",
        )
    try:
        named = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{KEYS_VARIABLE}={path} cannot be read: {error}") from error
    if not isinstance(named, dict):
        raise ConfigError(f"{path} holds a {type(named).__name__}; a JSON object is accepted")
    return {str(name): _decoded(path, name, value) for name, value in named.items()}


def _decoded(path: Path, name: str, value: object) -> bytes:
    try:
        key = base64.b64decode(value if isinstance(value, str) else "", validate=True)
    except binascii.Error as error:
        raise ConfigError(f"{path}: key {name!r} is not base64: {error}") from None
    if len(key) < MIN_KEY_BYTES:
        raise ConfigError(
            f"{path}: key {name!r} has {len(key)} bytes; at least {MIN_KEY_BYTES} are accepted"
        )
    return key


class Pseudonymizer:
    """Stand-ins of one tenant and scope.

    Args:
        keys: by name; None reads the file that the environment names.

    Raises:
        ConfigError: there is no key of the configured name.
    """

    def __init__(self, config: PseudonymConfig, keys: Mapping[str, bytes] | None = None) -> None:
        known = read_keys(Settings.from_environment().pseudonym_keys_file) if keys is None else keys
        if config.key not in known:
            raise ConfigError(
                f"pseudonyms.key={config.key!r} is not among the keys; "
                f"accepted: {', '.join(sorted(known)) or 'none'}",
                field="pseudonyms.key",
            )
        self._key = known[config.key]
        self._owner = (config.tenant, config.scope)

    def replacement(self, pii_type: str, value: str) -> str:
        """The stand-in for a value; where its shape leaves no room for one, `<TYPE>`."""
        text = normalize(value).text
        make = _MAKERS.get(pii_type)
        made = make(text, self._draws(pii_type, _canonical(pii_type, text))) if make else ""
        # What would not be known again for a stand-in would get another one in the next run.
        return made if (0, len(made)) in stand_ins(made) else f"<{pii_type}>"

    def _draws(self, pii_type: str, value: str) -> _Draws:
        # Lengths go in front, so that no two different tuples give the same bytes.
        parts = [part.encode("utf-8", "surrogatepass") for part in (*self._owner, pii_type, value)]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return _Draws(self._key, message)


class _Draws:
    """Numbers drawn from HMAC-SHA256 of a message in counter mode."""

    def __init__(self, key: bytes, message: bytes) -> None:
        self._seed = hmac.digest(key, message, "sha256")
        self._state = int.from_bytes(self._seed, "big")
        self._count = 0

    def below(self, bound: int) -> int:
        if self._state < 2**64:
            self._count += 1
            block = hmac.digest(self._seed, self._count.to_bytes(8, "big"), "sha256")
            self._state = int.from_bytes(block, "big")
        self._state, drawn = divmod(self._state, bound)
        return drawn

    def digits(self, count: int) -> str:
        return "".join(str(self.below(10)) for _ in range(count))

    def letters(self, count: int) -> str:
        return "".join(_LETTERS[self.below(32)] for _ in range(count))

    def one_of(self, choices: str | list[str]) -> str:
        return choices[self.below(len(choices))]


def stand_ins(text: str) -> list[tuple[int, int]]:
    """Where a normalized text holds stand-ins of anybody's; in order of start, overlaps and all."""
    return sorted(match.span() for shape in _shapes() for match in shape.finditer(text))


@cache
def _shapes() -> tuple[re.Pattern[str], ...]:
    return tuple(map(re.compile, _SHAPES.values()))


def _canonical(pii_type: str, text: str) -> str:
    """What two spellings of one value share."""
    if pii_type == "EMAIL":
        return canonical_email(text)
    if pii_type == "PHONE":
        return canonical_phone(text)
    if pii_type in ("BANK_CARD", "US_SSN"):
        return digits_of(text)
    if pii_type in ("NATIONAL_ID", "IBAN", "PASSPORT", "LICENCE_PLATE", "MAC_ADDRESS"):
        return re.sub(r"[^0-9A-Za-z\u4e00-\u9fff]", "", text).upper()
    if pii_type in ("PERSON", "ADDRESS"):
        return " ".join(text.casefold().split())
    return text.strip()


def _poured(shape: str, characters: str) -> str:
    """`shape` with its digits replaced in order, whatever stands between them kept."""
    fresh: Iterator[str] = iter(characters)
    return "".join(next(fresh, "0") if "0" <= c <= "9" else c for c in shape)


def _email(_: str, draws: _Draws) -> str:
    return f"p-{draws.letters(12)}@example.{draws.one_of(['com', 'net', 'org'])}"


def _phone(shape: str, draws: _Draws) -> str:
    """An area that is not given out: 12x in China, 555 0xx in North America, 000 elsewhere."""
    number, separator, extension = _split_extension(shape)
    digits = digits_of(number)
    country = _country_code(number, digits)
    count = len(digits) - len(country)
    nanp = count == 10 and country in ("", "1", "001") and digits[len(country)] in "23456789"
    if re.fullmatch(r"1[3-9][0-9]{9}", digits[len(country) :]):
        body = "12" + draws.digits(count - 2)
    elif nanp:
        body = "5550" + draws.digits(6)
    else:
        body = "000" + draws.digits(max(0, count - 3))
    return _poured(number, country + body) + separator + _poured(extension, draws.digits(6))


def _split_extension(shape: str) -> tuple[str, str, str]:
    match = re.search(r" ?(?:x|ext\.?) ?(?=[0-9]{1,6}$)", shape, re.IGNORECASE)
    if match is None:
        return shape, "", ""
    return shape[: match.start()], match.group(), shape[match.end() :]


def _country_code(number: str, digits: str) -> str:
    """The digits of the country, kept because they tell no person."""
    if number.startswith("00"):
        rest = _country_code("+" + number[2:], digits[2:])
        return "00" + rest
    if not number.startswith("+"):
        return ""
    if digits.startswith(("1", "7")):
        return digits[0]
    return digits[:2] if digits[:2] in _TWO_DIGIT_COUNTRIES else digits[:3]


def _national_id(shape: str, draws: _Draws) -> str:
    """Province 99, which there is not, and a wrong check digit."""
    compact = re.sub(r"[ -]", "", shape)
    if len(compact) < 18:
        return _poured(shape, "990000" + draws.digits(len(compact) - 6))
    date = f"19{draws.below(100):02d}{1 + draws.below(12):02d}{1 + draws.below(28):02d}"
    body = "990000" + date + draws.digits(3)
    wrong = [check for check in "0123456789" if check != resident_check(body)]
    return _poured(shape[:-1] + "0", body + draws.one_of(wrong))


def _card(shape: str, draws: _Draws) -> str:
    """An issuer range that is not given out, and a wrong check digit."""
    body = "999999" + draws.digits(len(digits_of(shape)) - 7)
    wrong = [check for check in "0123456789" if not passes_luhn(body + check)]
    return _poured(shape, body + draws.one_of(wrong))


def _iban(shape: str, draws: _Draws) -> str:
    """Check digits 00, which the standard never gives; letters stay letters."""
    while True:
        fresh = "".join(
            str(draws.below(10))
            if c in "0123456789"
            else draws.one_of(_UPPER)
            if c.isalpha()
            else c
            for c in shape[4:]
        )
        account = f"{shape[:2]}00{fresh}"
        if not is_iban(re.sub(r"[^0-9A-Za-z]", "", account)):
            return account


def _ssn(shape: str, draws: _Draws) -> str:
    return _poured(shape, f"000{1 + draws.below(99):02d}{1 + draws.below(9999):04d}")


def _ip_address(shape: str, draws: _Draws) -> str:
    """240.0.0.0/4 (RFC 1112: reserved) has room where the documentation ranges have 762 addresses;
    2001:db8::/32 (RFC 3849)."""
    if ":" not in shape:
        return f"{240 + draws.below(15)}.{draws.below(256)}.{draws.below(256)}.{draws.below(256)}"
    return "2001:db8:" + ":".join(f"{draws.below(65536):04x}" for _ in range(6))


def _mac_address(shape: str, draws: _Draws) -> str:
    """A locally administered address."""
    return (shape[2:3] or ":").join(
        ["0E", "00", "00", *(f"{draws.below(256):02X}" for _ in range(3))]
    )


def _passport(shape: str, draws: _Draws) -> str:
    letters = "".join(draws.one_of(_UPPER) for c in shape if c.isalpha())
    return letters + "000" + draws.digits(len(digits_of(shape)) - 3)


def _plate(shape: str, draws: _Draws) -> str:
    signs = re.sub(r"[^0-9A-Za-z\u4e00-\u9fff]", "", shape[2:])
    return shape[:1] + _PLATE_CITY + "".join(draws.one_of(_UPPER + "123456789") for _ in signs)


def _birth_date(shape: str, draws: _Draws) -> str:
    """A day of the 19th century, in the form of the real one where that is numeric."""
    year, month, day = f"18{draws.below(100):02d}", 1 + draws.below(12), 1 + draws.below(28)
    if "年" in shape:
        return f"{year}年{month}月" + (f"{day}日" if re.search("[日号]", shape) else "")
    if re.fullmatch(r"[0-9]{8}", shape):
        return f"{year}{month:02d}{day:02d}"
    separator = next((c for c in shape if c in "-/."), "-")
    if re.match(r"[0-9]{1,2}[-/.]", shape):
        return f"{month:02d}{separator}{day:02d}{separator}{year}"
    separator = separator if re.match(r"[0-9]{4}[-/.]", shape) else "-"
    return f"{year}{separator}{month:02d}{separator}{day:02d}"


def _name(draws: _Draws) -> str:
    return draws.one_of(_FIRST) + draws.one_of(_MIDDLE) + draws.one_of(_LAST)


def _person(shape: str, draws: _Draws) -> str:
    if re.search(f"[{HAN}]", shape):
        return draws.one_of(_SURNAMES) + draws.one_of(_GIVEN) + draws.one_of(_GIVEN)
    return " ".join(_name(draws) for _ in shape.split()[:3])


def _address(shape: str, draws: _Draws) -> str:
    if re.search(f"[{HAN}]", shape):
        return f"{_TOWN}{draws.one_of(_STREETS)}路{1000 + draws.below(9000)}号"
    return f"9{draws.digits(3)} {_name(draws)} Street, {_name(draws)}"


_MAKERS: Mapping[str, Callable[[str, _Draws], str]] = {
    "EMAIL": _email,
    "PHONE": _phone,
    "NATIONAL_ID": _national_id,
    "BANK_CARD": _card,
    "IBAN": _iban,
    "US_SSN": _ssn,
    "IP_ADDRESS": _ip_address,
    "MAC_ADDRESS": _mac_address,
    "PASSPORT": _passport,
    "LICENCE_PLATE": _plate,
    "DATE_OF_BIRTH": _birth_date,
    "URL_CREDENTIALS": lambda _, draws: f"user-{draws.letters(8)}:secret-{draws.letters(12)}",
    "API_KEY": lambda _, draws: f"pseudonym-key-{draws.letters(20)}",
    "PRIVATE_KEY": lambda _, draws: f"pseudonym-private-key-{draws.letters(20)}",
    "PERSON": _person,
    "ADDRESS": _address,
}
