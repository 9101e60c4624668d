"""Vectors on a Qdrant server: one collection for each snapshot, whose points never change.

A point's number is its row, and its payload says what a filter asks about: the window in which
the value is in force as date ordinals, and its labels. The server searches; the caller scores what
it finds from its own copy, so that rankings are those of the exact store.

Shapes: N values, D dimensions, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from plumbline.core.errors import (
    ConfigError,
    FailedPreconditionError,
    NotFoundError,
    UnavailableError,
)
from plumbline.core.settings import Settings
from plumbline.retriever.search.config import SearchConfig
from plumbline.retriever.search.dense import Vector, Vectors, error_bound
from plumbline.retriever.search.filters import FIELDS, FilterColumns, Rows, ValueQuery

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

_PREFIX = "plumbline-"
_BATCH = 256
"""Points of one upload; with 1,024 dimensions some 5 MB of JSON, below the server's 32 MB."""
_TIMEOUT_S = 30
_NOT_FOUND, _CONFLICT = 404, 409
_FIRST, _END = "first", "end"


def configured_store(config: SearchConfig, settings: Settings) -> QdrantStore | None:
    """The store that a configuration asks for; None where vectors are searched in the process.

    Raises:
        ConfigError, FailedPreconditionError: as `QdrantStore.connect`.
    """
    if config.vector_store == "exact":
        return None
    return QdrantStore.connect(settings, exact=config.qdrant_exact)


class QdrantStore:
    """A vector store on a Qdrant server, or on anything that its client talks to.

    Args:
        exact: compare every point that the filter admits. Otherwise the server walks its graph,
            which is faster above some hundred thousand values and may miss some of the nearest.
    """

    name = "qdrant"

    def __init__(self, client: QdrantClient, *, exact: bool = True) -> None:
        self._client = client
        self._exact = exact
        self._sizes: dict[str, int] = {}

    @classmethod
    def connect(cls, settings: Settings, *, exact: bool = True) -> QdrantStore:
        """The store that PLUMBLINE_QDRANT_URL names; the server is not asked yet.

        Raises:
            ConfigError: no URL is set.
            FailedPreconditionError: the package qdrant-client is not installed.
        """
        if settings.qdrant_url is None:
            raise ConfigError(
                "vectors are to be searched on Qdrant and PLUMBLINE_QDRANT_URL is not set; "
                "accepted: the URL of a server, for example http://localhost:6333",
                field="qdrant_url",
            )
        try:
            from qdrant_client import QdrantClient
        except ModuleNotFoundError as error:
            raise FailedPreconditionError(
                f"PLUMBLINE_QDRANT_URL is set and the package {error.name!r} is not installed; "
                "`pip install plumbline[qdrant]` installs it"
            ) from error
        key = settings.qdrant_api_key
        client = QdrantClient(
            url=settings.qdrant_url,
            api_key=key.get_secret_value() if key else None,
            timeout=_TIMEOUT_S,
            # A request of its own that would warn on a server which is not up yet.
            check_compatibility=False,
        )
        return cls(client, exact=exact)

    def upsert(self, snapshot: str, vectors: Vectors, columns: FilterColumns) -> None:
        """Make a snapshot searchable; again for a known one changes nothing.

        Replicas may do so at once: they write the same points, and none searches before all are
        there.

        Args:
            vectors: [N, D] unit rows.
            columns: metadata of the same rows.
        Raises:
            UnavailableError: the server does not answer, or answers with a fault.
        """
        if snapshot in self._sizes:
            return
        collection = _PREFIX + snapshot
        with _typed_faults(snapshot):
            if len(vectors) and self._points_in(collection) < len(vectors):
                self._create(collection, vectors.shape[1])
                self._fill(collection, vectors, columns)
        self._sizes[snapshot] = len(vectors)

    def _points_in(self, collection: str) -> int:
        if not self._client.collection_exists(collection):
            return 0
        return int(self._client.count(collection, exact=True).count)

    def _create(self, collection: str, dimensions: int) -> None:
        from qdrant_client import models
        from qdrant_client.http.exceptions import UnexpectedResponse

        if not self._client.collection_exists(collection):
            # Rows are unit vectors or zero, so the dot product is the cosine.
            shape = models.VectorParams(size=dimensions, distance=models.Distance.DOT)
            try:
                self._client.create_collection(collection, vectors_config=shape)
            except UnexpectedResponse as error:
                # Another replica was faster.
                if error.status_code != _CONFLICT:
                    raise
        # Before the points: a graph learns about filters while it is built.
        for field in (_FIRST, _END, *FIELDS):
            kinds = models.PayloadSchemaType
            kind = kinds.INTEGER if field in (_FIRST, _END) else kinds.KEYWORD
            self._client.create_payload_index(collection, field, field_schema=kind)

    def _fill(self, collection: str, vectors: Vectors, columns: FilterColumns) -> None:
        for start in range(0, len(vectors), _BATCH):
            rows = range(start, min(start + _BATCH, len(vectors)))
            self._client.upsert(collection, _points(rows, vectors, columns), wait=True)

    def nearest(self, snapshot: str, query: Vector, where: ValueQuery, limit: int) -> Rows:
        """[C] rows, ascending: the `limit` nearest that the filter admits, and their equals.

        Raises:
            NotFoundError: the snapshot was not upserted.
            UnavailableError: the server does not answer, or answers with a fault.
        """
        if snapshot not in self._sizes:
            raise NotFoundError(f"snapshot {snapshot[:12]} was not given to the vector store")
        if not self._sizes[snapshot]:
            return np.empty(0, dtype=np.int64)
        asked = limit + 1
        while True:
            found = self._search(snapshot, query, where, asked)
            if len(found) <= limit:
                return _rows(found)
            # The server compares in single precision: those in reach of the last one that is
            # wanted may come before it, so more are asked for until one is out of reach.
            lowest = found[limit - 1].score - 2 * error_bound(len(query))
            if found[-1].score < lowest or len(found) < asked:
                return _rows([point for point in found if point.score >= lowest])
            asked *= 2

    def _search(
        self, snapshot: str, query: Vector, where: ValueQuery, limit: int
    ) -> list[models.ScoredPoint]:
        from qdrant_client import models

        with _typed_faults(snapshot):
            found = self._client.query_points(
                _PREFIX + snapshot,
                query=query.tolist(),
                query_filter=condition(where),
                search_params=models.SearchParams(exact=self._exact),
                limit=limit,
                with_payload=False,
            )
        return list(found.points)

    def drop(self, snapshot: str) -> None:
        """Forget a snapshot, for every replica; one that is not there is no error."""
        self._sizes.pop(snapshot, None)
        with _typed_faults(snapshot):
            self._client.delete_collection(_PREFIX + snapshot)


