"""Self-instruct with a policy that follows a script."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.curation.normalize import tokens
from plumbline.curation.synthesis.config import InstructionFilterConfig, SelfInstructConfig
from plumbline.curation.synthesis.diversity import distinct_n, diversity_report
from plumbline.curation.synthesis.progress import SynthesisState, checked_ending
from plumbline.curation.synthesis.records import Task, tasks_of
from plumbline.curation.synthesis.rouge import rouge_l
from plumbline.curation.synthesis.self_instruct import SelfInstruct
from plumbline.data.readers import read_dataset

SEEDS = [
    Task(f"seed-{i}", text, "", "An answer.", "en")
    for i, text in enumerate(
        [
            "Write a limerick about rain.",
            "Name five rivers of Europe.",
            "Translate the sentence into Latin.",
            "Fix the spelling of the text.",
        ]
    )
]
CHINESE = [
    Task(f"zh-{i}", t, "", "好。", "zh") for i, t in enumerate(["写一首诗。", "列出五条河。"])
]
CONFIG = SelfInstructConfig(
    target=24, prompts_per_round=4, seed_examples=3, generated_examples=1, seed=11
)


def nothing(_: SynthesisState) -> None:
    return None


def run(generator: Any, config: SelfInstructConfig = CONFIG, seeds: Any = None) -> SelfInstruct:
    engine = SelfInstruct(SEEDS + CHINESE if seeds is None else seeds, generator, config)
    engine.run(nothing)
    return engine


def test_it_reaches_the_target_with_records_that_tell_where_they_come_from(scripted: Any) -> None:
    records = run(scripted()).state.records

    assert len(records) == 24
    assert len({record.id for record in records}) == 24
    assert {record.metadata["language"] for record in records} == {"en", "zh"}
    assert {record.metadata["task_type"] for record in records} == {"classification", "generation"}
    known = {task.id for task in SEEDS + CHINESE} | {record.id for record in records}
    for record in records:
        metadata = record.metadata
        assert metadata["policy"] == "policy-of-the-test"
        assert metadata["stage"] == "curation.self_instruct"
        assert metadata["template"] == f"{metadata['language']}.1"
        parents = json.loads(metadata["parents"])
        assert 2 <= len(parents) <= 4 and set(parents) <= known
        assert int(metadata["seed"]) > 0 and int(metadata["round"]) >= 0
        assert record.messages[0].content.startswith(metadata["instruction"])


def test_kept_instructions_are_new(scripted: Any) -> None:
    records = run(scripted()).state.records

    texts = list(dict.fromkeys(record.metadata["instruction"] for record in records))
    pool = [tokens(task.instruction) for task in SEEDS + CHINESE]
    for text in texts:
        assert all(rouge_l(tokens(text), other) < 0.7 for other in pool), text
        pool.append(tokens(text))


def test_the_same_inputs_give_the_same_records_and_another_seed_others(scripted: Any) -> None:
    first, again = run(scripted()), run(scripted())
    other = run(scripted(), CONFIG.model_copy(update={"seed": 12}))

    assert first.state.records == again.state.records
    assert first.state.funnel.to_json() == again.state.funnel.to_json()
    assert other.state.records != first.state.records


def test_the_funnel_adds_up(scripted: Any) -> None:
    state = run(scripted()).state
    counts, dropped = state.funnel.counts, state.funnel.dropped

    assert counts["candidates"] == counts["instructions"] + dropped["instructions"].total()
    assert dropped["instructions"]["banned_content"] > 0
    assert dropped["instructions"]["similar"] > 0
    assert counts["kept"] == len(state.records) == 24
    assert counts["prompts"] == 4 * state.round
    assert sum(candidates for candidates, _ in state.yields) == counts["candidates"]


def test_work_that_is_cut_off_goes_on_to_the_same_records(scripted: Any, tmp_path: Path) -> None:
    expected = run(scripted())

    class Killed(Exception):
        pass

    def save_then_die(state: SynthesisState) -> None:
        state.save(tmp_path / f"state-{state.round}")
        if state.round == 2:
            raise Killed

    with pytest.raises(Killed):
        SelfInstruct(SEEDS + CHINESE, scripted(), CONFIG).run(save_then_die)
    resumed = SelfInstruct(
        SEEDS + CHINESE, scripted(), CONFIG, SynthesisState.load(tmp_path / "state-2")
    )
    resumed.run(nothing)

    assert expected.state.round > 2
    assert resumed.state.records == expected.state.records
    assert resumed.state.funnel.to_json() == expected.state.funnel.to_json()


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("Hi.", "too_short"),
        ("Explain " + "very " * 200 + "long things.", "too_long"),
        ("Plot the graph of a function.", "banned_content"),
        ("Go to the shop and buy some milk.", "banned_content"),
        ("- Explain the moon to a child.", "starts_with_symbol"),
        ("请解释月亮为什么发光。", "wrong_language"),
        ("Continue this as a numbered list of ideas.", "prompt_echo"),
        ("write a LIMERICK about rain.", "exact_duplicate"),
        ("Write a limerick about heavy rain.", "similar"),
        ("Explain secret handshakes of guilds.", "banned_content"),
    ],
)
def test_unfit_instructions_are_dropped_for_a_reason(scripted: Any, item: str, reason: str) -> None:
    generator = scripted(
        {"new task instructions": lambda *_: f"\n4. {item}\n5. Why is ice slippery?"}
    )
    config = SelfInstructConfig(
        target=1,
        max_rounds=1,
        prompts_per_round=1,
        languages=("en",),
        seed_examples=3,
        instructions=InstructionFilterConfig(banned=("secret handshakes",)),
    )
    state = run(generator, config).state

    assert state.funnel.dropped["instructions"] == Counter({reason: 1})
    assert [r.metadata["instruction"] for r in state.records] == ["Why is ice slippery?"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (" <none>\nOutput: I'm sorry, but I cannot help with that.", "refusal"),
        (" nothing was said here", "unparseable"),
        (" <none>\nOutput: half of an answ[cut]", "cut_off"),
        (" Water\nOutput: water", "output_repeats_input"),
        (" <none>\nOutput: Why is ice slippery?", "output_repeats_instruction"),
        (" <none>\nOutput: ...", "empty_output"),
    ],
)
def test_unfit_answers_are_dropped_for_a_reason(scripted: Any, answer: str, reason: str) -> None:
    generator = scripted(
        {
            "new task instructions": lambda *_: "Why is ice slippery?",
            "for the task below": lambda *_: answer,
        }
    )
    config = SelfInstructConfig(target=1, max_rounds=1, prompts_per_round=1, languages=("en",))
    state = run(generator, config).state

    assert state.funnel.dropped["instances"] == Counter({reason: 1})
    assert state.records == []


def test_one_input_keeps_its_first_output(scripted: Any) -> None:
    answer = " a\nOutput: b c\nExample 2\nInput: A\nOutput: d\nExample 3\nInput: a\nOutput: b c"
    generator = scripted(
        {
            "new task instructions": lambda *_: "Name what follows the letter.",
            "for the task below": lambda *_: answer,
        }
    )
    config = SelfInstructConfig(
        target=1, max_rounds=1, prompts_per_round=1, languages=("en",), max_instances=3
    )
    state = run(generator, config).state

    assert state.funnel.dropped["instances"] == {"conflicting_output": 1, "exact_duplicate": 1}
    assert [record.messages[1].content for record in state.records] == ["b c"]


def test_an_instruction_without_an_answer_may_come_again(scripted: Any) -> None:
    answers = iter([" <none>\nOutput: ...", " <none>\nOutput: Because a film of water covers it."])
    generator = scripted(
        {
            "new task instructions": lambda *_: "Why is ice slippery?",
            "for the task below": lambda *_: next(answers),
        }
    )
    config = SelfInstructConfig(
        target=1, max_rounds=2, prompts_per_round=1, languages=("en",), yield_rounds=5
    )

    assert len(run(generator, config).state.records) == 1


def test_a_policy_that_repeats_itself_ends_the_work_with_a_reason(scripted: Any) -> None:
    generator = scripted({"new task instructions": lambda *_: "Why is ice slippery?"})
    config = SelfInstructConfig(
        target=50, prompts_per_round=2, languages=("en",), yield_rounds=3, min_yield=0.4
    )
    engine = SelfInstruct(SEEDS, generator, config)
    ending = engine.run(nothing)

    assert ending.code == "low_yield"
    assert "1 records of 6 candidate instructions in 3 rounds; min_yield is 0.4" in ending.why
    assert checked_ending(ending, engine.state, on_shortfall="partial") is ending
    with pytest.raises(FailedPreconditionError, match="exact_duplicate 5") as caught:
        checked_ending(ending, engine.state, on_shortfall="fail")
    assert caught.value.reason == "LOW_YIELD"


def test_no_record_at_all_is_an_error_even_where_less_is_accepted(scripted: Any) -> None:
    generator = scripted({"new task instructions": lambda *_: "[cut]"})
    config = SelfInstructConfig(target=5, prompts_per_round=1, yield_rounds=2, languages=("en",))
    engine = SelfInstruct(SEEDS, generator, config)
    ending = engine.run(nothing)

    assert engine.state.funnel.dropped["prompts"] == {"unparseable": 2}
    with pytest.raises(FailedPreconditionError, match="0 records after 2 rounds"):
        checked_ending(ending, engine.state, on_shortfall="partial")


def test_seeds_in_no_configured_language_are_refused(scripted: Any) -> None:
    with pytest.raises(InvalidInputError, match="none of 4 seed tasks is in zh"):
        SelfInstruct(SEEDS, scripted(), SelfInstructConfig(languages=("zh",)))


def test_judgements_are_drawn_at_temperature_zero(scripted: Any) -> None:
    generator = scripted()
    run(generator)

    assert generator.temperatures[:3] == [None, 0.0, None]


def test_diversity_matches_hand_worked_values(scripted: Any) -> None:
    """Of the tokens a b a b, 2 of 4 differ, and of the pairs ab ba ab, 2 of 3."""
    assert distinct_n([["a", "b", "a", "b"]], 1) == 0.5
    assert distinct_n([["a", "b", "a", "b"]], 2) == pytest.approx(2 / 3)
    assert distinct_n([["a"]], 2) == 0.0
    report = diversity_report(run(scripted()).state.records, ["Write a limerick about rain."])
    assert sum(report["language"].values()) == pytest.approx(1.0, abs=1e-5)
    assert 0 < report["nearest_rouge_l_mean"] <= report["nearest_rouge_l_max"] < 0.7
    assert report["instructions"] <= 24


def test_the_stanford_seeds_are_read_as_they_are(
    public_data: Callable[[str], Path], scripted: Any
) -> None:
    conversations = read_dataset(
        public_data("stanford_alpaca_seed/seed_tasks.jsonl"), kind="conversations"
    )
    seeds = list(tasks_of(conversations.records))
    state = run(scripted(), CONFIG.model_copy(update={"languages": ("en",)}), seeds).state

    assert len(seeds) == 175
    rows = public_data("stanford_alpaca_seed/seed_tasks.jsonl").read_text().splitlines()
    assert [seed.instruction for seed in seeds] == [json.loads(row)["instruction"] for row in rows]
    inputs = [json.loads(row)["instances"][0]["input"].strip("\n") for row in rows]
    assert [seed.input for seed in seeds] == inputs
    assert len(state.records) == 24
