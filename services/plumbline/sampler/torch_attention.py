"""Attention over a paged cache in torch, as the kernels do it, for accelerators and half precision.

Shapes: S sequences of as many tokens each, Q tokens, N blocks, A heads, K key-value heads, D head
width, P width padded to whole vectors, n keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from plumbline.sampler.kernels import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class SequenceBatch:
    """Sequences that add as many tokens each."""

    rows: Tensor
    """[S, tokens] of the step's queries."""
    blocks: Tensor
    """[S, any] of the cache."""
    seen: Tensor
    """[S, 1, tokens, n], True where a token may look."""


def batch_sequences(
    counts: Sequence[int], start: Tensor, tables: Tensor, lengths: Tensor, *, window: int
) -> list[SequenceBatch]:
    """Sequences by how many of their tokens look back.

    Args:
        counts: tokens of each sequence.
        start: [S + 1] first token of each.
        tables: [S, any] block ids; lengths: [S] tokens, those of this step included.
        window: tokens that each one sees, itself included; 0 means all before it.
    """
    by_count: dict[int, list[int]] = {}
    for sequence, count in enumerate(counts):
        if count:
            by_count.setdefault(count, []).append(sequence)
    batches = []
    for count, sequences in by_count.items():
        index = torch.tensor(sequences, device=start.device)
        own = lengths[index].long()
        blocks = tables[index, : -(-int(own.max()) // BLOCK_TOKENS)].long()
        steps = torch.arange(count, device=start.device)
        limits = (own[:, None] - count + 1 + steps)[..., None]
        places = torch.arange(blocks.shape[1] * BLOCK_TOKENS, device=start.device)
        seen = places < limits
        if window:
            seen &= places >= limits - window
        rows = start[index].long()[:, None] + steps
        batches.append(SequenceBatch(rows, blocks, seen[:, None]))
    return batches


def rotated(x: Tensor, rotary: tuple[Tensor, Tensor], positions: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864) of [T, heads, D], halves apart."""
    cosines, sines = (table[positions.long()][:, None].to(x.dtype) for table in rotary)
    low, high = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-high, low], dim=-1) * sines


def attend_batch(
    query: Tensor,
    out: Tensor,
    keys: Tensor,
    values: Tensor,
    batch: SequenceBatch,
    *,
    scale: float,
    softcap: float,
) -> None:
    """Attention of a batch's rows of [Q, A, D] over a layer's cache, into `out`.

    Args:
        keys: [N, K, P, 16]; values [N, K, 16, P].
        softcap: bound that scores are squeezed into; 0 means none.
    """
    width, repeats = query.shape[-1], query.shape[1] // keys.shape[1]
    # [S, K, D, n] and [S, K, n, D]
    known = keys[batch.blocks].permute(0, 2, 3, 1, 4).flatten(3)[:, :, :width]
    read = values[batch.blocks].permute(0, 2, 1, 3, 4).flatten(2, 3)[..., :width]
    if repeats > 1:
        known, read = (part.repeat_interleave(repeats, dim=1) for part in (known, read))
    asked = query[batch.rows].transpose(1, 2)
    if softcap:
        scores = softcap * torch.tanh((asked @ known) * (scale / softcap))
        weights = scores.masked_fill(~batch.seen, float("-inf")).float().softmax(-1)
        found = weights.to(read.dtype) @ read
    else:
        found = F.scaled_dot_product_attention(
            asked, known.transpose(2, 3), read, attn_mask=batch.seen, scale=scale
        )
    out[batch.rows] = found.transpose(1, 2)
