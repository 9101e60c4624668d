"""Policy gradients of whole responses: advantages, and clipped surrogates.

Legend: B responses, prompt-major; K of them to a prompt; T tokens. Masks are True at response
tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Normalisation = Literal["response", "token", "length"]


def leave_one_out_advantages(rewards: Tensor, k: int) -> Tensor:
    """Each reward minus the mean of the prompt's other ones.

    Args:
        rewards: [B], prompt-major. k: responses to a prompt, at least 2.
    Returns:
        advantages [B]; within a prompt they add up to 0.
    Source: Ahmadian et al. 2024, arXiv:2402.14740, section 3.3.
    """
    groups = rewards.view(-1, k)
    others = (groups.sum(dim=1, keepdim=True) - groups) / (k - 1)
    return (groups - others).view(-1)


def group_advantages(rewards: Tensor, k: int, *, scale_by_std: bool) -> Tensor:
    """Each reward minus the mean of its prompt's, over their standard deviation if asked.

    Args:
        rewards: [B], prompt-major. k: responses to a prompt, at least 2.
        scale_by_std: the deviation divides by K - 1, and 1e-4 is added to it.
    Returns:
        advantages [B]; equal rewards give 0.
    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1.2.
    """
    groups = rewards.view(-1, k)
    advantages = groups - groups.mean(dim=1, keepdim=True)
    if scale_by_std:
        advantages = advantages / (groups.std(dim=1, keepdim=True) + 1e-4)
    return advantages.view(-1)


def sequence_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    *,
    clip_range: float,
    denominator: float,
) -> tuple[Tensor, Tensor]:
    """Clipped surrogate of whole responses, negated: REINFORCE where the policy is unchanged.

    Args:
        logprobs: [B, T], nats, under the policy that learns; old_logprobs under the one that drew.
        advantages: [B].
        response_mask: [B, T], True = counts.
        clip_range: the ratio of the responses' probabilities is clipped to 1 +- this.
        denominator: responses of the whole minibatch, over all its microbatches.
    Returns:
        loss (scalar), and the share of responses whose ratio was clipped, over the same
        denominator (detached).
    Source: Ahmadian et al. 2024, arXiv:2402.14740, equation 7.
    """
    gap = ((logprobs - old_logprobs) * response_mask).sum(dim=1)
    ratio = gap.exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    losses = torch.maximum(-advantages * ratio, -advantages * clipped)
    outside = (ratio.detach() - 1).abs() > clip_range
    return losses.sum() / denominator, outside.sum() / denominator


def token_weights(
    response_mask: Tensor, normalisation: Normalisation, *, responses: int, tokens: int, length: int
) -> Tensor:
    """Weights [B, T] of the tokens' losses; 0 where the mask is False.

    Args:
        response_mask: [B, T], True = counts.
        responses: of the whole minibatch. tokens: counted ones of the whole minibatch.
        length: the longest response allowed, tokens.
    Sources: arXiv:2402.03300, equation 3 (response); arXiv:2503.14476, equation 8 (token);
        arXiv:2503.20783, section 3 (length).
    """
    mask = response_mask.float()
    if normalisation == "token":
        return mask / tokens
    if normalisation == "length":
        return mask / (responses * length)
    return mask / (mask.sum(dim=1, keepdim=True).clamp_min(1) * responses)


def weighted_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    weights: Tensor,
    *,
    clip_range: float,
) -> tuple[Tensor, Tensor]:
    """Clipped surrogate of tokens, negated, summed with weights.

    Args:
        logprobs: [B, T], nats; old_logprobs alike.
        advantages: [B], the same for all tokens of a response.
        weights: [B, T] of `token_weights`; 0 where a token does not count.
    Returns:
        loss (scalar), and the weight of the tokens whose ratio was clipped (detached).
    Source: Shao et al. 2024, arXiv:2402.03300, equation 3.
    """
    ratio = (logprobs - old_logprobs).masked_fill(weights == 0, 0.0).exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    lead = advantages[:, None]
    losses = torch.maximum(-lead * ratio, -lead * clipped)
    outside = (ratio.detach() - 1).abs() > clip_range
    return (losses * weights).sum(), (outside * weights).sum()
