from __future__ import annotations

from typing import Any

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueSpec
from plumbline.retriever.values.validation import (
    content,
    content_digest,
    parse_date,
    validate_value,
)


def rule(value_id: str = "r1", text: str = "Be brief.", **fields: Any) -> ValueSpec:
    return ValueSpec(id=value_id, text=text, **fields)


@pytest.mark.parametrize(
    "value_id",
    ["oven", "居民身份证法:14-1", "GDPR:17", "Übung.2", "a" * 128, "system_message:house"],
)
def test_ids_are_letters_of_any_script_and_a_few_signs(value_id: str) -> None:
    assert validate_value(rule(value_id)).id == value_id


@pytest.mark.parametrize(
    ("fields", "message", "field"),
    [
        ({"value_id": "a/b"}, "value id 'a/b'", "id"),
        ({"value_id": ""}, "value id ''", "id"),
        ({"value_id": "a" * 129}, "1 to 128", "id"),
        ({"value_id": "a b"}, "value id 'a b'", "id"),
        ({"text": "  "}, "empty text", "text"),
        ({"text": "x" * 20_001}, "20001 characters", "text"),
        ({"text": "a\x00b"}, "control character", "text"),
        ({"title": "x" * 501}, "501 characters", "title"),
        ({"tenant": "x" * 201}, "201 characters", "tenant"),
        ({"kind": "eternal"}, "kind 'eternal'", "kind"),
        ({"priority": 2**31}, "priority 2147483648", "priority"),
        ({"effective_from": "2024-13-01"}, "effective_from='2024-13-01' is no date", None),
        ({"effective_from": "20240101"}, "accepted: YYYY-MM-DD", None),
        ({"effective_from": "2024-W05-3"}, "accepted: YYYY-MM-DD", None),
        (
            {"effective_from": "2024-02-01", "effective_to": "2024-02-01"},
            "that is never",
            "effective_to",
        ),
        ({"supersedes": ("a/b",)}, "supersedes 'a/b'", "supersedes"),
        ({"supersedes": ("r1",)}, "supersedes itself", "supersedes"),
        ({"triggers": (" ",)}, "empty trigger", "triggers"),
        ({"triggers": ("x",) * 201}, "201 triggers", "triggers"),
        ({"checkers": ("max_wrods: 3",)}, "max_words", "checkers"),
    ],
)
def test_bad_values_are_refused(fields: dict[str, Any], message: str, field: str | None) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        validate_value(rule(**fields))

    if field is not None:
        assert caught.value.field == field


def test_known_checkers_are_accepted() -> None:
    value = rule(checkers=("max_words: 80", "avoids: guarantee"))

    assert validate_value(value) is value


@pytest.mark.parametrize("text", ["2024-02-30", "2024-00-10", "0000-01-01", "soon"])
def test_days_that_no_calendar_has_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=f"from='{text}' is no date"):
        parse_date(text, "from")


def test_the_digest_ignores_the_version_and_nothing_else() -> None:
    assert content_digest(rule(version=1)) == content_digest(rule(version=2))
    for changed in (
        {"priority": 1},
        {"source": "law"},
        {"supersedes": ("x",)},
        {"checkers": ("max_words: 3",)},
        {"audience": "minors"},
        {"text": "Be brief"},
    ):
        assert content_digest(rule(**changed)) != content_digest(rule())


def test_fields_at_their_default_are_no_part_of_the_digest() -> None:
    """A field that a later release adds leaves the digests of older values as they are.

    Worked by hand: sha256 of {"id":"r1","text":"Be brief."}.
    """
    assert content(rule()) == {"id": "r1", "text": "Be brief."}
    assert content_digest(rule()) == (
        "f7c47aa3a43afef05aa25f32056f461d549f62d988540e9520c4b61d62104bfd"
    )
    assert content(rule(priority=2, language="zh")) == {
        "id": "r1",
        "text": "Be brief.",
        "priority": 2,
        "language": "zh",
    }
