"""Opens data files: which container, which compression, and rows with their place in the file.

A container yields `Row`s: decoded JSON-like values, or the problem that kept one from being
decoded. What a row means is the business of `plumbline.data.formats`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from pydantic import BaseModel, ConfigDict, Field

from plumbline.core.errors import InvalidInputError, NotFoundError, ResourceExhaustedError

CONTAINERS = ("json", "jsonl", "csv", "parquet", "txt")
_ALIASES = {"ndjson": "jsonl"}
COMPRESSIONS = ("gz", "zst")
_RATIO_FREE_BYTES = 16 << 20
"""Small files may compress as well as they like; a bomb has to be big."""
_ZSTD_INPUT_STEP = 1024
"""One zstd block header of 4 bytes may stand for 128 KiB, so a step decodes to at most 32 MiB."""
_RAW_BYTES_KEPT = 1 << 20
"""A broken row keeps at most this much of itself for the quarantine."""

TextUnit = Literal["line", "paragraph", "file"]


class ReadLimits(BaseModel):
    """Bounds that keep one bad file from taking the machine down."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_record_bytes: int = Field(default=32 << 20, gt=0)
    max_bytes: int = Field(default=64 << 30, gt=0)
    """Decompressed size of a file."""
    max_compression_ratio: float = Field(default=200, gt=1)
    """Decompressed bytes per compressed byte, checked past the first 16 MiB."""


@dataclass(frozen=True, slots=True)
class Row:
    """One decoded value and where it stood."""

    line: int
    """First line of the value, from 1; for Parquet the row, from 1."""
    value: Any = None
    problem: str = ""
    """Why there is no value; empty when there is one."""
    reason: str = ""
    """Machine-readable cause of the problem."""
    raw: str = ""
    """The undecoded text of a broken row, cut at 1 MiB."""


