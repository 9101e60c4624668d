"""Logprobs against a naive loop; padding; batches by token budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import tensor
from torch.testing import assert_close

from plumbline.models.batching import length_sorted_batches, pad_left, pad_right
from plumbline.models.logprobs import counted_logprobs, hidden_states

ROWS = [[1, 40, 41, 50, 2], [1, 60, 2], [1, 70, 71, 72, 73, 74, 2]]
PROMPT_TOKENS = [2, 1, 3]


def naive_logprob(model: Any, row: list[int], position: int) -> torch.Tensor:
    """Logprob of one token from the logits of the token before it."""
    with torch.no_grad():
        logits = model(input_ids=tensor([row[:position]])).logits[0, -1]
    return logits.log_softmax(-1)[row[position]]


def test_logprobs_use_the_position_before(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama()
    ids, _ = pad_right(ROWS, 0)
    counted = torch.zeros_like(ids, dtype=torch.bool)
    for row, (start, tokens) in enumerate(zip(PROMPT_TOKENS, ROWS, strict=True)):
        counted[row, start : len(tokens)] = True

    with torch.no_grad():
        found = counted_logprobs(model, ids, counted)

    for row, (start, tokens) in enumerate(zip(PROMPT_TOKENS, ROWS, strict=True)):
        expected = torch.stack(
            [naive_logprob(model, tokens, position) for position in range(start, len(tokens))]
        )
        assert_close(found[row, start : len(tokens)], expected, atol=1e-5, rtol=0)
    assert float(found[~counted].abs().sum()) == 0


def test_extra_padding_changes_nothing(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama()
    narrow, mask = pad_right([ROWS[0]], 0)
    wide, wide_mask = pad_right([ROWS[0], [1] * 40], 0)

    with torch.no_grad():
        alone = counted_logprobs(model, narrow, mask)
        padded = counted_logprobs(model, wide, wide_mask)

    assert_close(padded[:1, : narrow.shape[1]], alone, atol=1e-5, rtol=0)


def test_temperature_divides_the_logits(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama()
    ids, mask = pad_right([ROWS[0]], 0)

    with torch.no_grad():
        logits = model(ids).logits[0, 1] / 2
        found = counted_logprobs(model, ids, mask, temperature=2.0)

    assert_close(found[0, 2], logits.log_softmax(-1)[ROWS[0][2]])


def test_left_padding_gives_the_same_hidden_states(tiny_llama: Callable[..., Any]) -> None:
    model = tiny_llama()
    ids, mask = pad_left(ROWS, 0)
    right, _ = pad_right(ROWS, 0)

    with torch.no_grad():
        left_states, right_states = hidden_states(model, ids, mask), hidden_states(model, right)

    for row, tokens in enumerate(ROWS):
        assert_close(
            left_states[row, -len(tokens) :], right_states[row, : len(tokens)], atol=1e-5, rtol=0
        )


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 200))
def test_batches_hold_every_index_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = length_sorted_batches(lengths, tokens_per_batch=budget)

    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        width = max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * max(width, 1) <= budget
