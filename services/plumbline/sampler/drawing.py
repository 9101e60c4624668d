"""One token from each row of logits, by inverse cumulative distribution.

Shapes: B rows, V vocabulary, C blocks of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from plumbline.sampler import kernels
from plumbline.sampler.requests import Alternative, DrawingParameters

_BLOCK = 256
"""Tokens that are summed before the search for the one drawn goes into them."""


def uniform_stream(seed: int) -> np.random.Generator:
    """Where a response's uniform numbers come from, one for each token in turn (Philox)."""
    return np.random.Generator(np.random.Philox(key=seed))


def truncated_logprobs(
    logits: Tensor, temperatures: Tensor, *, top_p: Tensor, top_k: Tensor, min_p: Tensor
) -> tuple[Tensor, Tensor]:
    """Logprobs of the distribution that is sampled from, likeliest token first.

    Args:
        logits: [B, V].
        temperatures: [B], all positive.
        top_p: [B] smallest set with this mass of what top_k left; 1 cuts nothing.
        top_k: [B] likeliest tokens kept; 0 cuts nothing.
        min_p: [B] fraction of the likeliest token's probability; 0 cuts nothing.
    Returns:
        logprobs [B, V] in float64 nats (-inf where cut) and token ids [B, V] of the columns.
    Source: top-p is Holtzman et al. 2020, arXiv:1904.09751, section 3.1; min-p is Nguyen et al.
    2024, arXiv:2407.01082.
    """
    scaled = logits.double() / temperatures[:, None]
    # Stable, so that equal logits keep vocabulary order on every machine.
    values, token_ids = scaled.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(values.shape[-1], device=values.device)
    beyond = (top_k[:, None] > 0) & (ranks >= top_k[:, None])
    logprobs = values.masked_fill(beyond, float("-inf")).log_softmax(-1)
    probabilities = logprobs.exp()
    mass_before = probabilities.cumsum(-1) - probabilities
    cut = (top_p[:, None] < 1) & (mass_before >= top_p[:, None])
    cut |= (values - values[:, :1]).exp() < min_p[:, None]
    cut[:, 0] = False
    return logprobs.masked_fill(cut, float("-inf")).log_softmax(-1), token_ids


def draw_tokens(
    logits: Tensor,
    temperatures: Tensor,
    uniforms: Tensor,
    *,
    top_p: Tensor,
    top_k: Tensor,
    min_p: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One token per row by inverse cumulative distribution.

    Args:
        logits: [B, V].
        temperatures: [B] float64; 0 takes the likeliest token, with logprob 0.
        uniforms: [B] float64 in [0, 1).
        top_p, top_k, min_p: as in `truncated_logprobs`; float64, int32 and float64.
    Returns:
        [B] token ids, their logprobs under the distribution drawn from, and under the whole one at
        temperature 1; float64 nats. Logits that are not numbers give logprobs that are none.
    """
    if kernels.fits(logits):
        return kernels.draw(
            logits.contiguous(), temperatures, uniforms, top_p=top_p, top_k=top_k, min_p=min_p
        )
    greedy = temperatures == 0
    safe = torch.where(greedy, 1.0, temperatures)
    if bool(((top_p < 1) | (top_k > 0) | (min_p > 0)).any()):
        tokens, drawn = _draw_from_some(
            logits, safe, uniforms, top_p=top_p, top_k=top_k, min_p=min_p
        )
    else:
        tokens, drawn = _draw_from_all(logits, safe, uniforms)
    tokens = torch.where(greedy, logits.argmax(-1), tokens)
    return tokens, torch.where(greedy, 0.0, drawn), token_logprobs(logits, tokens)


def token_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Logprobs [B] of tokens [B] at temperature 1, float64 nats."""
    chosen = logits.gather(1, tokens[:, None]).squeeze(1).double()
    return chosen - logits.double().logsumexp(-1)


def change_logits(logits: Tensor, parameters: DrawingParameters, text: Sequence[int]) -> Tensor:
    """Logits [V] after the repetition penalty and the bias.

    Args:
        text: prompt and response so far.
    """
    changed = logits.clone()
    if parameters.repetition_penalty != 1:
        seen = torch.tensor(sorted(set(text)), device=logits.device)
        values = changed[seen]
        penalty = parameters.repetition_penalty
        changed[seen] = torch.where(values > 0, values / penalty, values * penalty)
    for token_id, bias in parameters.logit_bias.items():
        changed[token_id] += bias
    return changed


def likeliest(logits: Tensor, count: int) -> tuple[Alternative, ...]:
    """The tokens with the highest logits [V], the likeliest first."""
    if not count:
        return ()
    logprobs, token_ids = logits.double().log_softmax(-1).topk(min(count, len(logits)))
    return tuple(
        Alternative(token_id, logprob)
        for token_id, logprob in zip(token_ids.tolist(), logprobs.tolist(), strict=True)
    )


def _draw_from_all(logits: Tensor, temperatures: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [B] and logprobs [B] of the whole vocabulary's distribution.

    Blocks are searched first and then the tokens of one, so that nothing of the vocabulary's size
    is accumulated in float64, which costs more than a small model's forward pass.
    """
    rows, vocabulary = logits.shape
    scaled = logits.float() / temperatures[:, None].float()
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
    logits: Tensor,
    temperatures: Tensor,
    uniforms: Tensor,
    *,
    top_p: Tensor,
    top_k: Tensor,
    min_p: Tensor,
) -> tuple[Tensor, Tensor]:
    """Tokens [B] and logprobs [B] of the truncated distribution."""
    logprobs, token_ids = truncated_logprobs(
        logits, temperatures, top_p=top_p, top_k=top_k, min_p=min_p
    )
    cumulative = logprobs.exp().cumsum(-1)
    targets = _targets(uniforms, cumulative[:, -1:])
    columns = torch.searchsorted(cumulative, targets, right=True).clamp_(max=logprobs.shape[-1] - 1)
    drawn = logprobs.gather(1, columns).squeeze(1)
    return token_ids.gather(1, columns).squeeze(1), drawn


def _targets(uniforms: Tensor, total: Tensor) -> Tensor:
    """Where in the cumulative mass [B, 1] each row is read off."""
    # Rounding may lift u * total to total, past the last token with any mass.
    return torch.minimum(uniforms[:, None] * total, torch.nextafter(total, total * 0))
