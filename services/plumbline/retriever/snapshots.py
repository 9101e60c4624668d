"""One state of a knowledge base: the files of its artifact, and the same loaded for search.

values.parquet    every version of every value, in order of id and version
retired.json      versions that removed values had reached
embedder.json     how their texts became vectors
and what `search.snapshot` lays down beforehand
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plumbline.core.artifacts import canonical_json
from plumbline.core.errors import CorruptArtifactError, FailedPreconditionError
from plumbline.data.records import ValueSpec
from plumbline.data.tables import read_records, write_records
from plumbline.retriever.search.config import EmbedderConfig
from plumbline.retriever.search.dense import Vectors
from plumbline.retriever.search.embedders import Embedder, build_embedder
from plumbline.retriever.search.index import ValueIndex, searchable_text
from plumbline.retriever.search.snapshot import load_index, write_index
from plumbline.retriever.search.stores import VectorStore
from plumbline.retriever.values.importing import ValueSet

_VALUES_FILE = "values.parquet"
_RETIRED_FILE = "retired.json"
_EMBEDDER_FILE = "embedder.json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of a knowledge base, ready to be searched."""

    artifact_id: str
    contents: ValueSet
    index: ValueIndex
    embedder: EmbedderConfig


def write_knowledge_base(
    directory: Path,
    contents: ValueSet,
    embedder: EmbedderConfig,
    *,
    base: Snapshot | None = None,
) -> None:
    """Write a knowledge base's files into an empty directory.

    Args:
        base: an earlier state; what it has embedded already is taken over.
    """
    values, model = contents.values, build_embedder(embedder)
    write_records(directory / _VALUES_FILE, values, ValueSpec)
    (directory / _RETIRED_FILE).write_bytes(canonical_json(dict(contents.retired)))
    (directory / _EMBEDDER_FILE).write_text(embedder.model_dump_json(indent=2) + "\n")
    write_index(directory, values, _vectors(values, model, base), model)


def _vectors(values: Sequence[ValueSpec], model: Embedder, base: Snapshot | None) -> Vectors:
    """[N, D] vectors of the values' texts; only those that the base lacks are embedded."""
    texts = [searchable_text(value) for value in values]
    rows: dict[str, int] = {}
    if base is not None and build_embedder(base.embedder).fingerprint == model.fingerprint:
        rows = {searchable_text(value): row for row, value in enumerate(base.contents.values)}
    fresh = [text for text in dict.fromkeys(texts) if text not in rows]
    vectors = model.embed(fresh)
    if base is not None and rows:
        vectors = np.concatenate([base.index.vectors, vectors])
    rows |= {text: len(vectors) - len(fresh) + row for row, text in enumerate(fresh)}
    return vectors[[rows[text] for text in texts]]


def load_knowledge_base(
    directory: Path, artifact_id: str = "", *, store: VectorStore | None = None
) -> Snapshot:
    """The knowledge base that a directory's files are.

    Args:
        store: where vectors are searched; in this process when None.
    Raises:
        FailedPreconditionError: an earlier version of the platform wrote it.
        CorruptArtifactError: a file is damaged.
    """
    try:
        embedder = EmbedderConfig(**json.loads((directory / _EMBEDDER_FILE).read_bytes()))
        retired: dict[str, int] = json.loads((directory / _RETIRED_FILE).read_bytes())
    except FileNotFoundError as error:
        # An artifact's files are complete, so what is missing was never there.
        missing = Path(error.filename).name
        raise FailedPreconditionError(
            f"knowledge base {artifact_id[:12] or directory} has no {missing}: an earlier version "
            "made it; import its values again under another name"
        ) from error
    except (OSError, ValueError) as error:
        raise CorruptArtifactError(f"{directory} is no knowledge base: {error}") from error
    values = tuple(read_records(directory / _VALUES_FILE, ValueSpec))
    index = load_index(
        directory, values, build_embedder(embedder), snapshot=artifact_id, store=store
    )
    return Snapshot(artifact_id, ValueSet(values, retired), index, embedder)
