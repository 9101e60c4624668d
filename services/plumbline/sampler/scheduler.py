"""Continuous batching: every step computes one token of each response that is being drawn, and a
part of the prompts that wait; requests join and leave at any step.

A response is a function of (seed, prompt, parameters, policy). Every row of a step is computed by
itself, by kernels whose result does not depend on the rows beside it, so on a CPU the bits of a
response are the same whatever else is drawn meanwhile.

Shapes: T tokens of a step, S sequences, R rows, V vocabulary.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    PlumblineError,
    ResourceExhaustedError,
)
from plumbline.sampler.blocks import ROOT, BlockPool
from plumbline.sampler.decoders import new_decoder
from plumbline.sampler.drawing import change_logits, draw_tokens, likeliest, token_logprobs
from plumbline.sampler.kernels import BLOCK_TOKENS
from plumbline.sampler.planning import plan_step
from plumbline.sampler.requests import (
    LENGTH,
    STOP,
    Alternative,
    DrawnToken,
    GenerationRequest,
)
from plumbline.sampler.rows import Array, Row, RowTable
from plumbline.sampler.texts import Part, Text, TextQueue

_SPARE_DEADLINES = 64
_CPU_PREFILL_FLOP = 15e9
"""Of a step: 126 tokens at 60 million parameters, see docs/performance.md for what that trades."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerLimits:
    """Bounds of one policy's engine."""

    max_rows: int = 256
    """Responses drawn at a time."""
    prefill_tokens: int | None = None
    """Prompt tokens that a step computes at most; the responses that are drawn wait for them.
    None fits the model and the device; see `fitting_prefill_tokens`."""
    cache_bytes: int = 2 * 2**30
    """Of keys and values, taken as they are needed."""


