"""PPO's pieces against hand-worked sums and slow reference loops."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from plumbline.trainer.losses.advantages import gae, whiten
from plumbline.trainer.losses.kl import kl_estimate
from plumbline.trainer.losses.ppo import ppo_policy_loss, ppo_value_loss, token_rewards


def gae_by_definition(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> Tensor:
    """The double sum of the paper, row by row over response tokens only."""
    advantages = torch.zeros_like(values)
    for row in range(len(values)):
        positions = mask[row].nonzero().flatten().tolist()
        for start, t in enumerate(positions):
            for distance, position in enumerate(positions[start:]):
                following = start + distance + 1
                bootstrap = values[row, positions[following]] if following < len(positions) else 0.0
                delta = rewards[row, position] + gamma * bootstrap - values[row, position]
                advantages[row, t] += (gamma * lam) ** distance * delta
    return advantages


def test_gae_matches_hand_worked_values() -> None:
    # gamma 0.5, lam 0.5. Last token: 1 - 0.4 = 0.6. First: 0 + 0.5 * 0.4 - 0.2 = 0,
    # plus 0.25 * 0.6 = 0.15. Returns add the values: 0.35 and 1.
    advantages, returns = gae(
        tensor([[9.0, 0.0, 1.0, 9.0]]),
        tensor([[9.0, 0.2, 0.4, 9.0]]),
        tensor([[False, True, True, False]]),
        gamma=0.5,
        lam=0.5,
    )

    assert_close(advantages, tensor([[0.0, 0.15, 0.6, 0.0]]))
    assert_close(returns, tensor([[0.0, 0.35, 1.0, 0.0]]))


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.0), (0.99, 1.0)])
def test_gae_matches_its_definition_and_bootstraps_nothing_past_the_end(
    gamma: float, lam: float
) -> None:
    torch.manual_seed(0)
    rewards, values = torch.randn(3, 9), torch.randn(3, 9)
    mask = torch.zeros(3, 9, dtype=torch.bool)
    mask[0, 2:6], mask[1, 1:9], mask[2, 8:9] = True, True, True

    advantages, returns = gae(rewards, values, mask, gamma=gamma, lam=lam)

    assert_close(advantages, gae_by_definition(rewards, values, mask, gamma, lam))
    assert_close(returns, (advantages + values) * mask)


def test_whitening_counts_masked_entries_only() -> None:
    values = tensor([[1.0, 2.0, 3.0, 100.0]])
    mask = tensor([[True, True, True, False]])

    whitened = whiten(values, mask)
    kept_mean = whiten(values, mask, shift_mean=False)

    # Mean 2, population variance 2/3: 1 becomes -sqrt(1.5).
    assert_close(whitened, tensor([[-math.sqrt(1.5), 0.0, math.sqrt(1.5), 0.0]]))
    assert_close(kept_mean[mask].mean(), tensor(2.0))
    assert_close(kept_mean[mask].var(unbiased=False), tensor(1.0))


def test_whitened_values_match_a_hand_worked_sum() -> None:
    """1, 2, 6: mean 3, variance (4 + 1 + 9) / 3 = 14/3, deviation 2.160247.

    -2 / 2.160247 = -0.925820, -1 / 2.160247 = -0.462910, 3 / 2.160247 = 1.388730.
    """
    values = tensor([1.0, 2.0, 6.0])
    expected = tensor([-0.925820, -0.462910, 1.388730])
    assert_close(whiten(values), expected, atol=1e-5, rtol=0)
    assert_close(whiten(values, shift_mean=False), expected + 3, atol=1e-5, rtol=0)


def test_equal_values_whiten_to_zero() -> None:
    assert whiten(torch.full((4,), 7.0)).tolist() == [0.0] * 4
    assert whiten(tensor([7.0])).tolist() == [0.0]


def test_policy_loss_matches_hand_worked_values() -> None:
    # Ratios 1, 2, 0.5; clip 0.2. Advantages 1, 1, -1: losses -1, -1.2 (clipped), and
    # max(0.5, 0.8) = 0.8. Their sum over 4 is -0.35; two of four ratios lie outside.
    old = torch.zeros(1, 4)
    new = tensor([[0.0, math.log(2), math.log(0.5), 5.0]])
    mask = tensor([[True, True, True, False]])

    loss, clip_share = ppo_policy_loss(
        new, old, tensor([[1.0, 1.0, -1.0, 9.0]]), mask, clip_range=0.2, denominator=4.0
    )

    assert_close(loss, tensor(-0.35))
    assert_close(clip_share, tensor(0.5))


def test_policy_gradient_points_towards_better_tokens_and_stops_beyond_the_clip() -> None:
    logprobs = tensor([[0.0, 0.0, math.log(2)]], requires_grad=True)
    mask = torch.ones(1, 3, dtype=torch.bool)

    loss, _ = ppo_policy_loss(
        logprobs,
        torch.zeros(1, 3),
        tensor([[1.0, -1.0, 1.0]]),
        mask,
        clip_range=0.2,
        denominator=3.0,
    )
    loss.backward()

    assert_close(logprobs.grad, tensor([[-1 / 3, 1 / 3, 0.0]]))


def test_unchanged_policy_has_ratio_one() -> None:
    logprobs = torch.randn(2, 5)
    advantages, mask = torch.randn(2, 5), torch.ones(2, 5, dtype=torch.bool)

    loss, clip_share = ppo_policy_loss(
        logprobs, logprobs.clone(), advantages, mask, clip_range=0.2, denominator=10.0
    )

    assert_close(loss, -advantages.mean())
    assert clip_share == 0


def test_value_loss_takes_the_worse_of_clipped_and_free() -> None:
    # Old 0, return 1. New 0.1: both errors 0.81. New 1: free error 0, clipped (0.2): 0.64.
    # Half of (0.81 + 0.64) over 2 is 0.3625.
    loss = ppo_value_loss(
        tensor([[0.1, 1.0, 7.0]]),
        torch.zeros(1, 3),
        torch.ones(1, 3),
        tensor([[True, True, False]]),
        clip_range=0.2,
        denominator=2.0,
    )

    assert_close(loss, tensor(0.3625))


def test_score_lands_on_the_last_response_token() -> None:
    # Row 0 ends in the middle, row 1 at the last column, row 2 is one token long.
    mask = tensor(
        [[False, True, True, False], [False, False, True, True], [True, False, False, False]]
    )
    kl = torch.full((3, 4), 2.0)

    rewards = token_rewards(tensor([1.0, 10.0, 100.0]), kl, mask, kl_coef=0.1)

    assert_close(
        rewards,
        tensor([[0.0, -0.2, 0.8, 0.0], [0.0, 0.0, -0.2, 9.8], [99.8, 0.0, 0.0, 0.0]]),
    )


def test_kl_estimators_match_hand_worked_values() -> None:
    # log ratio of reference to policy is ln 2: k1 = -ln 2, k2 = ln^2(2) / 2, k3 = 2 - 1 - ln 2.
    logprobs, ref = tensor([-1.0]), tensor([-1.0 + math.log(2)])
    expected = {"k1": -0.693147, "k2": 0.240227, "k3": 0.306853}

    for estimator, value in expected.items():
        found = kl_estimate(logprobs, ref, estimator=estimator)  # type: ignore[arg-type]
        assert_close(found, tensor([value]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_unbiased_estimators_average_to_the_divergence(estimator: Any) -> None:
    policy, ref = tensor([0.6, 0.3, 0.1]), tensor([0.3, 0.3, 0.4])
    exact = (policy * (policy / ref).log()).sum()
    tokens = torch.multinomial(
        policy, 200_000, replacement=True, generator=torch.Generator().manual_seed(0)
    )

    estimates = kl_estimate(policy.log()[tokens], ref.log()[tokens], estimator=estimator)

    assert abs(float(estimates.mean() - exact)) < 0.01
    if estimator == "k3":
        assert float(estimates.min()) >= 0
    else:
        assert float(estimates.min()) < 0
