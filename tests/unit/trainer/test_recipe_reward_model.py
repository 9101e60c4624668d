"""Reward-model training: margins, accumulation, learning, and the account of held-out pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Grade, Preference, user
from plumbline.models.reward import RewardModel, RewardModelCard
from plumbline.trainer.config import RewardModelConfig
from plumbline.trainer.datasets import preferences_for, prompt_position, split_by_prompt
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.ranking import evaluate_ranking
from plumbline.trainer.recipes.reward_model import (
    encode_pairs,
    held_out_loss,
    plan_steps,
    train_reward_model,
)


def preference(index: int, **changes: Any) -> Preference:
    values: dict[str, Any] = {
        "id": str(index),
        "prompt": (user(f"the cat {index}?"),),
        "chosen": "sat on the mat by the sea",
        "rejected": "dog",
        "grade": list(Grade)[index % 4],
        "agreement": 1.0 if index % 2 else 0.8,
    }
    return Preference(**(values | changes))


@pytest.fixture
def new_model(tiny_llama: Callable[..., Any], tiny_tokenizer: Any) -> Callable[[], RewardModel]:
    card = RewardModelCard(max_length=64)
    return lambda: RewardModel.create(tiny_llama().model, tiny_tokenizer, card, seed=0)


class HeldRun(TrainingRun):
    """Keeps a step's gradients in place of applying them."""

    gradients: dict[str, torch.Tensor]

    def apply_gradients(self) -> float:
        self.gradients = {
            name: parameter.grad.clone()
            for name, parameter in self._parameters.items()
            if parameter.grad is not None
        }
        return 0.0


def run_of(model: RewardModel, config: RewardModelConfig, context: Any, steps: int) -> TrainingRun:
    return TrainingRun({"reward": model}, config, total_steps=steps, context=context)


def test_margins_follow_the_grades(new_model: Callable[[], RewardModel]) -> None:
    graded = [preference(index) for index in range(4)]
    ungraded = preference(9, grade=None)

    tables = {
        margin: [
            pair.margin for pair in encode_pairs(new_model(), [*graded, ungraded], margin=margin)
        ]
        for margin in ("small", "large", "off")
    }

    assert tables["small"] == [1.0, 2 / 3, 1 / 3, 0.0, 0.0]
    assert tables["large"] == [3.0, 2.0, 1.0, 0.0, 0.0]
    assert tables["off"] == [0.0] * 5


@pytest.mark.parametrize(
    ("margin", "expected"),
    [
        # The lead is 1, the grade significantly better: -log sigmoid of 1 - 1, 1 - 3 and 1.
        ("small", 0.693147),
        ("large", 2.126928),
        ("off", 0.313262),
    ],
)
def test_the_margin_of_the_grade_is_demanded(
    new_model: Callable[[], RewardModel],
    make_context: Callable[..., Any],
    margin: Any,
    expected: float,
) -> None:
    model = new_model()
    graded = [preference(0, grade=Grade.SIGNIFICANTLY_BETTER)]
    pairs = encode_pairs(model, graded, margin=margin)
    with torch.no_grad():
        chosen, rejected = model.score_groups([pairs[0].group])
        # Scaled so that the chosen response leads by exactly 1.
        model.head.weight /= chosen - rejected
    config = RewardModelConfig(margin=margin)

    run = run_of(model, config, make_context(), 1)
    train_reward_model(model, pairs, run, config, [[0]])

    assert run.curves[0]["loss"] == pytest.approx(expected, abs=1e-4)


