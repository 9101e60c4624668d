"""Continuous batching: what joins, leaves, waits and gives way must not change a response."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    ResourceExhaustedError,
)
from plumbline.sampler import kernels
from plumbline.sampler.blocks import BlockPool
from plumbline.sampler.decoders import new_decoder
from plumbline.sampler.drawing import change_logits
from plumbline.sampler.kernels import BLOCK_TOKENS
from plumbline.sampler.requests import (
    DrawingParameters,
    DrawnToken,
    GenerationRequest,
    ResponseSpec,
    Sampled,
)
from plumbline.sampler.scheduler import Scheduler, SchedulerLimits, fitting_prefill_tokens

NO_END = (-1,)

needs_kernels = pytest.mark.skipif(
    not kernels.available(),
    reason="torch's own attention rounds by its company; no C++ compiler at installation",
)


@pytest.fixture(scope="module")
def model(tiny_llama: Callable[..., Any]) -> Any:
    return tiny_llama(context_length=512)


def scheduler_of(model: Any, *, blocks: int | None = None, **limits: Any) -> Scheduler:
    if blocks is not None:
        limits["cache_bytes"] = blocks * new_decoder(model).block_bytes
    return Scheduler(model, eos_ids=NO_END, context_length=512, limits=SchedulerLimits(**limits))


def prompt_of(seed: int, length: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(6, 295, (length,), generator=generator).tolist())


def request_of(
    seed: int, length: int = 20, *, k: int = 1, tokens: int = 12, **changes: Any
) -> GenerationRequest:
    parameters = changes.pop("parameters", DrawingParameters())
    specs = tuple(ResponseSpec(100 * seed + j, parameters, tokens + j % 5) for j in range(k))
    return GenerationRequest(changes.pop("prompt", prompt_of(seed, length)), specs, **changes)


def run(scheduler: Scheduler, *requests: GenerationRequest) -> list[list[Sampled]]:
    for request in requests:
        scheduler.submit(request)
    while scheduler.has_work:
        scheduler.step()
    assert scheduler.blocks_held == 0
    return [request.drawn for request in requests]


def alone(model: Any, request: GenerationRequest) -> list[Sampled]:
    return run(scheduler_of(model), request)[0]


def mixed_requests() -> list[GenerationRequest]:
    return [request_of(seed, 5 + 23 * seed, k=1 + seed % 4) for seed in range(7)]


@needs_kernels
def test_requests_that_join_at_any_step_draw_what_they_draw_alone(model: Any) -> None:
    expected = [alone(model, request) for request in mixed_requests()]
    scheduler = scheduler_of(model, prefill_tokens=24, max_rows=6)
    requests = mixed_requests()

    for request in requests:
        scheduler.submit(request)
        scheduler.step()
        scheduler.step()
    while scheduler.has_work:
        scheduler.step()

    # To the bit, logprobs too.
    assert [request.drawn for request in requests] == expected


@needs_kernels
@pytest.mark.parametrize("blocks", [13, 17, 25])
def test_responses_that_gave_way_to_others_are_what_they_would_have_been(
    model: Any, blocks: int
) -> None:
    expected = [alone(model, request) for request in mixed_requests()]

    drawn = run(scheduler_of(model, blocks=blocks, prefill_tokens=48), *mixed_requests())

    assert drawn == expected


@needs_kernels
def test_a_long_response_reads_one_stream_of_numbers_before_and_after_it_gave_way(
    model: Any,
) -> None:
    requests = [request_of(seed, 30, tokens=300) for seed in range(3)]
    expected = [alone(model, request_of(seed, 30, tokens=300)) for seed in range(3)]

    assert run(scheduler_of(model, blocks=40), *requests) == expected


@needs_kernels
def test_more_responses_than_slots_take_turns(model: Any) -> None:
    expected = alone(model, request_of(1, 33, k=11))

    assert run(scheduler_of(model, max_rows=4), request_of(1, 33, k=11)) == [expected]


@needs_kernels
def test_a_prompt_that_begins_alike_is_found_in_the_cache(model: Any) -> None:
    system = prompt_of(50, 40)
    scheduler = scheduler_of(model)
    run(scheduler, request_of(1, prompt=(*system, 7, 8, 9)))
    second, third = (request_of(s, prompt=(*system, *prompt_of(s, 9))) for s in (2, 3))

    drawn = run(scheduler, second, third)

    assert second.cached_tokens == third.cached_tokens == 2 * BLOCK_TOKENS
    assert drawn[0] == alone(model, request_of(2, prompt=second.prompt))


def test_the_next_turn_of_a_conversation_finds_the_last_one(model: Any) -> None:
    scheduler = scheduler_of(model)
    first = request_of(1, 20, tokens=30)
    ((sampled,),) = run(scheduler, first)
    turn = request_of(2, prompt=(*first.prompt, *sampled.token_ids, 5, 6))

    run(scheduler, turn)

    assert turn.cached_tokens == 48  # of 20 + 30 tokens, whole blocks


@needs_kernels
def test_a_whole_prompt_in_the_cache_still_gets_its_logits(model: Any) -> None:
    scheduler = scheduler_of(model)
    prompt = prompt_of(4, 2 * BLOCK_TOKENS)
    expected = run(scheduler, request_of(1, prompt=prompt))

    again = request_of(1, prompt=prompt)

    assert run(scheduler, again) == expected
    assert again.cached_tokens == BLOCK_TOKENS


@needs_kernels
def test_cancelling_frees_the_cache_at_once_and_leaves_others_alone(model: Any) -> None:
    expected = alone(model, request_of(1, 30, k=2))
    scheduler = scheduler_of(model, prefill_tokens=32)
    ended: list[str] = []
    kept = request_of(1, 30, k=2)
    drawing = request_of(2, 30, k=3, on_end=lambda: ended.append("drawing"))
    waiting = request_of(3, 400, on_end=lambda: ended.append("waiting"))
    for request in (kept, drawing, waiting):
        scheduler.submit(request)
    for _ in range(4):
        scheduler.step()
    held = scheduler.blocks_held

    scheduler.cancel(drawing, CancelledError("gone"))
    scheduler.cancel(waiting, CancelledError("gone"))

    assert scheduler.blocks_held < held
    assert ended == ["drawing", "waiting"]
    with pytest.raises(CancelledError):
        _ = drawing.drawn
    scheduler.cancel(drawing, CancelledError("again"))
    assert run(scheduler) == [] and kept.drawn == expected


def test_a_deadline_ends_a_request_and_says_so(model: Any) -> None:
    scheduler = scheduler_of(model)
    late = request_of(1, tokens=400, deadline=time.monotonic() + 0.05)
    scheduler.submit(late)
    scheduler.step()
    time.sleep(0.06)

    scheduler.step()

    assert isinstance(late.error, DeadlineExceededError)
    assert not scheduler.has_work and scheduler.blocks_held == 0


def first_token_step(scheduler: Scheduler, request: GenerationRequest) -> int:
    """Steps until a request's first token."""
    told: list[DrawnToken] = []
    request.on_token = lambda index, token: told.append(token)
    scheduler.submit(request)
    for step in range(1, 200):
        scheduler.step()
        if told:
            return step
    raise AssertionError("no token came")


