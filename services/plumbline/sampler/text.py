"""From tokens to text while they arrive: whole characters only, and nothing past a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder makes of the first bytes of a character whose rest is in tokens to come."""


class StopStrings:
    """Finds where a response ends by text.

    Args:
        decode: token ids to text.
        stops: the response ends before the first of these; none may be empty.
    """

    def __init__(self, decode: Decode, stops: Sequence[str]) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        # A token holds at least one byte of text, so the newest tokens up to this many must hold
        # any stop string that the last of them completes; some hold none (control tokens).
        self._window = max((len(stop.encode()) for stop in stops), default=0) + 8

    def met(self, token_ids: Sequence[int]) -> bool:
        """Whether a stop string stands in the newest tokens."""
        tail = self._decode(token_ids[-self._window :])
        return any(stop in tail for stop in self._stops)

    def cut(self, text: str) -> str:
        """The text before the first stop string in it."""
        positions = [position for stop in self._stops if (position := text.find(stop)) >= 0]
        return text[: min(positions)] if positions else text

    def held_back(self, text: str) -> int:
        """Characters at the end of `text` that may turn out to begin a stop string."""
        longest = 0
        for stop in self._stops:
            for size in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:size]):
                    longest = size
                    break
        return longest


class IncrementalText:
    """The text that each further token adds; the pieces join to the text of all tokens.

    Bytes of an unfinished character are held back, as is what may begin a stop string.
    """

    def __init__(self, decode: Decode, stops: StopStrings) -> None:
        self._decode = decode
        self._stops = stops
        self._token_ids: list[int] = []
        # Decoding starts a little before the new tokens, because tokenizers treat the first
        # token of a text in a way of their own (a leading space is dropped).
        self._context_start = 0
        self._decoded_until = 0
        self._pending = ""

    def add(self, token_id: int) -> str:
        """Text that is certain after this token."""
        self._token_ids.append(token_id)
        before, after = self._decoded(self._decoded_until), self._decoded(len(self._token_ids))
        if after.endswith(_UNFINISHED):
            return ""
        self._context_start, self._decoded_until = self._decoded_until, len(self._token_ids)
        self._pending += after[len(before) :]
        return self._release(len(self._pending) - self._stops.held_back(self._pending))

    def finish(self) -> str:
        """What is left after the last token, up to a stop string."""
        before, after = self._decoded(self._decoded_until), self._decoded(len(self._token_ids))
        self._pending = self._stops.cut(self._pending + after[len(before) :])
        return self._release(len(self._pending))

    def _decoded(self, end: int) -> str:
        return self._decode(self._token_ids[self._context_start : end])

    def _release(self, count: int) -> str:
        released = self._stops.cut(self._pending)[:count]
        self._pending = self._pending[len(released) :]
        return released
