"""What several rules measure of documents, for a batch of them at a time.

The case-folded texts stand end to end in one array of code points, so that counting, splitting and
hashing cost a few array passes for hundreds of documents. Nothing that is measured of one document
depends on the others: sums are of integers, and texts are kept apart by separators.

Shapes: N documents, C code points with separators, U units (words, or single Han characters).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from plumbline.curation.view import DocumentView

MAX_CHARACTERS = 1 << 18
"""What is measured of a document; the rest of a longer one is like its head or the rules that look
at all of it find out."""
BATCH_CHARACTERS = 1 << 17
"""Documents share a batch up to so many characters: its arrays then fit the processor's cache."""
MAX_DOCUMENTS = 1 << 12

BINS = 256
_HAN_BIN = 128
_HAN_BINS = 64
_LETTER_BIN = 192
_DIGIT_BIN = 193
_SPACE_BIN = 194
_PUNCTUATION_BIN = 195
_SYMBOL_BIN = 196
_SEPARATOR_BIN = 0
_PUNCTUATION = ".,;:!?'\"()-–—…‘’“”、。，；：！？（）《》「」"
_HAN_RANGES = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))
_FAR_HAN_RANGE = (0x20000, 0x3134F)
_TABLE_SIZE = 0x20000
"""Code points with a bin of their own choosing; beyond them there is little but Han."""

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)


