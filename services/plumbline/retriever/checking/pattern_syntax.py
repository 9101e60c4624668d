"""The grammar of the patterns that `patterns` runs, as a tree."""

from __future__ import annotations

import re
from dataclasses import dataclass

from plumbline.core.errors import InvalidInputError

_MAX_REPEATS = 100
_MAX_DEPTH = 20
ACCEPTED = (
    "accepted: literals, . classes \\d \\w \\s \\b ^ $ groups | ? * + {m,n}, and (?i) at the start"
)
_CLASSES = {"d", "D", "w", "W", "s", "S"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_QUANTIFIERS = {"?": (0, 1), "*": (0, None), "+": (1, None)}


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of syntax: `one` character set, an `edge`, a sequence (`all`), `any` of several, or
    `repeat`."""

    kind: str
    text: str = ""
    parts: tuple[Node, ...] = ()
    least: int = 1
    most: int | None = 1


class _Parser:
    """Recursive descent over the pattern's grammar."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._place = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._alternatives()
        if self._place < len(self._pattern):
            raise self._refused(f"{self._peek()!r} closes nothing")
        return node

    def _alternatives(self) -> Node:
        options = [self._sequence()]
        while self._peek() == "|":
            self._place += 1
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Node("any", parts=tuple(options))

    def _sequence(self) -> Node:
        parts = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return Node("all", parts=tuple(parts))

    def _atom(self) -> Node:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return Node("one", self._class())
        if character == "\\":
            return self._escape()
        if character in "^$":
            return Node("edge", character)
        if character == ".":
            return Node("one", ".")
        if character in "?*+{":
            raise self._refused(f"{character!r} repeats nothing")
        return Node("one", re.escape(character))

    def _group(self) -> Node:
        if self._peek() == "?":
            if self._pattern[self._place : self._place + 2] != "?:":
                raise self._refused("a group that starts with (? other than (?:")
            self._place += 2
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._refused(f"more than {_MAX_DEPTH} groups inside each other")
        node = self._alternatives()
        if self._next() != ")":
            raise self._refused("a group is not closed")
        self._depth -= 1
        return node

    def _class(self) -> str:
        parts = ["[", "^"] if self._peek() == "^" else ["["]
        self._place += len(parts) - 1
        opened, ranged = len(parts), False
        while (character := self._next()) != "]" or len(parts) == opened:
            if not character:
                raise self._refused("a class is not closed")
            # A hyphen at the edge of the class, or behind a range's hyphen, is itself.
            is_range = character == "-" and len(parts) > opened and not ranged
            if is_range and self._peek() != "]":
                parts.append("-")
                ranged = True
                continue
            parts.append(self._class_escape() if character == "\\" else re.escape(character))
            ranged = False
        return "".join(parts) + "]"

    def _class_escape(self) -> str:
        escaped = self._next()
        if not escaped or (
            escaped.isalnum() and escaped not in _CLASSES and escaped not in _ESCAPES
        ):
            raise self._refused(f"\\{escaped} in a class")
        return f"\\{escaped}" if escaped in _CLASSES else re.escape(_ESCAPES.get(escaped, escaped))

    def _escape(self) -> Node:
        escaped = self._next()
        if escaped == "b":
            return Node("edge", "\\b")
        if escaped in _CLASSES:
            return Node("one", f"\\{escaped}")
        if escaped in _ESCAPES:
            return Node("one", re.escape(_ESCAPES[escaped]))
        if not escaped or escaped.isalnum():
            raise self._refused(f"\\{escaped}")
        return Node("one", re.escape(escaped))

    def _repeated(self, node: Node) -> Node:
        while self._peek() and self._peek() in "?*+{":
            character = self._next()
            least, most = _QUANTIFIERS.get(character) or self._bounds()
            if self._peek() in ("?", "+"):
                raise self._refused("a lazy or possessive quantifier")
            if node.kind == "edge":
                raise self._refused("a repeated edge")
            node = Node("repeat", parts=(node,), least=least, most=most)
        return node

    def _bounds(self) -> tuple[int, int | None]:
        found = re.compile(r"(\d{1,4})(,(\d{0,4}))?\}").match(self._pattern, self._place)
        if not found:
            raise self._refused("a { that is no quantifier; write \\{")
        self._place = found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if max(least, most or 0) > _MAX_REPEATS or (most is not None and most < least):
            raise self._refused(f"{{{found.group()} (at most {_MAX_REPEATS} times)")
        return least, most

    def _peek(self) -> str:
        return self._pattern[self._place : self._place + 1]

    def _next(self) -> str:
        character = self._peek()
        self._place += 1
        return character

    def _refused(self, what: str) -> InvalidInputError:
        return InvalidInputError(
            f"pattern {self._pattern!r} is refused at character {self._place}: {what}; {ACCEPTED}",
            field="checkers",
        )


def parse_pattern(pattern: str) -> Node:
    """The tree of a pattern.

    Raises:
        InvalidInputError: names the place, and what is accepted.
    """
    return _Parser(pattern).parse()