def fitting_prefill_tokens(parameters: int, device: str) -> int:
    """How many prompt tokens a step may compute, so that responses that are drawn wait briefly.

    256; on a CPU fewer for models of more than about 30 million parameters, at least 32.
    """
    if device != "cpu":
        return 256
    return int(min(256, max(32, _CPU_PREFILL_FLOP // (2 * parameters))))


class Scheduler:
    """Draws the responses to many requests with one policy; not safe for several threads.

    Args:
        model: a causal language model of transformers in evaluation mode.
        eos_ids: tokens that end a response.
        context_length: prompt and response together, tokens.
    """

    def __init__(
        self,
        model: Any,
        *,
        eos_ids: Sequence[int],
        context_length: int,
        limits: SchedulerLimits | None = None,
    ) -> None:
        self._limits = limits or SchedulerLimits()
        self._context_length = context_length
        self._eos_ids = np.array(list(eos_ids), dtype=np.int64)
        self._device: torch.device = model.get_input_embeddings().weight.device
        self._decoder = new_decoder(model)
        blocks = max(self._limits.cache_bytes // self._decoder.block_bytes, 2)
        max_blocks = -(-context_length // BLOCK_TOKENS)
        blocks = min(blocks, (self._limits.max_rows + 1) * max_blocks)
        self._pool = BlockPool(int(blocks))
        self._prefill_tokens = self._limits.prefill_tokens or fitting_prefill_tokens(
            sum(parameter.numel() for parameter in model.parameters()), self._device.type
        )
        self._texts = TextQueue(self._pool, prefill_tokens=self._prefill_tokens)
        self._cache = self._decoder.new_cache(int(blocks))
        self._table = RowTable(self._limits.max_rows, max_blocks + 1)
        self._groups: dict[int, tuple[int, list[int]]] = {}
        """By text: blocks that its rows share, and their slots."""
        self._group_of: dict[int, int] = {}
        self._unfinished: dict[GenerationRequest, int] = {}
        """Responses to be drawn, by request, in the order of their coming."""
        self._deadlines: list[tuple[float, int, GenerationRequest]] = []
        self._numbers = itertools.count(1)
        self._tokens_drawn = 0
        self._first_token_s: list[float] = []

    @property
    def has_work(self) -> bool:
        """Whether a request is unfinished."""
        return bool(self._unfinished)

    @property
    def blocks_held(self) -> int:
        """Blocks of the cache that requests hold; 0 when none is unfinished."""
        return self._pool.held

    @property
    def rows_drawn(self) -> int:
        """Responses that have a slot."""
        return self._limits.max_rows - self._table.free

    @property
    def requests_waiting(self) -> int:
        """Prompts that are not wholly computed."""
        return len(self._texts.waiting)

    def take_counts(self) -> tuple[int, list[float]]:
        """Tokens drawn, and the waits for first tokens in seconds, since the last call."""
        counts = self._tokens_drawn, self._first_token_s
        self._tokens_drawn, self._first_token_s = 0, []
        return counts

    def submit(self, request: GenerationRequest) -> None:
        """Take a request; `step` works on it.

        Raises:
            InvalidInputError, ResourceExhaustedError: see `check`.
        """
        self.check(request)
        rows = deque(Row(request, index) for index in range(len(request.responses)))
        self._unfinished[request] = len(rows)
        self._texts.waiting.append(Text(request, request.prompt, rows))
        if request.deadline is not None:
            entry = (request.deadline, next(self._numbers), request)
            heapq.heappush(self._deadlines, entry)

    def cancel(self, request: GenerationRequest, error: PlumblineError) -> None:
        """End a request now, with this error; its blocks are free at once. Nothing if it ended."""
        if request not in self._unfinished:
            return
        for slot, row in enumerate(self._table.rows):
            if row is not None and row.request is request:
                self._leave(slot)
                self._pool.release(self._table.suspend(slot).blocks)
        self._texts.remove(request)
        request.error = error
        self._end(request)

    @torch.no_grad()
    def step(self) -> None:
        """Compute a part of the prompts that wait, and draw one token of every response."""
        self._drop_expired()
        slots = self._make_room_for_newest()
        parts = self._texts.choose(free_slots=self._table.free, busy=len(slots))
        if not len(slots) and not parts and not self._texts.ready:
            return
        logits = self._forward(slots, parts)
        self._texts.note_computed(parts, logits[len(slots) :])
        started, first_logits = self._start_rows()
        if len(slots):
            self._table.cached[slots] += 1
            first_logits.insert(0, logits[: len(slots)])
        if not first_logits:
            return
        rows = np.concatenate([slots, np.array(started, dtype=np.int64)])
        every = first_logits[0] if len(first_logits) == 1 else torch.cat(first_logits)
        self._draw(rows, every.float())

    # ---- requests

    def check(self, request: GenerationRequest) -> None:
        """Refuse a request that can never be drawn; may be called from any thread.

        Raises:
            InvalidInputError: the prompt leaves no room for a response.
            ResourceExhaustedError: the cache is too small for prompt and response.
        """
        size, limit = len(request.prompt), self._context_length
        if not 0 < size < limit:
            raise InvalidInputError(
                f"{request.name} has {size} tokens and the policy's context length is {limit}; "
                f"accepted: 1 to {limit - 1} tokens, so that a response has room",
                field="prompts",
            )
        longest = max(response.max_tokens for response in request.responses)
        most = min(size + longest, limit)
        # One block more, as K responses each copy the block that their prompt ends in.
        if -(-most // BLOCK_TOKENS) + 1 > self._pool.blocks:
            raise ResourceExhaustedError(
                f"prompt and response take {most} tokens; the cache has room for "
                f"{(self._pool.blocks - 1) * BLOCK_TOKENS}",
                reason="CACHE_TOO_SMALL",
            )

    def reset(self, error: PlumblineError) -> None:
        """End every request with this error, and keep nothing of what was computed."""
        for request in list(self._unfinished):
            self.cancel(request, error)
        self._pool = BlockPool(self._pool.blocks)
        self._texts = TextQueue(self._pool, prefill_tokens=self._prefill_tokens)

    def _drop_expired(self) -> None:
        now = time.monotonic() if self._deadlines else 0.0
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, request = heapq.heappop(self._deadlines)
            self.cancel(
                request,
                DeadlineExceededError(
                    "the deadline passed while responses were being drawn; allow more time, or "
                    "ask for fewer or shorter responses"
                ),
            )

    def _end(self, request: GenerationRequest) -> None:
        del self._unfinished[request]
        if len(self._deadlines) > 2 * len(self._unfinished) + _SPARE_DEADLINES:
            # Requests that ended in time are let go before their deadlines come.
            self._deadlines = [e for e in self._deadlines if e[2] in self._unfinished]
            heapq.heapify(self._deadlines)
        if request.on_end is not None:
            request.on_end()

    # ---- what a step computes

    def _make_room_for_newest(self) -> Array:
        """Slots of this step's rows, group by group; each has a block for its newest token."""
        slots = self._slots()
        for slot in slots[self._table.cached[slots] % BLOCK_TOKENS == 0].tolist():
            if self._table.rows[slot] is None:
                continue  # gave way to another one
            block = self._pool.allocate()
            while block is None and self._give_way(slot):
                block = self._pool.allocate()
            if block is not None:
                self._table.add_block(slot, block)
        return slots if len(slots) == len(self._group_of) else self._slots()

    def _slots(self) -> Array:
        slots = [slot for _, members in self._groups.values() for slot in members]
        return np.array(slots, dtype=np.int64)

    def _give_way(self, slot: int) -> bool:
        """Free blocks for a row: a text that is not ready goes first, then the newest request.

        Returns whether the row itself keeps its slot.
        """
        if self._texts.free_some():
            return True
        for request in reversed(self._unfinished):
            slots = [
                other
                for _, members in self._groups.values()
                for other in members
                if (row := self._table.rows[other]) is not None and row.request is request
            ]
            if slots:
                given = slots[-1]
                self._suspend(given)
                return given != slot
        return False

    def _suspend(self, slot: int) -> None:
        """Take a row's blocks; its text is computed again when there is room."""
        self._leave(slot)
        row = self._table.suspend(slot)
        self._pool.release(row.blocks)
        row.blocks = []
        tokens = (*row.request.prompt, *row.tokens)
        self._texts.waiting.appendleft(Text(row.request, tokens, deque([row])))

    def _forward(self, slots: Array, parts: Sequence[Part]) -> Tensor:
        """Logits [rows and completed texts, V] of this step's tokens."""
        wanted = len(slots) + sum(count == text.left for text, count in parts)
        if not len(slots) and not parts:
            return torch.empty(0, 0, device=self._device)
        groups = self._groups.values()
        plan = plan_step(self._table, slots, groups, parts, device=self._device)
        # Autocast would round what the kernels take as it is.
        with torch.autocast(self._device.type, enabled=False):
            return self._decoder.forward(plan, self._cache)[:wanted]

    # ---- rows

    def _start_rows(self) -> tuple[list[int], list[Tensor]]:
        """Give rows of ready texts the slots that are free: slots, and logits of their texts."""
        slots: list[int] = []
        logits: list[Tensor] = []
        copies: list[tuple[int, int]] = []
        ready = self._texts.ready
        while ready and self._table.free:
            text = ready[0]
            if text.logits is None:
                raise RuntimeError("a text without logits is ready")
            started = 0
            while text.rows and self._table.free:
                copied = self._texts.share(text, busy=len(self._group_of))
                if copied is None:
                    break
                row = text.rows.popleft()
                row.blocks, copy = copied
                copies += copy
                slot = self._table.start(row, text.computed)
                shared = text.computed // BLOCK_TOKENS
                group = self._groups.setdefault(text.number, (shared, []))
                group[1].append(slot)
                self._group_of[slot] = text.number
                slots.append(slot)
                started += 1
            if started:
                logits.append(text.logits.expand(started, -1))
            if text.rows:
                break
            ready.popleft()
        if copies:
            self._cache.copy_blocks([a for a, _ in copies], [b for _, b in copies])
        return slots, logits

    def _leave(self, slot: int) -> None:
        group = self._group_of.pop(slot)
        members = self._groups[group][1]
        members.remove(slot)
        if not members:
            del self._groups[group]

    def _draw(self, slots: Array, logits: Tensor) -> None:
        """One token for each of these rows, from logits [R, V]."""
        table = self._table
        changed = self._changed_rows(slots, logits)
        device = self._device
        inputs = {name: tensor.to(device) for name, tensor in table.drawing(slots).items()}
        source = logits
        if changed:
            source = logits.clone()
            for row, new in changed.items():
                source[row] = new
        tokens, logprobs, untempered = draw_tokens(source, **inputs)
        if changed:
            rows = list(changed)
            untempered[rows] = token_logprobs(logits[rows], tokens[rows])
        drawn = tokens.cpu().numpy()
        probabilities = logprobs.cpu().numpy()
        self._note_drawn(slots)
        table.write(slots, drawn, probabilities, untempered.cpu().numpy())
        broken = np.isnan(probabilities)
        if broken.any():
            self._fail_rows(slots[broken])
            alive = np.array([table.rows[slot] is not None for slot in slots.tolist()])
            slots, drawn, logits = slots[alive], drawn[alive], logits[torch.from_numpy(alive)]
        self._settle(slots, drawn, logits)

    def _note_drawn(self, slots: Array) -> None:
        self._tokens_drawn += len(slots)
        for slot in slots[self._table.drawn[slots] == 0].tolist():
            row = self._table.rows[slot]
            if row is not None:
                self._first_token_s.append(time.monotonic() - row.request.submitted)

    def _fail_rows(self, slots: Array) -> None:
        rows = [self._table.rows[slot] for slot in slots.tolist()]
        for request in {row.request for row in rows if row is not None}:
            self.cancel(
                request,
                FailedPreconditionError(
                    "the policy's logits are not numbers; accepted: a policy with finite weights",
                    reason="POLICY_NOT_FINITE",
                ),
            )

    def _changed_rows(self, slots: Array, logits: Tensor) -> dict[int, Tensor]:
        """Logits [V] after penalties and biases, by row, where there are any."""
        changed: dict[int, Tensor] = {}
        for row in np.flatnonzero(self._table.special[slots]).tolist():
            slot = int(slots[row])
            held = self._table.rows[slot]
            if held is not None and held.spec.parameters.changes_logits:
                text = (*held.request.prompt, *self._table.tokens_of(slot))
                changed[row] = change_logits(logits[row], held.spec.parameters, text)
        return changed

    def _settle(self, slots: Array, drawn: Array, logits: Tensor) -> None:
        """End the rows whose response is complete, and tell who listens."""
        table = self._table
        stops = np.isin(drawn, self._eos_ids)
        room = self._context_length - table.cached[slots] - 1
        ends = stops | (table.drawn[slots] >= table.limits[slots]) | (room <= 0)
        for row in np.flatnonzero(table.special[slots]).tolist():
            slot = int(slots[row])
            held = table.rows[slot]
            if held is None:
                continue
            check = held.request.stop_check
            if check is not None and not stops[row] and check(table.tokens_of(slot)):
                stops[row] = ends[row] = True
            self._tell(held, slot, ends[row], stops[row], logits[row])
        for row in np.flatnonzero(ends).tolist():
            self._finish(int(slots[row]), stopped=bool(stops[row]))

    def _tell(self, row: Row, slot: int, ends: bool, stops: bool, logits: Tensor) -> None:
        request = row.request
        alternatives: tuple[Alternative, ...] = ()
        if request.top_logprobs is not None:
            alternatives = likeliest(logits, request.top_logprobs)
            row.alternatives.append(alternatives)
        if request.on_token is not None:
            token_id, logprob, untempered = self._table.newest_of(slot)
            reason = (STOP if stops else LENGTH) if ends else None
            request.on_token(
                row.index, DrawnToken(token_id, logprob, untempered, reason, alternatives)
            )

    def _finish(self, slot: int, *, stopped: bool) -> None:
        if self._table.rows[slot] is None:
            return  # its request ended with another row
        self._leave(slot)
        cached = int(self._table.cached[slot])
        row, sampled = self._table.finish(slot, stopped=stopped)
        request = row.request
        if len(request.responses) == 1:
            # What goes on from this response, as the next turn of a conversation, begins with it.
            self._publish((*request.prompt, *sampled.token_ids)[:cached], row.blocks)
        self._pool.release(row.blocks)
        request.results[row.index] = sampled
        self._unfinished[request] -= 1
        if not self._unfinished[request]:
            self._end(request)

    def _publish(self, tokens: Sequence[int], blocks: Sequence[int]) -> None:
        known = ROOT
        for number in range(len(tokens) // BLOCK_TOKENS):
            part = tokens[number * BLOCK_TOKENS : (number + 1) * BLOCK_TOKENS]
            known = self._pool.publish(blocks[number], known, part)
