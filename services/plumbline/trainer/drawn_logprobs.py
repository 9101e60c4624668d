"""The logprobs that a sampler told, in place of a second pass of the policy that drew.

A ratio of new to old probabilities takes any difference between sampler and trainer for a change
of the policy. So the sampler's word is taken only where both compute with the same weights in
float32, and only while some rollouts, computed again, agree with it.

Legend: B rollouts, prompt-major; R tokens of the longest response.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plumbline.data.records import Rollout
from plumbline.models.packing import PromptGroup
from plumbline.trainer.forward import response_logprobs

TOLERANCE = 1e-3
"""Nats of a token. Rounding of float32 makes about 1e-6; half precision, other weights or another
temperature make 1e-2 and more."""
CHECKED_ROLLOUTS = 8
"""Of an iteration's first ones, that are computed again."""

logger = logging.getLogger(__name__)


def trusted_logprobs(
    model: PreTrainedModel,
    rollouts: Sequence[Rollout],
    mask: Tensor,
    *,
    policy_id: str,
    pad_id: int,
    temperature: float,
) -> tuple[Tensor | None, float | None]:
    """What the sampler told, where it can stand for what the model would say.

    Args:
        mask: [B, R], True at response tokens.
        policy_id: of the sampler's policy, which has the model's weights.
        temperature: that the rollouts were drawn with, from all tokens.
    Returns:
        Logprobs [B, R], nats, and how far those of the first rollouts are from the model's. The
        logprobs are None where the model has to compute them; the gap where nothing was compared.
    """
    drawn = _drawn_logprobs(rollouts, mask)
    if drawn is None or not _drawn_alike(model, rollouts, policy_id):
        return None, None
    some = rollouts[:CHECKED_ROLLOUTS]
    groups = [
        PromptGroup(prompt, [rollout.response_token_ids for rollout in members])
        for prompt, members in itertools.groupby(some, key=lambda r: r.prompt_token_ids)
    ]
    with torch.no_grad():
        found = response_logprobs(model, groups, pad_id=pad_id, temperature=temperature)
    gap = float((found - drawn[: len(some), : found.shape[1]]).abs().max())
    if gap <= TOLERANCE:
        return drawn, gap
    logger.warning(
        "logprobs of the sampler and of the trainer differ by up to %g nats; rounding explains "
        "%g, so the trainer computes them all again",
        gap,
        TOLERANCE,
    )
    return None, gap


def sampler_gap(rollouts: Sequence[Rollout], logprobs: Tensor, mask: Tensor) -> float | None:
    """Largest difference, nats, between the model's logprobs [B, R] and what the sampler told.

    None where it told none.
    """
    drawn = _drawn_logprobs(rollouts, mask)
    return None if drawn is None else float((logprobs - drawn).abs().max())


def _drawn_logprobs(rollouts: Sequence[Rollout], mask: Tensor) -> Tensor | None:
    """Logprobs [B, R] of the distribution drawn from, 0 beyond a response's end."""
    if any(len(rollout.logprobs) != len(rollout.response_token_ids) for rollout in rollouts):
        return None
    told = torch.tensor([value for rollout in rollouts for value in rollout.logprobs])
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, told.to(mask.device))


def _drawn_alike(model: PreTrainedModel, rollouts: Sequence[Rollout], policy_id: str) -> bool:
    """Whether rollouts come from these weights, computed as precisely as in training."""
    return (
        all(rollout.policy_id == policy_id for rollout in rollouts)
        and all(parameter.dtype == torch.float32 for parameter in model.parameters())
        and not torch.is_autocast_enabled(model.device.type)
    )
