"""Lists of names and words that come with the package; read once, when first needed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources

_PACKAGE = "plumbline.curation.pii.names"


@cache
def words(name: str) -> frozenset[str]:
    """The entries of a list, which stand apart by spaces; `name` as in han_words."""
    return frozenset(word for line in _lines(name) for word in line.split())


@cache
def sections(name: str) -> dict[str, tuple[str, ...]]:
    """Lines of a list under headings; a heading is a line of one lower-case Latin word."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in _lines(name):
        if line.isascii() and line.isalpha() and line.islower():
            current = found.setdefault(line, [])
        else:
            current.extend(line.split())
    return {heading: tuple(entries) for heading, entries in found.items()}


def _lines(name: str) -> Iterator[str]:
    text = (resources.files(_PACKAGE) / f"{name}.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip()
