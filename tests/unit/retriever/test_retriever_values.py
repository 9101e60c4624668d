from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueSpec
from plumbline.retriever.values import (
    content_digest,
    in_force,
    plan_import,
    read_values,
    validate_value,
)


def rule(value_id: str = "r1", text: str = "Be brief.", **fields: object) -> ValueSpec:
    return ValueSpec(id=value_id, text=text, **fields)  # type: ignore[arg-type]


def test_import_counts_and_versions() -> None:
    current = (rule("a", "old", version=3), rule("b", "same"), rule("c", "left out"))

    plan = plan_import(current, [rule("a", "new"), rule("b", "same"), rule("d")])

    assert (plan.added, plan.changed, plan.unchanged, plan.removed) == (1, 1, 1, 0)
    assert [(value.id, value.version) for value in plan.values] == [
        ("a", 4),
        ("b", 1),
        ("c", 1),
        ("d", 1),
    ]


def test_replace_all_removes_what_is_not_imported() -> None:
    plan = plan_import((rule("a"), rule("b")), [rule("b")], replace_all=True)

    assert plan.removed == 1
    assert [value.id for value in plan.values] == ["b"]


def test_an_id_twice_in_one_import_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'a' comes twice"):
        plan_import((), [rule("a"), rule("a", "other")])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value_id": "a/b"}, "value id 'a/b'"),
        ({"text": "  "}, "empty text"),
        ({"kind": "eternal"}, "kind 'eternal'"),
        ({"effective_from": "2024-13-01"}, "effective_from='2024-13-01' is no date"),
        ({"effective_from": "2024-02-01", "effective_to": "2024-02-01"}, "that is never"),
    ],
)
def test_bad_values_are_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        validate_value(rule(**fields))


def test_validity_includes_the_first_day_and_excludes_the_last() -> None:
    value = rule(effective_from="2024-03-01", effective_to="2024-04-01")
    days = ["2024-02-29", "2024-03-01", "2024-03-31", "2024-04-01"]

    applies = [in_force(value, as_of=datetime.date.fromisoformat(day)) for day in days]

    assert applies == [False, True, True, False]


def test_jurisdiction_and_tenant_fall_back_to_general_rules_only() -> None:
    today = datetime.date(2024, 1, 1)
    general, french, ours = rule(), rule(jurisdiction="FR"), rule(tenant="acme")

    assert in_force(general, as_of=today, jurisdiction="FR", tenant="acme")
    assert in_force(french, as_of=today, jurisdiction="FR")
    assert not in_force(french, as_of=today, jurisdiction="DE")
    assert not in_force(french, as_of=today)
    assert not in_force(ours, as_of=today, tenant="other")


def test_digest_ignores_the_version_and_nothing_else() -> None:
    assert content_digest(rule(version=1)) == content_digest(rule(version=2))
    assert content_digest(rule(priority=1)) != content_digest(rule(priority=2))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":2: broken JSON"),
        ("[1]", ":2: the record is a list"),
        ('{"id": "x", "text": "t", "colour": 1}', ":2: a value has no field 'colour'"),
        ('{"id": "x"}', ":2: no known format has the keys id"),
    ],
)
def test_reading_names_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "rules.jsonl"
    path.write_text(json.dumps({"id": "ok", "text": "fine"}) + "\n" + line + "\n")

    with pytest.raises(InvalidInputError, match=message):
        read_values(path)


def test_an_empty_file_and_a_wrong_encoding_are_refused(tmp_path: Path) -> None:
    empty, latin = tmp_path / "empty.jsonl", tmp_path / "latin.jsonl"
    empty.write_text("\n")
    latin.write_bytes('{"id": "x", "text": "é"}'.encode("latin-1"))

    with pytest.raises(InvalidInputError, match="is empty"):
        read_values(empty)
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        read_values(latin)