class TextBatch:
    """Case-folded, normalized texts, measured together.

    Args:
        texts: at most `MAX_DOCUMENTS`; each is read up to `MAX_CHARACTERS`.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        heads = [text[:MAX_CHARACTERS] for text in texts]
        self.characters = np.fromiter(map(len, heads), dtype=np.int64, count=len(heads))
        """[N] code points of each document."""
        # A separator before the first and after each, so that every edge has a neighbour.
        joined = "\0" + "".join([head + "\0" for head in heads])
        encoded = joined.encode("utf-32-le", errors="surrogatepass")
        self.codes: NDArray[np.uint32] = np.frombuffer(encoded, dtype=np.uint32)
        """[C]"""
        self.starts = np.cumsum(self.characters + 1) - self.characters
        """[N] position of each document's first code point."""

    def __len__(self) -> int:
        return len(self.characters)

    @cached_property
    def bins(self) -> NDArray[np.uint8]:
        """[C] ASCII characters as themselves, Han spread over 64 bins, others by what they are."""
        codes = self.codes
        if codes.size and int(codes.max()) >= _TABLE_SIZE:
            codes = np.minimum(codes, _TABLE_SIZE - 1)
        return bin_table()[codes]

    @cached_property
    def histogram(self) -> NDArray[np.int64]:
        """[N, 256] characters of each document by bin."""
        count = len(self)
        row = np.repeat(np.arange(count, dtype=np.int64) * BINS, self.characters + 1)
        flat: NDArray[np.int64] = np.bincount(row + self.bins[1:], minlength=count * BINS).reshape(
            count, BINS
        )
        flat[:, _SEPARATOR_BIN] -= 1
        return flat

    @cached_property
    def visible(self) -> NDArray[np.int64]:
        """[N] characters that are no white space."""
        return self.histogram @ _bins_where(_is_visible)

    @cached_property
    def symbols(self) -> NDArray[np.int64]:
        """[N] characters that are neither letters, digits, white space nor usual punctuation."""
        return self.histogram @ _bins_where(_is_symbol)

    @cached_property
    def letters(self) -> NDArray[np.int64]:
        """[N] letters of any script."""
        return self.histogram @ _bins_where(_is_letter)

    @cached_property
    def han(self) -> NDArray[np.int64]:
        """[N] Han and kana."""
        counts: NDArray[np.int64] = self.histogram[:, _HAN_BIN : _HAN_BIN + _HAN_BINS].sum(axis=1)
        return counts

    @cached_property
    def latin(self) -> NDArray[np.int64]:
        """[N, 26] letters a to z."""
        return self.histogram[:, ord("a") : ord("z") + 1]

    @cached_property
    def _word_edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[W], [W] starts and ends of what stands between white space."""
        inside = _bins_where(_is_visible).astype(bool)[self.bins]
        edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
        return edges[::2], edges[1::2]

    @cached_property
    def words(self) -> NDArray[np.int64]:
        """[N] runs of characters between white space."""
        return self._per_document(self._word_edges[0])

    @cached_property
    def alphabetic_words(self) -> NDArray[np.int64]:
        """[N] words with a letter in them."""
        starts, ends = self._word_edges
        letter = _bins_where(_is_letter).astype(bool)[self.bins]
        before = np.concatenate(([0], np.cumsum(letter, dtype=np.int32)))
        return self._per_document(starts[before[ends] > before[starts]])

    @cached_property
    def _unit_edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        kind = _unit_kinds()[self.bins]
        joins, alone = kind == 1, kind == 2
        start, end = alone.copy(), alone
        start[1:] |= joins[1:] & ~joins[:-1]
        end[:-1] |= joins[:-1] & ~joins[1:]
        return np.flatnonzero(start), np.flatnonzero(end) + 1

    @cached_property
    def unit_lengths(self) -> NDArray[np.int64]:
        """[U] characters of each unit: a run of letters and digits, or one Han character."""
        starts, ends = self._unit_edges
        return ends - starts

    @cached_property
    def unit_counts(self) -> NDArray[np.int64]:
        """[N] units of each document."""
        return self._per_document(self._unit_edges[0])

    @cached_property
    def unit_documents(self) -> NDArray[np.int64]:
        """[U] row of the document that each unit is in."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.unit_counts)

    @cached_property
    def unit_hashes(self) -> NDArray[np.uint64]:
        """[U] equal for equal units; a polynomial modulo 2**64, taken from prefix sums."""
        starts, ends = self._unit_edges
        # Few different sizes, so that the powers are made once.
        powers, inverses = _powers(1 << len(self.codes).bit_length())
        prefix = np.zeros(len(self.codes) + 1, dtype=np.uint64)
        np.cumsum(self.codes * powers[: len(self.codes)], out=prefix[1:])
        hashes = (prefix[ends] - prefix[starts]) * inverses[starts]
        return mix(hashes)

    @cached_property
    def unit_repeats(self) -> NDArray[np.int64]:
        """[N] units that equal the unit before them."""
        hashes, documents = self.unit_hashes, self.unit_documents
        again = (hashes[1:] == hashes[:-1]) & (documents[1:] == documents[:-1])
        return np.bincount(documents[1:][again], minlength=len(self))

    def _per_document(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """[N] how many of the ascending positions are in each document."""
        places = np.searchsorted(positions, np.append(self.starts, len(self.codes)))
        return np.diff(places)


def mix(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread the low bits, in which polynomials differ, over all 64. One to one."""
    mixed = (hashes ^ (hashes >> np.uint64(32))) * _MIX
    return mixed ^ (mixed >> np.uint64(32))


def hash_unit(unit: str) -> int:
    """What `TextBatch.unit_hashes` holds for one case-folded unit."""
    return int(TextBatch([unit]).unit_hashes[0])


def place(views: Sequence[DocumentView]) -> Iterator[tuple[TextBatch, list[int], list[int]]]:
    """The batches that views are measured in; views without one get one, and keep it.

    Yields:
        a batch, the indices of the views in it, and their rows, both in the order of `views`.
    """
    _fill([view for view in views if view.place is None])
    batches: dict[int, tuple[TextBatch, list[int], list[int]]] = {}
    for index, view in enumerate(views):
        if view.place is not None:
            batch, row = view.place
            _, indices, rows = batches.setdefault(id(batch), (batch, [], []))
            indices.append(index)
            rows.append(row)
    yield from batches.values()


def _fill(views: Sequence[DocumentView]) -> None:
    """Put views into batches, in order."""
    group: list[DocumentView] = []
    size = 0
    for view in views:
        length = min(len(view.folded), MAX_CHARACTERS)
        if group and (size + length > BATCH_CHARACTERS or len(group) == MAX_DOCUMENTS):
            _measure(group)
            group, size = [], 0
        group.append(view)
        size += length
    _measure(group)


def _measure(views: Sequence[DocumentView]) -> None:
    batch = TextBatch([view.folded for view in views])
    for row, view in enumerate(views):
        view.place = (batch, row)


@cache
def bin_table() -> NDArray[np.uint8]:
    """[0x20000] bin of each code point of the first two planes."""
    table = np.full(_TABLE_SIZE, _SYMBOL_BIN, dtype=np.uint8)
    for code in range(0x80, _TABLE_SIZE - 1):
        table[code] = _bin_of(chr(code))
    table[:0x80] = np.arange(0x80)
    for first, last in _HAN_RANGES:
        codes = np.arange(first, last + 1)
        table[codes] = _HAN_BIN + codes % _HAN_BINS
    # Clipped code points land here: the planes of rare Han characters.
    table[_TABLE_SIZE - 1] = _HAN_BIN
    return table


def _bin_of(character: str) -> int:
    if character.isalpha():
        return _LETTER_BIN
    if character.isalnum():
        return _DIGIT_BIN
    if character.isspace():
        return _SPACE_BIN
    return _PUNCTUATION_BIN if character in _PUNCTUATION else _SYMBOL_BIN


def _is_visible(position: int) -> bool:
    if position < 0x80:
        return position != _SEPARATOR_BIN and not chr(position).isspace()
    return position != _SPACE_BIN


def _is_letter(position: int) -> bool:
    if position < 0x80:
        return chr(position).isalpha()
    return position <= _LETTER_BIN


def _is_symbol(position: int) -> bool:
    if position < 0x80:
        character = chr(position)
        ordinary = character.isalnum() or character.isspace() or character == "_"
        return position != _SEPARATOR_BIN and not ordinary and character not in _PUNCTUATION
    return position == _SYMBOL_BIN


@cache
def _bins_where(test: Callable[[int], bool]) -> NDArray[np.int64]:
    """[256] 1 for the bins that pass, else 0."""
    return np.array([test(position) for position in range(BINS)], dtype=np.int64)


@cache
def _unit_kinds() -> NDArray[np.uint8]:
    """[256] 1 for bins whose characters join into words, 2 for those that stand alone."""
    kinds = np.zeros(BINS, dtype=np.uint8)
    for position in range(0x80):
        kinds[position] = chr(position).isalnum()
    kinds[[_LETTER_BIN, _DIGIT_BIN]] = 1
    kinds[_HAN_BIN : _HAN_BIN + _HAN_BINS] = 2
    return kinds


@cache
def _powers(size: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The first powers of the base and of its inverse modulo 2**64."""
    inverse = np.uint64(pow(int(_BASE), -1, 1 << 64))
    return _geometric(_BASE, size), _geometric(inverse, size)


def _geometric(ratio: np.uint64, count: int) -> NDArray[np.uint64]:
    terms = np.full(count, ratio, dtype=np.uint64)
    terms[0] = 1
    return np.cumprod(terms, dtype=np.uint64)
