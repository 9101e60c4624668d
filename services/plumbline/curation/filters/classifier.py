"""A trained filter: the probability that a text is of some kind, from its character n-grams.

A filter is a directory of two files: `filter.json`, which says how texts are read, and
`weights.npy`, one 16-bit integer for each bucket. Integers make scores exact: what a document gets
depends neither on its batch nor on the machine. A text longer than a window is judged by its worst
window, so that a harmful passage cannot hide in a long harmless document.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from plumbline.core.errors import CorruptArtifactError, FailedPreconditionError, InvalidInputError
from plumbline.core.validation import FrozenConfig, parse_config
from plumbline.curation.filters.logistic import sigmoid
from plumbline.curation.filters.ngrams import (
    HASH_VERSION,
    CodePoints,
    NgramSpec,
    feature_text,
    length_scale,
    windows,
)
from plumbline.curation.normalize import normalize

CARD_FILE = "filter.json"
WEIGHTS_FILE = "weights.npy"
FORMAT = 1
_CHUNK_CHARACTERS = 1 << 15
"""Scored at a time, so that the arrays stay in the processor's cache."""
_LARGEST = np.iinfo(np.int16).max


class FilterCard(FrozenConfig):
    """Content of `filter.json`."""

    format: Literal[1] = 1
    hash_version: int = HASH_VERSION
    name: str = Field(min_length=1)
    """What the filter finds, for example toxicity."""
    min_order: int = Field(ge=1, le=8)
    max_order: int = Field(ge=1, le=8)
    buckets_log2: int = Field(ge=8, le=24)
    saturation_characters: int = Field(default=100, ge=1)
    """Longer texts are scored by the mean of their n-grams."""
    window_characters: int = Field(ge=16)
    max_windows: int = Field(ge=2)
    """Of longer texts so many windows are judged, spread evenly."""
    weight_scale: float = Field(gt=0)
    """What one unit of a stored weight is worth."""
    bias: float
    slope: float
    intercept: float
    """probability = sigmoid(slope * score + intercept)."""
    threshold: float = Field(ge=0, le=1)
    """Probability from which on the filter flags, unless the rule's config says otherwise."""
    weights_sha256: str

    @property
    def saturation(self) -> int:
        """In n-grams."""
        return self.saturation_characters * len(self.ngrams.orders)

    @property
    def ngrams(self) -> NgramSpec:
        return NgramSpec(self.min_order, self.max_order, self.buckets_log2)


