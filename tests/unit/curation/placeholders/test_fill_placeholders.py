"""Placeholders of records become values, once, and none is overlooked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import Artifact, open_configured_store
from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.core.validation import parse_config
from plumbline.curation.placeholders.config import FillPlaceholdersConfig
from plumbline.curation.placeholders.filling import PlaceholderFilling
from plumbline.curation.tasks import STAGES
from plumbline.data.records import Conversation, assistant, system, user
from plumbline.data.tables import read_records

STAGE = next(stage for stage in STAGES if stage.name == "curation.fill_placeholders")
VALUES = {"name": "Ada", "author": "the {{name}} Works"}


def test_every_message_is_filled_in_one_pass_and_counted() -> None:
    """The author's value holds `{{name}}`, which is text by then and stays."""
    records = [
        Conversation(
            id="a",
            messages=(system("{{name}}"), user("Hi { name }"), assistant("{{ name }}, {{author}}")),
            source="s",
            metadata={"k": "v"},
        ),
        Conversation(id="b", messages=(user("{{9}} {{}}"), assistant("{{place}}"))),
    ]
    filling = PlaceholderFilling(VALUES)

    first, second = filling.apply(records)

    assert [message.content for message in first.messages] == [
        "Ada",
        "Hi { name }",
        "Ada, the {{name}} Works",
    ]
    assert (first.id, first.source, first.metadata) == ("a", "s", {"k": "v"})
    assert second == records[1]
    assert filling.filled == {"name": 2, "author": 1}
    assert filling.unfilled == {"place": 1}
    assert (filling.changed, filling.first_unfilled) == (1, "b")


def fill(tmp_path: Path, rows: list[dict[str, Any]], **config: Any) -> tuple[Artifact, Path]:
    file = tmp_path / "records.json"
    file.write_text(json.dumps(rows))
    settings = Settings(state_dir=tmp_path / "state")
    store = open_configured_store(settings)
    artifact, _ = run_stage(
        STAGE,
        {"values": VALUES, **config},
        {"conversations": [f"path:{file}"]},
        store=store,
        settings=settings,
    )
    return artifact, store.materialise(artifact.id)


def test_a_data_file_becomes_filled_conversations(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Who are you?", "input": "", "output": "I am {{name}}."},
        {"instruction": "Add", "input": "1 and 2", "output": "3"},
        {"instruction": "Broken"},
    ]

    artifact, directory = fill(tmp_path, rows, on_error="skip")

    first, second = read_records(directory / "conversations.parquet", Conversation)
    assert [message.content for message in first.messages] == ["Who are you?", "I am Ada."]
    assert second.messages[0].content == "Add\n1 and 2"
    assert artifact.kind == "conversations"
    assert artifact.manifest.metrics == {
        "records": 2,
        "records.changed": 1,
        "records.refused": 1,
        "placeholders.filled": 1,
        "placeholders.unfilled": 0,
    }
    assert json.loads((directory / "report.json").read_text())["filled"] == {"name": 1}


def test_a_placeholder_without_a_value_fails_unless_it_may_stay(tmp_path: Path) -> None:
    rows = [{"id": "r7", "instruction": "Where?", "output": "In {{place}}, {{town}}."}]

    with pytest.raises(InvalidInputError, match=r"placeholders place, town .* record 'r7'") as told:
        fill(tmp_path, rows)
    artifact, directory = fill(tmp_path, rows, on_unfilled="keep")

    assert told.value.reason == "UNFILLED_PLACEHOLDER"
    assert artifact.manifest.metrics["placeholders.unfilled"] == 2
    (kept,) = read_records(directory / "conversations.parquet", Conversation)
    assert kept.messages[1].content == "In {{place}}, {{town}}."


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "values"),
        ({"a b": "x"}, "the name 'a b'"),
        ({"9": "x"}, "the name '9'"),
        ({"name": " "}, "values.name is empty"),
    ],
)
def test_values_that_fill_nothing_are_refused(values: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_config(FillPlaceholdersConfig, {"values": values})
