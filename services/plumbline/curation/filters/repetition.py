"""Text that repeats itself: lines, paragraphs and n-grams.

Measures of Rae et al. 2021, Scaling Language Models: Methods, Analysis & Insights from Training
Gopher, arXiv:2112.11446, table A1. What counts as repeated is every occurrence after the first.
Units are runs of letters and digits; Han and kana, which are written without spaces, count one by
one, and two of them stand for a word: in such text n-grams are of twice as many units.

Counting n-grams is dear, and ordinary prose needs none of it: `may_repeat` clears it by bounds that
are never below the measures, so that the answers are exactly those of counting.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plumbline.core.characters import HAN
from plumbline.curation.filters.config import RepetitionConfig
from plumbline.curation.filters.text_batch import MAX_CHARACTERS, TextBatch, mix

Floats = NDArray[Any]

_UNIT = re.compile(rf"[{HAN}\u3040-\u30ff]|[^\W_{HAN}\u3040-\u30ff]+")
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
_ORDER_STEP = np.uint64(0xA0761D6478BD642F)
_DOCUMENT_SHIFT = np.uint64(52)
_LENGTH_SHIFT = np.uint64(44)
_HASH_SHIFT = np.uint64(20)
_LONGEST = 255
"""Characters of an n-gram that the sorted keys have room for; longer ones count as suspicious."""


def units(folded: str) -> list[str]:
    """Words, and single Han characters, of a case-folded text's head; as `TextBatch` has them."""
    return _UNIT.findall(folded[:MAX_CHARACTERS])


def line_signs(lines: Sequence[str], folded: str, config: RepetitionConfig) -> Iterator[str]:
    """Codes and figures of repeated lines and paragraphs."""
    if len(set(lines)) == len(lines):
        # Paragraphs are made of lines: where no line comes twice, no paragraph does.
        return
    share, characters = repeated_shares(lines)
    if share > config.max_duplicate_line_share:
        yield f"DUPLICATE_LINES {share:.2f} (at most {config.max_duplicate_line_share})"
    if characters > config.max_duplicate_line_character_share:
        most = config.max_duplicate_line_character_share
        yield f"DUPLICATE_LINE_CHARACTERS {characters:.2f} (at most {most})"
    paragraphs = [text for text in map(str.strip, _PARAGRAPH_BREAK.split(folded)) if text]
    share, characters = repeated_shares(paragraphs)
    if share > config.max_duplicate_paragraph_share:
        yield f"DUPLICATE_PARAGRAPHS {share:.2f} (at most {config.max_duplicate_paragraph_share})"
    if characters > config.max_duplicate_paragraph_character_share:
        most = config.max_duplicate_paragraph_character_share
        yield f"DUPLICATE_PARAGRAPH_CHARACTERS {characters:.2f} (at most {most})"


def repeated_shares(parts: Sequence[str]) -> tuple[float, float]:
    """Of the parts, and of their characters, the shares that have come before."""
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count += 1
            characters += len(part)
        seen.add(part)
    return count / max(1, len(parts)), characters / max(1, sum(map(len, parts)))


def top_ngram_signs(words: Sequence[str], span: int, config: RepetitionConfig) -> Iterator[str]:
    """Codes and figures of n-grams that are too common.

    Args:
        span: units that stand for a word: 1, or more for text without spaces.
    """
    for order, most in sorted(config.max_top_ngram_share.items()):
        share = top_ngram_share(words, order * span)
        if share > most:
            yield f"TOP_{order}_GRAM {share:.2f} (at most {most})"


def duplicate_ngram_signs(
    words: Sequence[str], span: int, config: RepetitionConfig
) -> Iterator[str]:
    """Codes and figures of n-grams that have come before; `span` as above."""
    factor = config.unspaced_duplicate_factor if span > 1 else 1.0
    for order, bound in sorted(config.max_duplicate_ngram_share.items()):
        most = min(1.0, factor * bound)
        share = duplicate_ngram_share(words, order * span)
        if share > most:
            yield f"DUPLICATE_{order}_GRAMS {share:.2f} (at most {most})"


def top_ngram_share(words: Sequence[str], order: int) -> float:
    """Share of the characters in the n-gram that has most of them: count times length; at most 1.

    An n-gram that comes once does not count.
    """
    counts = Counter(_ngrams(words, order))
    sizes = (sum(map(len, ngram)) * count for ngram, count in counts.items() if count > 1)
    return min(1.0, max(sizes, default=0) / max(1, sum(map(len, words))))


def duplicate_ngram_share(words: Sequence[str], order: int) -> float:
    """Share of the characters in n-grams that have come before, overlaps counted once."""
    seen: set[tuple[str, ...]] = set()
    covered = total = 0
    until = 0
    for start, ngram in enumerate(_ngrams(words, order)):
        if ngram in seen:
            covered += sum(map(len, words[max(start, until) : start + order]))
            until = start + order
        seen.add(ngram)
    total = sum(map(len, words))
    return covered / max(1, total)


def _ngrams(words: Sequence[str], order: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[offset:] for offset in range(order)), strict=False)


