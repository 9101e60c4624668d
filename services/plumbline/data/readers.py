"""Reads data files of foreign formats into records, and accounts for every record it refuses.

The format of each record is detected from its keys (`plumbline.data.formats`); containers and
compression come from the file's name (`plumbline.data.containers`). What happens to a broken or
ambiguous record is the caller's choice: fail at the first, skip, or quarantine it to a file.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, Literal, Self, TypeVar

from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.data import tables
from plumbline.data.containers import ReadLimits, Row, TextUnit, container_of, iter_rows
from plumbline.data.formats import BrokenRecordError, detect_format
from plumbline.data.records import (
    Conversation,
    Document,
    LabelledResponse,
    Preference,
    Prompt,
    Record,
    ScoredResponses,
    ValueSpec,
    content_id,
)

R = TypeVar("R", bound=Record)
OnError = Literal["fail", "skip", "quarantine"]

KINDS: dict[str, type[Record]] = {
    "corpus": Document,
    "conversations": Conversation,
    "preferences": Preference,
    "labelled": LabelledResponse,
    "scored": ScoredResponses,
    "prompts": Prompt,
    "values": ValueSpec,
}
"""Names of record types, for configuration and the command line."""

FILE_NAMES: dict[type[Record], str] = {
    Document: "documents.parquet",
    Conversation: "conversations.parquet",
    Preference: "preferences.parquet",
}
"""The dataset's file inside an artifact of its kind."""

_PROBLEMS_KEPT = 100


@dataclass(frozen=True, slots=True)
class ReadProblem:
    """One record that was not read."""

    file: str
    line: int
    reason: str
    """Machine-readable, for example BROKEN_LINE or AMBIGUOUS_FORMAT."""
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(slots=True)
class ReadReport:
    """What became of the records of a file."""

    file: str
    records: int = 0
    """Records handed on; a scored list counts once for each of its pairs, a seed task for each of
    its instances."""
    formats: Counter[str] = field(default_factory=Counter)
    """Rows by detected format."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refused rows by reason."""
    problems: list[ReadProblem] = field(default_factory=list)
    """The first 100."""
    quarantine: str = ""
    """File that holds the refused rows, when there are any."""

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "records": self.records,
            "formats": dict(sorted(self.formats.items())),
            "refused": dict(sorted(self.refused.items())),
            "problems": [str(problem) for problem in self.problems],
            "quarantine": self.quarantine,
        }


@dataclass(frozen=True, slots=True)
class Dataset(Generic[R]):
    """Records of one file and the account of how they were read."""

    records: list[R]
    report: ReadReport

    def __iter__(self) -> Iterator[R]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)


def record_type(kind: type[R] | str) -> type[R]:
    """The record type that a kind names; types pass through.

    Raises:
        ConfigError: an unknown name.
    """
    if not isinstance(kind, str):
        return kind
    if kind not in KINDS:
        raise ConfigError(f"kind {kind!r} is unknown; accepted: {', '.join(KINDS)}", field="kind")
    return KINDS[kind]  # type: ignore[return-value]