def test_a_short_prompt_does_not_wait_for_long_ones(model: Any) -> None:
    scheduler = scheduler_of(model, prefill_tokens=32)
    for seed in range(10):
        scheduler.submit(request_of(seed, 480))

    assert first_token_step(scheduler, request_of(20, 12)) == 1


def test_short_prompts_that_keep_coming_do_not_keep_a_long_one_waiting(model: Any) -> None:
    scheduler = scheduler_of(model, prefill_tokens=32)
    told: list[DrawnToken] = []
    scheduler.submit(request_of(1, 320, on_token=lambda index, token: told.append(token)))

    for seed in range(2, 22):
        for part in range(4):
            scheduler.submit(request_of(100 * seed + part, 30, tokens=2))
        scheduler.step()

    # Half of 32 tokens a step are its own: 320 tokens in 20 steps.
    assert told


def test_a_prompt_that_waits_for_blocks_is_not_overtaken_for_good(model: Any) -> None:
    scheduler = scheduler_of(model, blocks=14, prefill_tokens=64)
    told: list[DrawnToken] = []
    for seed in range(2, 6):
        scheduler.submit(request_of(seed, 20, tokens=10))
    scheduler.step()
    scheduler.submit(request_of(1, 180, on_token=lambda index, token: told.append(token)))

    for seed in range(10, 60):
        scheduler.submit(request_of(seed, 20, tokens=10))
        scheduler.step()

    assert told


def test_tokens_are_told_in_order_with_the_reason_last(model: Any) -> None:
    told: list[tuple[int, DrawnToken]] = []
    request = request_of(1, k=2, on_token=lambda index, token: told.append((index, token)))

    (drawn,) = run(scheduler_of(model), request)

    for index, sampled in enumerate(drawn):
        tokens = [token for at, token in told if at == index]
        assert tuple(token.token_id for token in tokens) == sampled.token_ids
        assert tuple(token.untempered_logprob for token in tokens) == sampled.untempered_logprobs
        assert [token.finish_reason for token in tokens] == [None] * (len(tokens) - 1) + ["length"]