def may_repeat(
    batch: TextBatch, spans: NDArray[np.int64], config: RepetitionConfig
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """[N], [N] whether a document's top n-grams, and its repeated ones, exceed the bounds.

    First by bounds that cost one sort each: an n-gram's characters, count times length, are at most
    the sum of those of the shorter n-grams that it is made of (two 2-grams make up a 3-gram or a
    4-gram); and what repeated longer n-grams cover, repeated 5-grams cover too, which cover at most
    the sum of their lengths. Then by digests of the n-grams, for the documents that are left. Equal
    digests of different n-grams can only make a document look worse, so nothing is missed.

    Args:
        spans: [N] units that stand for a word.
    """
    units = _Units(batch.unit_documents, batch.unit_hashes, batch.unit_lengths)
    totals = np.bincount(units.documents, weights=units.lengths, minlength=len(batch))
    return _top_exceeds(units, spans, totals, config), _covered_exceeds(
        units, spans, totals, config
    )


class _Units(NamedTuple):
    """Units of documents that n-grams are counted in."""

    documents: NDArray[np.int64]
    """[U] ascending rows"""
    hashes: NDArray[np.uint64]
    """[U]"""
    lengths: NDArray[np.int64]
    """[U] characters"""

    def of(self, chosen: NDArray[np.bool_]) -> _Units:
        """The units of the chosen documents [N]."""
        inside = chosen[self.documents]
        return _Units(self.documents[inside], self.hashes[inside], self.lengths[inside])


def _top_exceeds(
    units: _Units, spans: NDArray[np.int64], totals: Floats, config: RepetitionConfig
) -> NDArray[np.bool_]:
    bounds = config.max_top_ngram_share
    found = np.zeros(len(spans), dtype=np.bool_)
    if not bounds:
        return found
    least = min(bounds)
    pieces = -(-max(bounds) // least)
    limit = min(most / (1 if order == least else pieces) for order, most in bounds.items())
    left = _common(units, spans * least, limit * totals)
    if left.any():
        units = units.of(left)
        for order, most in sorted(bounds.items()):
            found |= _common(units, spans * order, most * totals)
    return found


def _covered_exceeds(
    units: _Units, spans: NDArray[np.int64], totals: Floats, config: RepetitionConfig
) -> NDArray[np.bool_]:
    bounds = config.max_duplicate_ngram_share
    found = np.zeros(len(spans), dtype=np.bool_)
    if not bounds:
        return found
    least, lowest = min(bounds), min(bounds.values())
    limits = np.where(spans > 1, config.unspaced_duplicate_factor, 1.0) * totals
    documents, counts, lengths = _repeated(units, spans * least)
    sizes = np.where(lengths >= _LONGEST, np.inf, (counts - 1) * lengths)
    covered = np.bincount(documents, weights=sizes, minlength=len(spans))
    for order, most in sorted(bounds.items()):
        # Longer n-grams cover no more than shorter ones.
        left = covered > lowest * limits
        if not left.any():
            break
        units = units.of(left)
        covered = _covered(units, spans * order)
        found |= covered > np.minimum(totals, most * limits)
    return found


def _common(units: _Units, orders: NDArray[np.int64], limits: Floats) -> NDArray[np.bool_]:
    """[N] whether an n-gram's characters, count times length, exceed the document's limit."""
    documents, counts, lengths = _repeated(units, orders)
    large = (counts * lengths > limits[documents]) | (lengths >= _LONGEST)
    found = np.zeros(len(orders), dtype=np.bool_)
    found[documents[large]] = True
    return found


def _repeated(
    units: _Units, orders: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Document, count and characters of the n-grams that come more than once in a document.

    Args:
        orders: [N] units of the n-grams of each document.
    """
    keys = np.concatenate([_NO_KEYS, *(_keys(units, n, orders)[0] for n in _distinct(orders))])
    keys.sort()
    edges = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1], [True])))
    counts = np.diff(edges)
    again = counts > 1
    found = keys[edges[:-1][again]]
    lengths = (found >> _LENGTH_SHIFT) & np.uint64(_LONGEST)
    return (found >> _DOCUMENT_SHIFT).astype(np.int64), counts[again], lengths.astype(np.int64)


def _covered(units: _Units, orders: NDArray[np.int64]) -> Floats:
    """[N] characters in n-grams that have come before, overlaps counted once."""
    edges = np.zeros(len(units.documents) + 1, dtype=np.int64)
    for order in _distinct(orders):
        keys, places = _keys(units, order, orders)
        ranks = np.argsort(keys, kind="stable")
        again = ranks[1:][keys[ranks[1:]] == keys[ranks[:-1]]]
        edges[places[again]] += 1
        edges[places[again] + order] -= 1
    inside = np.cumsum(edges[:-1]) > 0
    return np.bincount(
        units.documents[inside], weights=units.lengths[inside], minlength=len(orders)
    )


def _distinct(orders: NDArray[np.int64]) -> list[int]:
    return sorted(set(orders.tolist()))


def _keys(
    units: _Units, order: int, orders: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Keys and first units of the n-grams of `order` units, in documents that want that order.

    A key holds the document, the characters and a digest, from the top.
    """
    documents, hashes, lengths = units
    count = max(0, len(documents) - order + 1)
    inside = (documents[:count] == documents[order - 1 :]) & (orders[documents[:count]] == order)
    places = np.flatnonzero(inside)
    state = hashes[places]
    for offset in range(1, order):
        state = state * _ORDER_STEP + hashes[places + offset]
    ends = np.concatenate(([0], np.cumsum(lengths)))
    sizes = np.minimum(ends[places + order] - ends[places], _LONGEST).astype(np.uint64)
    rows = documents[places].astype(np.uint64)
    digests = mix(state) >> _HASH_SHIFT
    return (rows << _DOCUMENT_SHIFT) | (sizes << _LENGTH_SHIFT) | digests, places


_NO_KEYS = np.zeros(0, dtype=np.uint64)