def test_response_pooling_trains_on_both_sides_of_a_pair(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, make_context: Callable[..., Any]
) -> None:
    card = RewardModelCard(max_length=64, pooling="response")
    model = RewardModel.create(tiny_llama().model, tiny_tokenizer, card, seed=0)
    preferences = [preference(index) for index in range(2)]
    scores = [
        model.score_responses([p.prompt, p.prompt], [p.chosen, p.rejected]) for p in preferences
    ]
    expected = sum(-float(torch.nn.functional.logsigmoid(s[0] - s[1])) for s in scores) / 2
    config = RewardModelConfig(margin="off")
    run = run_of(model, config, make_context(), 1)

    train_reward_model(model, encode_pairs(model, preferences, margin="off"), run, config, [[0, 1]])

    assert run.curves[0]["loss"] == pytest.approx(expected, abs=1e-5)


def test_microbatches_change_no_gradient(
    new_model: Callable[[], RewardModel], make_context: Callable[..., Any]
) -> None:
    pairs_of = [preference(i, chosen_is_safe=True, rejected_is_safe=False) for i in range(6)]
    found = []
    for name, budget in (("whole", 4096), ("parts", 64)):
        model = new_model()
        config = RewardModelConfig(tokens_per_microbatch=budget, safety_loss_coef=0.5)
        run = HeldRun({"reward": model}, config, total_steps=1, context=make_context(name))
        train_reward_model(
            model, encode_pairs(model, pairs_of, margin="small"), run, config, [list(range(6))]
        )
        found.append((run.curves[0]["loss"], run.gradients))

    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    for name, gradient in found[0][1].items():
        assert_close(found[1][1][name], gradient, atol=1e-5, rtol=1e-3)


def test_safety_labels_add_their_cross_entropy(
    new_model: Callable[[], RewardModel], make_context: Callable[..., Any]
) -> None:
    model = new_model().eval()
    labelled = [preference(0, chosen_is_safe=True, rejected_is_safe=False)]
    pairs = encode_pairs(model, labelled, margin="off")
    scores = model.score_groups([pairs[0].group]).detach()
    ranking = -float(torch.nn.functional.logsigmoid(scores[0] - scores[1]))
    # The mean of -log sigmoid(chosen) and -log sigmoid(-rejected), at weight 2.
    safety = (math.log1p(math.exp(-float(scores[0]))) + math.log1p(math.exp(float(scores[1])))) / 2
    config = RewardModelConfig(safety_loss_coef=2.0)
    run = run_of(model, config, make_context(), 1)

    train_reward_model(model, pairs, run, config, [[0]])

    assert run.curves[0]["loss"] == pytest.approx(ranking + 2 * safety, abs=1e-5)


def test_safety_loss_without_labels_is_refused(
    new_model: Callable[[], RewardModel], make_context: Callable[..., Any]
) -> None:
    model, config = new_model(), RewardModelConfig(safety_loss_coef=0.5)
    pairs = encode_pairs(model, [preference(0)], margin="off")

    with pytest.raises(InvalidInputError, match=r"safety_loss_coef=0\.5, but none of 1 pairs"):
        train_reward_model(model, pairs, run_of(model, config, make_context(), 1), config, [[0]])


def test_training_ranks_held_out_pairs_and_resumes(
    new_model: Callable[[], RewardModel],
    make_context: Callable[..., Any],
    interrupted: type[Exception],
) -> None:
    preferences = [preference(index) for index in range(40)]
    config = RewardModelConfig(
        learning_rate=3e-3, epochs=2, batch_size=8, log_every=1, checkpoint_every=3
    )

    def train(context: Any) -> tuple[RewardModel, list[dict[str, float]]]:
        model = new_model()
        pairs = encode_pairs(model, preferences[:30], margin=config.margin)
        plan = plan_steps(pairs, config)
        run = run_of(model, config, context, len(plan))
        train_reward_model(model, pairs, run, config, plan)
        return model, run.curves

    model, curves = train(make_context("whole"))
    broken = make_context("broken", interrupt_at=4)
    with pytest.raises(interrupted):
        train(broken)
    broken.interrupt_at = None
    assert train(broken)[1] == curves

    report = evaluate_ranking(model, preferences[:30], preferences[30:], tokens_per_batch=512)
    metrics = report.metrics()
    assert metrics["accuracy"] == 1.0
    # Wilson's interval of 10 out of 10 ends at n / (n + 1.96^2).
    assert metrics["accuracy.low"] == pytest.approx(10 / (10 + 1.959964**2))
    assert metrics["accuracy.unanimous"] == 1.0
    assert report.groups["agreement.unanimous"].n == 5
    assert sum(e.n for name, e in report.groups.items() if name.startswith("grade.")) == 10


