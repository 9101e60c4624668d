"""Bradley-Terry and DPO against hand-worked sums."""

from __future__ import annotations

import torch
from torch import tensor
from torch.testing import assert_close

from plumbline.trainer.losses.bradley_terry import bradley_terry_loss
from plumbline.trainer.losses.dpo import dpo_loss


def test_bradley_terry_matches_hand_worked_values() -> None:
    # Leads 1, 0, -2: losses ln(1 + 1/e), ln 2, ln(1 + e^2).
    losses, correct = bradley_terry_loss(tensor([2.0, 1.0, 0.0]), tensor([1.0, 1.0, 2.0]))

    assert_close(losses, tensor([0.313262, 0.693147, 2.126928]), atol=1e-6, rtol=0)
    assert_close(correct, tensor([1.0, 0.5, 0.0]))


def test_margin_zero_is_no_margin_and_a_larger_margin_costs_more() -> None:
    # Lead 1 with margin 1 demands as much as lead 0 without: ln 2.
    chosen, rejected = tensor([1.0, 1.0]), tensor([0.0, 0.0])

    without, _ = bradley_terry_loss(chosen, rejected)
    zero, _ = bradley_terry_loss(chosen, rejected, tensor([0.0, 0.0]))
    one, correct = bradley_terry_loss(chosen, rejected, tensor([1.0, 3.0]))

    assert torch.equal(without, zero)
    assert_close(one[0], tensor(0.693147), atol=1e-6, rtol=0)
    assert one[1] > one[0] > zero[0]
    assert correct.tolist() == [1.0, 1.0]


def test_bradley_terry_is_finite_and_pulls_scores_apart() -> None:
    scores = tensor([-500.0, 500.0], requires_grad=True)

    losses, _ = bradley_terry_loss(scores[:1], scores[1:])
    losses.sum().backward()

    assert losses.item() == 1000.0
    assert scores.grad is not None
    assert scores.grad.tolist() == [-1.0, 1.0]


def test_dpo_loss_matches_hand_worked_values() -> None:
    # Pair 1: 0.1 * ((-1 + 11) - (-2 + 2)) = 1, loss ln(1 + 1/e).
    # Pair 2: policy equals reference, margin 0, loss ln 2.
    losses, margins = dpo_loss(
        tensor([-1.0, -5.0]),
        tensor([-11.0, -7.0]),
        tensor([-2.0, -5.0]),
        tensor([-2.0, -7.0]),
        beta=0.1,
    )

    assert_close(margins, tensor([1.0, 0.0]))
    assert_close(losses, tensor([0.313262, 0.693147]), atol=1e-6, rtol=0)


def test_dpo_gradient_equals_its_closed_form() -> None:
    # d loss / d chosen = -beta * sigmoid(-margin); the rejected side's is the opposite.
    chosen = tensor([-3.0, -1.0], requires_grad=True)
    rejected = tensor([-2.0, -4.0], requires_grad=True)
    beta = 0.5

    losses, margins = dpo_loss(
        chosen, rejected, tensor([-3.0, -2.0]), tensor([-3.0, -2.5]), beta=beta
    )
    losses.sum().backward()

    assert_close(chosen.grad, -beta * torch.sigmoid(-margins))
    assert_close(rejected.grad, beta * torch.sigmoid(-margins))
