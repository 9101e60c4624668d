"""The sampler's logprobs as the old ones of on-policy methods: where they are used, and how much
of the policy's work that leaves."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from plumbline.data.records import Prompt, Rollout, user
from plumbline.models.chat import ChatFormat
from plumbline.models.packing import PromptGroup
from plumbline.trainer import drawn_logprobs
from plumbline.trainer.adapters import choose_parameters
from plumbline.trainer.config import GRPOConfig, LoRAConfig, PPOConfig, ReinforceConfig, RLOOConfig
from plumbline.trainer.drawn_logprobs import trusted_logprobs
from plumbline.trainer.forward import response_logprobs, response_mask
from plumbline.trainer.recipes.on_policy import OnPolicyRun
from plumbline.trainer.recipes.policy_gradient import PolicyGradient
from plumbline.trainer.recipes.ppo import PPO
from plumbline.trainer.rollout import ColocatedSampler

PROMPTS = [Prompt(str(i), (user("the cat" + " sat" * i),), kind="helpful") for i in range(6)]
TEMPERATURE = 1.3
COMMON = {
    "learning_rate": 3e-3,
    "iterations": 3,
    "prompts_per_iteration": 6,
    "responses_per_prompt": 4,
    "minibatch_size": 12,
    "max_response_tokens": 8,
    "temperature": TEMPERATURE,
    "log_every": 1,
    "warmup_share": 0.0,
}
METHODS = {
    "reinforce": ReinforceConfig(**COMMON),
    "rloo": RLOOConfig(**COMMON),
    "rloo-adapters": RLOOConfig(**COMMON, lora=LoRAConfig(rank=4)),
    "grpo": GRPOConfig(**COMMON, epochs=2),
    "ppo-shared": PPOConfig(**COMMON, epochs=2),
    "ppo-separate": PPOConfig(**COMMON, value_model="separate"),
}


class LetterScorer:
    """Share of lower-case letters."""

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        shares = [sum("a" <= c <= "z" for c in text) / max(len(text), 1) for text in responses]
        return {"letters": torch.tensor(shares)}


class ChangedSampler(ColocatedSampler):
    """Tells other rollouts than it drew."""

    def __init__(self, *args: Any, change: Callable[[Rollout], Rollout], **options: Any) -> None:
        super().__init__(*args, **options)
        self._change = change

    def sample(self, *args: Any, **options: Any) -> list[Rollout]:
        return [self._change(rollout) for rollout in super().sample(*args, **options)]


@pytest.fixture
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


def new_loop(
    model: Any,
    chat: ChatFormat,
    config: Any,
    context: Any,
    change: Callable[[Rollout], Rollout] = lambda rollout: rollout,
) -> OnPolicyRun:
    choose_parameters(model, config)
    learner = PPO if isinstance(config, PPOConfig) else PolicyGradient
    sampler = ChangedSampler(model, chat, policy_id="base", change=change)
    return OnPolicyRun(
        model, chat, sampler, LetterScorer(), learner(model, chat, config), config, context
    )


def teacher_forced(
    model: Any, chat: ChatFormat, rollouts: list[Rollout], temperature: float
) -> Tensor:
    groups = [PromptGroup(r.prompt_token_ids, [r.response_token_ids]) for r in rollouts]
    with torch.no_grad():
        return response_logprobs(model, groups, pad_id=chat.pad_id, temperature=temperature)


def trusted(
    model: Any, chat: ChatFormat, rollouts: list[Rollout], policy_id: str = "base"
) -> tuple[Tensor | None, float | None]:
    mask = response_mask([PromptGroup((), [r.response_token_ids for r in rollouts])])
    return trusted_logprobs(
        model,
        rollouts,
        mask,
        policy_id=policy_id,
        pad_id=chat.pad_id,
        temperature=TEMPERATURE,
    )


@pytest.fixture
def rollouts(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> list[Rollout]:
    return new_loop(tiny_llama(), chat, METHODS["rloo"], make_context()).collect(PROMPTS, 0)


def test_both_logprobs_are_those_of_a_teacher_forced_pass(
    tiny_llama: Callable[..., Any], chat: ChatFormat, rollouts: list[Rollout]
) -> None:
    model = tiny_llama()
    told, gap = trusted(model, chat, rollouts)
    untempered = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(rollout.untempered_logprobs) for rollout in rollouts], batch_first=True
    )

    assert told is not None and gap is not None and gap < 1e-5
    options: dict[str, float] = {"atol": 1e-5, "rtol": 0}
    assert_close(told, teacher_forced(model, chat, rollouts, TEMPERATURE), **options)
    assert_close(untempered, teacher_forced(model, chat, rollouts, 1.0), **options)
    # At another temperature than 1 they are not each other's.
    assert (told - untempered).abs().max() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_a_run_learns_what_it_learnt_with_a_second_pass(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    curves = []
    for tolerance in (drawn_logprobs.TOLERANCE, -1.0):
        monkeypatch.setattr(drawn_logprobs, "TOLERANCE", tolerance)
        torch.manual_seed(0)
        loop = new_loop(tiny_llama(), chat, METHODS[method], make_context(str(tolerance)))
        loop.train(PROMPTS)
        curves.append(loop.run.curves)

    for told, computed in zip(*curves, strict=True):
        assert 0 < told.pop("sampler_gap") < 1e-5
        assert 0 < computed.pop("sampler_gap") < 1e-5
        assert told == pytest.approx(computed, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("method", "reads_all"),
    [("rloo", False), ("grpo", False), ("ppo-separate", False), ("ppo-shared", True)],
)
def test_the_policy_computes_again_only_what_is_checked_or_carries_values(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    method: str,
    reads_all: bool,
) -> None:
    model = tiny_llama()
    loop = new_loop(model, chat, METHODS[method], make_context())
    rollouts = loop.collect(PROMPTS, 0)
    tokens: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda module, inputs: tokens.append(inputs[0].numel())
    )

    # The first pass of a model also finds out how it can be computed.
    for _ in range(2):
        tokens.clear()
        trusted(model, chat, rollouts)
    checked = sum(tokens)
    tokens.clear()
    loop.prepare(rollouts)

    assert 0 < checked < sum(len(r.response_token_ids) for r in rollouts)
    if reads_all:
        assert sum(tokens) > 2 * checked
    else:
        assert sum(tokens) == checked


def test_a_sampler_that_drifts_is_noticed_and_not_believed(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def drift(rollout: Rollout) -> Rollout:
        return dataclasses.replace(rollout, logprobs=tuple(p - 0.02 for p in rollout.logprobs))

    model = tiny_llama()
    loop = new_loop(model, chat, METHODS["rloo"], make_context(), drift)
    rollouts = loop.collect(PROMPTS, 0)

    with caplog.at_level(logging.WARNING):
        experience, measured = loop.prepare(rollouts)

    assert "differ by up to 0.02" in caplog.text
    assert measured.figures["sampler_gap"] == pytest.approx(0.02, abs=1e-4)
    own = teacher_forced(model, chat, rollouts, TEMPERATURE)
    assert_close(experience.logprobs, own, atol=1e-5, rtol=0)


def test_what_tells_no_logprobs_has_them_computed(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    def silence(rollout: Rollout) -> Rollout:
        return dataclasses.replace(rollout, logprobs=())

    model = tiny_llama()
    loop = new_loop(model, chat, METHODS["grpo"], make_context(), silence)
    rollouts = loop.collect(PROMPTS, 0)
    experience, measured = loop.prepare(rollouts)

    assert "sampler_gap" not in measured.figures
    own = teacher_forced(model, chat, rollouts, TEMPERATURE)
    assert_close(experience.logprobs, own, atol=1e-5, rtol=0)


def test_other_weights_or_coarser_arithmetic_are_never_believed(
    tiny_llama: Callable[..., Any], chat: ChatFormat, rollouts: list[Rollout]
) -> None:
    assert trusted(tiny_llama(), chat, rollouts)[0] is not None
    assert trusted(tiny_llama(), chat, rollouts, "base@1") == (None, None)
    assert trusted(tiny_llama().to(torch.bfloat16), chat, rollouts) == (None, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert trusted(tiny_llama(), chat, rollouts) == (None, None)
    # The right name with other weights behind it.
    told, gap = trusted(tiny_llama(seed=1), chat, rollouts)
    assert told is None and gap is not None and gap > 0.1
