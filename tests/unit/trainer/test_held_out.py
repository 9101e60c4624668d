"""Early stop on held-out data, and what a checkpoint is bound to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plumbline.core.errors import CheckpointError, ConfigError, FailedPreconditionError
from plumbline.data.records import Conversation, Prompt, assistant, user
from plumbline.models.chat import ChatFormat, EncodedConversation
from plumbline.models.packing import PromptGroup
from plumbline.trainer.config import (
    DPOConfig,
    EarlyStopConfig,
    ReinforceConfig,
    SFTConfig,
    TrainingConfig,
)
from plumbline.trainer.datasets import split_by_opening
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.held_out import EarlyStop, HeldOutFigure
from plumbline.trainer.recipes.dpo import pair_logprobs, train_dpo
from plumbline.trainer.recipes.on_policy import OnPolicyRun
from plumbline.trainer.recipes.policy_gradient import PolicyGradient
from plumbline.trainer.recipes.sft import (
    encode_conversations,
    evaluate_sft,
    plan_steps,
    train_sft,
)
from plumbline.trainer.rollout import ColocatedSampler
from plumbline.trainer.stages.common import check_early_stop


@pytest.fixture
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


@pytest.fixture
def examples(chat: ChatFormat) -> list[EncodedConversation]:
    pairs = [("cat", "dog"), ("old house", "mat"), ("dog", "cat on the mat"), ("sea", "house")]
    conversations = [
        Conversation(str(i), (user(f"the {a}?"), assistant(f"the {b} by the sea")))
        for i, (a, b) in enumerate(pairs)
    ]
    return encode_conversations(conversations, chat, max_length=64).examples


def test_watches_gains_and_goes_back_to_the_best(make_context: Callable[..., Any]) -> None:
    """Figures 5, 4, 4.5, 3.95, 3.99: with a minimum gain of 0.1 the second is the best.

    Patience 3 ends after the fifth; the weight then was 5, and goes back to 2.
    """
    module = nn.Linear(1, 1, bias=False)
    figures = iter([5.0, 4.0, 4.5, 3.95, 3.99])
    config = TrainingConfig(
        learning_rate=1.0, early_stop=EarlyStopConfig(every=1, patience=3, minimum_gain=0.1)
    )
    run = TrainingRun({"m": module}, config, total_steps=9, context=make_context())
    watch = EarlyStop(run, HeldOutFigure("test.loss", lambda: next(figures), False))
    stopped = []
    for unit in range(1, 6):
        nn.init.constant_(module.weight, unit)
        watch.check(unit)
        stopped.append(watch.stops)

    assert stopped == [False, False, False, False, True]
    assert watch.restore_best() == 2
    assert module.weight.item() == 2.0


def test_sft_stops_where_held_out_loss_rises(
    tiny_llama: Callable[..., Any],
    examples: list[EncodedConversation],
    make_context: Callable[..., Any],
    interrupted: type[Exception],
) -> None:
    # Learning two replies by heart makes other replies less likely in the end.
    config = SFTConfig(
        learning_rate=1e-2,
        schedule="constant",
        log_every=100,
        checkpoint_every=2,
        early_stop=EarlyStopConfig(every=2, patience=2),
    )
    train, test = examples[:2], examples[2:]
    plan = plan_steps(train, batch_size=2, epochs=60, seed=0)

    def run_sft(context: Any, seed: int = 0) -> tuple[Any, TrainingRun]:
        model = tiny_llama(seed=seed)
        run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
        train_sft(model, train, run, plan, pad_id=0, start=run.resume(), held_out=test)
        return model, run

    model, run = run_sft(make_context("whole"))

    losses = {int(e["step"]): e["test.loss"] for e in run.curves if "test.loss" in e}
    best = min(losses, key=losses.__getitem__)
    assert 1 < run.optimizer_steps == best + 4 < len(plan)
    assert evaluate_sft(model, test, config, pad_id=0) == pytest.approx(losses[best], rel=1e-6)

    broken = make_context("broken", interrupt_at=best + 1)
    with pytest.raises(interrupted):
        run_sft(broken)
    broken.interrupt_at = None
    resumed, again = run_sft(broken, seed=1)
    assert again.curves == run.curves
    assert all(torch.equal(p, resumed.get_parameter(n)) for n, p in model.named_parameters())


def test_dpo_stops_where_held_out_loss_rises(
    tiny_llama: Callable[..., Any], make_context: Callable[..., Any]
) -> None:
    # The held-out pair prefers the opposite, so its loss rises from the first step.
    model = tiny_llama()
    pairs = [PromptGroup([5, 6], ([7, 8, 1], [9, 10, 1]))]
    opposite = [PromptGroup([5, 6], ([9, 10, 1], [7, 8, 1]))]
    config = DPOConfig(learning_rate=1e-2, early_stop=EarlyStopConfig(every=1, patience=2))
    reference = pair_logprobs(model, opposite, config, pad_id=0)
    run = TrainingRun({"policy": model}, config, total_steps=9, context=make_context())

    train_dpo(
        model,
        pairs,
        run,
        config,
        [[0]] * 9,
        pad_id=0,
        held_out=opposite,
        held_out_reference=reference,
    )

    assert run.optimizer_steps == 3
    assert run.state["held_out"]["unit"] == 1


class FadingScorer:
    """Likes each policy less than the one before, whatever it says."""

    def __init__(self) -> None:
        self._calls = 0

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        self._calls += 1
        return {"fading": torch.arange(float(len(responses))) - self._calls}


def test_on_policy_run_stops_where_held_out_prompts_score_less(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    config = ReinforceConfig(
        learning_rate=1e-3,
        iterations=9,
        prompts_per_iteration=4,
        minibatch_size=4,
        max_response_tokens=4,
        early_stop=EarlyStopConfig(every=1, patience=2),
    )
    prompts = [Prompt(str(i), (user("the cat" + " sat" * i),)) for i in range(6)]
    model = tiny_llama()
    sampler = ColocatedSampler(model, chat, policy_id="base")
    learner = PolicyGradient(model, chat, config)
    loop = OnPolicyRun(model, chat, sampler, FadingScorer(), learner, config, make_context())

    outcome = loop.train(prompts[:4], held_out=prompts[4:])

    assert loop.run.optimizer_steps == 3
    assert outcome.iterations == 1
    assert not outcome.rolled_back


def test_early_stop_without_held_out_data_is_refused() -> None:
    config = SFTConfig(early_stop=EarlyStopConfig(every=10))
    with pytest.raises(ConfigError, match="test_fraction"):
        check_early_stop(config, held_out=0)


def test_conversations_that_open_alike_stay_on_one_side() -> None:
    conversations = [
        Conversation(f"{i}-{j}", (user(f"question {i}"), assistant(f"answer {j}")))
        for i in range(40)
        for j in range(2)
    ]
    train, test = split_by_opening(conversations, test_fraction=0.3)

    assert {c.messages[0] for c in train}.isdisjoint(c.messages[0] for c in test)
    assert 6 <= len(test) / 2 <= 18
    assert len(train) + len(test) == 80


def test_checkpoint_of_another_config_is_refused(
    tiny_llama: Callable[..., Any],
    examples: list[EncodedConversation],
    make_context: Callable[..., Any],
    interrupted: type[Exception],
) -> None:
    context = make_context(interrupt_at=1)
    plan = [[0, 1]] * 4

    def train(**changes: Any) -> None:
        config = SFTConfig(checkpoint_every=1, **changes)
        model = tiny_llama()
        run = TrainingRun({"policy": model}, config, total_steps=4, context=context)
        train_sft(model, examples, run, plan, pad_id=0, start=run.resume())

    with pytest.raises(interrupted):
        train(learning_rate=1e-3)
    context.interrupt_at = None

    expected = r"batch_size=64 there, 32 here; learning_rate=0.001 there, 0.01 here"
    with pytest.raises(CheckpointError, match=expected):
        train(learning_rate=1e-2, batch_size=32)
    train(learning_rate=1e-3)


def test_gradients_that_are_not_finite_leave_the_weights(make_context: Callable[..., Any]) -> None:
    module = nn.Linear(2, 1, bias=False)
    before = module.weight.clone()
    config = TrainingConfig(learning_rate=1.0)
    run = TrainingRun({"m": module}, config, total_steps=1, context=make_context())
    module.weight.grad = torch.tensor([[1.0, float("inf")]])

    with pytest.raises(FailedPreconditionError, match="optimizer step 0") as stopped:
        run.apply_gradients()

    assert stopped.value.reason == "GRADIENT_NOT_FINITE"
    assert torch.equal(module.weight, before)
