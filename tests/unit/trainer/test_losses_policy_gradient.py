"""Advantages and surrogates of whole responses, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from plumbline.trainer.losses.policy_gradient import (
    group_advantages,
    leave_one_out_advantages,
    sequence_policy_loss,
    token_weights,
    weighted_policy_loss,
)

MASK = tensor([[True, True, False], [True, True, True]])


def test_each_reward_is_compared_with_the_others() -> None:
    """1, 2, 6: others average 4, 3.5, 1.5, so -3, -1.5, 4.5; a second prompt stands alone."""
    rewards = tensor([1.0, 2.0, 6.0, 5.0, 5.0, 5.0])

    assert_close(leave_one_out_advantages(rewards, 3), tensor([-3.0, -1.5, 4.5, 0.0, 0.0, 0.0]))


def test_groups_are_centred_and_scaled() -> None:
    """1, 2, 6: mean 3; deviation sqrt((4 + 1 + 9) / 2) = sqrt 7. Equal rewards give 0."""
    rewards = tensor([1.0, 2.0, 6.0, 5.0, 5.0, 5.0])
    centred = tensor([-2.0, -1.0, 3.0, 0.0, 0.0, 0.0])

    assert_close(group_advantages(rewards, 3, scale_by_std=False), centred)
    scaled = group_advantages(rewards, 3, scale_by_std=True)
    assert_close(scaled[:3], centred[:3] / (math.sqrt(7) + 1e-4))
    assert scaled[3:].tolist() == [0.0, 0.0, 0.0]


def test_an_unchanged_policy_gives_the_reinforce_gradient() -> None:
    """Ratio 1: loss -(2 - 1) / 2; each token's gradient is -advantage / 2, masked ones 0."""
    logprobs = tensor([[-1.0, -2.0, 9.0], [-0.5, -0.5, -0.5]], requires_grad=True)
    loss, clipped = sequence_policy_loss(
        logprobs,
        logprobs.detach(),
        tensor([2.0, -1.0]),
        MASK,
        clip_range=0.2,
        denominator=2,
    )
    loss.backward()

    assert_close(loss.detach(), tensor(-0.5))
    assert clipped == 0
    assert_close(logprobs.grad, tensor([[-1.0, -1.0, 0.0], [0.5, 0.5, 0.5]]))


def test_a_response_beyond_the_clip_stops_learning() -> None:
    """The first response is twice as likely as when drawn, for advantage 1: -1.2, no gradient.

    The second too, for advantage -1: the worse of 2 and 1.2 counts, so it still learns: 2.
    """
    old = torch.zeros(2, 3)
    logprobs = (MASK * tensor([[math.log(2) / 2], [math.log(2) / 3]])).requires_grad_()
    loss, clipped = sequence_policy_loss(
        logprobs, old, tensor([1.0, -1.0]), MASK, clip_range=0.2, denominator=1
    )
    loss.backward()

    assert_close(loss.detach(), tensor(-1.2 + 2.0))
    assert clipped == 2
    assert logprobs.grad[0].tolist() == [0.0, 0.0, 0.0]
    assert_close(logprobs.grad[1], tensor([2.0, 2.0, 2.0]))


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        # Two responses: half a weight each, over their 2 and 3 tokens.
        ("response", [[0.25, 0.25, 0.0], [1 / 6, 1 / 6, 1 / 6]]),
        ("token", [[0.2, 0.2, 0.0], [0.2, 0.2, 0.2]]),
        # Two responses of 10 tokens at most.
        ("length", [[0.05, 0.05, 0.0], [0.05, 0.05, 0.05]]),
    ],
)
def test_what_a_token_weighs(normalisation: str, expected: list[list[float]]) -> None:
    found = token_weights(MASK, normalisation, responses=2, tokens=5, length=10)  # type: ignore[arg-type]

    assert_close(found, tensor(expected))


def test_tokens_are_clipped_one_by_one() -> None:
    """Ratios 1.5 and 1 with advantage 2: -2 * (1.2 + 1) * weight; the first token is clipped."""
    old = torch.zeros(1, 3)
    logprobs = tensor([[math.log(1.5), 0.0, 3.0]], requires_grad=True)
    weights = tensor([[0.5, 0.5, 0.0]])
    loss, clipped = weighted_policy_loss(logprobs, old, tensor([2.0]), weights, clip_range=0.2)
    loss.backward()

    assert_close(loss.detach(), tensor(-2.2))
    assert_close(clipped, tensor(0.5))
    assert_close(logprobs.grad, tensor([[0.0, -1.0, 0.0]]))
