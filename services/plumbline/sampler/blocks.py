"""Blocks of the key-value cache: who holds them, and which texts they can be found by.

A block holds 16 tokens' keys and values. Responses to one prompt hold the same blocks of it, and a
block that is full can be found by its text, and the text before it, by later requests that begin
alike. A block that nobody holds stays findable until its room is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from plumbline.sampler.kernels import BLOCK_TOKENS

ROOT = 0
"""The text before a prompt's first block."""


class BlockPool:
    """Hands out block ids; not safe for several threads.

    Args:
        blocks: how many there are.
    """

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._free = list(range(blocks - 1, -1, -1))
        self._holders = [0] * blocks
        # Texts are numbered, so that a key names all of a text by its last block's tokens and the
        # number of what comes before: exact, and of a constant size.
        self._found: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}
        self._keys: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._texts = ROOT
        # Findable blocks that nobody holds, the least recently used first.
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free) + len(self._idle)

    @property
    def held(self) -> int:
        """Blocks that somebody holds."""
        return self.blocks - self.available

    def allocate(self) -> int | None:
        """A block for one holder; None when all are held."""
        if self._free:
            block = self._free.pop()
        elif self._idle:
            block, _ = self._idle.popitem(last=False)
            del self._found[self._keys.pop(block)]
        else:
            return None
        self._holders[block] = 1
        return block

    def hold(self, blocks: Sequence[int]) -> None:
        """One more holder of each."""
        for block in blocks:
            if self._holders[block] == 0:
                del self._idle[block]
            self._holders[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """One holder less of each."""
        # The last first: a text is of no use without its beginning, which so goes last.
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block] == 0:
                if block in self._keys:
                    self._idle[block] = None
                else:
                    self._free.append(block)

    def match(self, tokens: Sequence[int]) -> tuple[list[int], int]:
        """Blocks that hold the beginning of a text, with one more holder each.

        Returns:
            The blocks, and the number of the text that they hold. The last token is never among
            them, as its logits have to be computed.
        """
        blocks: list[int] = []
        text = ROOT
        for start in range(0, len(tokens) - BLOCK_TOKENS, BLOCK_TOKENS):
            known = self._found.get((text, tuple(tokens[start : start + BLOCK_TOKENS])))
            if known is None:
                break
            block, text = known
            blocks.append(block)
        self.hold(blocks)
        return blocks, text

    def publish(self, block: int, before: int, tokens: Sequence[int]) -> int:
        """Make a full block findable.

        Args:
            before: number of the text before the block.
            tokens: the block's own.
        Returns:
            The number of the text that ends with the block.
        """
        key = (before, tuple(tokens))
        known = self._found.get(key)
        if known is not None:
            return known[1]
        if block in self._keys:
            # Its text was found in another block before, which has gone since.
            self._found.pop(self._keys[block], None)
        self._texts += 1
        self._found[key] = (block, self._texts)
        self._keys[block] = key
        return self._texts
