"""One token from each row of logits, by inverse cumulative distribution.

Shapes: B rows of a batch, V vocabulary, C blocks of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_BLOCK = 256
"""Tokens that are summed before the search for the one drawn goes into them."""


def uniforms_for_seeds(seeds: Sequence[int], steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Uniform numbers in [0, 1), [B, steps]; a row depends on its own seed alone (Philox)."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(steps) for seed in seeds]
    return np.stack(rows)


def truncated_logprobs(
    logits: Tensor, temperatures: Tensor, *, top_p: float, top_k: int
) -> tuple[Tensor, Tensor]:
    """Logprobs of the distribution that is sampled from, likeliest token first.

    Args:
        logits: [B, V].
        temperatures: [B], all positive.
        top_p, top_k: as in `sample_batch`; top_k cuts first, top_p what it left.
    Returns:
        logprobs [B, V'] in float64 nats (-inf where cut) and token ids [B, V'] of the columns.
    Source: top-p is Holtzman et al. 2020, arXiv:1904.09751, section 3.1.
    """
    scaled = logits.double() / temperatures[:, None]
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
    safe_temperatures = torch.where(greedy, 1.0, temperatures)
    if top_k <= 0 and top_p >= 1:
        tokens, drawn = _draw_from_all(logits, safe_temperatures, uniforms)
    else:
        tokens, drawn = _draw_from_some(
            logits, safe_temperatures, uniforms, top_p=top_p, top_k=top_k
        )
    if bool(greedy.any()):
        tokens = torch.where(greedy, logits.argmax(-1), tokens)
        drawn = torch.where(greedy, 0.0, drawn)
    return tokens, drawn


def _draw_from_all(logits: Tensor, temperatures: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [B] and logprobs [B] of the whole vocabulary's distribution.

    Blocks are searched first and then the tokens of one, so that nothing of the vocabulary's size
    is accumulated in float64, which costs more than a small model's forward pass.
    """
    rows, vocabulary = logits.shape
    scaled = logits.float()
    if bool((temperatures != 1).any()):
        scaled = scaled / temperatures[:, None].float()
    highest = scaled.amax(-1, keepdim=True)
    blocks = -(-vocabulary // _BLOCK)
    weights = scaled.new_zeros(rows, blocks * _BLOCK)
    torch.sub(scaled, highest, out=weights[:, :vocabulary]).exp_()
    weights = weights.view(rows, blocks, _BLOCK)
    sums = weights.sum(-1, dtype=torch.float64)
    cumulative = sums.cumsum(-1)
    targets = _targets(uniforms, cumulative[:, -1:])
    block = torch.searchsorted(cumulative, targets, right=True).clamp_(max=blocks - 1)
    before = cumulative.gather(1, block) - sums.gather(1, block)
    inside = weights[torch.arange(rows, device=block.device), block[:, 0]].double()
    column = torch.searchsorted(inside.cumsum(-1) + before, targets, right=True)
    # Two ways of adding may differ in the last place: the last token with any mass bounds it.
    last = _BLOCK - 1 - (inside > 0).flip(-1).to(torch.uint8).argmax(-1, keepdim=True)
    tokens = (block * _BLOCK + torch.minimum(column, last)).clamp_(max=vocabulary - 1)
    shifted = (scaled.gather(1, tokens) - highest).double()
    return tokens.squeeze(1), (shifted - cumulative[:, -1:].log()).squeeze(1)


def _draw_from_some(
    logits: Tensor, temperatures: Tensor, uniforms: Tensor, *, top_p: float, top_k: int
) -> tuple[Tensor, Tensor]:
    """Tokens [B] and logprobs [B] of the truncated distribution."""
    logprobs, token_ids = truncated_logprobs(logits, temperatures, top_p=top_p, top_k=top_k)
    cumulative = logprobs.exp().cumsum(-1)
    targets = _targets(uniforms, cumulative[:, -1:])
    columns = torch.searchsorted(cumulative, targets, right=True).clamp_(max=logprobs.shape[-1] - 1)
    drawn = logprobs.gather(1, columns).squeeze(1)
    return token_ids.gather(1, columns).squeeze(1), drawn


def _targets(uniforms: Tensor, total: Tensor) -> Tensor:
    """Where in the cumulative mass [B, 1] each row is read off."""
    # Rounding may lift u * total to total, past the last token with any mass.
    return torch.minimum(uniforms[:, None] * total, torch.nextafter(total, total * 0))
