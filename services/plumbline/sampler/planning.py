"""What a step computes, as tensors: the newest token of each row, and parts of texts.

Shapes: R rows, T tokens, S sequences, G groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.sampler.kernels import BLOCK_TOKENS
from plumbline.sampler.paged_cache import Queries, StepPlan
from plumbline.sampler.rows import Array, RowTable
from plumbline.sampler.texts import Part

_ROW_MULTIPLE = 8
"""A matrix product's rows do not depend on how many there are where their number is a multiple of
4; measured with the libraries that torch brings, of which some have kernels of their own for 1, 2,
3, 5 or 7 rows."""
_GROUP_ROWS = 32
"""Rows that share a load of their prompt's keys; more would leave threads without work."""

Group = tuple[int, Sequence[int]]
"""Blocks that rows have in common at their beginning, and their slots."""


def plan_step(
    table: RowTable,
    slots: Array,
    groups: Iterable[Group],
    parts: Sequence[Part],
    *,
    device: torch.device,
) -> StepPlan:
    """Rows first, in the order of their groups, then the parts; logits of rows and last parts.

    Args:
        slots: [R] of the rows, group after group.
    """
    rows = len(slots)
    spans = [np.arange(text.computed, text.computed + count) for text, count in parts]
    blocks = [np.array(text.blocks, dtype=np.int32) for text, _ in parts]
    tables = np.zeros((rows + len(parts), table.tables.shape[1]), dtype=np.int32)
    tables[:rows] = table.tables[slots]
    for number, held in enumerate(blocks):
        tables[rows + number, : len(held)] = held
    counts = np.array([1] * rows + [count for _, count in parts])
    ends = counts.cumsum()
    complete = np.array([1] * rows + [int(count == text.left) for text, count in parts])
    padding = np.zeros(-int(ends[-1]) % _ROW_MULTIPLE, dtype=np.int32)
    ids = [np.array(text.tokens[text.computed : text.computed + count]) for text, count in parts]
    places = [
        held[span // BLOCK_TOKENS] * BLOCK_TOKENS + span % BLOCK_TOKENS
        for held, span in zip(blocks, spans, strict=True)
    ]
    positions = np.concatenate([table.cached[slots], *spans, padding])
    lengths = np.concatenate([table.cached[slots] + 1, [span[-1] + 1 for span in spans]])
    logit_rows = (ends - 1)[complete == 1]
    logit_rows = np.pad(logit_rows, (0, -len(logit_rows) % _ROW_MULTIPLE))
    starts, shared = _group_bounds(groups, len(parts))

    def tensor(array: Any, dtype: Any = np.int32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype)).to(device)

    def queries(of_each: Array, at: Array) -> Queries:
        start = np.concatenate([[0], of_each.cumsum()])
        return Queries(tuple(of_each.tolist()), tensor(start), tensor(at))

    return StepPlan(
        input_ids=tensor(np.concatenate([table.newest[slots], *ids, padding]), np.int64),
        slots=tensor(np.concatenate([table.next_slots(slots), *places, padding - 1])),
        tables=tensor(tables),
        lengths=tensor(lengths),
        group_start=tensor(starts),
        group_shared=tensor(shared),
        tokens=queries(counts, positions),
        logit_rows=tensor(logit_rows, np.int64),
        wanted=queries(complete, positions[logit_rows]),
        max_length=int(lengths.max()),
    )


def _group_bounds(groups: Iterable[Group], parts: int) -> tuple[list[int], list[int]]:
    """First sequence of each group and its shared blocks; parts are groups of their own."""
    starts, shared = [0], []
    for blocks, members in groups:
        for first in range(0, len(members), _GROUP_ROWS):
            starts.append(starts[-1] + min(_GROUP_ROWS, len(members) - first))
            shared.append(blocks)
    for _ in range(parts):
        starts.append(starts[-1] + 1)
        shared.append(0)
    return starts, shared
