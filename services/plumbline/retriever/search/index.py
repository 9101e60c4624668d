"""Exact hybrid search over the values of one knowledge base.

Metadata is filtered first, so that a value out of force can never be returned and k values come
back whenever k match. Dense scores are exact cosines, lexical scores BM25; reciprocal ranks fuse
them. The same snapshot and query give the same bytes on every replica.

Shapes: N values, D dimensions, M admitted rows, L ranked rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import (
    CorruptArtifactError,
    InvalidInputError,
)
from plumbline.data.records import ValueSpec
from plumbline.retriever.search.config import SearchConfig
from plumbline.retriever.search.dense import Vector, Vectors, exact_scores
from plumbline.retriever.search.diversity import most_diverse
from plumbline.retriever.search.embedders import Embedder
from plumbline.retriever.search.filters import FilterColumns, Rows, ValueQuery
from plumbline.retriever.search.fusion import (
    Scores,
    best_first,
    filled_up,
    reciprocal_rank_fusion,
)
from plumbline.retriever.search.hashed import Weights
from plumbline.retriever.search.lexical import LexicalIndex
from plumbline.retriever.search.ngrams import NgramIndex
from plumbline.retriever.search.questions import read_question
from plumbline.retriever.search.rerank import Reranker
from plumbline.retriever.search.stores import ExactStore, VectorStore
from plumbline.retriever.search.tokens import tokenise

_TITLE_COUNT = 3
"""Occurrences that a word of the title counts as."""


class SearchMode(StrEnum):
    """Which searches rank the values."""

    FUSED = "fused"
    DENSE = "dense"
    LEXICAL = "lexical"


@dataclass(frozen=True, slots=True)
class Hit:
    """A value that matched a query."""

    value: ValueSpec
    score: float
    """What the order goes by: reciprocal-rank fusion, or the one search's score; comparable
    within one query only."""
    dense_score: float
    """Cosine, -1 to 1."""
    lexical_score: float
    """BM25, not below 0."""
    rerank_score: float | None = None
    """Of the cross-encoder, where one ordered the values."""


@dataclass(frozen=True, slots=True)
class _Similarity:
    """Cosines with one query."""

    vector: Vector | None
    """[D] the query's; None where features are compared instead."""
    of: Callable[[Rows], Scores]
    """Cosines of rows."""


def searchable_text(value: ValueSpec) -> str:
    """What a query is matched against."""
    return "\n".join([value.title, value.category, value.text, *value.triggers])


