"""Qdrant's engine in the process (Qdrant Edge): the shard of its server without the server."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import qdrant_edge as qdrant
from measured_run import arguments
from retrieval_data import Data, Filter
from retrieval_program import Found, run_program

BATCH = 1000


class Shard:
    """A shard in memory.

    Args:
        exact: compare every rule that matches. Otherwise the graph is walked, beyond the rules
            that do not match: without ACORN it finds an eighth of the nearest where a tenth does.
    """

    version = f"qdrant-edge {version('qdrant-edge-py')}"

    def __init__(self, data: Data, shard: qdrant.EdgeShard, *, exact: bool) -> None:
        self._data, self._shard = data, shard
        acorn = qdrant.AcornSearchParams(enable=not exact)
        self._parameters = qdrant.SearchParams(exact=exact, acorn=acorn)

    def search(self, query: int, where: Filter, k: int) -> Found:
        request = qdrant.SearchRequest(
            query=qdrant.Query.Nearest(self._data.query_vectors[query].tolist()),
            filter=condition(where),
            limit=k,
            params=self._parameters,
        )
        return [(int(point.id), float(point.score)) for point in self._shard.search(request)]


def condition(where: Filter) -> qdrant.Filter:
    must = [qdrant.FieldCondition(key="first_day", range=qdrant.RangeFloat(lte=float(where.day)))]
    if where.categories:
        names = qdrant.MatchAny(any=list(where.categories))
        must.append(qdrant.FieldCondition(key="category", match=names))
    return qdrant.Filter(must=must)


class ShardType:
    def __init__(self, *, exact: bool) -> None:
        self._exact = exact

    def build(self, data: Data, index: Path) -> None:
        size = data.vectors.shape[1]
        config = qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(size=size, distance=qdrant.Distance.Dot)
        )
        shard = qdrant.EdgeShard.create(str(index), config)
        # Before the points: what a graph knows of filters it learns while it is built.
        for key, kind in (
            ("first_day", qdrant.PayloadSchemaType.Integer),
            ("category", qdrant.PayloadSchemaType.Keyword),
        ):
            shard.update(qdrant.UpdateOperation.create_field_index(key, kind))
        for start in range(0, len(data.rules), BATCH):
            shard.update(qdrant.UpdateOperation.upsert_points(points(data, start)))
        shard.optimize()
        shard.flush()
        shard.close()

    def load(self, data: Data, index: Path) -> Shard:
        return Shard(data, qdrant.EdgeShard.load(str(index)), exact=self._exact)


def points(data: Data, start: int) -> list[qdrant.Point]:
    rows = range(start, min(start + BATCH, len(data.rules)))
    return [
        qdrant.Point(
            row,
            data.vectors[row].tolist(),
            {"first_day": int(data.first_days[row]), "category": data.rules[row].category},
        )
        for row in rows
    ]


if __name__ == "__main__":
    run_program(ShardType(exact=arguments()["exact"]))
