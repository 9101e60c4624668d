from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from plumbline.core.errors import CorruptArtifactError, FailedPreconditionError
from plumbline.data.records import ValueSpec
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.search.hashed import HashedEmbedder
from plumbline.retriever.search.index import ValueIndex, searchable_text
from plumbline.retriever.search.snapshot import load_index, write_index
from plumbline.retriever.search.stores import ExactStore

EMBEDDER = HashedEmbedder(128)
VALUES = [
    ValueSpec(id=f"rule-{i:03}", text=f"bread {i % 13} oven {i % 7} 第{i}条个人信息")
    for i in range(300)
]


def write(
    directory: Path, values: list[ValueSpec] = VALUES, embedder: HashedEmbedder = EMBEDDER
) -> Path:
    directory.mkdir()
    vectors = embedder.embed([searchable_text(value) for value in values])
    write_index(directory, values, vectors, embedder)
    return directory


@pytest.mark.parametrize("dimensions", [0, 128])
def test_a_loaded_index_answers_as_the_one_in_memory(tmp_path: Path, dimensions: int) -> None:
    embedder = HashedEmbedder(dimensions)
    vectors = embedder.embed([searchable_text(value) for value in VALUES])
    built = ValueIndex.build(VALUES, vectors, embedder)

    loaded = load_index(write(tmp_path / "kb", VALUES, embedder), VALUES, embedder)

    for query in ("bread 5", "个人信息", "第17条"):
        assert loaded.search(query, ValueQuery(), k=20) == built.search(query, ValueQuery(), k=20)


def test_vectors_and_postings_stay_on_disk(tmp_path: Path) -> None:
    loaded = load_index(write(tmp_path / "kb"), VALUES, EMBEDDER)

    assert isinstance(loaded.vectors, np.memmap)
    assert not loaded.vectors.flags.writeable


@pytest.mark.parametrize(("dimensions", "files"), [(0, 13), (128, 10)])
def test_the_same_values_are_written_to_the_same_bytes(
    tmp_path: Path, dimensions: int, files: int
) -> None:
    embedder = HashedEmbedder(dimensions)
    one, two = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in (write(tmp_path / name, VALUES, embedder) for name in ("one", "two"))
    )

    assert one == two
    assert len(one) == files


@pytest.mark.parametrize("dimensions", [0, 128])
def test_an_empty_knowledge_base_is_written_and_loaded(tmp_path: Path, dimensions: int) -> None:
    embedder = HashedEmbedder(dimensions)

    loaded = load_index(write(tmp_path / "kb", [], embedder), [], embedder)

    assert loaded.search("bread", ValueQuery(), k=3) == []


def test_vectors_of_another_embedder_are_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "kb")

    with pytest.raises(FailedPreconditionError, match=r"'hashed-2:128'.*'hashed-2:64'"):
        load_index(directory, VALUES, HashedEmbedder(64))


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "kb")
    about = directory / "search" / "index.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "format": 99}))

    with pytest.raises(FailedPreconditionError, match="format 99"):
        load_index(directory, VALUES, EMBEDDER)


@pytest.mark.parametrize("name", ["vectors.npy", "search/index.json", "search/columns.npy"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    directory = write(tmp_path / "kb")
    (directory / name).unlink()

    with pytest.raises(CorruptArtifactError, match=Path(name).name.split(".")[0]):
        load_index(directory, VALUES, EMBEDDER)


def test_another_store_is_asked_under_the_name_of_the_snapshot(tmp_path: Path) -> None:
    class Counting(ExactStore):
        name = "counting"
        asked: tuple[str, ...] = ()

        def nearest(self, snapshot, query, where, limit):  # type: ignore[no-untyped-def]
            self.asked += (snapshot,)
            return super().nearest(snapshot, query, where, limit)

    store = Counting()
    directory = write(tmp_path / "kb")

    loaded = load_index(directory, VALUES, EMBEDDER, snapshot="abc", store=store)

    plain = load_index(directory, VALUES, EMBEDDER)
    assert loaded.search("bread 3", ValueQuery(), k=9) == plain.search("bread 3", ValueQuery(), k=9)
    assert store.asked == ("abc",)


def test_a_vector_database_needs_vectors(tmp_path: Path) -> None:
    class Elsewhere(ExactStore):
        name = "elsewhere"

    embedder = HashedEmbedder(0)
    directory = write(tmp_path / "kb", VALUES, embedder)

    with pytest.raises(FailedPreconditionError, match="no vectors for elsewhere"):
        load_index(directory, VALUES, embedder, store=Elsewhere())


def test_threads_of_the_algebra_library_change_no_bit(tmp_path: Path) -> None:
    """Another number of BLAS threads sums in another order; scores must not show it."""
    directory = write(tmp_path / "kb")
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_search_snapshot import EMBEDDER, VALUES
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.search.snapshot import load_index
index = load_index(Path({str(directory)!r}), VALUES, EMBEDDER)
for query in ("bread 5", "oven 3 个人信息", "条"):
    for hit in index.search(query, ValueQuery("2025-01-01"), k=50):
        print(hit.value.id, hit.score.hex(), hit.dense_score.hex(), hit.lexical_score.hex())
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
        ).stdout
        for threads in ("1", "4")
    ]

    assert told[0] == told[1]
    assert len(told[0].splitlines()) == 150
