"""Exact hybrid search over the values of one knowledge base.

Metadata is filtered first, so that a rule out of force can never be returned and k values come
back whenever k match. Dense scores are exact cosines, lexical scores BM25; reciprocal ranks fuse
them.

Shapes: N values, D dimensions.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import numpy as np
from numpy.typing import NDArray

from plumbline.data.records import ValueSpec
from plumbline.retriever.embedders import Embedder, Vectors, normalise, tokenise
from plumbline.retriever.values import in_force


@dataclass(frozen=True, slots=True)
class Hit:
    """A value that matched a query."""

    value: ValueSpec
    score: float
    """Reciprocal-rank fusion; comparable within one query only."""
    dense_score: float
    """Cosine, -1 to 1."""
    lexical_score: float
    """BM25, not below 0."""


def searchable_text(value: ValueSpec) -> str:
    """What a query is matched against."""
    return "\n".join([value.title, value.category, value.text, *value.triggers])


class ValueIndex:
    """A read-only index; one per knowledge-base artifact."""

    def __init__(self, values: Sequence[ValueSpec], vectors: Vectors, embedder: Embedder) -> None:
        self.values = tuple(values)
        self._vectors = vectors
        self._embedder = embedder
        self._bm25 = bm25s.BM25()
        if self.values:
            tokens = [tokenise(searchable_text(value)) or ["\0"] for value in self.values]
            self._bm25.index(tokens, show_progress=False)

    def search(
        self,
        query: str,
        *,
        k: int,
        as_of: datetime.date,
        jurisdiction: str = "",
        tenant: str = "",
        rrf_k: int = 60,
    ) -> list[Hit]:
        """The k values in force that match best, best first; ties go by id."""
        allowed = [
            index
            for index, value in enumerate(self.values)
            if in_force(value, as_of=as_of, jurisdiction=jurisdiction, tenant=tenant)
        ]
        if not allowed:
            return []
        dense = self._vectors[allowed] @ self._embedder.embed([query])[0]
        lexical = self._lexical_scores(query)[allowed]
        fused = _reciprocal_ranks(dense, rrf_k) + _reciprocal_ranks(lexical, rrf_k)
        order = np.lexsort((np.arange(len(allowed)), -fused))[:k]
        return [
            Hit(self.values[allowed[i]], float(fused[i]), float(dense[i]), float(lexical[i]))
            for i in order
        ]

    def _lexical_scores(self, query: str) -> NDArray[np.float32]:
        known = [token for token in tokenise(query) if token in self._bm25.vocab_dict]
        if not known:
            return np.zeros(len(self.values), dtype=np.float32)
        scores: NDArray[np.float32] = self._bm25.get_scores(known)
        return scores


def _reciprocal_ranks(scores: NDArray[np.float32], rrf_k: int) -> NDArray[np.float64]:
    order = np.lexsort((np.arange(len(scores)), -scores))
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[order] = np.arange(1, len(scores) + 1)
    return 1.0 / (rrf_k + ranks)


def governs(hit: Hit, query: str, *, min_cosine: float) -> bool:
    """Does a value that was found govern the query?

    Search always finds something. A value with triggers governs what mentions one of them, as
    whole words; one without governs what is similar enough.
    """
    if not hit.value.triggers:
        return hit.dense_score >= min_cosine
    haystack = f" {' '.join(tokenise(query))} "
    return any(
        f" {' '.join(tokenise(trigger))} " in haystack
        for trigger in hit.value.triggers
        if normalise(trigger).strip()
    )
