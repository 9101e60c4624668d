"""What holds for any text: offsets lead back, a second run changes nothing, nothing leaks."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.curation.pii.config import ACTIONS, AnonymizeConfig, PseudonymConfig
from plumbline.curation.pii.detector import Anonymized, PiiDetector
from plumbline.curation.pii.pseudonyms import stand_ins

KEYS = {"main": bytes(range(32))}
PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "13812345678",
                "+86 138-1234-5678",
                "(415) 555-2671",
                "+41 (0)69 979 80 58",
                "467 3395",
            ),
            *("11010519491231002X", "866078196312139416", "110105491231002", "078-05-1120"),
            *("4111111111111111", "3782 822463 10005", "GB82 WEST 1234 5698 7654 32"),
            *("bob@example.com", "p-aaaaaaaaaaaa@example.com", "bob[at]x.org", "bo\u200bb＠x.org"),
            *("10.1.2.3", "2001:db8:85a3::8a2e:370:7334", "00:1a:2b:3c:4d:5e", "京A12B45"),
            *(
                "https://ann:pw@x.org/",
                "E12345678",
                "1985-03-12",
                "1985年3月12日",
                "３／１２／１９８５",
            ),
            *(
                "AKIA" + "IOSFODNN7EXAMPLE",
                "John Smith",
                "李小龙",
                "王伟",
                "北京市朝阳区建国路88号",
            ),
            *("<EMAIL>", "<PHONE>", "****", "**", "<b>"),
        ]
    ),
    st.sampled_from(
        [
            *("phone ", "电话", "身份证", "ID card number ", "card ", "卡号", "passport ", "护照"),
            *("born on ", "出生日期", "my name is ", "我叫", "住在", "Mr ", " lives at ", "SSN "),
            *(
                " ",
                ",",
                "，",
                "\n",
                "\\",
                '"',
                "a",
                "Z",
                "_",
                "-",
                ".",
                "@",
                "x",
                "0",
                "\u0301",
                "ﬁ",
            ),
        ]
    ),
    st.text(max_size=6),
)
TEXTS = st.lists(PIECES, max_size=9).map("".join)


@functools.cache
def detector(action: str) -> PiiDetector:
    config = AnonymizeConfig(action=action, pseudonyms=PseudonymConfig(key="main"))  # type: ignore[arg-type]
    return PiiDetector(config, keys=KEYS)


def replayed(text: str, done: Anonymized) -> str:
    pieces, position = [], 0
    for span, replacement in zip(done.spans, done.replacements, strict=True):
        assert position <= span.start < span.end <= len(text)
        pieces += [text[position : span.start], replacement]
        position = span.end
    return "".join([*pieces, text[position:]])


@pytest.mark.parametrize("action", ACTIONS)
@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_spans_and_replacements_give_the_text_and_a_second_run_nothing_new(
    action: str, text: str
) -> None:
    done = detector(action).anonymize(text)

    assert replayed(text, done) == done.text
    assert detector(action).anonymize(done.text).text == done.text


@pytest.mark.parametrize("action", ["redact", "mask", "pseudonymise"])
@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_no_detected_value_is_left(action: str, text: str) -> None:
    """Short values and those inside longer words may occur again as something else."""
    done = detector(action).anonymize(text)

    for span in done.spans:
        value = text[span.start : span.end]
        if len(value) >= 5 and value.isascii():
            assert not _stands_alone(value, done.text), value


def _stands_alone(value: str, text: str) -> bool:
    position = text.find(value)
    while position >= 0:
        around = text[max(0, position - 1) : position], text[position + len(value) :][:1]
        if not any(c.isascii() and (c.isalnum() or c == "_") for c in around):
            return True
        position = text.find(value, position + 1)
    return False


JSON_VALUES = st.recursive(
    st.one_of(
        TEXTS,
        st.sampled_from([13812345678, 4111111111111111, 866078196312139416, 1.5, True, None]),
        st.integers(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["phone", "身份证", "card", "a"]), inner, max_size=3),
    ),
    max_leaves=6,
).filter(lambda value: isinstance(value, dict | list))


@pytest.mark.parametrize("action", ACTIONS)
@given(value=JSON_VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
@settings(max_examples=120, deadline=None)
def test_anonymized_json_still_parses(
    action: str, value: Any, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    done = detector(action).anonymize(text)
    clean = json.loads(done.text)

    assert replayed(text, done) == done.text
    assert _shape(clean) == _shape(value)
    assert detector(action).anonymize(done.text).text == done.text


def _shape(value: Any) -> Any:
    """What of a document may not change."""
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return type(value) is dict


@given(text=TEXTS)
@settings(max_examples=100, deadline=None)
def test_a_batch_is_as_good_as_one_by_one(text: str) -> None:
    texts = [text, "a@b.com", text[::-1]]

    assert detector("redact").anonymize_all(texts) == [
        detector("redact").anonymize(t) for t in texts
    ]


@given(text=st.text(st.characters(codec=None), max_size=40))
@settings(max_examples=300, deadline=None)
def test_nothing_raises_on_any_text(text: str) -> None:
    """Lone surrogates too."""
    for action in ("redact", "pseudonymise"):
        detector(action).anonymize(text)
    stand_ins(text)