class DatasetReader(Generic[R]):
    """Streams one file's records; `report` is complete once the stream has ended.

    Args:
        kind: the record type wanted, as a type or a name of `KINDS`. Without it every record
            must detect as the type of the first.
        on_error: `fail` raises at the first refused record; `skip` counts it; `quarantine`
            also writes it to FILE.quarantine.jsonl in `quarantine_dir`.
        text_unit: what one document of a .txt file is.

    Raises:
        ConfigError: quarantine without a directory, an unknown kind.
        InvalidInputError: an empty or unreadable file; a refused record under `fail`; no record
            left under the others.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        kind: type[R] | str | None = None,
        on_error: OnError = "fail",
        quarantine_dir: Path | str | None = None,
        text_unit: TextUnit = "line",
        limits: ReadLimits | None = None,
    ) -> None:
        if on_error not in ("fail", "skip", "quarantine"):
            raise ConfigError(
                f"on_error {on_error!r} is unknown; accepted: fail, skip, quarantine",
                field="on_error",
            )
        if on_error == "quarantine" and quarantine_dir is None:
            raise ConfigError("on_error=quarantine needs a quarantine_dir", field="quarantine_dir")
        self._path = Path(path)
        self._type: type[Record] | None = None if kind is None else record_type(kind)
        self._on_error = on_error
        self._text_unit = text_unit
        self._limits = limits or ReadLimits()
        self._quarantine = _Quarantine(self._path, quarantine_dir)
        self.report = ReadReport(self._path.name)

    def __iter__(self) -> Iterator[R]:
        self.report = ReadReport(self._path.name)
        rows = iter_rows(self._path, limits=self._limits, text_unit=self._text_unit)
        with self._quarantine:
            for row in rows:
                for record in self._read(row):
                    self.report.records += 1
                    yield record
        if self.report.records == 0:
            self._fail_without_records()

    def _read(self, row: Row) -> Sequence[R]:
        try:
            if row.problem:
                raise BrokenRecordError(row.problem, reason=row.reason)
            records = self._convert(row)
        except BrokenRecordError as error:
            self._refuse(row, error)
            return ()
        return records

    def _convert(self, row: Row) -> list[R]:
        wanted = () if self._type is None else _made_from(self._type)
        detected = detect_format(row.value, wanted)
        records = detected.read_all(row.value, self._path.name)
        if self._type is None:
            self._type = detected.makes
        self.report.formats[detected.name] += 1
        if self._type is Preference:
            return list(itertools.chain.from_iterable(map(_preferences_of, records)))  # type: ignore[arg-type]
        return records  # type: ignore[return-value]

    def _refuse(self, row: Row, error: BrokenRecordError) -> None:
        problem = ReadProblem(self._path.name, row.line, error.reason, error.message)
        if self._on_error == "fail":
            raise InvalidInputError(
                f"{self._path}:{row.line}: {error.message}",
                reason=error.reason,
                field=error.field,
                metadata={"file": str(self._path), "line": str(row.line)},
            ) from error
        self.report.refused[error.reason] += 1
        if len(self.report.problems) < _PROBLEMS_KEPT:
            self.report.problems.append(problem)
        if self._on_error == "quarantine":
            self.report.quarantine = str(self._quarantine.write(problem, row))

    def _fail_without_records(self) -> None:
        refused = self.report.refused.total()
        if not refused:
            raise InvalidInputError(
                f"{self._path} is empty; at least one record is needed", reason="EMPTY_FILE"
            )
        raise InvalidInputError(
            f"{self._path}: none of its {refused} records could be read; first: "
            f"{self.report.problems[0]}",
            reason=self.report.problems[0].reason,
        )


def _preferences_of(record: Record) -> Sequence[Record]:
    return scored_to_preferences(record) if isinstance(record, ScoredResponses) else [record]


def _made_from(wanted: type[Record]) -> tuple[type[Record], ...]:
    """Record types that can become the wanted one: scored lists become pairs."""
    return (Preference, ScoredResponses) if wanted is Preference else (wanted,)


class _Quarantine:
    """The file of refused rows; made when the first one comes."""

    def __init__(self, path: Path, directory: Path | str | None) -> None:
        self._directory = None if directory is None else Path(directory)
        self._name = f"{path.name}.quarantine.jsonl"
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, problem: ReadProblem, row: Row) -> Path:
        if self._directory is None:
            raise ConfigError("no quarantine_dir", field="quarantine_dir")
        path = self._directory / self._name
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Left open across rows on purpose; __exit__ closes it with the stream.
            self._file = path.open("w", encoding="utf-8", errors="backslashreplace")
        entry = {
            "file": problem.file,
            "line": problem.line,
            "reason": problem.reason,
            "message": problem.message,
            "record": row.value if row.value is not None else row.raw,
        }
        self._file.write(json.dumps(entry, ensure_ascii=False, default=str) + "\n")
        return path


def read_dataset(
    path: Path | str,
    *,
    kind: type[R] | str | None = None,
    on_error: OnError = "fail",
    quarantine_dir: Path | str | None = None,
    text_unit: TextUnit = "line",
    limits: ReadLimits | None = None,
) -> Dataset[R]:
    """All records of one file; arguments and errors as `DatasetReader`."""
    reader: DatasetReader[R] = DatasetReader(
        path,
        kind=kind,
        on_error=on_error,
        quarantine_dir=quarantine_dir,
        text_unit=text_unit,
        limits=limits,
    )
    return Dataset(list(reader), reader.report)


class TableReader(Generic[R]):
    """Streams the records of our own Parquet file, and counts them as `DatasetReader` does."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        self._path = path
        self._type = kind
        self.report = ReadReport(path.name)

    def __iter__(self) -> Iterator[R]:
        self.report = ReadReport(self._path.name)
        for record in tables.iter_records(self._path, self._type):
            self.report.records += 1
            yield record


def open_artifact_dataset(
    directory: Path,
    kind: type[R] | str,
    *,
    on_error: OnError = "fail",
    quarantine_dir: Path | str | None = None,
) -> TableReader[R] | DatasetReader[R]:
    """The dataset of a materialised artifact, read as it is iterated over.

    That is our own Parquet file when there is one, else the one data file that an import brought.

    Raises:
        InvalidInputError: no data file, or several.
    """
    wanted: type[R] = record_type(kind)
    own = directory / FILE_NAMES.get(wanted, "")
    if own.is_file():
        return TableReader(own, wanted)
    found = [path for path in sorted(directory.rglob("*")) if path.is_file() and _is_data(path)]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise InvalidInputError(
            f"the artifact holds {len(found)} data files ({names}); exactly one is accepted"
        )
    return DatasetReader(found[0], kind=wanted, on_error=on_error, quarantine_dir=quarantine_dir)


def read_artifact_dataset(
    directory: Path,
    kind: type[R] | str,
    *,
    on_error: OnError = "fail",
    quarantine_dir: Path | str | None = None,
) -> Dataset[R]:
    """All records of a materialised artifact; arguments and errors as `open_artifact_dataset`."""
    reader = open_artifact_dataset(
        directory, kind, on_error=on_error, quarantine_dir=quarantine_dir
    )
    return Dataset(list(reader), reader.report)


def _is_data(path: Path) -> bool:
    if path.name in ("manifest.json", "run.json", "report.json"):
        return False
    try:
        container_of(path)
    except InvalidInputError:
        return False
    return True


def scored_to_preferences(scored: ScoredResponses, *, min_gap: float = 0.0) -> list[Preference]:
    """Every pair of responses whose scores differ by more than `min_gap`, better one chosen.

    Pairs of equal text are left out. The gap is kept in metadata `score_gap`.
    """
    pairs = []
    ranked = list(zip(scored.responses, scored.scores, strict=True))
    for (text_a, score_a), (text_b, score_b) in itertools.combinations(ranked, 2):
        if abs(score_a - score_b) <= min_gap or text_a == text_b:
            continue
        chosen, rejected = (text_a, text_b) if score_a > score_b else (text_b, text_a)
        prompt = [message.to_row() for message in scored.prompt]
        pairs.append(
            Preference(
                id=content_id("Preference", prompt, chosen, rejected),
                prompt=scored.prompt,
                chosen=chosen,
                rejected=rejected,
                source=scored.source,
                metadata={**scored.metadata, "score_gap": repr(abs(score_a - score_b))},
            )
        )
    return pairs
