"""Seed tasks, as Self-Instruct and Alpaca release them, are read as conversations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.data.formats import BrokenRecordError, detect_format
from plumbline.data.readers import read_dataset
from plumbline.data.records import Conversation, Prompt, assistant, user

ROW = {
    "id": "seed_task_7",
    "name": "antonyms",
    "instruction": "Give the antonym.",
    "instances": [{"input": "cold", "output": "hot"}],
    "is_classification": False,
}


def test_one_instance_makes_one_conversation_that_keeps_its_instruction() -> None:
    found = detect_format(ROW)
    (record,) = found.read_all(ROW, "seeds.jsonl")

    assert found.name == "seed_task"
    assert record == Conversation(
        id="seed_task_7",
        messages=(user("Give the antonym.\ncold"), assistant("hot")),
        source="seeds.jsonl",
        metadata={
            "name": "antonyms",
            "is_classification": "false",
            "instruction": "Give the antonym.",
        },
    )


def test_several_instances_make_several_conversations(tmp_path: Path) -> None:
    instances = [{"input": "cold", "output": "hot"}, {"input": "", "output": "It depends."}]
    path = tmp_path / "seeds.jsonl"
    path.write_text(json.dumps({**ROW, "instances": instances}) + "\n" + json.dumps(ROW) + "\n")

    read = read_dataset(path, kind="conversations")

    assert [record.id for record in read] == ["seed_task_7-0", "seed_task_7-1", "seed_task_7"]
    assert read.records[1].messages == (user("Give the antonym."), assistant("It depends."))
    assert (read.report.records, read.report.formats) == (3, {"seed_task": 2})


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([], "'instances' is empty"),
        ("cold", "'instances' is a string"),
        (["cold"], "an instance is a string"),
        ([{"input": "cold", "output": " "}], "'output' is empty"),
        ([{"input": "cold"}], "'output' is missing"),
    ],
)
def test_broken_instances_are_refused(instances: Any, message: str) -> None:
    row = {**ROW, "instances": instances}
    with pytest.raises(BrokenRecordError, match=message):
        detect_format(row).read_all(row, "seeds.jsonl")


def test_a_seed_task_is_no_prompt(tmp_path: Path) -> None:
    """Its instruction alone would leave out the input."""
    path = tmp_path / "seeds.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    with pytest.raises(InvalidInputError, match="no known format has the keys"):
        read_dataset(path, kind=Prompt)
