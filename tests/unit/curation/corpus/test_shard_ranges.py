"""How a corpus is cut: equal ranges of rows, whatever the row groups of the file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plumbline.curation.config import CurationConfig
from plumbline.curation.corpus.careful import Processor
from plumbline.curation.corpus.shard import RowRange, curate_shard, plan_shards
from plumbline.curation.engine import CurationEngine

OPEN = CurationConfig.model_validate(
    {name: {"enabled": False} for name in ("length", "gibberish", "language", "quality", "lexicon")}
)


def write(path: Path, count: int, row_group_size: int) -> Path:
    texts = [f"Document number {i} stands here." for i in range(count)]
    table = pa.table({"id": [f"d{i}" for i in range(count)], "text": texts})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


@pytest.mark.parametrize(
    ("count", "limit", "sizes"),
    [
        (0, 5, [0]),
        (5, 5, [5]),
        (6, 5, [3, 3]),
        (50, 16, [12, 13, 12, 13]),
        (50, 17, [12, 13, 12, 13]),
        (3, 1, [1, 1, 1]),
        (50, 12, [6, 6, 6, 7, 6, 6, 6, 7]),
    ],
)
def test_ranges_are_equal_and_cover_every_row(
    tmp_path: Path, count: int, limit: int, sizes: list[int]
) -> None:
    shards = plan_shards(write(tmp_path / "c.parquet", count, 7), limit)
    assert [rows.last - rows.first for rows in shards] == sizes
    assert [rows.first for rows in shards] == [sum(sizes[:i]) for i in range(len(sizes))]


@pytest.mark.parametrize("row_group_size", [3, 10, 1000])
@pytest.mark.parametrize("rows", [RowRange(0, 4), RowRange(4, 23), RowRange(9, 10)])
def test_a_range_reads_its_own_rows(tmp_path: Path, row_group_size: int, rows: RowRange) -> None:
    corpus = write(tmp_path / "c.parquet", 23, row_group_size)
    output = tmp_path / "shard"
    output.mkdir()
    engine: Processor = CurationEngine(OPEN)
    curate_shard(corpus, rows, engine, output, OPEN, progress=lambda _done, _total: None)

    expected = list(range(rows.first, rows.last))
    assert pq.read_table(output / "kept.parquet")["id"].to_pylist() == [f"d{i}" for i in expected]
    assert pq.read_table(output / "facts.parquet")["position"].to_pylist() == expected
