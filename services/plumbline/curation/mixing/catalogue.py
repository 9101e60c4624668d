"""What is known of every record before any is drawn: 32 bytes each, in the order of the inputs.

A record's draw number depends on the seed, its id and its text alone. Records are drawn and
shuffled by it, so neither depends on the order in which records or inputs come.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.stages import InputArtifact
from plumbline.curation.mixing.config import METADATA_PREFIX, OnError, SourceConfig
from plumbline.curation.normalize import normalize, tokens
from plumbline.data.readers import FILE_NAMES, DatasetReader
from plumbline.data.records import Conversation, Document, Record
from plumbline.data.tables import check_columns, iter_records, write_records

BATCH_ROWS = 4096
RECORD_TYPES: tuple[type[Record], ...] = (Document, Conversation)
_BOOKKEEPING = ("manifest.json", "run.json", "report.json")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """Records of one type of one input, as a Parquet file with all columns."""

    input: int
    record_type: type[Record]
    path: Path


def open_inputs(
    artifacts: Sequence[InputArtifact], scratch: Path, on_error: OnError
) -> list[SourceFile]:
    """The documents and conversations of all inputs; data files are converted once.

    Raises:
        InvalidInputError: an input without either, or a broken record under `fail`.
    """
    files: list[SourceFile] = []
    for number, artifact in enumerate(artifacts):
        own = [
            SourceFile(number, kind, artifact.path / FILE_NAMES[kind])
            for kind in RECORD_TYPES
            if (artifact.path / FILE_NAMES[kind]).is_file()
        ]
        found = [_complete(file, scratch) for file in own] or [
            _converted(number, path, scratch, on_error) for path in _data_files(artifact.path)
        ]
        if not found:
            raise InvalidInputError(
                f"input {number} holds neither documents nor conversations", field="inputs"
            )
        files += found
    return files


def _complete(file: SourceFile, scratch: Path) -> SourceFile:
    with pq.ParquetFile(file.path) as opened:
        check_columns(file.path, opened.schema_arrow, file.record_type)
        if opened.schema_arrow.names == file.record_type.schema.names:
            return file
    path = scratch / f"input{file.input}-{file.path.name}"
    write_records(path, iter_records(file.path, file.record_type), file.record_type)
    return SourceFile(file.input, file.record_type, path)


def _data_files(directory: Path) -> list[Path]:
    return [
        path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in _BOOKKEEPING
    ]


def _converted(number: int, path: Path, scratch: Path, on_error: OnError) -> SourceFile:
    reader: DatasetReader[Any] = DatasetReader(path, on_error=on_error)
    target = scratch / f"input{number}-{path.name}.parquet"
    records = iter(reader)
    first = next(records)
    if not isinstance(first, RECORD_TYPES):
        raise InvalidInputError(
            f"{path.name} holds {type(first).__name__} records; accepted: documents, conversations",
            field="inputs",
        )

    def all_records() -> Iterator[Any]:
        yield first
        yield from records

    write_records(target, all_records(), type(first))
    return SourceFile(number, type(first), target)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All records of a mix; row numbers count through all files."""

    names: list[str]
    """Of the sources."""
    sources: NDArray[np.int32]
    """[rows] index of each one's source; -1 for none."""
    draws: NDArray[np.uint64]
    """[rows] random number of each."""
    characters: NDArray[np.int64]
    """[rows] of all its text."""
    amounts: NDArray[np.int64]
    """[rows] in the unit asked for."""
    tasks: NDArray[np.int32]
    """[rows] number of its task; all 0 where no task was asked for."""
    scores: NDArray[np.float64]
    """[rows] what to sort by; all 0 where no score was asked for."""
    is_text: NDArray[np.bool_]
    """[rows] documents, rather than conversations."""


