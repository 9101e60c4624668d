"""Hashed n-grams: an embedder that needs no weights and knows no language.

Every word, every character trigram inside a word, and every character and bigram of a script
without spaces is hashed to one dimension and a sign. A batch is hashed as one array of code points:
with the prefix sums S[i] = sum over j < i of c[j] * B^j (mod 2^64), the n-gram at i has the
polynomial hash (S[i + n] - S[i]) * B^-i, which is the same wherever it stands.

A document's features all count alike and a query's by how rare they are in the knowledge base, so
that a stored vector depends on its own text alone. Cosines favour short texts; a document's vector
is therefore held below length one, the less the longer it is, and the last dimension makes up the
rest. Sources: Weinberger et al. 2009, Feature hashing; Singhal et al. 1996, Pivoted document length
normalization.

Shapes: N texts, C characters of a batch, D dimensions, F features of a batch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plumbline.retriever.search.dense import Vector, Vectors, unit_rows
from plumbline.retriever.search.questions import Question
from plumbline.retriever.search.tokens import UNSPACED_RANGES, normalise

Weights = NDArray[np.float32]
"""[2^18] inverse document frequencies, by a feature's hash."""

_Hashes = NDArray[np.uint64]
_Places = NDArray[np.int64]

_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_CHARACTERS_PER_BATCH = 1 << 17
_WEIGHT_BITS = np.uint64(18)
PIVOT = 5.5
"""Added to a document's norm. The norm of an article of some 100 characters is about 17, so that
this is a slope of 0.75 in Singhal's terms."""

_DIMENSIONS_BETWEEN = 512
"""Enough to tell copies from others."""

_SEPARATOR, _LETTER, _UNSPACED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Features:
    """Features of a batch in order of text."""

    texts: _Places
    """[F] which text."""
    hashes: _Hashes
    """[F]"""
    counts: NDArray[np.float64]
    """[F] how often, damped."""