def test_alternatives_are_the_likeliest_tokens_of_the_policy(model: Any) -> None:
    parameters = DrawingParameters(temperature=3.0, top_k=50)
    request = request_of(1, tokens=3, top_logprobs=4, parameters=parameters)

    ((sampled,),) = run(scheduler_of(model), request)

    for place, alternatives in enumerate(sampled.alternatives):
        ids = [*request.prompt, *sampled.token_ids[:place]]
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        best = logprobs.topk(4)
        assert [one.token_id for one in alternatives] == best.indices.tolist()
        assert [one.logprob for one in alternatives] == pytest.approx(best.values.tolist(), 1e-4)
        drawn = sampled.untempered_logprobs[place]
        assert drawn == pytest.approx(float(logprobs[sampled.token_ids[place]]), abs=1e-4)


def test_a_bias_decides_and_leaves_the_untempered_logprob_alone(model: Any) -> None:
    plain = alone(model, request_of(1))[0]
    biased = DrawingParameters(logit_bias={77: 100.0})

    ((sampled,),) = run(scheduler_of(model), request_of(1, parameters=biased))

    assert set(sampled.token_ids) == {77}
    assert sampled.logprobs[0] == pytest.approx(0.0, abs=1e-6)
    assert sampled.untempered_logprobs[0] < -1
    banned = DrawingParameters(logit_bias={plain.token_ids[0]: -100.0})
    ((other,),) = run(scheduler_of(model), request_of(1, parameters=banned))
    assert plain.token_ids[0] not in other.token_ids


def test_the_repetition_penalty_divides_or_multiplies_what_was_seen() -> None:
    logits = torch.tensor([2.0, -1.0, 3.0, 0.5])
    parameters = DrawingParameters(repetition_penalty=2.0, logit_bias={3: 0.25})

    changed = change_logits(logits, parameters, [0, 1, 1])

    assert changed.tolist() == [1.0, -2.0, 3.0, 0.75]
    assert logits.tolist() == [2.0, -1.0, 3.0, 0.5]


def test_a_penalised_greedy_response_is_that_of_transformers(model: Any) -> None:
    parameters = DrawingParameters(temperature=0.0, repetition_penalty=1.3)
    request = request_of(3, tokens=20, parameters=parameters)

    ((sampled,),) = run(scheduler_of(model), request)

    expected = model.generate(
        torch.tensor([request.prompt]),
        attention_mask=torch.ones(1, len(request.prompt), dtype=torch.long),
        max_new_tokens=20,
        do_sample=False,
        repetition_penalty=1.3,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert list(sampled.token_ids) == expected[0, len(request.prompt) :].tolist()


def test_one_policy_without_numbers_fails_its_requests_only(
    model: Any, tiny_llama: Callable[..., Any]
) -> None:
    broken = tiny_llama(context_length=512)
    torch.nn.init.constant_(broken.lm_head.weight, float("nan"))
    request = request_of(1)

    scheduler = scheduler_of(broken)
    scheduler.submit(request)
    scheduler.step()

    assert isinstance(request.error, FailedPreconditionError)
    assert not scheduler.has_work and scheduler.blocks_held == 0


def test_what_can_never_be_drawn_is_refused(model: Any) -> None:
    scheduler = scheduler_of(model, blocks=4)

    with pytest.raises(ResourceExhaustedError, match="84 tokens; the cache has room for 48"):
        scheduler.submit(request_of(1, 72))
    with pytest.raises(InvalidInputError, match=r"512 tokens .* context length is 512"):
        scheduler.submit(request_of(1, 512))
    assert not scheduler.has_work


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), min_size=1, max_size=40))
def test_found_blocks_hold_the_text_they_are_found_by(work: Sequence[tuple[int, int]]) -> None:
    pool = BlockPool(8)
    contents: dict[int, tuple[int, ...]] = {}
    held: list[list[int]] = []
    for kind, length in work:
        tokens = tuple(kind * 1000 + place for place in range(length))
        blocks, known = pool.match(tokens)
        for number, block in enumerate(blocks):
            assert contents[block] == tokens[: (number + 1) * BLOCK_TOKENS]
        for number in range(len(blocks), length // BLOCK_TOKENS):
            block = pool.allocate()
            if block is None:
                break
            blocks.append(block)
            contents[block] = tokens[: (number + 1) * BLOCK_TOKENS]
            part = tokens[number * BLOCK_TOKENS : (number + 1) * BLOCK_TOKENS]
            known = pool.publish(block, known, part)
        held.append(blocks)
        if len(held) > 2:
            pool.release(held.pop(0))
        assert pool.held == len({block for one in held for block in one})
    for blocks in held:
        pool.release(blocks)
    assert pool.held == 0


@pytest.mark.parametrize(
    ("parameters", "device", "tokens"),
    [
        (5_000_000, "cpu", 256),
        (60_000_000, "cpu", 125),  # 15e9 / 120e6
        (1_200_000_000, "cpu", 32),
        (1_200_000_000, "cuda", 256),
    ],
)
def test_a_step_takes_fewer_prompt_tokens_of_a_larger_model(
    parameters: int, device: str, tokens: int
) -> None:
    assert fitting_prefill_tokens(parameters, device) == tokens
