"""LanceDB tables: exact search, and its index of graphs over quantised vectors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import lancedb
import pyarrow as pa
from lancedb.index import Bitmap, BTree, HnswSq
from measured_run import arguments
from retrieval_data import Data, Filter
from retrieval_program import Found, run_program

TABLE = "rules"
REFINE_FACTOR = 4
"""So many times k are compared again by their whole vectors."""


class Table:
    """A table that was opened; filters go before the search."""

    version = f"lancedb {lancedb.__version__}"

    def __init__(self, data: Data, table: lancedb.table.Table, *, exact: bool) -> None:
        self._data, self._table, self._exact = data, table, exact

    def search(self, query: int, where: Filter, k: int) -> Found:
        search = self._table.search(self._data.query_vectors[query]).distance_type("dot")
        search = search.where(condition(where), prefilter=True).limit(k)
        search = search.select(["row", "_distance"])
        search = (
            search.bypass_vector_index() if self._exact else search.refine_factor(REFINE_FACTOR)
        )
        found = search.to_arrow()
        rows, distances = found["row"].to_pylist(), found["_distance"].to_pylist()
        return [(row, 1.0 - distance) for row, distance in zip(rows, distances, strict=True)]


def condition(where: Filter) -> str:
    """A filter in SQL."""
    in_force = f"first_day <= {where.day}"
    if not where.categories:
        return in_force
    names = ", ".join(f"'{name}'" for name in where.categories)
    return f"{in_force} AND category IN ({names})"


class TableType:
    """
    Args:
        exact: pass the index of vectors by.
    """

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact

    def build(self, data: Data, index: Path) -> None:
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(data.vectors.reshape(-1)), data.vectors.shape[1]
        )
        columns = {
            "row": pa.array(range(len(data.rules)), pa.int32()),
            "vector": vectors,
            "first_day": pa.array(data.first_days, pa.int32()),
            "category": pa.array(data.categories),
        }
        table = lancedb.connect(str(index)).create_table(TABLE, pa.table(columns))
        table.create_index("first_day", config=BTree())
        table.create_index("category", config=Bitmap())
        table.create_index("vector", config=HnswSq(distance_type="dot"))

    def load(self, data: Data, index: Path) -> Table:
        return Table(data, lancedb.connect(str(index)).open_table(TABLE), exact=self._exact)


if __name__ == "__main__":
    run_program(TableType(exact=arguments()["exact"]))
