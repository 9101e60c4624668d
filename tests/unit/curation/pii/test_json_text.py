"""JSON stays JSON, and its escapes hide nothing."""

from __future__ import annotations

import json

import pytest

from plumbline.curation.pii.config import AnonymizeConfig
from plumbline.curation.pii.detector import PiiDetector

detector = PiiDetector(AnonymizeConfig())


@pytest.mark.parametrize("ascii_only", [True, False])
def test_strings_are_read_without_their_escapes(ascii_only: bool) -> None:
    value = {"mail": "\nbob@x.org\n", "tel": '他的手机13812345678"', "n": [1, 2.5, None]}
    done = detector.anonymize(json.dumps(value, ensure_ascii=ascii_only))

    assert json.loads(done.text) == {
        "mail": "\n<EMAIL>\n",
        "tel": '他的手机<PHONE>"',
        "n": [1, 2.5, None],
    }


def test_numbers_become_strings() -> None:
    text = '{"phone": 13812345678, "id": [4111111111111111], "at": 1748503543012}'
    done = detector.anonymize(text)

    assert json.loads(done.text) == {
        "phone": "<PHONE>",
        "id": ["<BANK_CARD>"],
        "at": 1748503543012,
    }
    assert done.replacements == ('"<PHONE>"', '"<BANK_CARD>"')
    assert [text[s.start : s.end] for s in done.spans] == ["13812345678", "4111111111111111"]


def test_lines_of_json() -> None:
    done = detector.anonymize('{"t": 13812345678}\n{"t": "\\u673a13812345678"}\n')

    lines = [json.loads(line) for line in done.text.splitlines()]
    assert lines == [{"t": "<PHONE>"}, {"t": "机<PHONE>"}]


def test_what_only_begins_like_json_is_text() -> None:
    assert detector.anonymize("{手机} 13812345678").text == "{手机} <PHONE>"
    assert detector.anonymize("13812345678").text == "<PHONE>"
    deep = "[" * 100_000
    assert detector.anonymize(deep + "a@b.com").text == deep + "<EMAIL>"