def condition(where: ValueQuery) -> models.Filter:
    """The filter that admits the points of the rows that `FilterColumns.rows` admits."""
    from qdrant_client import models

    day = where.day.toordinal()
    must: list[Any] = [
        models.FieldCondition(key=_FIRST, range=models.Range(lte=day)),
        models.FieldCondition(key=_END, range=models.Range(gt=day)),
    ]
    for field in FIELDS:
        accepted = where.accepted(field)
        if accepted is not None:
            names = models.MatchAny(any=list(dict.fromkeys(accepted)))
            must.append(models.FieldCondition(key=field, match=names))
    return models.Filter(must=must)


def _points(rows: range, vectors: Vectors, columns: FilterColumns) -> list[models.PointStruct]:
    from qdrant_client import models

    return [
        models.PointStruct(id=row, vector=vectors[row].tolist(), payload=columns.describe(row))
        for row in rows
    ]


def _rows(points: list[models.ScoredPoint]) -> Rows:
    return np.sort(np.array([int(point.id) for point in points], dtype=np.int64))


@contextmanager
def _typed_faults(snapshot: str) -> Iterator[None]:
    """What the client raises as this platform's errors.

    Raises:
        NotFoundError: the server does not have the snapshot's collection any more.
        UnavailableError: it does not answer, or answers with a fault.
    """
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

    try:
        yield
    except UnexpectedResponse as error:
        if error.status_code == _NOT_FOUND:
            raise NotFoundError(
                f"Qdrant has no collection of snapshot {snapshot[:12]} any more"
            ) from error
        raise UnavailableError(
            f"Qdrant answered {error.status_code}: {error.reason_phrase}"
        ) from error
    except (ApiException, QdrantException) as error:
        raise UnavailableError(f"Qdrant does not answer: {error}") from error
