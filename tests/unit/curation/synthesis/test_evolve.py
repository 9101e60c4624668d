"""Evolve-instruct with a policy that follows a script."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.curation.synthesis.config import EvolveConfig
from plumbline.curation.synthesis.evolve import Evolution
from plumbline.curation.synthesis.progress import SynthesisState
from plumbline.curation.synthesis.records import Task

TASKS = [
    Task(f"t{i}", text, "", "An answer.", "zh" if "请" in text else "en")
    for i, text in enumerate(
        ["Name five rivers of Europe.", "Write a limerick about rain.", "请介绍一下水獭。"]
    )
]
CONFIG = EvolveConfig(generations=3, parents_per_round=2, seed=4)
PARENT = "Name five rivers of Europe."


def nothing(_: SynthesisState) -> None:
    return None


def run(generator: Any, config: EvolveConfig = CONFIG, tasks: Any = None) -> Evolution:
    engine = Evolution(TASKS if tasks is None else tasks, generator, config)
    engine.run(nothing)
    return engine


def test_each_record_leads_back_to_the_first_parent(scripted: Any) -> None:
    records = run(scripted()).state.records

    assert len(records) == 9
    by_id = {record.id: record for record in records}
    depths = Counter()
    for record in records:
        depth = 0
        ancestor = record.id
        while ancestor in by_id:
            (ancestor,) = json.loads(by_id[ancestor].metadata["parents"])
            depth += 1
        assert ancestor == record.metadata["root"]
        assert depth == int(record.metadata["round"]) + 1
        depths[depth] += 1
        assert record.metadata["operator"] in CONFIG.operators
        assert record.metadata["template"] == f"{record.metadata['language']}.1"
    assert depths == {1: 3, 2: 3, 3: 3}
    assert {record.metadata["root"] for record in records} == {"t0", "t1", "t2"}


@pytest.mark.parametrize("operator", EvolveConfig().operators)
def test_every_operator_has_a_prompt_in_both_languages(scripted: Any, operator: str) -> None:
    generator = scripted()
    config = EvolveConfig(generations=1, operators=(operator,))  # type: ignore[arg-type]
    records = run(generator, config).state.records

    assert [record.metadata["operator"] for record in records] == [operator] * 3
    english, _, chinese = generator.prompts[:3]
    assert "Name five rivers of Europe." in english and "$" not in english
    assert "请介绍一下水獭。" in chinese and "$" not in chinese
    assert ("act as a prompt creator" in english) == (operator == "breadth")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Name  five rivers of Europe!", "unchanged"),
        ("The given prompt asks for six rivers of Asia.", "prompt_echo"),
        ("", "empty"),
        ("Name six rivers of Asia and their[cut]", "cut_off"),
        ("请写出亚洲的六条河流和它们的长度。", "wrong_language"),
    ],
)
def test_failed_evolutions_are_dropped_for_a_reason(
    scripted: Any, answer: str, reason: str
) -> None:
    generator = scripted({"prompt rewriter": lambda *_: answer})
    config = EvolveConfig(generations=2, operators=("constraints",))
    state = run(generator, config, TASKS[:1]).state

    assert state.records == []
    assert state.funnel.dropped["instructions"] == {reason: 2}
    # The parent stays where it was: the second generation evolves it again.
    assert all(PARENT in prompt for prompt in generator.prompts)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("... the of and!", "says_nothing"),
        ("An answer that goes on and on and[cut]", "cut_off"),
    ],
)
def test_poor_answers_are_dropped_for_a_reason(scripted: Any, answer: str, reason: str) -> None:
    evolved = "Name six rivers of Asia and their lengths."
    generator = scripted({"prompt rewriter": lambda *_: evolved, evolved: lambda *_: answer})
    config = EvolveConfig(generations=1, operators=("constraints",), judge_gain=False)
    state = run(generator, config, TASKS[:1]).state

    assert state.records == []
    assert state.funnel.dropped["answers"] == {reason: 1}


def test_a_long_answer_may_apologise(scripted: Any) -> None:
    evolved = "Name six rivers of Asia and their lengths."
    answer = "I'm sorry to be long. " + " ".join(f"River number {i} is long." for i in range(30))
    generator = scripted({"prompt rewriter": lambda *_: evolved, evolved: lambda *_: answer})
    config = EvolveConfig(generations=1, operators=("constraints",), judge_gain=False)

    assert len(run(generator, config, TASKS[:1]).state.records) == 1


def test_what_the_policy_judges_equal_is_dropped(scripted: Any) -> None:
    state = run(scripted({"Equal or Different": lambda *_: " Equal."})).state

    assert {record.metadata["language"] for record in state.records} == {"zh"}
    assert state.funnel.dropped["instructions"]["no_gain"] == 6


def test_siblings_do_not_repeat_each_other(scripted: Any) -> None:
    generator = scripted({"prompt rewriter": lambda *_: "Name six rivers of Asia by length."})
    config = EvolveConfig(generations=1, operators=("deepening",))
    state = run(generator, config, TASKS[:2]).state

    assert len(state.records) == 1
    assert state.funnel.dropped["instructions"] == {"exact_duplicate": 1}


def test_work_that_is_cut_off_goes_on_to_the_same_records(scripted: Any, tmp_path: Path) -> None:
    expected = run(scripted())

    def save(state: SynthesisState) -> None:
        state.save(tmp_path / str(state.round))

    Evolution(TASKS, scripted(), CONFIG).run(save)
    for done in (1, 3, 5):
        state = SynthesisState.load(tmp_path / str(done))
        resumed = Evolution(TASKS, scripted(), CONFIG, state)
        resumed.run(nothing)
        assert resumed.state.records == expected.state.records
        assert resumed.state.pool == expected.state.pool


def test_a_target_stops_it_early(scripted: Any) -> None:
    config = CONFIG.model_copy(update={"target": 4})
    engine = Evolution(TASKS, scripted(), config)
    ending = engine.run(nothing)

    assert (ending.code, len(engine.state.records)) == ("target_reached", 4)


def test_the_targets_last_record_may_come_in_the_last_round(scripted: Any) -> None:
    config = CONFIG.model_copy(update={"target": 9})

    assert Evolution(TASKS, scripted(), config).run(nothing).code == "target_reached"


def test_no_task_is_an_error(scripted: Any) -> None:
    with pytest.raises(InvalidInputError, match="no task to evolve"):
        Evolution([], scripted(), CONFIG)
