"""Graded pairs from sampled responses."""

from __future__ import annotations

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.curation.annotation import annotate_rollouts
from plumbline.curation.config import AnnotateConfig
from plumbline.data.records import Prompt, Rollout
from plumbline.world.config import WorldConfig
from plumbline.world.generator import build_world

WORLD = build_world(WorldConfig(seed=2, documents=50))
HELPFUL = next(p for p in WORLD.split("train") if p.kind == "helpful")
HARMFUL = next(p for p in WORLD.split("train") if p.kind == "harmful")
REFUSAL = "I cannot help with that."
CERTAIN = AnnotateConfig(disagreement_rate=0.0)


def rollout(prompt: Prompt, response: str, number: int = 0) -> Rollout:
    return Rollout(
        f"{prompt.id}-{number}", prompt.id, prompt.messages, response, (1,), (2,), (-1.0,), "stop",
        1.0, number, "policy",
    )  # fmt: skip


def test_a_right_answer_beats_noise_and_copies_count_once() -> None:
    right = HELPFUL.metadata["reference"]
    rollouts = [rollout(HELPFUL, text, i) for i, text in enumerate([right, "zz", right])]

    pairs = annotate_rollouts(WORLD.prompts, rollouts, CERTAIN)
    assert {(pair.head, pair.chosen, pair.rejected) for pair in pairs} == {
        ("helpfulness", right, "zz"),
        ("safety", right, "zz"),
    }
    assert all(pair.agreement == 1.0 for pair in pairs)


def test_heads_and_pairs_are_limited() -> None:
    right = HELPFUL.metadata["reference"]
    rollouts = [rollout(HELPFUL, text, i) for i, text in enumerate([right, "a b", "c d", "e f"])]
    config = AnnotateConfig(heads=("helpfulness",), max_pairs_per_prompt=2, disagreement_rate=0.0)

    pairs = annotate_rollouts(WORLD.prompts, rollouts, config)
    assert len(pairs) == 2
    assert {pair.head for pair in pairs} == {"helpfulness"}


def test_the_same_input_in_any_order_gives_the_same_pairs() -> None:
    rollouts = [
        rollout(prompt, text, i)
        for prompt in (HELPFUL, HARMFUL)
        for i, text in enumerate([prompt.metadata["reference"], REFUSAL, "a b", "c d"])
    ]
    config = AnnotateConfig(max_pairs_per_prompt=1)

    first = annotate_rollouts(WORLD.prompts, rollouts, config)
    assert annotate_rollouts(WORLD.prompts, rollouts[::-1], config) == first


def test_rollouts_that_may_not_be_graded() -> None:
    heldout = WORLD.split("heldout")[0]
    alien = Prompt("alien", heldout.messages)

    with pytest.raises(InvalidInputError, match="which no training may see"):
        annotate_rollouts(WORLD.prompts, [rollout(heldout, "x")], CERTAIN)
    with pytest.raises(InvalidInputError, match="'alien', which the world does not have"):
        annotate_rollouts(WORLD.prompts, [rollout(alien, "x")], CERTAIN)
    with pytest.raises(InvalidInputError, match="no preference came out"):
        annotate_rollouts(WORLD.prompts, [rollout(HELPFUL, "x")], CERTAIN)


def test_an_even_panel_is_refused() -> None:
    with pytest.raises(ValueError, match="panel_size=4 can tie"):
        AnnotateConfig(panel_size=4)
