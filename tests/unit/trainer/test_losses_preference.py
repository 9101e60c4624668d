"""Bradley-Terry, DPO with its variants, and KTO against hand-worked sums."""

from __future__ import annotations

import math

import torch
from torch import tensor
from torch.testing import assert_close

from plumbline.trainer.losses.bradley_terry import bradley_terry_loss, safety_classification_loss
from plumbline.trainer.losses.dpo import dpo_loss, ipo_loss, preference_logits
from plumbline.trainer.losses.kto import kto_loss, reference_point


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


def test_safety_loss_matches_hand_worked_values() -> None:
    """Scores 2, 2, 0 and -1000: labelled safe, unsafe, not at all, and safe.

    ln(1 + e^-2) = 0.126928, ln(1 + e^2) = 2.126928, nothing, and 1000.
    """
    scores = tensor([2.0, 2.0, 0.0, -1000.0], requires_grad=True)

    losses = safety_classification_loss(
        scores, tensor([True, False, True, True]), tensor([True, True, False, True])
    )
    losses.sum().backward()

    assert_close(losses, tensor([0.126928, 2.126928, 0.0, 1000.0]), atol=1e-6, rtol=0)
    # sigmoid(2) = 0.880797 less the label; up for the safe response, down for the unsafe one.
    assert_close(scores.grad, tensor([-0.119203, 0.880797, 0.0, -1.0]), atol=1e-6, rtol=0)


def test_dpo_loss_matches_hand_worked_values() -> None:
    # Pair 1: (-1 + 11) - (-2 + 2) = 10, times 0.1 is 1, loss ln(1 + 1/e).
    # Pair 2: policy equals reference, logit 0, loss ln 2.
    logits = preference_logits(
        tensor([-1.0, -5.0]), tensor([-11.0, -7.0]), tensor([-2.0, -5.0]), tensor([-2.0, -7.0])
    )

    assert_close(logits, tensor([10.0, 0.0]))
    losses = dpo_loss(logits, beta=0.1)
    assert_close(losses, tensor([0.313262, 0.693147]), atol=1e-6, rtol=0)


def test_dpo_gradient_equals_its_closed_form() -> None:
    # d loss / d chosen = -beta * sigmoid(-margin); the rejected side's is the opposite.
    chosen = tensor([-3.0, -1.0], requires_grad=True)
    rejected = tensor([-2.0, -4.0], requires_grad=True)
    beta = 0.5
    logits = preference_logits(chosen, rejected, tensor([-3.0, -2.0]), tensor([-3.0, -2.5]))
    dpo_loss(logits, beta=beta).sum().backward()

    expected = beta * torch.sigmoid(-beta * logits.detach())
    assert_close(chosen.grad, -expected)
    assert_close(rejected.grad, expected)


def test_smoothed_labels_cost_the_wrong_side_too() -> None:
    # Reward 1: 0.8 * ln(1 + 1/e) + 0.2 * ln(1 + e) = 0.8 * 0.313262 + 0.2 * 1.313262. The slope
    # is 0 at ln(0.8 / 0.2): there the policy believes as much as the labels are worth.
    losses = dpo_loss(tensor([10.0]), beta=0.1, label_smoothing=0.2)
    assert_close(losses, tensor([0.513262]), atol=1e-6, rtol=0)

    logits = tensor([math.log(4) / 0.1], requires_grad=True)
    dpo_loss(logits, beta=0.1, label_smoothing=0.2).backward()
    assert_close(logits.grad, tensor([0.0]), atol=1e-7, rtol=0)


def test_ipo_wants_a_fixed_lead() -> None:
    # 1 / (2 * 0.25) = 2: leads 2, 0 and 5 cost 0, 4 and 9; beyond 2 the pull turns around.
    logits = tensor([2.0, 0.0, 5.0], requires_grad=True)
    losses = ipo_loss(logits, beta=0.25)
    losses.sum().backward()

    assert_close(losses.detach(), tensor([0.0, 4.0, 9.0]))
    assert_close(logits.grad, tensor([0.0, -4.0, 6.0]))


def test_kto_values_gains_against_the_reference_point() -> None:
    # Point: mean of 1, -3, 5 is 1. Gains 0.5 * (3 - 1) = 1 and 0.5 * (1 - 1) = 0; losses
    # 2 * (1 - sigmoid 1) = 0.537883 and 3 * (1 - 1/2) = 1.5.
    point = reference_point(tensor([1.0, -3.0, 5.0], requires_grad=True))
    assert point == 1.0
    assert not point.requires_grad
    assert reference_point(tensor([-4.0, 2.0])) == 0.0

    logratios = tensor([3.0, 1.0], requires_grad=True)
    losses = kto_loss(
        logratios,
        tensor([True, False]),
        point,
        beta=0.5,
        desirable_weight=2.0,
        undesirable_weight=3.0,
    )
    losses.sum().backward()

    assert_close(losses.detach(), tensor([0.537883, 1.5]), atol=1e-6, rtol=0)
    # -+ weight * beta * s * (1 - s): 2 * 0.5 * 0.196612 and 3 * 0.5 * 0.25.
    assert_close(logratios.grad, tensor([-0.196612, 0.375]), atol=1e-6, rtol=0)
