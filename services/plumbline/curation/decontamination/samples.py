"""Evaluation sets as decontamination sees them: samples with an id and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.core.stages import InputArtifact
from plumbline.curation.decontamination.config import DecontaminateConfig
from plumbline.curation.normalize import normalize, tokens
from plumbline.data.containers import ReadLimits, container_of, iter_rows
from plumbline.data.prompts import read_prompts
from plumbline.data.readers import FILE_NAMES, DatasetReader
from plumbline.data.records import (
    Conversation,
    Document,
    LabelledResponse,
    Message,
    Preference,
    Prompt,
    Record,
    Role,
    ScoredResponses,
    content_id,
)
from plumbline.data.tables import iter_records

_BOOKKEEPING = ("manifest.json", "run.json", "report.json")
_OWN_FILES: dict[str, type[Record]] = {
    "prompts.parquet": Prompt,
    **{name: record_type for record_type, name in FILE_NAMES.items()},
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One example of an evaluation set."""

    id: str
    words: tuple[str, ...]
    """`normalize.tokens` of all that the model would see of it, answers included."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """A benchmark, or one split of it."""

    name: str
    samples: tuple[Sample, ...]


def text_of(record: Record) -> str:
    """All text of a record but system messages, which many records share.

    Raises:
        InvalidInputError: a type of record that has no text to compare.
    """
    if isinstance(record, Document):
        return record.text
    if isinstance(record, Conversation | Prompt):
        return _joined(record.messages)
    if isinstance(record, Preference):
        return _joined(record.prompt, record.chosen)
    if isinstance(record, LabelledResponse):
        return _joined(record.prompt, record.response)
    if isinstance(record, ScoredResponses):
        return _joined(record.prompt, *record.responses)
    raise InvalidInputError(
        f"{type(record).__name__} records have no text to compare; accepted: documents, prompts, "
        "conversations, preferences, labelled and scored responses"
    )


def _joined(messages: Sequence[Message], *responses: str) -> str:
    said = (message.content for message in messages if message.role is not Role.SYSTEM)
    return "\n".join((*said, *responses))


def read_evaluation_sets(
    artifacts: Sequence[InputArtifact], config: DecontaminateConfig
) -> list[EvaluationSet]:
    """The samples of all artifacts.

    Sets are named after their data file; our own datasets, after their kind and id. Names that
    would be the same are numbered.

    Raises:
        NotFoundError: an artifact without one of the splits.
        InvalidInputError: an artifact without data, or without a single sample.
    """
    sets: list[EvaluationSet] = []
    seen: Counter[str] = Counter()
    for artifact in artifacts:
        for name, texts in _datasets(artifact, config):
            samples = tuple(_samples(texts))
            if not samples:
                raise InvalidInputError(
                    f"evaluation set {name} has no samples; at least one is needed",
                    field="inputs.evaluation",
                )
            seen[name] += 1
            unique = name if seen[name] == 1 else f"{name}-{seen[name]}"
            sets.append(EvaluationSet(unique, samples))
    return sets


def _samples(texts: Iterable[tuple[str, str]]) -> Iterator[Sample]:
    """Samples with different ids: the second one of an id gets a number."""
    seen: Counter[str] = Counter()
    for name, text in texts:
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
        yield Sample(unique, tuple(tokens(normalize(text).text)))


def _datasets(
    artifact: InputArtifact, config: DecontaminateConfig
) -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
    """Names of an artifact's evaluation sets, and the ids and texts of their samples."""
    own_name = f"{artifact.kind}-{artifact.id[:8]}"
    if config.splits:
        for split in config.splits:
            yield f"{own_name}.{split}", _of_records(read_prompts(artifact.path, split=split))
        return
    for file_name, record_type in _OWN_FILES.items():
        if (artifact.path / file_name).is_file():
            yield own_name, _of_records(iter_records(artifact.path / file_name, record_type))
            return
    files = data_files(artifact.path)
    if not files:
        raise InvalidInputError(
            "an evaluation set holds no data file; samples are needed", field="inputs.evaluation"
        )
    for path in files:
        reader: DatasetReader[Any] = DatasetReader(path, on_error=config.on_error)
        found = _of_rows(path, config) if config.text_fields else _of_records(reader)
        yield path.name.split(".")[0], found


def _of_records(records: Iterable[Record]) -> Iterator[tuple[str, str]]:
    for record in records:
        text = text_of(record)
        yield str(getattr(record, "id", "")), text


def _of_rows(path: Path, config: DecontaminateConfig) -> Iterator[tuple[str, str]]:
    """Samples of a data file of any layout, by the keys that the config names."""
    for row in iter_rows(path, limits=ReadLimits(), text_unit="line"):
        values = row.value if isinstance(row.value, Mapping) else {}
        text = "\n".join(line for key in config.text_fields for line in _lines(values.get(key)))
        if not text and config.on_error == "fail":
            raise InvalidInputError(
                f"{path.name}:{row.line}: {row.problem or 'no text in the row'}; text is needed "
                f"under {', '.join(config.text_fields)}",
                field="text_fields",
            )
        if text:
            name = str(values.get(config.id_field) or content_id(text))
            yield name, text


def _lines(value: Any) -> Iterator[str]:
    """A text, or all texts in a list or map; other values have none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _lines(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _lines(item)


def data_files(directory: Path) -> list[Path]:
    """The files of an artifact that may hold records, in the order of their names."""
    return [path for path in sorted(directory.rglob("*")) if _is_data(path)]


def _is_data(path: Path) -> bool:
    if not path.is_file() or path.name in _BOOKKEEPING:
        return False
    try:
        container_of(path)
    except InvalidInputError:
        return False
    return True
