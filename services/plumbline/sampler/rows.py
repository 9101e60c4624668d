"""The responses that are being drawn, as arrays: a step works on all of them at once.

Shapes: C slots, R rows of a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.sampler.drawing import uniform_stream
from plumbline.sampler.kernels import BLOCK_TOKENS
from plumbline.sampler.requests import (
    LENGTH,
    STOP,
    Alternative,
    GenerationRequest,
    ResponseSpec,
    Sampled,
)

_UNIFORMS = 256
"""Random numbers that a row draws ahead."""
_ROOM = 64
"""Tokens of a response that the arrays begin with space for."""

Array = np.ndarray[Any, np.dtype[Any]]


class Row:
    """One response while it is drawn.

    Attributes:
        blocks: of the cache, in the order of the text; all of its own or held with others.
        tokens: drawn before it had to give up its slot; empty else.
    """

    __slots__ = ("alternatives", "blocks", "index", "logprobs", "request", "stream", "tokens",
                 "untempered")  # fmt: skip

    def __init__(self, request: GenerationRequest, index: int) -> None:
        self.request = request
        self.index = index
        self.blocks: list[int] = []
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.untempered: list[float] = []
        self.alternatives: list[tuple[Alternative, ...]] = []
        self.stream = uniform_stream(self.spec.seed)

    @property
    def spec(self) -> ResponseSpec:
        """What is to be drawn."""
        return self.request.responses[self.index]


class RowTable:
    """Slots of rows that are drawn, and what each step reads and writes of them.

    Attributes:
        rows: [C], None where a slot is free.
        cached: [C] tokens whose keys and values are in the cache.
        newest: [C] the last token, which is not in the cache yet.
        drawn: [C] tokens of the response.
        tables: [C, any] block ids.
    """

    def __init__(self, slots: int, max_blocks: int) -> None:
        self.rows: list[Row | None] = [None] * slots
        self._free = list(range(slots - 1, -1, -1))
        self.tables: Array = np.zeros((slots, max_blocks), dtype=np.int32)
        self.cached: Array = np.zeros(slots, dtype=np.int32)
        self.newest: Array = np.zeros(slots, dtype=np.int64)
        self.drawn: Array = np.zeros(slots, dtype=np.int64)
        self.limits: Array = np.zeros(slots, dtype=np.int64)
        self.special: Array = np.zeros(slots, dtype=bool)
        """Rows that more than the arrays has to be done for."""
        self._tokens: Array = np.zeros((slots, _ROOM), dtype=np.int64)
        self._logprobs: Array = np.zeros((slots, _ROOM))
        self._untempered: Array = np.zeros((slots, _ROOM))
        self._uniforms: Array = np.zeros((slots, _UNIFORMS))
        self._part: Array = np.zeros(slots, dtype=np.int64)
        self._temperatures: Array = np.zeros(slots)
        self._top_p: Array = np.zeros(slots)
        self._min_p: Array = np.zeros(slots)
        self._top_k: Array = np.zeros(slots, dtype=np.int32)

    @property
    def free(self) -> int:
        """Slots without a row."""
        return len(self._free)

    def start(self, row: Row, cached: int) -> int:
        """Give a row a slot; its blocks hold `cached` tokens."""
        slot = self._free.pop()
        parameters = row.spec.parameters
        self.rows[slot] = row
        self.tables[slot, : len(row.blocks)] = row.blocks
        self.cached[slot] = cached
        self.limits[slot] = row.spec.max_tokens
        self._temperatures[slot] = parameters.temperature
        self._top_p[slot], self._top_k[slot] = parameters.top_p, parameters.top_k
        self._min_p[slot] = parameters.min_p
        request = row.request
        self.special[slot] = (
            parameters.changes_logits
            or request.stop_check is not None
            or request.on_token is not None
            or request.top_logprobs is not None
        )
        done = len(row.tokens)
        self.drawn[slot] = done
        self._make_room(done)
        self._tokens[slot, :done] = row.tokens
        self._logprobs[slot, :done] = row.logprobs
        self._untempered[slot, :done] = row.untempered
        row.tokens, row.logprobs, row.untempered = [], [], []
        if done:
            row.stream = uniform_stream(row.spec.seed)
            row.stream.random(done // _UNIFORMS * _UNIFORMS)
        self._uniforms[slot] = row.stream.random(_UNIFORMS)
        self._part[slot] = done // _UNIFORMS
        return slot

    def suspend(self, slot: int) -> Row:
        """Take a row out of its slot with what it has drawn."""
        row = self._leave(slot)
        row.tokens, row.logprobs, row.untempered = self._written(slot)
        return row

    def finish(self, slot: int, *, stopped: bool) -> tuple[Row, Sampled]:
        """Take a row out of its slot, as a response."""
        row = self._leave(slot)
        tokens, logprobs, untempered = self._written(slot)
        return row, Sampled(
            token_ids=tuple(tokens),
            logprobs=tuple(logprobs),
            finish_reason=STOP if stopped else LENGTH,
            seed=row.spec.seed,
            untempered_logprobs=tuple(untempered),
            alternatives=tuple(row.alternatives),
        )

    def add_block(self, slot: int, block: int) -> None:
        """One more block at the end of a row's text."""
        row = self.rows[slot]
        if row is not None:
            self.tables[slot, len(row.blocks)] = block
            row.blocks.append(block)

    def tokens_of(self, slot: int) -> list[int]:
        """The response so far."""
        tokens: list[int] = self._tokens[slot, : self.drawn[slot]].tolist()
        return tokens

    def newest_of(self, slot: int) -> tuple[int, float, float]:
        """The last token, its logprob and its untempered logprob."""
        last = self.drawn[slot] - 1
        return (
            int(self._tokens[slot, last]),
            float(self._logprobs[slot, last]),
            float(self._untempered[slot, last]),
        )

    def drawing(self, slots: Array) -> dict[str, Tensor]:
        """What drawing asks of rows [R]; see `drawing.draw_tokens`."""
        part, column = np.divmod(self.drawn[slots], _UNIFORMS)
        for slot in slots[part != self._part[slots]].tolist():
            row = self.rows[slot]
            if row is not None:
                self._uniforms[slot] = row.stream.random(_UNIFORMS)
                self._part[slot] += 1
        return {
            "temperatures": torch.from_numpy(self._temperatures[slots]),
            "uniforms": torch.from_numpy(self._uniforms[slots, column]),
            "top_p": torch.from_numpy(self._top_p[slots]),
            "top_k": torch.from_numpy(self._top_k[slots]),
            "min_p": torch.from_numpy(self._min_p[slots]),
        }

    def write(self, slots: Array, tokens: Array, logprobs: Array, untempered: Array) -> None:
        """Append the tokens that a step drew for rows [R]."""
        column = self.drawn[slots]
        self._make_room(int(column.max()))
        self._tokens[slots, column] = tokens
        self._logprobs[slots, column] = logprobs
        self._untempered[slots, column] = untempered
        self.newest[slots] = tokens
        self.drawn[slots] += 1

    def next_slots(self, slots: Array) -> Array:
        """[R] int32 places in the cache of the newest tokens: block id * 16 + place in it."""
        cached = self.cached[slots]
        blocks = self.tables[slots, cached // BLOCK_TOKENS]
        places: Array = blocks * BLOCK_TOKENS + cached % BLOCK_TOKENS
        return places

    def _written(self, slot: int) -> tuple[list[int], list[float], list[float]]:
        end = self.drawn[slot]
        return (
            self._tokens[slot, :end].tolist(),
            self._logprobs[slot, :end].tolist(),
            self._untempered[slot, :end].tolist(),
        )

    def _leave(self, slot: int) -> Row:
        row = self.rows[slot]
        if row is None:
            raise RuntimeError(f"slot {slot} holds no row")
        self.rows[slot] = None
        self._free.append(slot)
        return row

    def _make_room(self, column: int) -> None:
        room = self._tokens.shape[1]
        if column < room:
            return
        added = max(room, column - room + 1)
        self._tokens, self._logprobs, self._untempered = (
            np.pad(array, ((0, 0), (0, added)))
            for array in (self._tokens, self._logprobs, self._untempered)
        )