class Cataloguer:
    """Reads every record once.

    Args:
        seed: of the draw numbers.
        sources: what makes sources; without any, `group_by` does.
        group_by: properties whose combinations are sources.
        unit: records, tokens or characters.
        task_field: metadata entry of the task; empty for none.
        score_field: metadata entry of the score; empty for none.
    """

    def __init__(
        self,
        *,
        seed: int,
        sources: Sequence[SourceConfig] = (),
        group_by: Sequence[str] = ("input",),
        unit: str = "records",
        task_field: str = "",
        score_field: str = "",
    ) -> None:
        self._salt = seed.to_bytes(8, "little")
        self._sources = sources
        self._group_by = group_by
        self._unit = unit
        self._task_field = task_field
        self._score_field = score_field
        self._numbers = {source.name: number for number, source in enumerate(sources)}
        self._tasks: dict[str, int] = {}

    def read(self, files: Sequence[SourceFile]) -> Catalogue:
        """
        Raises:
            ConfigError: a source that no record fits, or a record without a usable score.
        """
        parts = [self._batch(file, batch) for file in files for batch in _batches(file)]
        columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
        sources, draws, characters, amounts, tasks, scores, is_text = columns
        names, sources = self._in_order(sources)
        self._check(names, sources, files)
        return Catalogue(names, sources, draws, characters, amounts, tasks, scores, is_text)

    def _in_order(self, sources: NDArray[np.int32]) -> tuple[list[str], NDArray[np.int32]]:
        """Sources that the data made come in the order of their names, not of the data."""
        names = list(self._numbers)
        if self._sources:
            return names, sources
        order = sorted(
            range(len(names)), key=lambda number: (_natural(names[number]), names[number])
        )
        place = np.empty(len(names), dtype=np.int32)
        place[order] = np.arange(len(names), dtype=np.int32)
        return [names[number] for number in order], place[sources]

    def _check(
        self, names: Sequence[str], sources: NDArray[np.int32], files: Sequence[SourceFile]
    ) -> None:
        counts = np.bincount(sources[sources >= 0], minlength=len(names))
        inputs = max(file.input for file in files) + 1
        for source in self._sources:
            if source.input is not None and source.input >= inputs:
                raise ConfigError(
                    f"source {source.name!r} names input {source.input}; there are {inputs}, "
                    "counted from 0",
                    field="sources",
                )
        for name, count in zip(names, counts.tolist(), strict=True):
            if not count:
                raise ConfigError(
                    f"source {name!r} fits 0 of {len(sources)} records; a record belongs to the "
                    "first source that it fits",
                    field="sources",
                )

    def _batch(self, file: SourceFile, table: pa.Table) -> tuple[NDArray[Any], ...]:
        ids, texts = table.column("id").to_pylist(), _texts(table, file.record_type)
        metadata = [dict(entries or ()) for entries in table.column("metadata").to_pylist()]
        own_sources = table.column("source").to_pylist()
        languages = (
            table.column("language").to_pylist()
            if file.record_type is Document
            else [entries.get("language", "und") for entries in metadata]
        )
        rows = [
            {"input": f"input{file.input}", "source": source or "", "language": language or "und"}
            for source, language in zip(own_sources, languages, strict=True)
        ]
        count = table.num_rows
        return (
            self._source_numbers(file, rows, metadata),
            np.fromiter(map(self._draw, ids, texts), dtype=np.uint64, count=count),
            np.fromiter(map(len, texts), dtype=np.int64, count=count),
            self._amounts(texts),
            np.fromiter(map(self._task, metadata), dtype=np.int32, count=count),
            np.fromiter(map(self._score, ids, metadata), dtype=np.float64, count=count),
            np.full(count, file.record_type is Document),
        )

    def _source_numbers(
        self,
        file: SourceFile,
        rows: Sequence[Mapping[str, str]],
        metadata: Sequence[Mapping[str, str]],
    ) -> NDArray[np.int32]:
        find = self._configured if self._sources else self._grouped
        numbers = (find(file.input, row, own) for row, own in zip(rows, metadata, strict=True))
        return np.fromiter(numbers, dtype=np.int32, count=len(rows))

    def _configured(self, number: int, row: Mapping[str, str], own: Mapping[str, str]) -> int:
        for index, source in enumerate(self._sources):
            if (
                source.input in (None, number)
                and source.source in (None, row["source"])
                and source.language in (None, row["language"])
                and all(own.get(key) == value for key, value in source.metadata.items())
            ):
                return index
        return -1

    def _grouped(self, number: int, row: Mapping[str, str], own: Mapping[str, str]) -> int:
        values = (
            own.get(group.removeprefix(METADATA_PREFIX), "")
            if group.startswith(METADATA_PREFIX)
            else row[group]
            for group in self._group_by
        )
        return self._numbers.setdefault("/".join(values), len(self._numbers))

    def _draw(self, record_id: str, text: str) -> int:
        content = f"{record_id}\0{text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(content, digest_size=8, salt=self._salt).digest()
        return int.from_bytes(digest, "little")

    def _amounts(self, texts: Sequence[str]) -> NDArray[np.int64]:
        if self._unit == "records":
            return np.ones(len(texts), dtype=np.int64)
        sizes = map(len, texts) if self._unit == "characters" else map(_count_tokens, texts)
        return np.fromiter(sizes, dtype=np.int64, count=len(texts))

    def _task(self, own: Mapping[str, str]) -> int:
        if not self._task_field:
            return 0
        return self._tasks.setdefault(own.get(self._task_field, ""), len(self._tasks))

    def _score(self, record_id: str, own: Mapping[str, str]) -> float:
        if not self._score_field:
            return 0.0
        value = own.get(self._score_field)
        try:
            score = float("nan") if value is None else float(value)
        except ValueError:
            score = float("nan")
        if np.isnan(score):
            raise ConfigError(
                f"record {record_id!r} has {self._score_field}={value!r} in its metadata; "
                "a number is needed to sort by",
                field="score_field",
            )
        return score


def _batches(file: SourceFile) -> Iterator[pa.Table]:
    with pq.ParquetFile(file.path) as opened:
        # A file without rows still gives a table, so that its columns have a type.
        if not opened.metadata.num_rows:
            yield opened.schema_arrow.empty_table()
        for batch in opened.iter_batches(batch_size=BATCH_ROWS):
            yield pa.Table.from_batches([batch])


def _texts(table: pa.Table, record_type: type[Record]) -> list[str]:
    if record_type is Document:
        return [text or "" for text in table.column("text").to_pylist()]
    return [
        "\n".join(message["content"] for message in messages or ())
        for messages in table.column("messages").to_pylist()
    ]


def _count_tokens(text: str) -> int:
    return len(tokens(normalize(text).text))


def _natural(name: str) -> list[int | str]:
    """input10 comes after input9: texts and numbers in turn."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
