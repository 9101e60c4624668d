"""Which prompts of an artifact are read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.data.prompts import read_prompts
from plumbline.data.records import Preference, Prompt, Rollout, user
from plumbline.data.tables import write_records

PROMPTS = [
    Prompt(id="p0", messages=(user("zero"),), kind="helpful", split="rl"),
    Prompt(id="p1", messages=(user("one"),), kind="harmful", split="rl"),
    Prompt(id="p2", messages=(user("two"),), kind="helpful", split="rl"),
]
ROLLOUT = Rollout(
    id="r",
    prompt_id="p0",
    prompt=(user("zero"),),
    response="x",
    prompt_token_ids=(1,),
    response_token_ids=(9, 2),
    logprobs=(-1.0, -1.0),
    finish_reason="stop",
    temperature=1.0,
    seed=0,
    policy_id="policy",
)


def ids(directory: Path, **chosen: Any) -> list[str]:
    return [prompt.id for prompt in read_prompts(directory, **{"split": "rl", **chosen})]


def test_a_worlds_split_is_chosen_by_name(tmp_path: Path) -> None:
    write_records(tmp_path / "prompts_rl.parquet", PROMPTS)
    write_records(tmp_path / "prompts_train.parquet", PROMPTS[:1])

    assert ids(tmp_path) == ["p0", "p1", "p2"]
    assert ids(tmp_path, split="train") == ["p0"]
    assert ids(tmp_path, kinds=("helpful",)) == ["p0", "p2"]
    assert ids(tmp_path, kinds=("helpful",), limit=1) == ["p0"]
    with pytest.raises(NotFoundError, match="'test' does not exist; accepted: rl, train"):
        ids(tmp_path, split="test")
    with pytest.raises(NotFoundError, match="no prompts of kinds odd"):
        ids(tmp_path, kinds=("odd",))


def test_prompts_of_rollouts_are_taken_once_each(tmp_path: Path) -> None:
    metadata = {"kind": "harmful", "risk_category": "weapons", "split": "rl", "note": "kept"}
    other = dataclasses.replace(ROLLOUT, prompt_id="p1", prompt=(user("one"),), metadata=metadata)
    write_records(tmp_path / "rollouts.parquet", [ROLLOUT, ROLLOUT, other, ROLLOUT])

    assert ids(tmp_path) == ["p0", "p1"]
    (harmful,) = read_prompts(tmp_path, split="rl", kinds=("harmful",))
    assert (harmful.risk_category, harmful.split) == ("weapons", "rl")
    assert harmful.metadata == {"note": "kept"}


def test_prompts_of_preferences_are_taken_once_each(tmp_path: Path) -> None:
    preference = Preference(id="a", prompt=(user("zero"),), chosen="x", rejected="y")
    again = dataclasses.replace(preference, id="b")
    write_records(tmp_path / "preferences.parquet", [preference, again])

    assert ids(tmp_path) == ["a"]


def test_what_a_preference_notes_of_its_responses_is_left_out(tmp_path: Path) -> None:
    metadata = {"kind": "harmful", "votes": "3:2"}
    preference = Preference(
        id="a", prompt=(user("zero"),), chosen="x", rejected="y", metadata=metadata
    )
    write_records(tmp_path / "preferences.parquet", [preference])

    (prompt,) = read_prompts(tmp_path, split="rl")

    assert (prompt.kind, prompt.metadata) == ("harmful", {})


def test_a_data_file_of_prompts_has_no_splits(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": text}) for text in ("zero", "one", "two")]
    (tmp_path / "stories.jsonl").write_text("\n".join(lines))

    prompts = read_prompts(tmp_path, split="rl", limit=2)

    assert [prompt.messages for prompt in prompts] == [(user("zero"),), (user("one"),)]
    (tmp_path / "more.jsonl").write_text(lines[0])
    with pytest.raises(InvalidInputError, match="holds 2 data files"):
        read_prompts(tmp_path, split="rl")
