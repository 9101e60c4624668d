"""Proximal policy optimisation: the clipped policy and value losses.

Legend: B responses, T tokens. Masks are True at response tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ppo_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    *,
    clip_range: float,
    denominator: float,
) -> tuple[Tensor, Tensor]:
    """Clipped surrogate, negated.

    Args:
        logprobs: [B, T], nats, under the policy that learns; old_logprobs under the one that drew.
        advantages: [B, T].
        response_mask: [B, T], True = counts.
        clip_range: epsilon; the ratio is clipped to [1 - epsilon, 1 + epsilon].
        denominator: counted tokens of the whole minibatch, over all its microbatches.
    Returns:
        loss (scalar), and the share of counted tokens whose ratio was clipped, over the same
        denominator (detached).
    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    """
    ratio = (logprobs - old_logprobs).masked_fill(~response_mask, 0.0).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    losses = torch.maximum(-advantages * ratio, -advantages * clipped)
    outside = ((ratio - 1).abs() > clip_range) & response_mask
    return (losses * response_mask).sum() / denominator, outside.sum().float() / denominator


def ppo_value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    response_mask: Tensor,
    *,
    clip_range: float,
    denominator: float,
) -> Tensor:
    """Half the squared error of the values, which may move by `clip_range` only.

    Args:
        values: [B, T] that learn; old_values as they were when the responses were drawn.
        returns: [B, T].
        response_mask: [B, T], True = counts.
        denominator: counted tokens of the whole minibatch.
    Returns:
        loss (scalar).
    Source: the released code of arXiv:1707.06347 (openai/baselines, ppo2/model.py).
    """
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    errors = torch.maximum((values - returns).square(), (clipped - returns).square())
    return 0.5 * (errors * response_mask).sum() / denominator


def token_rewards(scores: Tensor, kl: Tensor, response_mask: Tensor, *, kl_coef: float) -> Tensor:
    """Reward of each token: the KL penalty everywhere, the score at the last response token.

    Args:
        scores: [B], one per response.
        kl: [B, T], nats per token.
        response_mask: [B, T], True = counts; each row has at least one counted token.
        kl_coef: weight of the penalty, at least 0.
    Returns:
        rewards [B, T], 0 where the mask is False.
    Source: Stiennon et al. 2020, arXiv:2009.01325, section 3.4.
    """
    rewards = (-kl_coef * kl).masked_fill(~response_mask, 0.0)
    positions = torch.arange(response_mask.shape[1], device=response_mask.device)
    last = positions.expand(response_mask.shape).masked_fill(~response_mask, -1).amax(dim=1)
    rows = torch.arange(scores.shape[0], device=scores.device)
    rewards[rows, last] += scores
    return rewards