class ValueIndex:
    """A read-only index; one per knowledge-base artifact, shared by all threads.

    Args:
        vectors: [N, D] unit rows, those of the values' searchable texts.
        lexical: None for a knowledge base without values.
        weights: what the embedder's features tell about the values; None where it is learnt.
        ngrams: compares features instead of vectors, where the embedder folds none.
        snapshot: names the vectors in the store.
        store: where vectors are searched; in this process when None.
    """

    def __init__(
        self,
        values: Sequence[ValueSpec],
        vectors: Vectors,
        embedder: Embedder,
        *,
        columns: FilterColumns,
        lexical: LexicalIndex | None,
        weights: Weights | None,
        ngrams: NgramIndex | None = None,
        snapshot: str = "",
        store: VectorStore | None = None,
    ) -> None:
        if not len(values) == len(vectors) == len(columns):
            raise CorruptArtifactError(
                f"{len(values)} values have {len(vectors)} vectors and {len(columns)} rows of "
                "metadata; each value needs one of both"
            )
        self.values = values
        self.vectors = vectors
        self._embedder = embedder
        self._columns = columns
        self._lexical = lexical
        self._weights = weights
        self._ngrams = ngrams
        self._snapshot = snapshot
        self._store = store or ExactStore()
        if ngrams is None:
            self._store.upsert(snapshot, vectors, columns)

    @classmethod
    def build(cls, values: Sequence[ValueSpec], vectors: Vectors, embedder: Embedder) -> ValueIndex:
        """An index that lives in memory only."""
        return cls(
            values,
            vectors,
            embedder,
            columns=FilterColumns.of(values),
            lexical=lexical_index(values),
            weights=feature_weights(values, embedder),
            ngrams=ngram_index(values, vectors),
        )

    def in_force(self, where: ValueQuery) -> tuple[ValueSpec, ...]:
        """Every value that the filter admits, in order of rows."""
        return tuple(self.values[row] for row in self._columns.rows(where))

    def query_vector(self, query: str) -> Vector:
        """[D] what a query is compared with the values' vectors by."""
        return self._embedder.embed_query(read_question(query), self._weights)

    def search(
        self,
        query: str,
        where: ValueQuery,
        *,
        k: int,
        mode: SearchMode | str = SearchMode.FUSED,
        reranker: Reranker | None = None,
        diversity: float = 0.0,
        config: SearchConfig | None = None,
    ) -> list[Hit]:
        """The k admitted values that match best, best first; ties go by row.

        Args:
            reranker: orders the best `config.rerank_depth` anew.
            diversity: 0 ranks by relevance alone, 1 by difference from those before.
        Raises:
            InvalidInputError: a mode that is none, or a diversity outside 0 to 1.
        """
        config = config or SearchConfig()
        mode = _checked_mode(mode)
        _check_diversity(diversity)
        where = where.on_one_day()
        rows = self._columns.rows(where)
        if not len(rows):
            return []
        similarity = self._similarity(query)
        lexical = self._lexical_scores(query, config.related_weight)
        # One search alone has the same order at any depth; a fused one has not.
        depth = max(k, config.depth if mode is SearchMode.FUSED else config.rerank_depth)
        ranked, scores = self._rank(mode, similarity, lexical, where, rows, depth, config)
        pool = max(k, config.rerank_depth)
        reranked: dict[int, float] = {}
        if reranker is not None:
            ranked, scores = self._rerank(reranker, query, ranked[:pool])
            reranked = dict(zip(ranked.tolist(), scores.tolist(), strict=True))
        if diversity:
            order = most_diverse(self._compared(ranked[:pool]), scores[:pool], k, diversity)
            ranked, scores = ranked[order], scores[order]
        ranked, scores = ranked[:k], scores[:k]
        cosines = similarity.of(ranked)
        return [
            Hit(self.values[row], score, cosine, bm25, reranked.get(row))
            for row, score, cosine, bm25 in zip(
                ranked.tolist(),
                scores.tolist(),
                cosines.tolist(),
                lexical[ranked].tolist(),
                strict=True,
            )
        ]

    def _rank(
        self,
        mode: SearchMode,
        similarity: _Similarity,
        lexical: NDArray[np.float32],
        where: ValueQuery,
        rows: Rows,
        depth: int,
        config: SearchConfig,
    ) -> tuple[Rows, Scores]:
        """[L] rows best first, and what orders them; at least `depth` where so many match."""
        if mode is SearchMode.LEXICAL:
            return best_first(rows, lexical[rows], depth)
        candidates = rows
        if similarity.vector is not None:
            candidates = self._store.nearest(self._snapshot, similarity.vector, where, depth)
        dense, cosines = best_first(candidates, similarity.of(candidates), depth)
        if mode is SearchMode.DENSE:
            return dense, cosines
        if similarity.vector is None:
            # Rows that share nothing with the query have no rank; their order would be chance.
            dense = dense[cosines > 0]
        shared, _ = LexicalIndex.rank(lexical, rows, depth)
        ranked, scores = reciprocal_rank_fusion(
            (dense, shared), (config.dense_weight, config.lexical_weight), rrf_k=config.rrf_k
        )
        return filled_up(ranked, scores, rows, depth)

    def _similarity(self, query: str) -> _Similarity:
        if self._ngrams is not None:
            scores = self._ngrams.scores(read_question(query))
            return _Similarity(None, lambda rows: scores[rows])
        vector = self.query_vector(query)
        return _Similarity(vector, functools.partial(exact_scores, self.vectors, vector))

    def _compared(self, rows: Rows) -> Vectors:
        texts = [searchable_text(self.values[row]) for row in rows]
        return self._embedder.between_documents(texts, self.vectors[rows])

    def _lexical_scores(self, query: str, related_weight: float) -> NDArray[np.float32]:
        """[N] BM25 of the query's subject, and a share of that of the rules' words for it."""
        if self._lexical is None:
            return np.zeros(len(self.values), dtype=np.float32)
        question = read_question(query)
        scores = self._lexical.scores(tokenise(question.subject))
        if question.related and related_weight:
            scores += related_weight * self._lexical.scores(tokenise(question.related))
        return scores

    def _rerank(self, reranker: Reranker, query: str, pool: Rows) -> tuple[Rows, Scores]:
        """The pool in the cross-encoder's order; equal scores keep the order that they had."""
        texts = [searchable_text(self.values[row]) for row in pool]
        scores = np.asarray(reranker.score(query, texts), dtype=np.float64)
        order = np.argsort(-scores, kind="stable")
        return pool[order], scores[order]


def _checked_mode(mode: SearchMode | str) -> SearchMode:
    if mode not in tuple(SearchMode):
        raise InvalidInputError(
            f"search mode {mode!r} is unknown; accepted: {', '.join(SearchMode)}", field="mode"
        )
    return SearchMode(mode)


def _check_diversity(diversity: float) -> None:
    if not 0 <= diversity <= 1:
        raise InvalidInputError(
            f"diversity={diversity} is refused; accepted: 0 to 1", field="diversity"
        )


def lexical_index(values: Sequence[ValueSpec]) -> LexicalIndex | None:
    """BM25 over the values' searchable texts; None where there are no values."""
    if not values:
        return None
    return LexicalIndex.of([_lexical_tokens(value) for value in values])


def _lexical_tokens(value: ValueSpec) -> list[str]:
    """The tokens of a value; those of the title count more, for it says what the rest is about."""
    return tokenise(searchable_text(value)) + (_TITLE_COUNT - 1) * tokenise(value.title)


def ngram_index(values: Sequence[ValueSpec], vectors: Vectors) -> NgramIndex | None:
    """Postings of the values' n-grams where their vectors have no width; else None."""
    if vectors.shape[1]:
        return None
    return NgramIndex.of([searchable_text(value) for value in values])


def feature_weights(values: Sequence[ValueSpec], embedder: Embedder) -> Weights | None:
    """How much each feature of a query tells about the values; None where the model learnt it."""
    return embedder.feature_weights([searchable_text(value) for value in values])