class TextClassifier:
    """Scores texts; safe to share between threads."""

    def __init__(self, card: FilterCard, weights: NDArray[np.int16]) -> None:
        """
        Args:
            weights: [buckets]
        Raises:
            CorruptArtifactError: the weights are not those of the card.
        """
        if weights.shape != (card.ngrams.buckets,) or weights.dtype != np.int16:
            raise CorruptArtifactError(
                f"filter {card.name}: weights {weights.dtype}{list(weights.shape)}; "
                f"accepted: int16[{card.ngrams.buckets}]"
            )
        if weights_digest(weights) != card.weights_sha256:
            raise CorruptArtifactError(f"filter {card.name}: {WEIGHTS_FILE} is not the card's")
        self.card = card
        self._weights = weights

    @classmethod
    def quantized(cls, card: FilterCard, weights: NDArray[np.float64]) -> Self:
        """A classifier from real weights; the card's scale and digest are set to fit them."""
        scale = (float(np.abs(weights).max()) or 1.0) / _LARGEST
        rounded = np.rint(weights / scale).astype(np.int16)
        update = {"weight_scale": scale, "weights_sha256": weights_digest(rounded)}
        return cls(card.model_copy(update=update), rounded)

    @property
    def threshold(self) -> float:
        return self.card.threshold

    @property
    def digest(self) -> str:
        """sha256 of the whole filter."""
        return hashlib.sha256(self.card.model_dump_json().encode()).hexdigest()

    def with_threshold(self, threshold: float) -> TextClassifier:
        return TextClassifier(self.card.model_copy(update={"threshold": threshold}), self._weights)

    def with_calibration(self, slope: float, intercept: float) -> TextClassifier:
        update = {"slope": slope, "intercept": intercept}
        return TextClassifier(self.card.model_copy(update=update), self._weights)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[texts] probabilities that the texts are of the filter's kind."""
        return self.scores_of_folded([normalize(text).text.casefold() for text in texts])

    def scores_of_folded(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The same for texts that are normalized and case-folded already."""
        card = self.card
        return sigmoid(card.slope * self.raw_scores(texts) + card.intercept)

    def raw_scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[texts] the linear scores of folded texts, of the worst window each."""
        pieces: list[str] = []
        firsts: list[int] = []
        size, most = self.card.window_characters, self.card.max_windows
        for text in texts:
            firsts.append(len(pieces))
            spaced = feature_text(text)
            if len(spaced) <= size:
                pieces.append(spaced)
            else:
                pieces.extend(windows(spaced, size, most))
        if not pieces:
            return np.zeros(0)
        scores = np.concatenate([self._linear(chunk) for chunk in _chunks(pieces)])
        worst: NDArray[np.float64] = np.maximum.reduceat(scores, firsts)
        return worst

    def _linear(self, pieces: Sequence[str]) -> NDArray[np.float64]:
        """[pieces] linear scores; no piece is empty."""
        spec = self.card.ngrams
        points = CodePoints(pieces, spec.max_order)
        total = np.zeros(len(points.codes), dtype=np.int32)
        for buckets in spec.buckets_of(points.codes):
            total += self._weights[buckets]
        # Sums of documents at even places; those of the separators between them are left out.
        edges = np.stack([points.starts, points.ends], axis=1).ravel()
        sums = np.add.reduceat(np.append(total, np.int32(0)), edges, dtype=np.int64)[::2]
        counts = (points.ends - points.starts) * len(spec.orders)
        scale = self.card.weight_scale * length_scale(counts, self.card.saturation)
        scores: NDArray[np.float64] = sums * scale
        return scores + self.card.bias

    def save(self, directory: Path) -> None:
        """Write the filter's two files; the bytes depend on nothing but the filter."""
        directory.mkdir(parents=True, exist_ok=True)
        card = json.dumps(self.card.model_dump(mode="json"), indent=2, sort_keys=True)
        (directory / CARD_FILE).write_text(card + "\n", encoding="utf-8")
        with (directory / WEIGHTS_FILE).open("wb") as file:
            np.lib.format.write_array(file, self._weights, version=(1, 0), allow_pickle=False)


def load_filter(directory: Path) -> TextClassifier:
    """The filter of a directory that `train-filter` wrote.

    Raises:
        InvalidInputError: the directory holds no filter.
        FailedPreconditionError: a filter of another version.
        CorruptArtifactError: the weights are damaged.
    """
    try:
        value = json.loads((directory / CARD_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{directory} holds no {CARD_FILE} of a trained filter: {error}"
        ) from error
    _check_versions(value, directory)
    card = parse_config(FilterCard, value, where=str(directory / CARD_FILE))
    try:
        with (directory / WEIGHTS_FILE).open("rb") as file:
            weights = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorruptArtifactError(f"{directory / WEIGHTS_FILE} cannot be read: {error}") from error
    return TextClassifier(card, weights)


def weights_digest(weights: NDArray[np.int16]) -> str:
    """sha256 of the weights, little-endian."""
    return hashlib.sha256(weights.astype("<i2").tobytes()).hexdigest()


def _check_versions(value: object, directory: Path) -> None:
    if not isinstance(value, dict):
        raise InvalidInputError(f"{directory / CARD_FILE} holds no map; a trained filter's does")
    for key, known in (("format", FORMAT), ("hash_version", HASH_VERSION)):
        if value.get(key) != known:
            raise FailedPreconditionError(
                f"{directory / CARD_FILE}: {key} {value.get(key)!r} is not known; accepted: "
                f"{known}. Train the filter again",
                reason="UNKNOWN_FILTER_VERSION",
            )


def _chunks(pieces: Sequence[str]) -> Iterator[Sequence[str]]:
    """Runs of pieces with about `_CHUNK_CHARACTERS` characters; at least one each."""
    first, size = 0, 0
    for index, piece in enumerate(pieces):
        if size and size + len(piece) > _CHUNK_CHARACTERS:
            yield pieces[first:index]
            first, size = index, 0
        size += len(piece)
    yield pieces[first:]
