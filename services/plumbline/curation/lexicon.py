"""Finds the terms of a list in text, at word boundaries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import ahocorasick

from plumbline.core.errors import ConfigError
from plumbline.curation.config import LexiconConfig
from plumbline.curation.normalize import normalize


@dataclass(frozen=True, slots=True)
class LexiconHit:
    """A term in a normalized, case-folded text; end exclusive."""

    term: str
    start: int
    end: int


class Lexicon:
    """An automaton over terms; building it costs once, searching is linear in the text.

    Raises:
        ConfigError: no term, or one that is blank.
    """

    def __init__(self, terms: Iterable[str]) -> None:
        folded = sorted({" ".join(_fold(normalize(term).text).split()) for term in terms})
        if not folded or not folded[0]:
            raise ConfigError("a lexicon needs terms, none of them blank", field="terms")
        self.digest = hashlib.sha256("\n".join(folded).encode()).hexdigest()
        self._automaton = ahocorasick.Automaton()
        for term in folded:
            self._automaton.add_word(term, term)
        self._automaton.make_automaton()

    def __len__(self) -> int:
        return len(self._automaton)

    def find(self, text: str) -> list[LexiconHit]:
        """Hits in a normalized text, in order, the longest where several overlap."""
        folded = _fold(text)
        hits = [
            LexiconHit(term, end + 1 - len(term), end + 1)
            for end, term in self._automaton.iter(folded)
            if _stands_alone(folded, end + 1 - len(term), end + 1)
        ]
        chosen: list[LexiconHit] = []
        for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end)):
            if not chosen or hit.start >= chosen[-1].end:
                chosen.append(hit)
        return chosen


def _fold(normalized: str) -> str:
    return normalized.casefold().replace("’", "'").replace("\n", " ")


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no word of an alphabet goes on beyond the term; Han has no such boundaries."""
    before = start > 0 and _joins(text[start - 1], text[start])
    after = end < len(text) and _joins(text[end - 1], text[end])
    return not before and not after


def _joins(left: str, right: str) -> bool:
    return _is_alphabetic(left) and _is_alphabetic(right)


def _is_alphabetic(character: str) -> bool:
    """Letters and digits of scripts that put spaces between words."""
    return character.isalnum() and not "\u2e80" <= character <= "\U0003134f"


@cache
def builtin_terms() -> tuple[str, ...]:
    """The package's own list of abuse; it holds no names of groups, which are not abuse."""
    text = resources.files("plumbline.curation").joinpath("abuse_lexicon.txt").read_text("utf-8")
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def load_lexicon(config: LexiconConfig) -> Lexicon:
    """The lexicon that a config describes."""
    return Lexicon((*(builtin_terms() if config.builtin else ()), *config.terms))