def container_of(path: Path) -> tuple[str, str]:
    """The container and compression that a file's name declares.

    Raises:
        InvalidInputError: a name that declares neither.
    """
    suffixes = [suffix.lstrip(".").lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    container = suffixes[-1] if suffixes else ""
    container = _ALIASES.get(container, container)
    if container not in CONTAINERS or (container == "parquet" and compression):
        raise InvalidInputError(
            f"{path.name}: the name does not say what the file holds; accepted endings: "
            f".{', .'.join(CONTAINERS)}, each but .parquet also with .{' or .'.join(COMPRESSIONS)}",
            reason="UNKNOWN_CONTAINER",
        )
    return container, compression


def iter_rows(path: Path, *, limits: ReadLimits, text_unit: TextUnit) -> Iterator[Row]:
    """Stream the rows of one file.

    Raises:
        NotFoundError: no such file.
        InvalidInputError: unknown, empty or undecodable file.
        ResourceExhaustedError: the file decompresses beyond the limits.
    """
    if not path.is_file():
        raise NotFoundError(f"{path} is not a file; a data file is needed")
    container, compression = container_of(path)
    if path.stat().st_size == 0:
        raise _empty(path)
    if container == "parquet":
        yield from _parquet_rows(path, limits)
        return
    with open_bounded(path, compression, limits) as stream:
        if container == "jsonl":
            yield from _jsonl_rows(path, stream, limits)
        elif container == "json":
            yield from _json_rows(path, stream)
        elif container == "csv":
            yield from _csv_rows(path, stream, limits)
        else:
            yield from _text_rows(path, stream, limits, text_unit)


def _empty(path: Path) -> InvalidInputError:
    return InvalidInputError(f"{path} is empty; at least one record is needed", reason="EMPTY_FILE")


class _ZstdReader(io.RawIOBase):
    """Decompresses zstd frames one after another and notices a cut-off end."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        self._frame = self._decompressor.decompressobj()
        self._frame_started = False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            chunk = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = self._decompressor.decompressobj()
                self._frame_started = False
            chunk = chunk or self._file.read(_ZSTD_INPUT_STEP)
            if not chunk:
                if self._frame_started:
                    raise EOFError("the last zstd frame is cut off")
                return 0
            self._frame_started = True
            self._ready = self._frame.decompress(chunk)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _BoundedReader(io.RawIOBase):
    """Passes bytes through until they are more than the file's size accounts for."""

    def __init__(self, path: Path, inner: IO[bytes], limits: ReadLimits, compressed: bool) -> None:
        self._path = path
        self._inner = inner
        self._produced = 0
        self._bound = limits.max_bytes
        if compressed:
            by_ratio = max(_RATIO_FREE_BYTES, path.stat().st_size * limits.max_compression_ratio)
            self._bound = min(self._bound, int(by_ratio))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read(len(buffer))
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            raise InvalidInputError(
                f"{self._path}: the compressed data is damaged or cut off: {error}",
                reason="BROKEN_COMPRESSION",
            ) from error
        self._produced += len(data)
        if self._produced > self._bound:
            raise ResourceExhaustedError(
                f"{self._path}: more than {self._bound} bytes come out of "
                f"{self._path.stat().st_size} bytes; raise the read limits if that is right",
                reason="DECOMPRESSION_BOMB",
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


def open_bounded(path: Path, compression: str, limits: ReadLimits) -> io.BufferedReader:
    """The file's decompressed bytes, guarded against decompression bombs."""
    inner: Any  # gzip's file is no IO[bytes] to the type checker, though it reads like one
    if compression == "gz":
        inner = gzip.GzipFile(path, "rb")
    elif compression == "zst":
        inner = io.BufferedReader(_ZstdReader(path.open("rb")))
    else:
        inner = path.open("rb")
    return io.BufferedReader(_BoundedReader(path, inner, limits, bool(compression)), 1 << 16)


def _lines(stream: IO[bytes], limits: ReadLimits) -> Iterator[tuple[int, bytes, bool]]:
    """(number, line without its end, was it too long) for each line."""
    number = 0
    while line := stream.readline(limits.max_record_bytes + 1):
        number += 1
        too_long = len(line) > limits.max_record_bytes and not line.endswith(b"\n")
        rest = line
        while too_long and rest and not rest.endswith(b"\n"):
            rest = stream.readline(1 << 20)
        yield number, line.rstrip(b"\r\n"), too_long


def _decode(path: Path, line: int, data: bytes) -> str | Row:
    if line == 1:
        _refuse_other_encodings(path, data)
        data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        return Row(
            line,
            problem=f"not UTF-8: byte 0x{data[error.start]:02x} at position {error.start}",
            reason="WRONG_ENCODING",
            raw=data[:_RAW_BYTES_KEPT].decode("utf-8", "backslashreplace"),
        )


def _refuse_other_encodings(path: Path, data: bytes) -> None:
    """A byte order mark or magic number says that no line of the file can be read."""
    marks = {
        b"\xff\xfe": ("UTF-16", "WRONG_ENCODING"),
        b"\xfe\xff": ("UTF-16", "WRONG_ENCODING"),
        b"\x1f\x8b": ("gzip data without the ending .gz", "UNKNOWN_CONTAINER"),
        b"\x28\xb5\x2f\xfd": ("zstd data without the ending .zst", "UNKNOWN_CONTAINER"),
        b"PAR1": ("Parquet data without the ending .parquet", "UNKNOWN_CONTAINER"),
    }
    for mark, (name, reason) in marks.items():
        if data.startswith(mark):
            raise InvalidInputError(
                f"{path}:1: the file is {name}; UTF-8 text is accepted", reason=reason
            )


class _DuplicateKeyError(ValueError):
    pass


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _DuplicateKeyError(f"key {twice!r} occurs twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


def _jsonl_rows(path: Path, stream: IO[bytes], limits: ReadLimits) -> Iterator[Row]:
    for number, data, too_long in _lines(stream, limits):
        if too_long:
            yield Row(
                number,
                problem=f"longer than {limits.max_record_bytes} bytes",
                reason="RECORD_TOO_LONG",
                raw=data[:_RAW_BYTES_KEPT].decode("utf-8", "backslashreplace"),
            )
            continue
        text = _decode(path, number, data)
        if isinstance(text, Row):
            yield text
        elif text.strip():
            yield _json_row(number, text)


def _json_row(line: int, text: str) -> Row:
    try:
        return Row(line, value=_JSON.decode(text))
    except json.JSONDecodeError as error:
        problem = f"broken JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        problem = f"broken JSON: {error}"
    return Row(line, problem=problem, reason="BROKEN_LINE", raw=text[:_RAW_BYTES_KEPT])


def _json_rows(path: Path, stream: IO[bytes]) -> Iterator[Row]:
    """The elements of one top-level array, each with the line it begins on.

    A syntax error ends the reading whatever `on_error` says, because what follows cannot be told
    apart from the broken element.
    """
    text = _decode_file(path, stream)
    position = _skip_blank(text, 0)
    if position == len(text):
        raise _empty(path)
    if text[position] != "[":
        raise InvalidInputError(
            f"{path}:1: the top level is not an array; accepted: an array of records, or one "
            "record per line in a file named .jsonl",
            reason="NOT_AN_ARRAY",
        )
    line, counted_to = 1, 0
    position = _skip_blank(text, position + 1)
    while position < len(text) and text[position] != "]":
        line += text.count("\n", counted_to, position)
        counted_to = position
        try:
            value, position = _JSON.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            at = error.lineno if isinstance(error, json.JSONDecodeError) else line
            problem = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise InvalidInputError(
                f"{path}:{at}: broken JSON: {problem}; the rest of the array cannot be read",
                reason="BROKEN_LINE",
            ) from error
        yield Row(line, value=value)
        position = _skip_separator(path, text, position)
    end = text.count("\n") + 1
    if position >= len(text):
        raise InvalidInputError(f"{path}:{end}: the array does not end", reason="BROKEN_LINE")
    if text[position + 1 :].strip():
        raise InvalidInputError(
            f"{path}:{end}: something follows the array; one array is accepted",
            reason="BROKEN_LINE",
        )


def _decode_file(path: Path, stream: IO[bytes]) -> str:
    data = stream.read()
    _refuse_other_encodings(path, data[:8])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInputError(
            f"{path}:{line}: not UTF-8: byte 0x{data[error.start]:02x}; UTF-8 text is accepted",
            reason="WRONG_ENCODING",
        ) from error


def _skip_blank(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _skip_separator(path: Path, text: str, position: int) -> int:
    position = _skip_blank(text, position)
    if position < len(text) and text[position] not in ",]":
        line = text.count("\n", 0, position) + 1
        raise InvalidInputError(
            f"{path}:{line}: broken JSON: a comma or ] is missing; "
            "the rest of the array cannot be read",
            reason="BROKEN_LINE",
        )
    if position < len(text) and text[position] == ",":
        position = _skip_blank(text, position + 1)
    return position


def _csv_rows(path: Path, stream: IO[bytes], limits: ReadLimits) -> Iterator[Row]:
    csv.field_size_limit(limits.max_record_bytes)  # the module's only knob, process-wide
    _refuse_other_encodings(path, stream.peek(8)[:8] if hasattr(stream, "peek") else b"")
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    reader = csv.DictReader(text, strict=True)
    line = 1
    try:
        for values in reader:
            line = reader.line_num
            if None in values or None in values.values():
                yield Row(
                    line,
                    problem=f"the row does not have {len(reader.fieldnames or ())} "
                    "cells as the header has",
                    reason="BROKEN_LINE",
                    raw=str(values),
                )
            else:
                yield Row(line, value=values)
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{path}:{line + 1}: not UTF-8 after this line", reason="WRONG_ENCODING"
        ) from error
    except csv.Error as error:
        raise InvalidInputError(
            f"{path}:{reader.line_num}: broken CSV: {error}", reason="BROKEN_LINE"
        ) from error


def _parquet_rows(path: Path, limits: ReadLimits) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
            if size > limits.max_bytes:
                raise ResourceExhaustedError(
                    f"{path}: {size} bytes when decompressed; accepted: {limits.max_bytes}",
                    reason="DECOMPRESSION_BOMB",
                )
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(number, value=_without_nulls(value))
    except pa.ArrowException as error:
        raise InvalidInputError(
            f"{path} is not a readable Parquet file: {error}", reason="BROKEN_LINE"
        ) from error


def _without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    """A null column is an absent key, as in JSON lines."""
    return {key: item for key, item in value.items() if item is not None}


def _text_rows(path: Path, stream: IO[bytes], limits: ReadLimits, unit: TextUnit) -> Iterator[Row]:
    if unit == "file":
        yield Row(1, value={"text": _decode_file(path, stream)})
        return
    paragraph: list[str] = []
    start = 1
    for number, data, too_long in _lines(stream, limits):
        text = _decode(path, number, data)
        if too_long:
            text = Row(
                number,
                problem=f"longer than {limits.max_record_bytes} bytes",
                reason="RECORD_TOO_LONG",
            )
        if isinstance(text, Row):
            yield text
            continue
        if unit == "line":
            if text.strip():
                yield Row(number, value={"text": text})
            continue
        if text.strip():
            start = start if paragraph else number
            paragraph.append(text)
        elif paragraph:
            yield Row(start, value={"text": "\n".join(paragraph)})
            paragraph = []
    if paragraph:
        yield Row(start, value={"text": "\n".join(paragraph)})
