"""Prompts on their way into the cache, part by part, and those that wait for slots.

Shapes: V vocabulary.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from plumbline.sampler.blocks import ROOT, BlockPool
from plumbline.sampler.kernels import BLOCK_TOKENS
from plumbline.sampler.requests import GenerationRequest
from plumbline.sampler.rows import Row


@dataclass(slots=True, eq=False)
class Text:
    """A text to be computed, and the rows that go on from it."""

    request: GenerationRequest
    tokens: tuple[int, ...]
    rows: deque[Row]
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    """Tokens in the cache."""
    known: int = ROOT
    """Number of the text that its full blocks hold, in the pool's count."""
    logits: Tensor | None = None
    """[1, V] after the last token."""
    number: int = field(default_factory=itertools.count(1).__next__)
    """Unlike its `id`, never that of another text."""

    @property
    def left(self) -> int:
        """Tokens that are not computed."""
        return len(self.tokens) - self.computed


Part = tuple[Text, int]
"""A text, and how many of its next tokens a step computes."""


class TextQueue:
    """Texts in the order of their coming.

    Args:
        prefill_tokens: that a step computes at most, each row that is being drawn counted as one
            of them, so that many rows do not wait for long texts; a quarter is kept for texts.

    Attributes:
        waiting: not wholly computed.
        ready: computed, with rows that have no slot yet.
    """

    def __init__(self, pool: BlockPool, *, prefill_tokens: int) -> None:
        self._pool = pool
        self._prefill_tokens = prefill_tokens
        self.waiting: deque[Text] = deque()
        self.ready: deque[Text] = deque()

    def remove(self, request: GenerationRequest) -> None:
        """Drop a request's texts."""
        for texts in (self.waiting, self.ready):
            for text in [text for text in texts if text.request is request]:
                texts.remove(text)
                self._pool.release(text.blocks)

    def free_some(self, *, besides: Text | None = None, spared: Container[int] = ()) -> bool:
        """Take the blocks of the last text that holds any; False where none does.

        Args:
            besides: keeps its own.
            spared: keep theirs too, by number.
        """
        for text in reversed([*self.ready, *self.waiting]):
            if text is not besides and text.blocks and text.number not in spared:
                self._forget(text)
                return True
        return False

    def choose(self, *, free_slots: int, busy: int) -> list[Part]:
        """Texts and how many of their tokens are computed now.

        Half of the room goes to the text that came first and half to the shortest ones, so that
        neither long prompts nor a stream of short ones can keep the other waiting for good. While
        the first one waits for blocks, no other begins, or it might never find enough of them.

        Args:
            free_slots: rows that could be started.
            busy: rows that are being drawn.
        """
        slots = free_slots - sum(len(text.rows) for text in self.ready)
        room = max(self._prefill_tokens - busy, self._prefill_tokens // 4)
        chosen: dict[int, Part] = {}
        for order, share in ((self.waiting, room // 2), (self._by_length(), room)):
            for text in order:
                taken = chosen.get(text.number, (text, 0))[1]
                spent = sum(count for _, count in chosen.values())
                if spent >= share or slots <= 0:
                    break
                if not taken and not self._begin(text, busy):
                    return list(chosen.values())
                count = min(text.left, taken + share - spent)
                count = self._reserve(text, count, busy, spared=chosen)
                if count <= 0:
                    break
                if not taken:
                    slots -= len(text.rows)
                chosen[text.number] = (text, count)
        return list(chosen.values())

    def note_computed(self, parts: Sequence[Part], logits: Tensor) -> None:
        """Publish full blocks, and move texts that are wholly computed on.

        Args:
            logits: [texts that are wholly computed now, V].
        """
        completed = 0
        for text, count in parts:
            first = text.computed // BLOCK_TOKENS
            text.computed += count
            for number in range(first, text.computed // BLOCK_TOKENS):
                tokens = text.tokens[number * BLOCK_TOKENS : (number + 1) * BLOCK_TOKENS]
                text.known = self._pool.publish(text.blocks[number], text.known, tokens)
            if not text.left:
                text.logits = logits[completed : completed + 1].clone()
                completed += 1
                self.waiting.remove(text)
                self.ready.append(text)

    def share(self, text: Text, *, busy: int) -> tuple[list[int], list[tuple[int, int]]] | None:
        """Blocks of a row that goes on from a text, and what has to be copied into them.

        Full blocks are held by all rows; the last one, if it is not full, is each row's own, and
        the last row takes the text's. None where there is no block for a copy.
        """
        if len(text.rows) == 1:
            blocks, text.blocks = text.blocks, []
            return blocks, []
        full = text.computed // BLOCK_TOKENS
        own: list[int] = []
        if full < len(text.blocks):
            block = self._allocate(text, busy)
            if block is None:
                return None
            own = [block]
        self._pool.hold(text.blocks[:full])
        return [*text.blocks[:full], *own], [(text.blocks[full], block) for block in own]

    def _by_length(self) -> Iterator[Text]:
        # Sorted only where it is asked for, as most steps have few texts to choose from.
        yield from sorted(self.waiting, key=lambda text: text.left)

    def _begin(self, text: Text, busy: int) -> bool:
        """Look up what the cache holds of a text; False where it has to wait for blocks."""
        if text.computed:
            return True
        needed = -(-len(text.tokens) // BLOCK_TOKENS) + 1
        if busy and self._pool.available < needed + busy:
            return False
        text.blocks, text.known = self._pool.match(text.tokens)
        text.computed = len(text.blocks) * BLOCK_TOKENS
        if not text.rows[0].tokens:
            text.request.cached_tokens = text.computed
        return True

    def _reserve(self, text: Text, count: int, busy: int, *, spared: Container[int]) -> int:
        """Blocks for a text's next tokens; returns for how many there were any."""
        needed = -(-(text.computed + count) // BLOCK_TOKENS)
        while len(text.blocks) < needed:
            block = self._allocate(text, busy, spared)
            if block is None:
                return len(text.blocks) * BLOCK_TOKENS - text.computed
            text.blocks.append(block)
        return count

    def _allocate(self, text: Text, busy: int, spared: Container[int] = ()) -> int | None:
        """A block for a text; where no row will free any, that of a text behind it."""
        block = self._pool.allocate()
        while block is None and not busy and self.free_some(besides=text, spared=spared):
            block = self._pool.allocate()
        return block

    def _forget(self, text: Text) -> None:
        """Take a text's blocks; it is computed again from its beginning."""
        self._pool.release(text.blocks)
        text.blocks, text.computed, text.known, text.logits = [], 0, ROOT, None
        if text in self.ready:
            self.ready.remove(text)
            self.waiting.appendleft(text)
