"""Which examples each step trains on: a function of lengths and seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch

from plumbline.models.batching import packed_batches

T = TypeVar("T")

# Batches drawn from one bucket: enough to pad little, few enough to mix lengths over an epoch.
_BATCHES_PER_BUCKET = 8


def step_batches(
    lengths: Sequence[int],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    max_steps: int | None = None,
) -> list[list[int]]:
    """Indices of every step's examples, all epochs in order.

    Each epoch is shuffled, cut into buckets, and sorted by length within a bucket, so a batch holds
    similar lengths; the order of the batches is shuffled again. Every example occurs once an epoch;
    an epoch's last batch may be smaller.
    """
    steps: list[list[int]] = []
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(lengths), generator=generator).tolist()
        batches: list[list[int]] = []
        width = batch_size * _BATCHES_PER_BUCKET
        for start in range(0, len(order), width):
            bucket = sorted(order[start : start + width], key=lambda index: lengths[index])
            batches += [
                bucket[offset : offset + batch_size] for offset in range(0, len(bucket), batch_size)
            ]
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        steps += [batches[index] for index in shuffled]
        if max_steps is not None and len(steps) >= max_steps:
            return steps[:max_steps]
    return steps


def microbatches(
    indices: Sequence[int],
    lengths: Mapping[int, int] | Sequence[int],
    *,
    tokens_per_microbatch: int,
) -> list[list[int]]:
    """Split one step's examples so that the tokens of each part fit the budget."""
    selected = [lengths[index] for index in indices]
    parts = packed_batches(selected, tokens_per_batch=tokens_per_microbatch)
    return [[indices[position] for position in part] for part in parts]


def cyclic_indices(count: int, *, start: int, size: int, seed: int) -> list[int]:
    """`size` indices from position `start` of an endless stream of shuffled epochs."""
    chosen: list[int] = []
    position = start
    while len(chosen) < size:
        epoch, offset = divmod(position, count)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(count, generator=generator).tolist()
        taken = order[offset : offset + size - len(chosen)]
        chosen += taken
        position += len(taken)
    return chosen


def draw_some(items: Sequence[T], limit: int | None, *, seed: int) -> list[T]:
    """At most `limit` items, drawn by seed, in their order; all of them for None."""
    if limit is None or len(items) <= limit:
        return list(items)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(items), generator=generator)[:limit]
    return [items[index] for index in sorted(drawn.tolist())]
