"""BM25 over an inverted index that is built once per knowledge base and memory-mapped after.

bm25s computes every term's share of every document's score ahead of time; a query then adds the
postings of its terms. Rows outside a filter are never ranked; the statistics (document
frequencies, mean length) are those of the whole knowledge base, so that a value's score does not
depend on who asks.

Shapes: N values, M admitted rows, L ranked rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import CorruptArtifactError
from plumbline.retriever.search.filters import Rows
from plumbline.retriever.search.fusion import Scores, best_first

_NOTHING = ""
"""Stands for a document without tokens, which bm25s cannot index."""


class LexicalIndex:
    """Ranks rows by BM25 (Lucene's variant, k1 1.5, b 0.75); read-only, safe to share."""

    def __init__(self, bm25: bm25s.BM25) -> None:
        self._vocabulary: dict[str, int] = bm25.vocab_dict
        self._shares: NDArray[np.float32] = bm25.scores["data"]
        self._documents: NDArray[np.int32] = bm25.scores["indices"]
        self._starts: NDArray[np.int64] = bm25.scores["indptr"]
        self._count = int(bm25.scores["num_docs"])
        self._bm25 = bm25

    @classmethod
    def of(cls, documents: Sequence[Sequence[str]]) -> LexicalIndex:
        """Index [N] documents, at least one, given as tokens."""
        # Numbered in order of appearance: bm25s numbers by the order of a set, which differs from
        # process to process, and the same values must give the same artifact.
        vocabulary: dict[str, int] = {}
        ids = [
            [vocabulary.setdefault(token, len(vocabulary)) for token in tokens or (_NOTHING,)]
            for tokens in documents
        ]
        bm25 = bm25s.BM25()
        bm25.index((ids, vocabulary), show_progress=False)
        return cls(bm25)

    def write(self, directory: Path) -> None:
        """Write the index without pickles."""
        self._bm25.save(directory)

    @classmethod
    def read(cls, directory: Path) -> LexicalIndex:
        """An index that `write` has written; its postings stay on disk until they are used.

        Raises:
            CorruptArtifactError: the files are not there, or not an index.
        """
        try:
            return cls(bm25s.BM25.load(directory, mmap=True))
        except (OSError, ValueError, KeyError) as error:
            raise CorruptArtifactError(f"{directory}: no lexical index: {error}") from error

    def scores(self, tokens: Sequence[str]) -> NDArray[np.float32]:
        """[N] BM25 of every row; 0 where it shares no token with the query."""
        scores = np.zeros(self._count, dtype=np.float32)
        known = (self._vocabulary[token] for token in tokens if token in self._vocabulary)
        # In one fixed order, so that sums of floats do not depend on how a query is worded.
        for token in sorted(known):
            postings = slice(self._starts[token], self._starts[token + 1])
            # A term's postings name each document once.
            scores[self._documents[postings]] += self._shares[postings]
        return scores

    @staticmethod
    def rank(scores: NDArray[np.float32], rows: Rows, limit: int) -> tuple[Rows, Scores]:
        """[L] admitted rows that share a token with the query, best first; and their scores.

        Args:
            scores: [N] of the query.
            rows: [M] that may be returned, ascending.
        """
        admitted = scores[rows]
        found = np.flatnonzero(admitted > 0)
        return best_first(rows[found], admitted[found], limit)
