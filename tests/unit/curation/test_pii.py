"""Personal data is found in glued Chinese, in disguise, and not where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plumbline.curation.config import AnonymizeConfig
from plumbline.curation.pii import PiiDetector, is_resident_id
from plumbline.data.readers import read_dataset
from plumbline.data.records import Document

SHARED = Path(__file__).parents[4] / "shared" / "data"
detector = PiiDetector(AnonymizeConfig())


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
        ("身份证号码866078196312139416", [("NATIONAL_ID", "866078196312139416")]),
        ("bob＠example.com", [("EMAIL", "bob＠example.com")]),
        ("write to bo\u200bb@exa\u200bmple.com!", [("EMAIL", "bo\u200bb@exa\u200bmple.com")]),
        ("alice [at] example (dot) org", [("EMAIL", "alice [at] example (dot) org")]),
        ("A.B+c_d@sub-1.example.co.uk.", [("EMAIL", "A.B+c_d@sub-1.example.co.uk")]),
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
        "ISBN 978-3-16-148410-0, version 1.2.3.4, 10.0.0.1",
        "SELECT id FROM t WHERE n BETWEEN 10000000 AND 20000000;",
        "@app.route('/users/<int:id>') matrix @ other",
        "11010519491231002A",
        "call back on 2024-01-15 10:30",
        "866078196312139416",
        "meet (at) the station. Today",
        "2024-01-01 2010-2015 (1998)",
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


def test_actions_keep_what_is_around() -> None:
    text = "给 a@b.com 打13812345678！"

    assert detector.anonymize(text).text == "给 <EMAIL> 打<PHONE>！"
    assert detector.anonymize(text, "mask").text == "给 ******* 打***********！"
    assert PiiDetector(AnonymizeConfig(types=("EMAIL",))).anonymize(text).text == (
        "给 <EMAIL> 打13812345678！"
    )


@pytest.mark.parametrize("action", ["redact", "mask"])
def test_a_second_run_changes_nothing(action: str) -> None:
    text = "手机13812345678身份证11010519491231002X a@b.com +44 20 7946 0958"
    once = detector.anonymize(text, action).text  # type: ignore[arg-type]

    assert detector.anonymize(once, action).text == once  # type: ignore[arg-type]


def test_anonymized_json_still_parses() -> None:
    text = json.dumps({"mail": "a@b.com", "n": [1, 2.5], "tel": "13812345678"}, indent=1)

    clean = json.loads(detector.anonymize(text).text)
    assert clean == {"mail": "<EMAIL>", "n": [1, 2.5], "tel": "<PHONE>"}


def test_long_lines_of_near_matches_take_no_time() -> None:
    """Quadratic patterns would need minutes for these."""
    for text in (
        "a." * 50_000 + "@",
        "1 " * 50_000,
        "call " * 20_000,
        "a@" + "b-" * 50_000,
        "+1" + "(" * 50_000,
    ):
        assert detector.find(text) == ()


def test_emails_of_a_published_corpus() -> None:
    path = SHARED / "presidio_pii" / "synth_dataset_v2.shared.json"
    if not path.is_file():
        pytest.skip("the public data file presidio_pii is not beside this repository")
    rows = json.loads(path.read_text("utf-8"))
    spans = [
        (row["full_text"], span["start_position"], span["end_position"])
        for row in rows
        for span in row["spans"]
        if span["entity_type"] == "EMAIL_ADDRESS"
    ]
    hits = sum(
        any(s.start < end and s.end > start for s in detector.find(text) if s.type == "EMAIL")
        for text, start, end in spans
    )

    assert len(spans) > 20
    assert hits / len(spans) >= 0.99


def test_prose_of_a_published_corpus_is_left_alone() -> None:
    path = SHARED / "llama_factory_demo" / "wiki_demo.txt"
    if not path.is_file():
        pytest.skip("the public data file wiki_demo.txt is not beside this repository")
    documents = read_dataset(path, kind=Document).records

    assert [span for document in documents for span in detector.find(document.text)] == []
