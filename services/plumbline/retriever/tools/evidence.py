"""Sentences of documents that bear on a query, ranked by BM25 with Han bigrams.

Two stages: whole documents first, then the sentences of the best of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from plumbline.retriever.search.lexical import LexicalIndex
from plumbline.retriever.search.tokens import tokenise
from plumbline.retriever.tools.records import Document, Evidence
from plumbline.retriever.tools.sentences import sentences

_MAX_SENTENCES = 5000
_MAX_CHARACTERS = 600
"""Of a sentence; what has no end for longer is a table or a list."""


class EvidenceSource(Protocol):
    """Where documents come from: the call itself, a corpus, a knowledge base, a web search."""

    def find(self, query: str, k: int) -> Sequence[Document]:
        """Up to k documents that match a query best."""
        ...


class DocumentIndex:
    """Documents that are searched as a whole; read-only, safe to share."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = tuple(documents)
        texts = [tokenise(f"{document.title} {document.text}") for document in self.documents]
        self._index = LexicalIndex.of(texts) if texts else None

    def find(self, query: str, k: int) -> Sequence[Document]:
        if self._index is None:
            return ()
        rows, _ = self._index.rank(
            self._index.scores(tokenise(query)), np.arange(len(self.documents)), k
        )
        return [self.documents[row] for row in rows]


def passages(
    queries: Sequence[str], documents: Sequence[Document], *, limit: int
) -> list[tuple[Evidence, Document]]:
    """Sentences that match any of the queries best, with their documents; best first."""
    every = (
        (document, span.text[:_MAX_CHARACTERS])
        for document in documents
        for span in sentences(document.text)
    )
    pieces = list(itertools.islice(every, _MAX_SENTENCES))
    if not pieces or not queries:
        return []
    index = LexicalIndex.of([tokenise(f"{document.title} {text}") for document, text in pieces])
    scores = np.max([index.scores(tokenise(query)) for query in queries], axis=0)
    rows, ranked = index.rank(scores, np.arange(len(pieces)), limit)
    return [
        (Evidence(pieces[row][0].id, pieces[row][1], float(score)), pieces[row][0])
        for row, score in zip(rows, ranked, strict=True)
    ]
