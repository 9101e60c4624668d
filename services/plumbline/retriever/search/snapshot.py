"""The files that search adds to a knowledge base: written once, then memory-mapped read-only.

    vectors.npy          [N, D] float32 unit rows
    search/index.json    format, embedder's fingerprint, N and D
    search/columns.npy, labels.json    metadata for filters
    search/weights.npy   feature weights of the embedder, where it has such
    search/ngrams/       postings of n-grams, where vectors have no width
    search/bm25/         inverted index of words

The same values and vectors give the same bytes, so that importing them again gives the same
artifact.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plumbline.core.errors import CorruptArtifactError, FailedPreconditionError
from plumbline.data.records import ValueSpec
from plumbline.retriever.search.dense import Vectors
from plumbline.retriever.search.embedders import Embedder
from plumbline.retriever.search.filters import FilterColumns
from plumbline.retriever.search.index import (
    ValueIndex,
    feature_weights,
    lexical_index,
    ngram_index,
)
from plumbline.retriever.search.lexical import LexicalIndex
from plumbline.retriever.search.ngrams import NgramIndex
from plumbline.retriever.search.stores import VectorStore

FORMAT = 1
VECTORS_FILE = "vectors.npy"
_FOLDER = "search"
_ABOUT_FILE = "index.json"
_WEIGHTS_FILE = "weights.npy"
_LEXICAL_FOLDER = "bm25"
_NGRAMS_FOLDER = "ngrams"


def write_index(
    directory: Path, values: Sequence[ValueSpec], vectors: Vectors, embedder: Embedder
) -> None:
    """Write what search needs of a knowledge base into its directory.

    Args:
        vectors: [N, D] of the values' searchable texts, by the embedder.
    """
    folder = directory / _FOLDER
    folder.mkdir()
    np.save(directory / VECTORS_FILE, np.ascontiguousarray(vectors), allow_pickle=False)
    FilterColumns.of(values).write(folder)
    weights = feature_weights(values, embedder)
    if weights is not None:
        np.save(folder / _WEIGHTS_FILE, weights, allow_pickle=False)
    ngrams = ngram_index(values, vectors)
    if ngrams is not None:
        ngrams.write(folder / _NGRAMS_FOLDER)
    lexical = lexical_index(values)
    if lexical is not None:
        lexical.write(folder / _LEXICAL_FOLDER)
    about = {"format": FORMAT, "embedder": embedder.fingerprint, "shape": list(vectors.shape)}
    (folder / _ABOUT_FILE).write_text(json.dumps(about, sort_keys=True) + "\n")


def load_index(
    directory: Path,
    values: Sequence[ValueSpec],
    embedder: Embedder,
    *,
    snapshot: str = "",
    store: VectorStore | None = None,
) -> ValueIndex:
    """The index that `write_index` has written; arrays stay on disk until they are used.

    Args:
        values: those that it was written for, in their order.
        snapshot: the knowledge base's artifact id, which names its vectors in the store.
        store: where vectors are searched; in this process when None.
    Raises:
        CorruptArtifactError: a file is missing or damaged.
        FailedPreconditionError: the vectors are another embedder's, or of another format.
    """
    folder = directory / _FOLDER
    about = _read_about(folder / _ABOUT_FILE)
    _check_embedder(about, embedder)
    vectors = _mapped(directory / VECTORS_FILE)
    if list(vectors.shape) != about.get("shape"):
        raise CorruptArtifactError(
            f"{VECTORS_FILE} is {list(vectors.shape)}; its index says {about.get('shape')}"
        )
    if store is not None and store.name != "exact" and not vectors.shape[1]:
        raise FailedPreconditionError(
            f"the knowledge base keeps its n-grams apart and has no vectors for {store.name}; "
            "import its values with an embedder of some dimensions, or set search.vector_store to "
            "exact"
        )
    weights = folder / _WEIGHTS_FILE
    lexical = folder / _LEXICAL_FOLDER
    return ValueIndex(
        values,
        vectors,
        embedder,
        columns=FilterColumns.read(folder),
        lexical=LexicalIndex.read(lexical) if values else None,
        weights=_mapped(weights) if weights.exists() else None,
        ngrams=None if vectors.shape[1] else NgramIndex.read(folder / _NGRAMS_FOLDER, len(values)),
        snapshot=snapshot,
        store=store,
    )


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CorruptArtifactError(f"{path}: no description of the index: {error}") from error
    if about.get("format") != FORMAT:
        raise FailedPreconditionError(
            f"the knowledge base's index has format {about.get('format')!r}; accepted: {FORMAT}; "
            "import its values again"
        )
    return about


def _check_embedder(about: dict[str, Any], embedder: Embedder) -> None:
    written = about.get("embedder")
    if written != embedder.fingerprint:
        raise FailedPreconditionError(
            f"the knowledge base's vectors are of embedder {written!r}, and the one here is "
            f"{embedder.fingerprint!r}; give the service that model, or import the values again"
        )


def _mapped(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorruptArtifactError(f"{path} cannot be read: {error}") from error