def test_early_stop_goes_back_to_the_best_weights_and_resumes(
    new_model: Callable[[], RewardModel],
    make_context: Callable[..., Any],
    interrupted: type[Exception],
) -> None:
    preferences = [preference(index) for index in range(16)]
    # What is held out contradicts what is learnt, so it gets worse with every step.
    turned = [preference(90 + i, chosen="dog", rejected=preferences[0].chosen) for i in range(4)]
    config = RewardModelConfig(
        learning_rate=3e-3,
        epochs=10,
        batch_size=8,
        minimum_warmup_steps=0,
        checkpoint_every=1,
        log_every=1,
        early_stop={"every": 2, "patience": 2},
    )

    def train(context: Any) -> tuple[RewardModel, list[dict[str, float]]]:
        model = new_model()
        pairs = encode_pairs(model, preferences, margin="off")
        held_out = encode_pairs(model, turned, margin="off")
        run = run_of(model, config, context, 20)
        plan = plan_steps(pairs, config)
        train_reward_model(model, pairs, run, config, plan, held_out=held_out)
        best = min(row["test.loss"] for row in run.curves if "test.loss" in row)
        assert held_out_loss(model, held_out, config) == pytest.approx(best, abs=1e-6)
        return model, run.curves

    _, curves = train(make_context("whole"))
    # Best when first measured, after step 2; twice no gain, at steps 4 and 6.
    assert [row["step"] for row in curves if "test.loss" in row] == [2, 4, 6]
    assert curves[-1]["step"] == 6
    broken = make_context("broken", interrupt_at=3)
    with pytest.raises(interrupted):
        train(broken)
    broken.interrupt_at = None
    assert train(broken)[1] == curves


def test_length_baseline_takes_the_direction_that_training_pairs_show(
    new_model: Callable[[], RewardModel],
) -> None:
    longer = [preference(index) for index in range(4)]
    shorter = [preference(9, chosen="dog", rejected="sat on the mat")]
    tied = [preference(10, chosen="cat", rejected="dog")]

    report = evaluate_ranking(
        new_model(), longer, [longer[0], *shorter, *tied], tokens_per_batch=512
    )
    turned = evaluate_ranking(new_model(), shorter, [longer[0], *shorter], tokens_per_batch=512)

    assert report.length_baseline.value == pytest.approx(1 / 3)
    assert turned.length_baseline.value == 0.5
    assert 0 <= report.majority_baseline.value <= 1


def test_no_prompt_is_on_both_sides_and_sides_are_stable() -> None:
    preferences = [preference(index % 50, chosen=f"cat {index}") for index in range(200)]

    train, test = split_by_prompt(preferences, test_fraction=0.3)
    some_train, _ = split_by_prompt(preferences[:60], test_fraction=0.3)

    assert {p.prompt for p in train}.isdisjoint(p.prompt for p in test)
    assert 0.1 < len(test) / 200 < 0.5
    assert {p.prompt for p in some_train} <= {p.prompt for p in train}
    assert all(0 <= prompt_position(p.prompt) < 1 for p in preferences)


def test_heads_take_their_own_preferences() -> None:
    marked = [preference(0, head="safety"), preference(1, head="helpfulness"), preference(2)]

    assert [p.id for p in preferences_for(marked, "safety")] == ["0", "2"]
    assert len(preferences_for(marked, "preference")) == 3
    with pytest.raises(InvalidInputError, match="marked safety"):
        preferences_for(marked[:1], "helpfulness")
