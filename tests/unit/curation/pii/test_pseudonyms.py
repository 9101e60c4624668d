"""Stand-ins are stable, cannot be real, and can be told from what is real."""

from __future__ import annotations

import base64
import ipaddress
import json
from pathlib import Path

import phonenumbers
import pytest

from plumbline.core.errors import ConfigError
from plumbline.curation.pii.config import AnonymizeConfig, AnonymizeOptions, PseudonymConfig
from plumbline.curation.pii.detector import PiiDetector
from plumbline.curation.pii.finance import is_iban, passes_luhn
from plumbline.curation.pii.identity import is_resident_id
from plumbline.curation.pii.pseudonyms import Pseudonymizer, read_keys, stand_ins
from plumbline.curation.pii.scan import digits_of

KEYS = {"main": bytes(range(32)), "other": bytes(range(1, 33))}
VALUES = {
    "EMAIL": "wei75@163.com",
    "PHONE": "13812345678",
    "NATIONAL_ID": "11010519491231002X",
    "BANK_CARD": "4111 1111 1111 1111",
    "IBAN": "GB82 WEST 1234 5698 7654 32",
    "IP_ADDRESS": "10.1.2.3",
    "MAC_ADDRESS": "00:1A:2b:3c:4D:5e",
    "URL_CREDENTIALS": "ann:s3cret",
    "US_SSN": "078-05-1120",
    "PASSPORT": "E12345678",
    "LICENCE_PLATE": "京A12B45",
    "DATE_OF_BIRTH": "1985年3月12日",
    "API_KEY": "AKIA" + "IOSFODNN7EXAMPLE",
    "PRIVATE_KEY": "-----BEGIN PRIVATE KEY-----",
    "PERSON": "沈雨桐",
    "ADDRESS": "浙江省杭州市西湖区文三路517号",
}


def pseudonymizer(key: str = "main", tenant: str = "", scope: str = "") -> Pseudonymizer:
    return Pseudonymizer(PseudonymConfig(key=key, tenant=tenant, scope=scope), KEYS)


@pytest.mark.parametrize(("pii_type", "value"), VALUES.items())
def test_stable_and_separate(pii_type: str, value: str) -> None:
    one = pseudonymizer().replacement(pii_type, value)

    assert one == pseudonymizer().replacement(pii_type, value) != value
    assert (0, len(one)) in stand_ins(one)
    assert not set(one) & set('"\\\n')
    others = [pseudonymizer("other"), pseudonymizer(tenant="t"), pseudonymizer(scope="s")]
    assert one not in [other.replacement(pii_type, value) for other in others]


def test_a_known_stand_in_stays_the_same_one() -> None:
    """Stored data holds them: a change of this value is a change of everybody's pseudonyms."""
    assert pseudonymizer().replacement("PHONE", "13812345678") == "12588426439"


def test_tenant_and_scope_do_not_run_together() -> None:
    one = pseudonymizer(tenant="ab", scope="c").replacement("EMAIL", "a@b.com")

    assert one != pseudonymizer(tenant="a", scope="bc").replacement("EMAIL", "a@b.com")


@pytest.mark.parametrize(
    ("pii_type", "spellings"),
    [
        ("PHONE", ("13812345678", "+86 138-1234-5678", "１３８ 1234 5678")),
        ("EMAIL", ("Bob@X.org", "bob [at] x (dot) org", "bo\u200bb＠x.org")),
        ("NATIONAL_ID", ("11010519491231002X", "110105 19491231 002x")),
        ("IBAN", ("GB82WEST12345698765432", "gb82 west 1234 5698 7654 32")),
    ],
)
def test_spellings_of_one_value_share_their_stand_in(
    pii_type: str, spellings: tuple[str, ...]
) -> None:
    made = [pseudonymizer().replacement(pii_type, spelling) for spelling in spellings]
    bare = {"".join(c for c in text if c.isalnum()).upper() for text in made}

    assert len({text[-6:] for text in bare}) == 1


