"""Finds the terms of lists in text, at word boundaries, also where they are disguised.

Texts are searched by an automaton, which costs as much as everything else that is done to them;
so tables of the terms' last words say beforehand, from the word hashes that other rules need too,
which texts can hold a term at all. Disguises (sh1t, s-h-i-t, shiiit, f*ck, 傻*逼) are undone
only where their signs occur, and only whole words count, so that ordinary words stay what they are.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import ahocorasick
import numpy as np
from numpy.typing import NDArray

from plumbline.core.characters import HAN
from plumbline.core.errors import ConfigError
from plumbline.curation.filters.config import LexiconConfig
from plumbline.curation.filters.repetition import units
from plumbline.curation.filters.text_batch import MAX_CHARACTERS, TextBatch, bin_table, mix
from plumbline.curation.normalize import normalize

_TABLE_LOG2 = 18
_TABLE_SHIFT = np.uint64(64 - _TABLE_LOG2)

_MAX_ENDING = 3
"""Words of a term that the tables know: enough to be rare, and Han terms are short."""
_ENDING_STEP = np.uint64(0xA0761D6478BD642F)

_LEET = str.maketrans("013457@$!", "oieastasi")
_LEET_ONE_AS_L = str.maketrans("013457@$!", "oleastasi")
_VOWELS = "aeiou"
_FINAL_MARKS = ".,;:?\"'()[]{}<>“”‘’…-–—~`_"
_MAX_WORD = 60
"""Characters of a word; longer runs are no words."""
_DISGUISE = re.compile(r"(?<=[a-z])[0-9@$!*]{1,2}(?=[a-z])|[$](?=[a-z])")
_SPACED = re.compile(r"(?<![^\W_])[^\W\d_](?:([ .\-_*+~/|])[^\W\d_])(?:\1[^\W\d_])+(?![^\W_])")
_SPACED_MARKS = re.compile(r"[ .\-_*+~/|]")
_STRETCHED = re.compile(r"([a-vxyz])\1{2,}")
_SPACE = re.compile(r"\s")
_NOT_A_LETTER = re.compile(r"[^a-z]")
_HAN_SPLIT = re.compile(rf"(?<=[{HAN}])[*\-_.·+~/|^#]+(?=[{HAN}])")
_MIN_LETTERS = 2
"""In a word of letters and figures that is read as disguised: a55 and b2b are no words."""


@dataclass(frozen=True, slots=True)
class LexiconHit:
    """A term in a normalized, case-folded text; end exclusive."""

    term: str
    start: int
    end: int
    category: str = ""
    disguised: bool = False


class Lexicon:
    """An automaton over terms; building it costs once, searching is linear in the text.

    Args:
        terms: of no category.
        categories: further terms by category.

    Raises:
        ConfigError: no term, or one that is blank, or one in two categories.
    """

    def __init__(
        self,
        terms: Iterable[str],
        categories: Mapping[str, Iterable[str]] | None = None,
        *,
        see_through_disguise: bool = True,
    ) -> None:
        self._categories = _folded_terms(terms, categories or {})
        self._disguise = see_through_disguise
        listed = [f"{term}\t{name}" for term, name in sorted(self._categories.items())]
        self.digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
        self._automaton = ahocorasick.Automaton()
        self._endings: dict[int, NDArray[np.bool_]] = {}
        self._digests: dict[int, set[int]] = {}
        self._always = False
        for term in self._categories:
            self._automaton.add_word(term, term)
            self._expect(units(term)[-_MAX_ENDING:])
        self._automaton.make_automaton()

    def __len__(self) -> int:
        return len(self._automaton)

    def find(self, text: str) -> list[LexiconHit]:
        """Hits in a normalized text, in order, the longest where several overlap."""
        folded = _fold(text)
        hits = self._plain_hits(folded)
        if self._disguise:
            hits += self._disguised_hits(folded)
        chosen: list[LexiconHit] = []
        for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end, hit.disguised, hit.term)):
            if not chosen or hit.start >= chosen[-1].end:
                chosen.append(hit)
        return chosen

    def may_find(self, batch: TextBatch) -> NDArray[np.bool_]:
        """[N] whether `find` could find anything in a document of the batch; never misses."""
        possible = np.asarray(batch.characters >= MAX_CHARACTERS) | self._always
        for size, table in self._endings.items():
            # Words of two documents may look like an ending; that costs a search, and no more.
            digests = _ending_digests(batch.unit_hashes, size)
            places = np.flatnonzero(table[digests >> _TABLE_SHIFT])
            known = self._digests[size]
            for place in places.tolist():
                if int(digests[place]) in known:
                    possible[batch.unit_documents[place]] = True
        if self._disguise:
            possible |= disguise_signs(batch)
        return possible

    def _expect(self, ending: list[str]) -> None:
        """Note the last words of a term, by their number and digest."""
        if not ending:
            # A term of marks alone says nothing about the words around it.
            self._always = True
            return
        empty = np.zeros(1 << _TABLE_LOG2, dtype=np.bool_)
        table = self._endings.setdefault(len(ending), empty)
        hashes = TextBatch([" ".join(ending)]).unit_hashes
        digests = _ending_digests(hashes, len(ending))
        table[digests >> _TABLE_SHIFT] = True
        self._digests.setdefault(len(ending), set()).update(digests.tolist())

    def _plain_hits(self, folded: str) -> list[LexiconHit]:
        return [
            LexiconHit(term, end + 1 - len(term), end + 1, self._categories[term])
            for end, term in self._automaton.iter(folded)
            if _stands_alone(folded, end + 1 - len(term), end + 1)
        ]

    def _disguised_hits(self, folded: str) -> list[LexiconHit]:
        hits = [
            LexiconHit(word, start, end, self._categories[word], disguised=True)
            for word, start, end in _undisguised(folded)
            if word in self._categories
        ]
        joined = _HAN_SPLIT.sub("", folded)
        if joined != folded:
            hits += self._split_han_hits(folded)
        return hits

    def _split_han_hits(self, folded: str) -> Iterator[LexiconHit]:
        """Terms of Han characters with marks between them."""
        places = [True] * len(folded)
        for match in _HAN_SPLIT.finditer(folded):
            places[match.start() : match.end()] = [False] * (match.end() - match.start())
        kept = list(itertools.compress(range(len(folded)), places))
        for hit in self._plain_hits("".join(folded[place] for place in kept)):
            start, end = kept[hit.start], kept[hit.end - 1] + 1
            if end - start > len(hit.term):
                yield LexiconHit(hit.term, start, end, hit.category, disguised=True)


def _ending_digests(hashes: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    """Digests of every run of `size` words."""
    count = max(0, len(hashes) - size + 1)
    state = hashes[:count].copy()
    for offset in range(1, size):
        state *= _ENDING_STEP
        state += hashes[offset : offset + count]
    return mix(state)


def disguise_signs(batch: TextBatch) -> NDArray[np.bool_]:
    """[N] whether a document has letters mixed with look-alikes, spaced out, or stretched."""
    bins = batch.bins
    letter = (bins >= ord("a")) & (bins <= ord("z"))
    alike = _look_alikes()[bins]
    found = np.zeros(len(bins), dtype=np.bool_)
    # A look-alike, or two, inside a word.
    found[:-3] |= letter[:-3] & alike[1:-2] & (letter[2:-1] | (alike[2:-1] & letter[3:]))
    found[:-2] |= (
        letter[:-2]
        & (bins[:-2] != ord("w"))
        & (batch.codes[:-2] == batch.codes[1:-1])
        & (batch.codes[1:-1] == batch.codes[2:])
    )
    found[:-1] |= (bins[:-1] == ord("$")) & letter[1:]
    mark = _separators()[bins]
    alone = _letters()[bins]
    # Single letters with the same mark between them: no word ends before or goes on after.
    alone[1:-1] = alone[1:-1] & ~alone[2:] & ~alone[:-2]
    found[:-4] |= alone[:-4] & mark[1:-3] & alone[2:-2] & (bins[1:-3] == bins[3:-1]) & alone[4:]
    han = bins >= 128
    found[:-2] |= han[:-2] & han[2:] & mark[1:-1] & (bins[1:-1] != ord(" "))
    long_split = han[:-3] & mark[1:-2] & mark[2:-1] & (bins[1:-2] != ord(" "))
    found[:-3] |= long_split
    places = np.searchsorted(batch.starts, np.flatnonzero(found), side="right") - 1
    signs = np.zeros(len(batch), dtype=np.bool_)
    signs[places[places >= 0]] = True
    return signs


@cache
def _look_alikes() -> NDArray[np.bool_]:
    return _bins_of("0123456789@$!*")


@cache
def _separators() -> NDArray[np.bool_]:
    return _bins_of(" .-_*+~/|^#·")


@cache
def _letters() -> NDArray[np.bool_]:
    """Letters of alphabets; words of them can be spelt with spaces."""
    table = _bins_of("abcdefghijklmnopqrstuvwxyz")
    table[192] = True
    return table


def _bins_of(characters: str) -> NDArray[np.bool_]:
    table = np.zeros(256, dtype=np.bool_)
    table[bin_table()[[ord(character) for character in characters]]] = True
    return table


def _undisguised(folded: str) -> Iterator[tuple[str, int, int]]:
    """Words that look disguised, as they may be meant, and where they stand."""
    for start, end in _around(_DISGUISE, _SPACE, folded):
        word = folded[start:end].rstrip(_FINAL_MARKS)
        first = len(word) - len(word.lstrip(_FINAL_MARKS))
        for reading in _leet_readings(word[first:]):
            yield reading, start + first, start + len(word)
    for match in _SPACED.finditer(folded):
        yield _SPACED_MARKS.sub("", match.group()), match.start(), match.end()
    for start, end in _around(_STRETCHED, _NOT_A_LETTER, folded):
        for short in _stretched_readings(folded[start:end]):
            yield short, start, end


def _around(sign: re.Pattern[str], edge: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """The words that signs are in: from the last edge before each sign to the next after it."""
    start = end = 0
    for match in sign.finditer(text):
        if match.start() < end:
            continue
        start = match.start()
        while start > 0 and match.start() - start < _MAX_WORD and not edge.match(text[start - 1]):
            start -= 1
        after = edge.search(text, match.end())
        end = after.start() if after else len(text)
        if end - start <= _MAX_WORD:
            yield start, end


def _leet_readings(word: str) -> Iterator[str]:
    letters = sum("a" <= character <= "z" for character in word)
    if letters < _MIN_LETTERS or letters == len(word):
        return
    # Exclamation marks at the end are marks, unless letters follow them.
    for text in dict.fromkeys((word, word.rstrip("!*"))):
        if text.count("*") == 1 and not text.startswith("*"):
            yield from (text.replace("*", vowel).translate(_LEET) for vowel in _VOWELS)
        elif "*" not in text:
            yield text.translate(_LEET)
            yield text.translate(_LEET_ONE_AS_L)


def _stretched_readings(word: str) -> Iterator[str]:
    yield _STRETCHED.sub(r"\1", word)
    yield _STRETCHED.sub(r"\1\1", word)


def _folded_terms(terms: Iterable[str], categories: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Category by folded term; terms of no category have an empty one."""
    found: dict[str, str] = {}
    for category, listed in [("", terms), *sorted(categories.items())]:
        for term in listed:
            folded = " ".join(_fold(normalize(term).text).split())
            if found.setdefault(folded, category) != category:
                raise ConfigError(
                    f"the term {term!r} is in two categories, {found[folded]!r} and {category!r}",
                    field="categories",
                )
    if not found or "" in found:
        raise ConfigError("a lexicon needs terms, none of them blank", field="terms")
    return found


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
    text = (
        resources.files("plumbline.curation.filters")
        .joinpath("abuse_lexicon.txt")
        .read_text("utf-8")
    )
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def load_lexicon(config: LexiconConfig) -> Lexicon:
    """The lexicon that a config describes."""
    return Lexicon(
        (*(builtin_terms() if config.builtin else ()), *config.terms),
        config.categories,
        see_through_disguise=config.see_through_disguise,
    )
