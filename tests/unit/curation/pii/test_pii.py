"""Personal data is found in glued Chinese, in disguise, and not where there is none."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plumbline.curation.pii.config import PII_TYPES, AnonymizeConfig
from plumbline.curation.pii.detector import PiiDetector
from plumbline.curation.pii.finance import is_iban, passes_luhn
from plumbline.curation.pii.identity import is_resident_id
from plumbline.data.readers import read_dataset
from plumbline.data.records import Document

PublicData = Callable[[str], Path]
PATTERNS = tuple(name for name in PII_TYPES if name not in ("PERSON", "ADDRESS"))
detector = PiiDetector(AnonymizeConfig(types=PATTERNS))
AWS_KEY = "AKIA" + "IOSFODNN7EXAMPLE"
GITHUB_TOKEN = "ghp_" + "0a1b2c3d4e5f" * 3
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKC\nAQEA7bq9\n-----END RSA PRIVATE KEY-----"


def found(text: str) -> list[tuple[str, str]]:
    return [(span.type, text[span.start : span.end]) for span in detector.find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "手机13812345678身份证11010519491231002X",
            [("PHONE", "13812345678"), ("NATIONAL_ID", "11010519491231002X")],
        ),
        ("身份证号为11010519491231002x。", [("NATIONAL_ID", "11010519491231002x")]),
        ("身份证号码866078196312139416", [("NATIONAL_ID", "866078196312139416")]),
        ("身份证110105491231002", [("NATIONAL_ID", "110105491231002")]),
        ("her ID card number is 866078196312139416", [("NATIONAL_ID", "866078196312139416")]),
        ("邮箱wei75@example.net，谢谢", [("EMAIL", "wei75@example.net")]),
        (
            "电话138 1234 5678或138-1234-5678",
            [("PHONE", "138 1234 5678"), ("PHONE", "138-1234-5678")],
        ),
        ("+86-138-1234-5678", [("PHONE", "+86-138-1234-5678")]),
        ("１３８１２３４５６７８", [("PHONE", "１３８１２３４５６７８")]),
        ("座机010-62781234转3", [("PHONE", "010-62781234")]),
        (
            "Call +1 212 555 1234 or (415) 555-2671.",
            [("PHONE", "+1 212 555 1234"), ("PHONE", "(415) 555-2671")],
        ),
        ("Ring 020 7946 0958 today", [("PHONE", "020 7946 0958")]),
        ("+41 (0)69 979 80 58 is possible", [("PHONE", "+41 (0)69 979 80 58")]),
        ("she can be reached at 0475 4429797", [("PHONE", "0475 4429797")]),
        ("ring 903-140-4508x769 now", [("PHONE", "903-140-4508x769")]),
        ("Phone:\n467 3395\n", [("PHONE", "467 3395")]),
        ("082 490 1693-Office", [("PHONE", "082 490 1693")]),
        ("what is your number? 33 93 31 20", [("PHONE", "33 93 31 20")]),
        ("Desk: (898)666-3621x0135", [("PHONE", "(898)666-3621x0135")]),
        ("(71) 4233-6306", [("PHONE", "(71) 4233-6306")]),
        ("0688 843 79 56, as ever", [("PHONE", "0688 843 79 56")]),
        ("903-140-4508", [("PHONE", "903-140-4508")]),
        ("phone = 13812345678", [("PHONE", "13812345678")]),
        ("bob＠example.com", [("EMAIL", "bob＠example.com")]),
        ("write to bo\u200bb@exa\u200bmple.com!", [("EMAIL", "bo\u200bb@exa\u200bmple.com")]),
        ("b\u043eb@ex\u0430mple.com", [("EMAIL", "b\u043eb@ex\u0430mple.com")]),
        ("bob@example.\u0441\u043em", [("EMAIL", "bob@example.\u0441\u043em")]),
        ("alice [at] example (dot) org", [("EMAIL", "alice [at] example (dot) org")]),
        ("A.B+c_d@sub-1.example.co.uk.", [("EMAIL", "A.B+c_d@sub-1.example.co.uk")]),
        ("卡号4111111111111111。", [("BANK_CARD", "4111111111111111")]),
        ("4111 1111 1111 1111", [("BANK_CARD", "4111 1111 1111 1111")]),
        ("3782-822463-10005", [("BANK_CARD", "3782-822463-10005")]),
        ("lost my card 630495060000, help", [("BANK_CARD", "630495060000")]),
        ("GB82WEST12345698765432", [("IBAN", "GB82WEST12345698765432")]),
        ("账号GB82 WEST 1234 5698 7654 32。", [("IBAN", "GB82 WEST 1234 5698 7654 32")]),
        ("de89370400440532013000", [("IBAN", "de89370400440532013000")]),
        ("SSN 078 05 1120", [("US_SSN", "078 05 1120")]),
        ("it is 123-45-6788.", [("US_SSN", "123-45-6788")]),
        ("服务器192.168.10.24上", [("IP_ADDRESS", "192.168.10.24")]),
        ("ping 8.8.8.8", [("IP_ADDRESS", "8.8.8.8")]),
        ("at 2001:db8:85a3::8a2e:370:7334, yes", [("IP_ADDRESS", "2001:db8:85a3::8a2e:370:7334")]),
        ("fe80::1 here", [("IP_ADDRESS", "fe80::1")]),
        ("MAC 00:1A:2b:3c:4D:5e", [("MAC_ADDRESS", "00:1A:2b:3c:4D:5e")]),
        ("postgres://ann:s3cret@db.internal/x", [("URL_CREDENTIALS", "ann:s3cret")]),
        ("护照号码E12345678", [("PASSPORT", "E12345678")]),
        ("passport no. 123456789", [("PASSPORT", "123456789")]),
        (
            "车牌京A12B45和粤BD12345",
            [("LICENCE_PLATE", "京A12B45"), ("LICENCE_PLATE", "粤BD12345")],
        ),
        ("出生日期：1985年3月12日", [("DATE_OF_BIRTH", "1985年3月12日")]),
        ("他1985年3月12日出生", [("DATE_OF_BIRTH", "1985年3月12日")]),
        ("Date of birth: 3/12/1985", [("DATE_OF_BIRTH", "3/12/1985")]),
        ("She was born on 12 March 1985", [("DATE_OF_BIRTH", "12 March 1985")]),
        (f"key={AWS_KEY} used", [("API_KEY", AWS_KEY)]),
        (f"token: {GITHUB_TOKEN}", [("API_KEY", GITHUB_TOKEN)]),
        (f"see\n{PEM}\nend", [("PRIVATE_KEY", PEM)]),
    ],
)
def test_finds(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "138-1234-5678abc",
        "订单号20231381234567890123",
        "timestamp 1748503543012",
        "3.14159265358979323846264338327950288",
        "550e8400-e29b-41d4-a716-446655440000",
        "ISBN 978-3-16-148410-0, version 1.2.3.4, section 3.1.2.4",
        "pip install numpy==1.26.4.10 && echo v10.20.30.40",
        "SELECT id FROM t WHERE n BETWEEN 10000000 AND 20000000;",
        "@app.route('/users/<int:id>') matrix @ other",
        "git clone git@github.com:org/repo.git && open icon@2x.png",
        "x = 13812345678 # seconds",
        "std::vector<int> a; x[::2]; add::ed; dead::beef",
        "11010519491231002A",
        "call back on 2024-01-15 10:30",
        "866078196312139416",
        "GB82WEST12345698765431",
        "order 4111111111111112 and 1234567890123456",
        "meet (at) the station. Today",
        "2024-01-01 2010-2015 (1998)",
        "born to run in 1975; birthday of the empire, 1871",
        "沪A股走强，京G20峰会",
        "sk-some-very-long-kebab-case-name",
        "SHA256 9f:86:d0:81:88:4c:7d:65:9a:2f:ea:a0:c5:5a:d0:15",
        '{"id": "550e8400-e29b-41d4-a716-446655440000", "at": 1748503543012, "v": [1.25, -3e10]}',
        "def f(x):\n    return x[1:2] + 0xDEADBEEF  # 12:30:45",
    ],
)
def test_leaves_alone(text: str) -> None:
    assert detector.anonymize(text).text == text


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("11010519491231002X", True),
        ("11010519491231002x", True),
        ("110105194912310021", False),  # another check digit
        ("11010519490231002X", False),  # 31 February
        ("99010519491231002X", False),  # no such province
        ("620201195007248603", True),
        ("1101051949123100", False),
        ("", False),
        ("１１０１０５１９４９１２３１００２X", False),
    ],
)
def test_resident_ids(number: str, valid: bool) -> None:
    assert is_resident_id(number) is valid


def test_resident_id_check_digit_is_the_worked_one() -> None:
    """GB 11643's example 11010519491231002X: digits times weights sum to 167, 167 mod 11 = 2,
    and the check character of remainder 2 is X. One digit changed breaks it."""
    body = "11010519491231002"
    assert [c for c in "0123456789X" if is_resident_id(body + c)] == ["X"]


def test_check_digits_of_cards_and_accounts() -> None:
    """Luhn of 79927398713: from the right 3+2+7+6+9+6+7+4+9+9(18)+7 -> with doubles 70, 70 mod
    10 = 0. One number in ten has the right digit, so a card needs an issuer or context too."""
    assert [d for d in "0123456789" if passes_luhn("7992739871" + d)] == ["3"]
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB82WEST12345698765431")


def test_an_identity_number_beats_the_card_that_it_passes_for() -> None:
    number = next(
        f"11010519491231{serial:03d}{check}"
        for serial in range(1000)
        for check in "0123456789"
        if passes_luhn(f"11010519491231{serial:03d}{check}")
        and is_resident_id(f"11010519491231{serial:03d}{check}")
    )

    assert found(f"银行卡或身份证 {number}") == [("NATIONAL_ID", number)]


def test_weak_numbers_have_low_confidence() -> None:
    valid, shape = (
        detector.find("身份证11010519491231002X")[0],
        detector.find("身份证866078196312139416")[0],
    )

    assert valid.confidence > 0.9 > shape.confidence
    strict = PiiDetector(AnonymizeConfig(min_confidence_for={"NATIONAL_ID": 0.9}))
    assert strict.find("身份证866078196312139416") == ()


def test_a_value_is_found_wherever_it_occurs_again() -> None:
    """The second place has no context of its own."""
    text = "phone: 467 3395 (again: 467 3395), not 1467 33951"

    assert [text[s.start : s.end] for s in detector.find(text)] == ["467 3395"] * 2


@pytest.mark.parametrize(
    "text",
    [
        "a." * 50_000 + "@",
        "1 " * 50_000,
        "call " * 20_000,
        "a@" + "b-" * 50_000,
        "+1" + "(" * 50_000,
        "-----BEGIN PRIVATE KEY-----" * 3_000,
        "GB82 " * 20_000,
        ":a" * 50_000,
        "eyJ" * 30_000,
        "a:" * 30_000 + "@",
        "http://" + "a:" * 30_000,
    ],
)
def test_long_lines_of_near_matches_take_no_time(text: str) -> None:
    """Quadratic patterns would need minutes for these."""
    begin = time.process_time()
    detector.find(text)

    assert time.process_time() - begin < 5


def _scores(
    cases: list[tuple[str, list[tuple[str, int, int]]]], kinds: dict[str, str]
) -> dict[str, tuple[float, float, int]]:
    """Recall, precision and count by type; any overlap with the right type counts."""
    hits, wanted, given = (dict.fromkeys(kinds.values(), 0) for _ in range(3))
    for text, labels in cases:
        spans = detector.find(text)
        gold = [(kinds[label], start, end) for label, start, end in labels if label in kinds]
        for kind, start, end in gold:
            wanted[kind] += 1
            hits[kind] += any(s.type == kind and s.start < end and s.end > start for s in spans)
        for span in spans:
            if span.type in given:
                given[span.type] += 1
    return {
        kind: (hits[kind] / count, hits[kind] / max(given[kind], 1), count)
        for kind, count in wanted.items()
        if count
    }


@pytest.mark.parametrize("name", ["synth_dataset_v2.shared.json", "generated_large.json"])
def test_floors_on_a_published_english_set(name: str, public_data: PublicData) -> None:
    rows = json.loads(public_data(f"presidio_pii/{name}").read_text("utf-8"))
    cases = [
        (
            row["full_text"],
            [(s["entity_type"], s["start_position"], s["end_position"]) for s in row["spans"]],
        )
        for row in rows
    ]
    kinds = {
        "EMAIL_ADDRESS": "EMAIL",
        "IBAN_CODE": "IBAN",
        "IP_ADDRESS": "IP_ADDRESS",
        "US_SSN": "US_SSN",
        "CREDIT_CARD": "BANK_CARD",
        "PHONE_NUMBER": "PHONE",
    }
    floors = {"BANK_CARD": (0.95, 0.99), "PHONE": (0.85, 0.8)}

    for kind, (recall, precision, count) in _scores(cases, kinds).items():
        low_recall, low_precision = floors.get(kind, (0.99, 0.99))
        assert (recall, precision) >= (low_recall, 0), (kind, recall, count)
        assert precision >= low_precision, (kind, precision, count)


def test_floors_on_a_published_bilingual_set(public_data: PublicData) -> None:
    with gzip.open(public_data("multipriv_pii/persons_with_spans.jsonl.gz"), "rt") as lines:
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    kinds = {"EMAIL": "EMAIL", "ID_NUMBER": "NATIONAL_ID", "PHONE": "PHONE"}
    for language in ("zh", "en"):
        cases = [
            (row["text"], [(s["label"], s["start"], s["end"]) for s in row["spans"]])
            for row in rows
            if row["lang"] == language
        ]
        scores = _scores(cases, kinds)
        # One e-mail address in thirty has no label in the English half.
        low = {"EMAIL": 0.95}
        for kind, (recall, precision, _) in scores.items():
            assert recall >= 0.99, (language, kind, recall)
            assert precision >= low.get(kind, 0.99), (language, kind, precision)


def test_prose_of_a_published_corpus_is_left_alone(public_data: PublicData) -> None:
    path = public_data("llama_factory_demo/wiki_demo.txt")
    documents = read_dataset(path, kind=Document).records
    spans = [span for document in documents for span in detector.find(document.text)]

    # An encyclopaedia says when people were born.
    assert {span.type for span in spans} <= {"DATE_OF_BIRTH"}