class HashedEmbedder:
    """Signed hashing of words and character n-grams.

    Args:
        dimensions: 0 folds nothing: the vectors have no width, and `NgramIndex` searches the
            features themselves.
    """

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    @property
    def fingerprint(self) -> str:
        """Names what the vectors are; vectors of another fingerprint cannot be compared."""
        return f"hashed-2:{self.dimensions}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """[N, D] unit rows, zero for a text without content; a row depends on its text alone."""
        matrix = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        if not self.dimensions:
            return matrix
        for start, end, features in feature_batches(texts):
            sums = self._sums(features, end - start, features.counts)
            norms = np.sqrt(np.add.reduce(sums * sums, axis=1, keepdims=True))
            rows = sums / (norms + PIVOT)
            lengths = norms[:, 0] / (norms[:, 0] + PIVOT)
            rows[:, -1] = np.where(lengths > 0, np.sqrt(1 - lengths**2), 0)
            matrix[start:end] = rows
        return matrix

    def embed_query(self, question: Question, weights: Weights | None) -> Vector:
        """[D] unit vector; zero where no feature of the question is known to `weights`."""
        sums = np.zeros(self.dimensions)
        if not self.dimensions:
            return sums.astype(np.float32)
        for _, _, features in feature_batches([f"{question.subject}\n{question.related}"]):
            amounts = features.counts
            if weights is not None:
                amounts = amounts * weights[_weight_cells(features.hashes)]
            sums = self._sums(features, 1, amounts)[0]
        norm = np.sqrt(np.add.reduce(sums * sums))
        vector: Vector = (sums / norm if norm > 0 else sums).astype(np.float32)
        return vector

    def between_documents(self, texts: Sequence[str], vectors: Vectors) -> Vectors:
        """[N, D - 1] unit rows: the dimension that makes up a document's length is left out."""
        if not self.dimensions:
            vectors = HashedEmbedder(_DIMENSIONS_BETWEEN).embed(texts)
        return unit_rows(np.ascontiguousarray(vectors[:, :-1]))

    def feature_weights(self, texts: Sequence[str]) -> Weights | None:
        """Inverse document frequencies of the features of N texts; 0 where none has it.

        None where nothing is folded: postings tell the frequencies.

        Source: Robertson and Sparck Jones 1976, as Lucene smooths it.
        """
        if not self.dimensions:
            return None
        frequency = np.zeros(1 << int(_WEIGHT_BITS))
        for _, _, features in feature_batches(texts):
            cells = _weight_cells(features.hashes).astype(np.int64)
            once = np.unique(features.texts << int(_WEIGHT_BITS) | cells)
            frequency += np.bincount(once & (len(frequency) - 1), minlength=len(frequency))
        rarity = np.log1p((len(texts) - frequency + 0.5) / (frequency + 0.5))
        return np.where(frequency > 0, rarity, 0).astype(np.float32)

    def _sums(
        self, features: Features, count: int, amounts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """[count, D] signed sums; the last dimension is left free."""
        signs = np.where(features.hashes & np.uint64(1), 1.0, -1.0)
        width = np.uint64(self.dimensions - 1)
        cells = (features.hashes >> np.uint64(32)) * width >> np.uint64(32)
        # In double precision and in order of text, so that a row's sum is always the same.
        sums = np.bincount(
            features.texts * self.dimensions + cells.astype(np.int64),
            weights=amounts * signs,
            minlength=count * self.dimensions,
        )
        return sums.astype(np.float64).reshape(count, self.dimensions)


def feature_batches(texts: Sequence[str]) -> Iterator[tuple[int, int, Features]]:
    """First text, end and features of each batch."""
    start, size, batch = 0, 0, []
    for position, text in enumerate(texts):
        batch.append(normalise(text))
        size += len(batch[-1])
        if size >= _CHARACTERS_PER_BATCH or position == len(texts) - 1:
            yield start, position + 1, _features(batch)
            start, size, batch = position + 1, 0, []


def _features(texts: Sequence[str]) -> Features:
    """The distinct features of each normalised text, with damped counts."""
    joined = "\n".join(texts)
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = np.fromiter((len(text) + 1 for text in texts), dtype=np.int64, count=len(texts))
    owner = np.repeat(np.arange(len(texts)), lengths)[: len(points)]
    classes = _classes()[np.minimum(points, len(_classes()) - 1)]
    places, hashes = _ngrams(points.astype(np.uint64), classes)
    return _counted(owner[places], hashes)


def _counted(texts: _Places, hashes: _Hashes) -> Features:
    order = np.lexsort((hashes, texts))
    texts, hashes = texts[order], hashes[order]
    first = np.ones(len(texts), dtype=np.bool_)
    first[1:] = (texts[1:] != texts[:-1]) | (hashes[1:] != hashes[:-1])
    starts = np.flatnonzero(first)
    counts = np.diff(starts, append=len(texts))
    # Damped, as a word said ten times tells less than ten words.
    return Features(texts[starts], hashes[starts], np.sqrt(counts))


def _ngrams(points: _Hashes, classes: NDArray[np.uint8]) -> tuple[_Places, _Hashes]:
    """Places and hashes of all features of a batch."""
    sums, inverses = _prefix_sums(points)
    run = np.cumsum(np.diff(classes, prepend=0).astype(np.bool_))
    found: list[tuple[_Places, _Hashes]] = []
    for kind, classed, sizes in ((1, _UNSPACED, (1, 2)), (2, _LETTER, (3,))):
        for size in sizes:
            last = len(points) - size + 1
            if last <= 0:
                continue
            inside = (classes[:last] == classed) & (run[:last] == run[size - 1 :])
            places = np.flatnonzero(inside)
            found.append((places, _hashes(sums, inverses, places, places + size, kind)))
    starts, ends = _words(classes)
    found.append((starts, _hashes(sums, inverses, starts, ends, 3)))
    return (
        np.concatenate([places for places, _ in found]),
        np.concatenate([hashes for _, hashes in found]),
    )


def _words(classes: NDArray[np.uint8]) -> tuple[_Places, _Places]:
    """First character and end of each word."""
    letters = np.zeros(len(classes) + 2, dtype=np.int8)
    letters[1:-1] = classes == _LETTER
    edges = np.diff(letters)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def _prefix_sums(points: _Hashes) -> tuple[_Hashes, _Hashes]:
    """[C + 1] prefix sums S, and [C] powers B^-i; all modulo 2^64."""
    powers, inverses = _powers(len(points))
    sums = np.zeros(len(points) + 1, dtype=np.uint64)
    np.cumsum(_mixed(points) * powers, out=sums[1:])
    return sums, inverses


def _hashes(sums: _Hashes, inverses: _Hashes, starts: _Places, ends: _Places, kind: int) -> _Hashes:
    """Hashes of the character spans [start, end); a kind keeps its features apart."""
    return _mixed((sums[ends] - sums[starts]) * inverses[starts] + np.uint64(kind))


def _mixed(values: _Hashes) -> _Hashes:
    """A bijection that spreads every bit. Source: Steele et al. 2014, SplitMix64's finaliser."""
    values = values + _BASE
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _weight_cells(hashes: _Hashes) -> _Hashes:
    return (hashes >> np.uint64(1)) & ((np.uint64(1) << _WEIGHT_BITS) - np.uint64(1))


def _powers(count: int) -> tuple[_Hashes, _Hashes]:
    size = max(1 << 17, 1 << count.bit_length())
    powers, inverses = _power_table(size)
    return powers[:count], inverses[:count]


@functools.lru_cache(maxsize=2)
def _power_table(size: int) -> tuple[_Hashes, _Hashes]:
    """B^i and B^-i modulo 2^64 for i below size."""
    tables = []
    for base in (_BASE, _INVERSE):
        factors = np.full(size, base, dtype=np.uint64)
        factors[0] = 1
        tables.append(np.cumprod(factors))
    return tables[0], tables[1]


@functools.cache
def _classes() -> NDArray[np.uint8]:
    """Class by code point up to the last script without spaces; what lies above separates."""
    last = UNSPACED_RANGES[-1][1]
    first_astral = UNSPACED_RANGES[-1][0]
    classes = np.zeros(last + 2, dtype=np.uint8)
    letters = [chr(point).isalnum() for point in range(first_astral)]
    classes[:first_astral][letters] = _LETTER
    for first, end in UNSPACED_RANGES:
        classes[first : end + 1] = _UNSPACED
    return classes
