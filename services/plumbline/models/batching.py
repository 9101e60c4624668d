"""Padding, and batches of sequences of similar length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad_right(
    sequences: Sequence[Sequence[int]], pad_id: int, *, width: int = 0
) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] padded on the right, and the mask [B, T], True at tokens.

    Args:
        width: least T.
    """
    return _pad(sequences, pad_id, left=False, least=width)


def pad_left(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Token ids [B, T] padded on the left, and the mask [B, T], True at tokens."""
    return _pad(sequences, pad_id, left=True)


def length_sorted_batches(
    lengths: Sequence[int], *, tokens_per_batch: int, max_rows: int | None = None
) -> list[list[int]]:
    """Group indices so that a batch's padded size stays within a token budget.

    Longest first, so that a run that does not fit in memory fails at once. A sequence that alone
    exceeds the budget makes a batch of its own. Ties keep their order.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    width = 0
    for index in order:
        fits = bool(batches) and (len(batches[-1]) + 1) * width <= tokens_per_batch
        if fits and (max_rows is None or len(batches[-1]) < max_rows):
            batches[-1].append(index)
        else:
            batches.append([index])
            width = max(lengths[index], 1)
    return batches


def packed_batches(lengths: Sequence[int], *, tokens_per_batch: int) -> list[list[int]]:
    """Group indices so that a batch's tokens, without padding, stay within a budget.

    Longest first, as in `length_sorted_batches`.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    held = 0
    for index in order:
        if batches and held + lengths[index] <= tokens_per_batch:
            batches[-1].append(index)
            held += lengths[index]
        else:
            batches.append([index])
            held = lengths[index]
    return batches


def _pad(
    sequences: Sequence[Sequence[int]], pad_id: int, *, left: bool, least: int = 0
) -> tuple[Tensor, Tensor]:
    width = max((len(sequence) for sequence in sequences), default=0)
    width = max(width, least)
    rows, masks = [], []
    for sequence in sequences:
        padding = [pad_id] * (width - len(sequence))
        tokens = list(sequence)
        rows.append(padding + tokens if left else tokens + padding)
        present, absent = [True] * len(tokens), [False] * len(padding)
        masks.append(absent + present if left else present + absent)
    return torch.tensor(rows, dtype=torch.long), torch.tensor(masks, dtype=torch.bool)
