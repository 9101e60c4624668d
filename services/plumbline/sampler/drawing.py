"""One token from each row of logits, by inverse cumulative distribution.

Shapes: B rows of a batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def uniforms_for_seeds(seeds: Sequence[int], steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Uniform numbers in [0, 1), [B, steps]; a row depends on its own seed alone (Philox)."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds]
    return np.stack(rows)


def truncated_logprobs(
    logits: Tensor, temperatures: Tensor, *, top_p: float, top_k: int
) -> tuple[Tensor, Tensor | None]:
    """Logprobs of the distribution that is sampled from.

    Args:
        logits: [B, V].
        temperatures: [B], all positive.
        top_p, top_k: as in `sample_batch`; top_k cuts first, top_p what it left.
    Returns:
        logprobs [B, V'] in float64 nats (-inf where cut) and token ids [B, V'] of the columns,
        or None where column = token id.
    Source: top-p is Holtzman et al. 2020, arXiv:1904.09751, section 3.1.
    """
    scaled = logits.double() / temperatures[:, None]
    if top_k <= 0 and top_p >= 1:
        return scaled.log_softmax(-1), None
    # Stable, so that equal logits keep vocabulary order on every machine.
    values, token_ids = scaled.sort(dim=-1, descending=True, stable=True)
    if 0 < top_k < values.shape[-1]:
        values, token_ids = values[:, :top_k], token_ids[:, :top_k]
    logprobs = values.log_softmax(-1)
    if top_p < 1:
        probabilities = logprobs.exp()
        mass_before = probabilities.cumsum(-1) - probabilities
        kept = logprobs.masked_fill(mass_before >= top_p, float("-inf"))
        logprobs = kept.log_softmax(-1)
    return logprobs, token_ids


def draw_tokens(
    logits: Tensor, temperatures: Tensor, uniforms: Tensor, *, top_p: float, top_k: int
) -> tuple[Tensor, Tensor]:
    """One token per row by inverse cumulative distribution.

    Args:
        logits: [B, V].
        temperatures: [B]; 0 takes the likeliest token, with logprob 0.
        uniforms: [B] float64 in [0, 1).
    Returns:
        token ids [B] and their logprobs [B], nats in float64.
    """
    greedy = temperatures == 0
    if bool(greedy.all()):
        return logits.argmax(-1), torch.zeros_like(temperatures)
    logprobs, token_ids = truncated_logprobs(
        logits, torch.where(greedy, 1.0, temperatures), top_p=top_p, top_k=top_k
    )
    cumulative = logprobs.exp().cumsum(-1)
    total = cumulative[:, -1:]
    # Rounding may lift u * total to total, past the last token with any mass.
    targets = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, total * 0))
    columns = torch.searchsorted(cumulative, targets, right=True).clamp_(max=logprobs.shape[-1] - 1)
    drawn = logprobs.gather(1, columns).squeeze(1)
    tokens = (columns if token_ids is None else token_ids.gather(1, columns)).squeeze(1)
    if bool(greedy.any()):
        tokens = torch.where(greedy, logits.argmax(-1), tokens)
        drawn = torch.where(greedy, 0.0, drawn)
    return tokens, drawn
