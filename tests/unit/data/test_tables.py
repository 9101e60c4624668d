"""Parquet files of records: same records, same bytes, and refusals that say why."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.data.records import (
    Conversation,
    Document,
    Grade,
    Preference,
    Rollout,
    assistant,
    user,
)
from plumbline.data.tables import iter_records, read_records, write_records

RECORDS = [
    Document("a", "你好", "web", "zh", {"b": "2", "a": "1"}),
    Preference("p", (user("hi"),), "yes", "no", Grade.BETTER, "safety", 0.8, True, None),
    Conversation("c", (user("问"), assistant("答"))),
    Rollout(
        "r", "p", (user("hi"),), "yes", (1, 2), (3,), (-0.5,), "stop", 1.0, 7, "policy", {"h": 0.25}
    ),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_records_come_back_equal(tmp_path: Path, record: Document) -> None:
    path = tmp_path / "records.parquet"

    assert write_records(path, [record]) == 1
    assert read_records(path, type(record)) == [record]


def test_rollouts_from_before_the_policys_own_logprobs_are_read(tmp_path: Path) -> None:
    rollout = RECORDS[-1]
    new, old = tmp_path / "new.parquet", tmp_path / "old.parquet"
    write_records(new, [dataclasses.replace(rollout, untempered_logprobs=(-0.75,))])
    pq.write_table(pq.read_table(new).drop_columns("untempered_logprobs"), old)

    assert read_records(new, Rollout)[0].untempered_logprobs == (-0.75,)
    assert read_records(old, Rollout) == [rollout]


def test_bytes_do_not_depend_on_the_order_of_metadata(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", [Document("a", "t", metadata={"x": "1", "y": "2"})])
    write_records(tmp_path / "b.parquet", [Document("a", "t", metadata={"y": "2", "x": "1"})])

    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    assert len(digests) == 1


def test_no_records_need_a_type(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    with pytest.raises(InvalidInputError, match="record_type"):
        write_records(path, [])

    assert write_records(path, [], Document) == 0
    assert read_records(path, Document) == []


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    mixed = [Document("a", "t"), Conversation("c", (user("x"),))]

    with pytest.raises(InvalidInputError, match="record 1 is a Conversation"):
        write_records(tmp_path / "mixed.parquet", mixed)  # type: ignore[type-var]
    with pytest.raises(InvalidInputError, match="do not fit"):
        write_records(tmp_path / "half.parquet", [Document("a", "\ud800")])
    assert list(tmp_path.iterdir()) == []


def test_foreign_columns_and_types_are_refused(tmp_path: Path) -> None:
    unknown, mistyped, broken = (tmp_path / f"{name}.parquet" for name in ("u", "m", "b"))
    pq.write_table(pa.table({"id": ["a"], "body": ["t"]}), unknown)
    pq.write_table(pa.table({"id": [1], "text": ["t"]}), mistyped)
    broken.write_bytes(b"PAR1 but not really")

    with pytest.raises(InvalidInputError, match="column 'body' is not part of Document"):
        read_records(unknown, Document)
    with pytest.raises(InvalidInputError, match="column 'id' is int64; accepted: string"):
        read_records(mistyped, Document)
    with pytest.raises(InvalidInputError, match="not a readable Parquet file"):
        read_records(broken, Document)
    with pytest.raises(NotFoundError):
        read_records(tmp_path / "absent.parquet", Document)


def test_many_records_stream_in_order(tmp_path: Path) -> None:
    path = tmp_path / "many.parquet"
    write_records(path, (Document(str(i), f"text {i}") for i in range(10_000)))

    assert [record.id for record in iter_records(path, Document)] == [str(i) for i in range(10_000)]
