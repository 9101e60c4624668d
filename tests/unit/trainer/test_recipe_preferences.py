"""DPO, its variants and KTO: what they start at, learn, and resume to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import LabelledResponse, Preference, user
from plumbline.models.chat import ChatFormat
from plumbline.trainer.adapters import base_weights, choose_parameters
from plumbline.trainer.config import DPOConfig, KTOConfig, LoRAConfig
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.forward import response_logprobs
from plumbline.trainer.recipes import dpo, kto

GOOD, BAD = "sat on the mat", "ran to the sea"


@pytest.fixture
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


def preference(index: int) -> Preference:
    return Preference(str(index), (user(f"the cat {index}?"),), GOOD, BAD)


def dpo_config(**changes: Any) -> DPOConfig:
    values: dict[str, Any] = {
        "learning_rate": 1e-3,
        "epochs": 4,
        "batch_size": 4,
        "log_every": 1,
        "warmup_share": 0,
    }
    return DPOConfig(**(values | changes))


def run_dpo(model: Any, chat: ChatFormat, config: DPOConfig, context: Any) -> TrainingRun:
    pairs = dpo.encode_pairs([preference(i) for i in range(8)], chat, max_length=64)
    plan = dpo.plan_steps(pairs, config)
    run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
    dpo.train_dpo(model, pairs, run, config, plan, pad_id=chat.pad_id)
    return run


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({}, math.log(2)),
        ({"loss": "conservative"}, math.log(2)),
        # (0 - 1 / (2 * 0.1)) ** 2
        ({"loss": "ipo", "average_logprobs": True}, 25.0),
    ],
)
def test_dpo_starts_where_policy_and_reference_agree_and_learns(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    changes: dict[str, Any],
    first: float,
) -> None:
    model = tiny_llama()
    config = dpo_config(**changes)
    curves = run_dpo(model, chat, config, make_context()).curves

    assert curves[0]["loss"] == pytest.approx(first, abs=1e-4)
    assert curves[-1]["loss"] < 0.8 * first
    assert curves[-1]["accuracy"] == 1.0
    gained = curves[-1]["reward.chosen"] - curves[-1]["reward.rejected"]
    assert gained == pytest.approx(curves[-1]["margin"], rel=1e-4)


def test_held_out_pairs_are_measured_against_the_policy_before(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    model, config = tiny_llama(), dpo_config()
    held_out = dpo.encode_pairs([preference(i) for i in range(20, 30)], chat, max_length=64)
    reference = dpo.pair_logprobs(model, held_out, config, pad_id=chat.pad_id)
    before = dpo.evaluate_dpo(model, held_out, reference, config, pad_id=chat.pad_id)
    run_dpo(model, chat, config, make_context())
    after = dpo.evaluate_dpo(model, held_out, reference, config, pad_id=chat.pad_id)

    assert before["test.margin"] == pytest.approx(0, abs=1e-5)
    assert after["test.accuracy"] == 1.0 > after["test.accuracy.low"]
    assert after["test.margin"] > 0.5
    assert after["pairs.test"] == 10


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_resumed_run_repeats_the_uninterrupted_one(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    interrupted: type[Exception],
    method: str,
) -> None:
    def train(context: Any) -> tuple[Any, TrainingRun]:
        model = tiny_llama()
        if method == "dpo":
            return model, run_dpo(model, chat, dpo_config(checkpoint_every=3), context)
        return model, run_kto(model, chat, kto_config(checkpoint_every=3), context)

    whole, run = train(make_context("whole"))
    broken = make_context("broken", interrupt_at=5)
    with pytest.raises(interrupted):
        train(broken)
    broken.interrupt_at = None
    resumed, again = train(broken)

    assert again.curves == run.curves
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name))


def test_cached_reference_equals_the_live_one(
    tiny_llama: Callable[..., Any], chat: ChatFormat
) -> None:
    model = tiny_llama()
    pairs = dpo.encode_pairs([preference(i) for i in range(3)], chat, max_length=64)
    batched = dpo.pair_logprobs(model, pairs, dpo_config(), pad_id=0)
    alone = dpo.pair_logprobs(model, pairs, dpo_config(tokens_per_microbatch=1), pad_id=0)

    assert_close(batched, alone, atol=1e-4, rtol=0)


def test_reference_of_adapters_is_the_base_without_them(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    """What was cached before the first step is what the trained model says without adapters."""
    model, config = tiny_llama(), dpo_config(lora=LoRAConfig(rank=4), learning_rate=1e-2)
    choose_parameters(model, config)
    pairs = dpo.encode_pairs([preference(i) for i in range(8)], chat, max_length=64)
    run = run_dpo(model, chat, config, make_context())

    with base_weights(model):
        live = dpo.pair_logprobs(model, pairs, config, pad_id=chat.pad_id)
    trained = dpo.pair_logprobs(model, pairs, config, pad_id=chat.pad_id)
    assert run.curves[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert_close(run.tensors["reference_logprobs"], live, atol=1e-5, rtol=0)
    assert (trained - live).abs().min() > 0.1


def test_dpo_prompt_begins_both_sides_and_keeps_its_end(chat: ChatFormat) -> None:
    long = Preference("l", (user("the cat " * 40),), "sat", "ran to the old house")

    (pair,) = dpo.encode_pairs([long], chat, max_length=32)

    whole = chat.encode_prompt(long.prompt)
    assert list(pair.prompt) == whole[len(whole) - len(pair.prompt) :]
    assert len(pair.prompt) + max(map(len, pair.responses)) == 32
    assert [response[-1] for response in pair.responses] == [chat.eos_id] * 2
    with pytest.raises(InvalidInputError, match="leaves no room"):
        dpo.encode_pairs([long], chat, max_length=4)


def kto_config(**changes: Any) -> KTOConfig:
    values: dict[str, Any] = {
        "learning_rate": 1e-3,
        "epochs": 6,
        "batch_size": 4,
        "log_every": 1,
        "warmup_share": 0,
    }
    return KTOConfig(**(values | changes))


def labelled(index: int, *, desirable: bool | None = None) -> LabelledResponse:
    good = index % 2 == 0 if desirable is None else desirable
    text = GOOD if good else BAD
    return LabelledResponse(str(index), (user(f"the cat {index}?"),), text, good)


def run_kto(model: Any, chat: ChatFormat, config: KTOConfig, context: Any) -> TrainingRun:
    responses = kto.encode_responses([labelled(i) for i in range(8)], chat, max_length=64)
    plan = kto.plan_steps(responses, config)
    run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
    kto.train_kto(model, responses, run, config, plan, pad_id=chat.pad_id)
    return run


def test_kto_starts_at_one_half_and_parts_good_from_bad(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    """sigmoid(0) = 1/2 for every response while policy and reference agree."""
    curves = run_kto(tiny_llama(), chat, kto_config(), make_context()).curves

    assert curves[0]["loss"] == pytest.approx(0.5, abs=1e-5)
    assert curves[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert curves[-1]["loss"] < 0.4
    assert curves[-1]["reward.desirable"] > curves[-1]["reward.undesirable"] + 0.3


def test_kto_reference_of_adapters_is_the_base_without_them(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    model, config = tiny_llama(), kto_config(lora=LoRAConfig(rank=4), learning_rate=1e-2)
    choose_parameters(model, config)
    responses = kto.encode_responses([labelled(i) for i in range(8)], chat, max_length=64)
    groups = [item.after(item.prompt) for item in responses]
    run = run_kto(model, chat, config, make_context())

    with torch.no_grad(), base_weights(model):
        live = response_logprobs(model, groups, pad_id=chat.pad_id).sum(dim=1)
    with torch.no_grad():
        trained = response_logprobs(model, groups, pad_id=chat.pad_id).sum(dim=1)
    assert_close(run.tensors["reference_logprobs"], live, atol=1e-4, rtol=0)
    assert (trained - live).abs().max() > 0.1


def test_prompts_meet_the_next_response_of_their_step(chat: ChatFormat) -> None:
    responses = kto.encode_responses([labelled(i) for i in range(4)], chat, max_length=64)
    groups = kto.mismatched(responses, [2, 0, 3])

    assert [group.prompt for group in groups] == [responses[i].prompt for i in (2, 0, 3)]
    assert [group.responses[0] for group in groups] == [responses[i].response for i in (0, 3, 2)]


def test_one_kind_of_label_is_refused(chat: ChatFormat) -> None:
    with pytest.raises(InvalidInputError, match="all 2 responses are labelled desirable"):
        kto.encode_responses([labelled(i, desirable=True) for i in range(2)], chat, max_length=64)
