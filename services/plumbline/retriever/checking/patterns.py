"""Regular expressions in time that is linear in the text, whatever the pattern.

Patterns come with imported values, so a backtracking engine would let one value stop a service.
This one runs all alternatives at once (Thompson 1968; Cox, "Regular Expression Matching Can Be
Simple And Fast", 2007): at most states x characters steps. Accepted are literals, `.`, classes,
`\\d \\w \\s` and their opposites, `\\b`, `^`, `$` (start and end of the text), groups, `|` and the
quantifiers `? * + {m} {m,} {m,n}`; a leading `(?i)` ignores case. What needs backtracking
(back-references, look-around) or only changes what is captured (lazy, named groups) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.checking.pattern_syntax import ACCEPTED, Node, parse_pattern

_MAX_PATTERN = 300
_MAX_STATES = 500
_MAX_CACHED_STEPS = 20_000


@dataclass(slots=True)
class _Program:
    """A non-deterministic automaton: state -> edges to follow without, or with, a character."""

    jumps: list[list[tuple[str, int]]] = field(default_factory=list)
    """(edge condition or "", next state)."""
    takes: list[tuple[re.Pattern[str], int] | None] = field(default_factory=list)

    def state(self) -> int:
        self.jumps.append([])
        self.takes.append(None)
        return len(self.jumps) - 1


class LinearPattern:
    """A compiled pattern.

    Raises:
        InvalidInputError: the pattern is too long or large, or holds what is not accepted.
    """

    def __init__(self, pattern: str) -> None:
        body = pattern.removeprefix("(?i)")
        if not body or len(body) > _MAX_PATTERN:
            raise InvalidInputError(
                f"pattern {pattern[:80]!r} has {len(body)} characters; accepted: 1 to "
                f"{_MAX_PATTERN}",
                field="checkers",
            )
        self._pattern = pattern
        self._flags = re.IGNORECASE if body != pattern else re.NOFLAG
        self._program = _Program()
        self._first = self._program.state()
        self._last = self._add(parse_pattern(body), self._first)
        self._steps: dict[tuple[frozenset[int], str, str], tuple[bool, frozenset[int]]] = {}

    def found_in(self, text: str) -> bool:
        """Does the pattern match anywhere in the text?"""
        states: frozenset[int] = frozenset()
        for before, after in _neighbours(text):
            # Only whether it is a letter matters of the character before.
            key = (states, "a" if _is_word(before) else before and "-", after)
            step = self._steps.get(key)
            if step is None:
                step = self._step(*key)
                if len(self._steps) < _MAX_CACHED_STEPS:
                    self._steps[key] = step
            found, states = step
            if found:
                return True
        return False

    def _step(self, states: frozenset[int], before: str, after: str) -> tuple[bool, frozenset[int]]:
        """Was a match completed here, and where does the next character lead?"""
        reached = self._close(states | {self._first}, before, after)
        if self._last in reached:
            return True, frozenset()
        moves = (self._program.takes[state] for state in reached)
        return False, frozenset(m[1] for m in moves if m and m[0].fullmatch(after))

    def _add(self, node: Node, start: int) -> int:
        """Append the states of a node; returns the state behind it."""
        program = self._program
        if len(program.jumps) > _MAX_STATES:
            raise InvalidInputError(
                f"pattern {self._pattern!r} unfolds into more than {_MAX_STATES} states; write "
                "fewer or smaller repeats",
                field="checkers",
            )
        if node.kind == "all":
            for part in node.parts:
                start = self._add(part, start)
            return start
        if node.kind == "repeat":
            return self._add_repeat(node, start)
        end = program.state()
        if node.kind == "one":
            program.takes[start] = (self._set(node.text), end)
            return end
        if node.kind == "edge":
            program.jumps[start].append((node.text, end))
            return end
        for option in node.parts:
            entry = program.state()
            program.jumps[start].append(("", entry))
            program.jumps[self._add(option, entry)].append(("", end))
        return end

    def _add_repeat(self, node: Node, start: int) -> int:
        program, (part,) = self._program, node.parts
        for _ in range(node.least):
            start = self._add(part, start)
        if node.most is None:
            entry, end = program.state(), program.state()
            program.jumps[start].append(("", entry))
            program.jumps[start].append(("", end))
            program.jumps[self._add(part, entry)].extend([("", entry), ("", end)])
            return end
        end = program.state()
        for _ in range(node.most - node.least):
            entry = program.state()
            program.jumps[start].extend([("", entry), ("", end)])
            start = self._add(part, entry)
        program.jumps[start].append(("", end))
        return end

    def _set(self, text: str) -> re.Pattern[str]:
        try:
            return re.compile(text, self._flags)
        except re.error as error:
            raise InvalidInputError(
                f"pattern {self._pattern!r} holds the class {text!r}: {error}; {ACCEPTED}",
                field="checkers",
            ) from None

    def _close(self, states: frozenset[int], before: str, after: str) -> frozenset[int]:
        """States reached without taking a character."""
        seen, waiting = set(states), list(states)
        while waiting:
            for edge, target in self._program.jumps[waiting.pop()]:
                if target not in seen and _holds(edge, before, after):
                    seen.add(target)
                    waiting.append(target)
        return frozenset(seen)


def _neighbours(text: str) -> Iterator[tuple[str, str]]:
    """The characters before and after each place in the text; empty outside."""
    previous = ""
    for character in text:
        yield previous, character
        previous = character
    yield previous, ""


def _is_word(character: str) -> bool:
    return bool(character) and (character.isalnum() or character == "_")


def _holds(edge: str, before: str, after: str) -> bool:
    if edge == "^":
        return not before
    if edge == "$":
        return not after
    return not edge or _is_word(before) != _is_word(after)