def test_shapes_are_kept() -> None:
    made = {name: pseudonymizer().replacement(name, value) for name, value in VALUES.items()}

    assert [len(made[name]) for name in ("PHONE", "NATIONAL_ID", "IBAN")] == [11, 18, 27]
    assert made["BANK_CARD"][4::5] == "   "
    assert pseudonymizer().replacement("PHONE", "(415) 555-2671").startswith("(555) 0")
    assert pseudonymizer().replacement("PHONE", "+44 20 7946 0958").startswith("+44 00 0")
    assert made["DATE_OF_BIRTH"].startswith("18") and made["DATE_OF_BIRTH"].endswith("日")
    assert pseudonymizer().replacement("PERSON", "Ann Lee").count(" ") == 1


@pytest.mark.parametrize("n", range(40))
def test_no_stand_in_can_be_real(n: int) -> None:
    make = pseudonymizer(scope=str(n)).replacement
    card = digits_of(make("BANK_CARD", VALUES["BANK_CARD"]))

    assert not passes_luhn(card)
    assert not is_resident_id(make("NATIONAL_ID", VALUES["NATIONAL_ID"]))
    assert not is_iban(make("IBAN", VALUES["IBAN"]).replace(" ", ""))
    assert make("US_SSN", VALUES["US_SSN"]).startswith("000-")
    assert make("EMAIL", "a@b.com").rpartition("@")[2].startswith("example.")
    assert ipaddress.ip_address(make("IP_ADDRESS", "10.1.2.3")).is_reserved
    v6 = ipaddress.ip_address(make("IP_ADDRESS", "fe80::1"))
    assert v6 in ipaddress.ip_network("2001:db8::/32")
    for value, region in (("13812345678", "CN"), ("(415) 555-2671", "US"), ("020 7946 0958", "GB")):
        number = phonenumbers.parse(make("PHONE", value), region)
        assert not phonenumbers.is_valid_number(number)


def test_actions_by_type_and_a_second_run() -> None:
    config = AnonymizeConfig(
        action="mask",
        actions={"PHONE": "pseudonymise", "NATIONAL_ID": "keep"},
        pseudonyms=PseudonymConfig(key="main"),
    )
    detector = PiiDetector(config, keys=KEYS)
    text = "手机13812345678身份证11010519491231002X a@b.com"
    done = detector.anonymize(text)

    assert done.text == "手机12588426439身份证11010519491231002X *******"
    assert [span.type for span in done.spans] == ["PHONE", "NATIONAL_ID", "EMAIL"]
    assert detector.anonymize(done.text).text == done.text


@pytest.mark.parametrize("before", ["", "-", ":", "=", "机", "(", "\n", '"'])
@pytest.mark.parametrize("after", ["", "-", ":80", ".", "机", ")", "\n", '"'])
def test_stand_ins_are_known_whatever_is_around_them(before: str, after: str) -> None:
    config = AnonymizeConfig(action="pseudonymise", pseudonyms=PseudonymConfig(key="main"))
    detector = PiiDetector(config, keys=KEYS)
    for value in VALUES.values():
        once = detector.anonymize(f"{before}{value}{after}").text
        assert detector.anonymize(once).text == once


def test_without_its_key_nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PLUMBLINE_PSEUDONYM_KEYS_FILE", raising=False)
    config = AnonymizeConfig(action="pseudonymise", pseudonyms=PseudonymConfig(key="main"))

    with pytest.raises(ConfigError, match="PLUMBLINE_PSEUDONYM_KEYS_FILE is not set"):
        PiiDetector(config)
    with pytest.raises(ConfigError, match="accepted: other"):
        PiiDetector(config, keys={"other": bytes(32)})
    with pytest.raises(ConfigError, match=r"needs pseudonyms\.key"):
        AnonymizeOptions(action="pseudonymise").applied_to(AnonymizeConfig())

    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"main": base64.b64encode(bytes(32)).decode()}))
    monkeypatch.setenv("PLUMBLINE_PSEUDONYM_KEYS_FILE", str(path))
    assert PiiDetector(config).anonymize("a@b.com").text.startswith("p-")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "cannot be read"),
        ("[]", "holds a list"),
        ('{"k": "AAAA"}', "has 3 bytes; at least 32"),
        ('{"k": "not base64!"}', "not base64"),
        ('{"k": 7}', "has 0 bytes"),
    ],
)
def test_broken_key_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content)

    with pytest.raises(ConfigError, match=message):
        read_keys(path)
