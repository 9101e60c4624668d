"""Batched generation against a naive loop, and what must not change a response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from plumbline.core.errors import CancelledError, FailedPreconditionError, InvalidInputError
from plumbline.sampler import kernels
from plumbline.sampler.drawing import uniform_stream
from plumbline.sampler.generation import (
    response_logprobs,
    sample_batch,
)
from plumbline.sampler.requests import Sampled
from plumbline.sampler.seeds import derive_seed

PAD = 0
END = 2
PROMPTS = [[1, 40, 41], [1, 50], [1, 60, 61, 62, 63, 64, 65], [1, 50], [1, 70, 71, 72]]
SEEDS = [11, 12, 13, 14, 15]
# A third of the vocabulary ends a response, so that rows of a batch end at different steps.
MANY_ENDS = list(range(2, 295, 3))

needs_kernels = pytest.mark.skipif(
    not kernels.available(),
    reason="torch's own attention rounds by its company; no C++ compiler at installation",
)


@pytest.fixture(scope="module")
def model(tiny_llama: Callable[..., Any]) -> Any:
    return tiny_llama()


def draw(model: Any, prompts: Sequence[Sequence[int]] = PROMPTS, **changes: Any) -> Any:
    arguments = {
        "k": 3,
        "temperatures": [1.0],
        "seeds": SEEDS[: len(prompts)],
        "max_response_tokens": 12,
        "eos_id": END,
    }
    return sample_batch(model, prompts, **(arguments | changes))


def draw_naively(
    model: Any, prompt: Sequence[int], seed: int, *, steps: int, ends: Sequence[int]
) -> tuple[list[int], list[float]]:
    """No cache, no batch, no padding: the whole sequence again for each token."""
    tokens: list[int] = []
    logprobs: list[float] = []
    for uniform in uniform_stream(seed).random(steps):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, -1].double()
        cumulative = logits.softmax(-1).cumsum(-1)
        tokens.append(int((cumulative <= uniform).sum()))
        logprobs.append(float(logits.log_softmax(-1)[tokens[-1]]))
        if tokens[-1] in ends:
            break
    return tokens, logprobs


def tokens_of(samples: Sequence[Sequence[Sampled]]) -> list[list[tuple[int, ...]]]:
    return [[sampled.token_ids for sampled in row] for row in samples]


@pytest.mark.parametrize("ends", [[END], MANY_ENDS])
def test_batches_draw_what_a_naive_loop_draws(model: Any, ends: list[int]) -> None:
    samples = draw(model, eos_id=ends)

    for prompt, seed, row in zip(PROMPTS, SEEDS, samples, strict=True):
        for j, sampled in enumerate(row):
            expected = draw_naively(model, prompt, derive_seed(seed, j), steps=12, ends=ends)
            assert list(sampled.token_ids) == expected[0]
            assert list(sampled.logprobs) == pytest.approx(expected[1], abs=1e-5)
            ended = sampled.token_ids[-1] in ends
            assert sampled.finish_reason == ("stop" if ended else "length")


@needs_kernels
@pytest.mark.parametrize("max_rows", [1, 2, 7])
def test_company_in_the_batch_does_not_change_a_response(model: Any, max_rows: int) -> None:
    expected = draw(model, eos_id=MANY_ENDS)

    assert draw(model, eos_id=MANY_ENDS, max_rows=max_rows) == expected
    backwards = draw(model, PROMPTS[::-1], seeds=SEEDS[::-1], eos_id=MANY_ENDS)
    assert backwards[::-1] == expected


def test_the_same_call_gives_the_same_bits(model: Any) -> None:
    assert draw(model) == draw(model)


@needs_kernels
def test_a_response_can_be_drawn_again_alone(model: Any) -> None:
    sampled = draw(model)[2][1]

    alone = draw(model, [PROMPTS[2]], k=1, seeds=[sampled.seed])[0][0]

    assert alone == sampled


def test_seeds_and_responses_differ(model: Any) -> None:
    drawn = [tokens for row in tokens_of(draw(model)) for tokens in row]
    assert len(set(drawn)) == 15


def test_temperatures_are_taken_in_turn(model: Any) -> None:
    samples = draw(model, k=3, temperatures=[0.0, 1.0])

    greedy = draw(model, k=1, temperatures=[0.0])
    for prompt, row, (expected,) in zip(PROMPTS, samples, greedy, strict=True):
        assert row[0].token_ids == row[2].token_ids == expected.token_ids
        assert row[1].token_ids != expected.token_ids
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        assert expected.token_ids[0] == int(logits.argmax())
        assert set(expected.logprobs) == {0.0}


def test_teacher_forcing_gives_the_sampling_logprobs_at_temperature_one(model: Any) -> None:
    samples = [row[0] for row in draw(model, eos_id=MANY_ENDS)]

    again = response_logprobs(
        model, PROMPTS, [s.token_ids for s in samples], pad_id=PAD, max_batch_tokens=32
    )

    for sampled, logprobs in zip(samples, again, strict=True):
        assert logprobs == pytest.approx(sampled.logprobs, abs=1e-4)
        assert logprobs == pytest.approx(sampled.untempered_logprobs, abs=1e-4)


def test_an_empty_response_has_no_logprobs(model: Any) -> None:
    results = response_logprobs(model, [[1, 40], [1]], [[], [50, 51]], pad_id=PAD)
    assert [len(logprobs) for logprobs in results] == [0, 2]


def test_a_stop_check_ends_rows_after_the_token_that_met_it(model: Any) -> None:
    samples = draw(model, stop_token_check=lambda tokens: len(tokens) >= 4)

    for row in samples:
        assert {(len(s.token_ids), s.finish_reason) for s in row} == {(4, "stop")}


def test_the_context_length_bounds_a_response(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama(context_length=8)

    (sampled,) = draw(model, [[1, 40, 41]], k=1, max_response_tokens=100)[0]

    assert (len(sampled.token_ids), sampled.finish_reason) == (5, "length")


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(
    tiny_llama: Callable[..., Any],
) -> None:
    with pytest.raises(InvalidInputError, match=r"9 tokens .* context length is 8"):
        draw(tiny_llama(context_length=8), [[1] * 9])
    with pytest.raises(InvalidInputError, match=r"3 prompt and 6 response .* length is 8"):
        response_logprobs(tiny_llama(context_length=8), [[1] * 3], [[1] * 6], pad_id=PAD)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperatures": [-1.0]}, "temperature=-1.0; accepted: 0 to 10"),
        ({"temperatures": [float("nan")]}, "temperature=nan; accepted: 0 to 10"),
        ({"temperatures": []}, "no temperature given"),
        ({"top_p": 0.0}, "top_p=0.0; accepted: above 0, up to 1"),
        ({"top_p": 1.5}, "top_p=1.5; accepted"),
        ({"top_k": -1}, "top_k=-1; accepted: 0"),
        ({"k": 0}, "responses_per_prompt=0; accepted: 1 or more"),
        ({"max_response_tokens": 0}, "max_response_tokens=0; accepted: 1 or more"),
        ({"seeds": [2**63] * 5}, "accepted: 0 to 9223372036854775807"),
        ({"seeds": [1]}, "1 seeds for 5 prompts"),
    ],
)
def test_parameters_out_of_range_are_refused(
    model: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        draw(model, **changes)


def test_weights_that_are_not_numbers_are_reported(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama()
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))

    with pytest.raises(FailedPreconditionError, match="not numbers"):
        draw(model)


def test_a_model_in_training_goes_back_to_training(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama().train()

    draw(model)

    assert model.training


def test_what_the_step_hook_raises_abandons_the_work(model: Any) -> None:
    steps = []

    def stop_at_third_step() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise CancelledError("enough")

    with pytest.raises(CancelledError, match="enough"):
        draw(model, before_step=stop_at_third_step)
    assert len(steps) == 3
