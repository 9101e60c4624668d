"""Exact cosines of hashed n-grams by inverted index: nothing is folded, so nothing collides.

What `HashedEmbedder` gives before it folds features into dimensions is a sparse vector over all
64-bit hashes. A query touches some fifty features; adding up their postings compares it with every
value exactly, in less room and time than dense rows of a width that would confuse as little.

Shapes: N values, F features of all values, P postings, M admitted rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import CorruptArtifactError
from plumbline.retriever.search.fusion import Scores
from plumbline.retriever.search.hashed import PIVOT, feature_batches
from plumbline.retriever.search.questions import Question

_FILES = ("features.npy", "starts.npy", "documents.npy", "shares.npy")


class NgramIndex:
    """Postings of n-grams; read-only, safe to share.

    Args:
        features: [F] uint64 hashes, ascending.
        starts: [F + 1] int64; the postings of feature f are those from starts[f] to starts[f + 1].
        documents: [P] int32 rows, ascending within a feature.
        shares: [P] float32 damped counts over the document's norm, which is raised by a pivot.
        count: N.
    """

    def __init__(
        self,
        features: NDArray[np.uint64],
        starts: NDArray[np.int64],
        documents: NDArray[np.int32],
        shares: NDArray[np.float32],
        count: int,
    ) -> None:
        self._features = features
        self._starts = starts
        self._documents = documents
        self._shares = shares
        self._count = count

    @classmethod
    def of(cls, texts: Sequence[str]) -> NgramIndex:
        """Index N texts."""
        batches = [
            (features.texts + start, features.hashes, features.counts)
            for start, _, features in feature_batches(texts)
        ]
        if not batches:
            empty = np.zeros(0, dtype=np.uint64)
            return cls(
                empty, np.zeros(1, np.int64), empty.astype(np.int32), empty.astype(np.float32), 0
            )
        owners, hashes, counts = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        norms = np.sqrt(np.bincount(owners, weights=counts**2, minlength=len(texts)))
        # Stable, so that the rows of a feature stay in order.
        order = np.argsort(hashes, kind="stable")
        features, starts = np.unique(hashes[order], return_index=True)
        shares = counts / (norms + PIVOT)[owners]
        return cls(
            features,
            np.append(starts, len(hashes)).astype(np.int64),
            owners[order].astype(np.int32),
            shares[order].astype(np.float32),
            len(texts),
        )

    def write(self, directory: Path) -> None:
        """Write the postings without pickles; the same texts give the same bytes."""
        directory.mkdir()
        arrays: tuple[NDArray[Any], ...] = (
            self._features,
            self._starts,
            self._documents,
            self._shares,
        )
        for place, name in enumerate(_FILES):
            np.save(directory / name, arrays[place], allow_pickle=False)

    @classmethod
    def read(cls, directory: Path, count: int) -> NgramIndex:
        """Postings that `write` has written; they stay on disk until they are used.

        Raises:
            CorruptArtifactError: a file is missing or damaged.
        """
        try:
            features, starts, documents, shares = (
                np.load(directory / name, mmap_mode="r", allow_pickle=False) for name in _FILES
            )
        except (OSError, ValueError) as error:
            raise CorruptArtifactError(f"{directory}: no postings of n-grams: {error}") from error
        return cls(features, starts, documents, shares, count)

    def scores(self, question: Question) -> Scores:
        """[N] cosines of every row with a query; 0 where nothing is shared.

        A query's features count by how rare they are among the texts, and those that no text has
        do not count. Source: Robertson and Sparck Jones 1976, as Lucene smooths it.
        """
        scores = np.zeros(self._count)
        places, amounts = self._query(question)
        norm = np.sqrt(np.add.reduce(amounts**2))
        for place, amount in zip(places.tolist(), amounts.tolist(), strict=True):
            postings = slice(self._starts[place], self._starts[place + 1])
            # A feature's postings name each row once; features come in one fixed order.
            scores[self._documents[postings]] += amount / norm * self._shares[postings]
        return scores

    def _query(self, question: Question) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Places of the query's known features, ascending, and what each counts."""
        for _, _, asked in feature_batches([f"{question.subject}\n{question.related}"]):
            places = np.searchsorted(self._features, asked.hashes)
            known = places < len(self._features)
            known[known] = self._features[places[known]] == asked.hashes[known]
            places = places[known]
            frequency = self._starts[places + 1] - self._starts[places]
            rarity = np.log1p((self._count - frequency + 0.5) / (frequency + 0.5))
            return places, asked.counts[known] * rarity
        return np.zeros(0, dtype=np.int64), np.zeros(0)
