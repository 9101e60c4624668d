"""Returns and advantages of token-level rewards.

Legend: B responses, T tokens. Masks are True at response tokens; each row's response tokens are
contiguous.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards: Tensor, values: Tensor, response_mask: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates, and the returns that they imply.

    A response ends with its last token whatever its finish reason: nothing is bootstrapped beyond.

    Args:
        rewards: [B, T], counted where the mask is True.
        values: [B, T], the value before the token is chosen.
        response_mask: [B, T], True = counts.
        gamma: discount, in [0, 1]. lam: trace decay, in [0, 1].
    Returns:
        advantages [B, T] and returns [B, T] = advantages + values, 0 where the mask is False.
    Source: Schulman et al. 2015, arXiv:1506.02438, equations 11-16.
    """
    mask = response_mask.to(values.dtype)
    rewards, values = rewards * mask, values * mask
    following = torch.zeros_like(values)
    # Masked values are zero, so the step past a row's end has no value.
    following[:, :-1] = values[:, 1:]
    deltas = rewards + gamma * following - values
    advantages = torch.zeros_like(values)
    trace = torch.zeros_like(values[:, 0])
    for t in range(values.shape[1] - 1, -1, -1):
        trace = (deltas[:, t] + gamma * lam * trace) * mask[:, t]
        advantages[:, t] = trace
    return advantages, advantages + values


def whiten(values: Tensor, mask: Tensor | None = None, *, shift_mean: bool = True) -> Tensor:
    """Scale the counted entries to variance 1, and to mean 0 if `shift_mean`; 0 elsewhere.

    Args:
        values: any shape; the variance is the population's. Equal values become 0.
        mask: the same shape, True = counts; None counts all.
        shift_mean: keep the mean when False.
    Source: Llama 2, arXiv:2307.09288, section 3.2.3, where scores are whitened.
    """
    counted = values if mask is None else values[mask]
    mean = counted.mean()
    scale = (counted.var(unbiased=False) + 1e-8).rsqrt()
    whitened = (values - mean) * scale
    if not shift_mean:
        whitened = whitened + mean
    return whitened if mask is None else whitened.masked_fill(~mask, 0.0)
