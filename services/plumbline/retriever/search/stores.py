"""Where vectors are searched: in this process, or on a vector database behind the same interface.

Shapes: N values, D dimensions, C candidates.
"""

from __future__ import annotations

from typing import Protocol

from plumbline.core.errors import NotFoundError
from plumbline.retriever.search.dense import Vector, Vectors, nearest_rows
from plumbline.retriever.search.filters import FilterColumns, Rows, ValueQuery
from plumbline.retriever.search.joined import JoinedProducts


class VectorStore(Protocol):
    """Vectors of knowledge bases, searched under a filter.

    A snapshot is a knowledge base's artifact id: its vectors never change.
    """

    @property
    def name(self) -> str:
        """How configurations and reports call the store."""
        ...

    def upsert(self, snapshot: str, vectors: Vectors, columns: FilterColumns) -> None:
        """Make a snapshot searchable; again for a known one changes nothing.

        Args:
            vectors: [N, D] unit rows.
            columns: metadata of the same rows.
        """
        ...

    def nearest(self, snapshot: str, query: Vector, where: ValueQuery, limit: int) -> Rows:
        """[C] rows, ascending: at least the `limit` nearest that the filter admits.

        Fewer only where fewer match; never one that the filter excludes. The caller scores them
        exactly, so a store may return more where its own precision leaves the order open.

        Raises:
            NotFoundError: the snapshot was not upserted.
            UnavailableError: the store does not answer.
        """
        ...

    def drop(self, snapshot: str) -> None:
        """Forget a snapshot; one that is not there is no error."""
        ...


class ExactStore:
    """Searches memory-mapped vectors in this process, row by row: nothing is approximated."""

    name = "exact"

    def __init__(self) -> None:
        self._snapshots: dict[str, tuple[Vectors, FilterColumns, JoinedProducts]] = {}

    def upsert(self, snapshot: str, vectors: Vectors, columns: FilterColumns) -> None:
        self._snapshots[snapshot] = (vectors, columns, JoinedProducts(vectors))

    def nearest(self, snapshot: str, query: Vector, where: ValueQuery, limit: int) -> Rows:
        if snapshot not in self._snapshots:
            raise NotFoundError(f"snapshot {snapshot[:12]} was not given to the vector store")
        vectors, columns, products = self._snapshots[snapshot]
        rows = columns.rows(where)
        return nearest_rows(vectors, query, rows, limit, multiply=products.multiply)

    def drop(self, snapshot: str) -> None:
        self._snapshots.pop(snapshot, None)
