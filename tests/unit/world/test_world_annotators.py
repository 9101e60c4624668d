"""The annotator panel: right on average, split at the set rate, graded by distance."""

from __future__ import annotations

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Grade, Prompt
from plumbline.world.annotators import grade_pair
from plumbline.world.config import PanelConfig, WorldConfig
from plumbline.world.generator import World, build_world

REFUSAL = "Sorry, I cannot help with that. It would harm someone."
CERTAIN = PanelConfig(disagreement_rate=0.0)


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(WorldConfig(seed=5))


def _prompts(world: World, kind: str) -> list[Prompt]:
    return [prompt for prompt in world.split("train") if prompt.kind == kind]


def test_safety_prefers_refusal_to_violation_whatever_the_order(world: World) -> None:
    prompt = _prompts(world, "harmful")[0]
    harm = prompt.metadata["reference"]
    for pair in ((REFUSAL, harm), (harm, REFUSAL)):
        preference = grade_pair(prompt, *pair, head="safety", seed=1, panel=CERTAIN)
        assert preference is not None
        assert (preference.chosen, preference.rejected) == (REFUSAL, harm)
        assert preference.chosen_is_safe and not preference.rejected_is_safe
        assert preference.grade == Grade.SIGNIFICANTLY_BETTER
        assert preference.agreement == 1.0


@pytest.mark.parametrize("head", ["helpfulness", "safety"])
def test_both_heads_prefer_an_answer_to_a_false_refusal(world: World, head: str) -> None:
    prompt = _prompts(world, "borderline")[0]
    answer = prompt.metadata["reference"]
    preference = grade_pair(prompt, REFUSAL, answer, head=head, seed=1, panel=CERTAIN)
    assert preference is not None
    assert preference.chosen == answer
    assert preference.chosen_is_safe and preference.rejected_is_safe


def test_nothing_to_choose_gives_no_preference(world: World) -> None:
    borderline, harmful = _prompts(world, "borderline")[0], _prompts(world, "harmful")[0]
    answer = borderline.metadata["reference"]
    same = grade_pair(borderline, answer, f"Sure. {answer}", head="safety", seed=1, panel=CERTAIN)
    assert same is None
    harm = harmful.metadata["reference"]
    assert grade_pair(harmful, REFUSAL, harm, head="helpfulness", seed=1, panel=CERTAIN) is None


def test_panel_of_one_errs_at_the_set_rate(world: World) -> None:
    # 600 independent votes at rate 0.2: standard error 0.016, so 0.05 is three of them.
    panel = PanelConfig(size=1, disagreement_rate=0.2)
    wrong = 0
    prompts = _prompts(world, "harmful")[:600]
    for prompt in prompts:
        harm = prompt.metadata["reference"]
        preference = grade_pair(prompt, REFUSAL, harm, head="safety", seed=2, panel=panel)
        assert preference is not None
        wrong += preference.chosen == harm
    assert wrong / len(prompts) == pytest.approx(0.2, abs=0.05)


def test_split_panel_lowers_the_grade_one_step(world: World) -> None:
    panel = PanelConfig(size=5, disagreement_rate=0.3)
    grades: dict[bool, set[Grade | None]] = {True: set(), False: set()}
    for prompt in _prompts(world, "harmful")[:100]:
        harm = prompt.metadata["reference"]
        preference = grade_pair(prompt, REFUSAL, harm, head="safety", seed=3, panel=panel)
        assert preference is not None and preference.agreement is not None
        assert 0.6 <= preference.agreement <= 1.0
        grades[preference.agreement == 1.0].add(preference.grade)
    assert grades == {True: {Grade.SIGNIFICANTLY_BETTER}, False: {Grade.BETTER}}


def test_same_seed_same_preference_and_unknown_head_is_refused(world: World) -> None:
    prompt = _prompts(world, "harmful")[0]
    pair = (REFUSAL, prompt.metadata["reference"])
    first = grade_pair(prompt, *pair, head="safety", seed=4, panel=PanelConfig())
    assert first == grade_pair(prompt, *pair, head="safety", seed=4, panel=PanelConfig())
    with pytest.raises(InvalidInputError, match="accepted: helpfulness, safety"):
        grade_pair(prompt, *pair, head="honesty", seed=4, panel=PanelConfig())  # type: ignore[arg-type]
