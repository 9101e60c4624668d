"""Projections onto the vocabulary in chunks, against logits of all positions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, tensor
from torch.testing import assert_close

from plumbline.models import projection
from plumbline.models.projection import projected_cross_entropy, projected_logprobs

ROWS, WIDTH, VOCABULARY = 10, 6, 12


@pytest.fixture(params=[(36, 0), (36, 2**20), (2**20, 2**20)], ids=["again", "kept", "whole"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of three rows whose logits are computed again or kept, and one chunk of all."""
    alive, kept = request.param
    monkeypatch.setattr(projection, "CHUNK_LOGITS", {"cpu": alive})
    monkeypatch.setattr(projection, "KEPT_LOGITS", kept)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, dtype=torch.float64, requires_grad=True)
    return hidden, weight, torch.randint(0, VOCABULARY, (ROWS,))


def test_uniform_logits_cost_the_logarithm_of_the_vocabulary() -> None:
    """Two tokens at ln 8 each over a denominator of 4: ln 8 / 2."""
    hidden, weight = torch.zeros(2, 3), torch.zeros(8, 3)
    loss = projected_cross_entropy(hidden, weight, tensor([3, 5]), denominator=4.0)

    assert_close(loss, tensor(math.log(8) / 2))


@pytest.mark.usefixtures("chunks")
def test_cross_entropy_and_its_gradients_are_the_plain_ones() -> None:
    hidden, weight, targets = inputs()
    plain = F.cross_entropy(hidden @ weight.T, targets, reduction="sum") / 7
    expected = torch.autograd.grad(3 * plain, (hidden, weight))
    loss = projected_cross_entropy(hidden, weight, targets, denominator=7.0)
    found = torch.autograd.grad(3 * loss, (hidden, weight))

    assert_close(loss, plain)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)


@pytest.mark.usefixtures("chunks")
def test_logprobs_and_their_gradients_are_the_plain_ones() -> None:
    hidden, weight, targets = inputs()
    upstream = torch.randn(ROWS, dtype=torch.float64)
    plain = -F.cross_entropy(hidden @ weight.T / 0.7, targets, reduction="none")
    expected = torch.autograd.grad(plain, (hidden, weight), upstream)
    logprobs = projected_logprobs(hidden, weight, targets, temperature=0.7)
    found = torch.autograd.grad(logprobs, (hidden, weight), upstream, retain_graph=True)
    again = torch.autograd.grad(logprobs, (hidden, weight), upstream)

    assert_close(logprobs, plain)
    for one, two, other in zip(found, again, expected, strict=True):
        assert_close(one, other)
        assert_close(two, other)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, targets = inputs()
    weight.requires_grad_(False)
    projected_cross_entropy(hidden, weight, targets, denominator=1.0).backward()

    assert weight.grad is None
    assert hidden.grad is not None


def test_nothing_counted_costs_nothing() -> None:
    hidden, weight, targets = inputs()
    none = hidden[:0], weight, targets[:0]

    assert projected_cross_entropy(*none, denominator=1.0) == 0
    assert projected_logprobs(*none).shape == (0,)


def test_autocast_reaches_the_projection() -> None:
    """Within what 8 bits of mantissa can hold."""
    hidden, weight, targets = (
        part.float() if part.is_floating_point() else part for part in inputs()
    )
    exact = projected_logprobs(hidden, weight, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = projected_logprobs(hidden, weight, targets)

    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert_close(rounded, exact, rtol=0.05, atol=0.05)
