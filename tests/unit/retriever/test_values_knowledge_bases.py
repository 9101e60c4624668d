"""Knowledge bases in a real store: imports, history, roll-back and what is held in memory."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.core.artifacts import ArtifactStore, Lineage, open_store
from plumbline.core.errors import (
    ConflictError,
    CorruptArtifactError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
)
from plumbline.data.records import ValueSpec
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.knowledge_bases import knowledge_base_tag
from plumbline.retriever.search.config import EmbedderConfig, SearchConfig
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.snapshots import load_knowledge_base


def open_at(root: Path) -> ArtifactStore:
    store = (root / "store").as_uri()
    return open_store(store, cache_dir=root / "cache", cache_bytes=2**30)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return open_at(tmp_path)


@pytest.fixture
def engine(store: ArtifactStore) -> RetrieverEngine:
    return RetrieverEngine(store, RetrieverConfig())


def rule(value_id: str, text: str = "Be brief.", **fields: Any) -> ValueSpec:
    return ValueSpec(id=value_id, text=text, **fields)


def ids(values: tuple[ValueSpec, ...]) -> list[tuple[str, int]]:
    return [(value.id, value.version) for value in values]


def test_an_import_is_idempotent_and_a_dry_run_publishes_nothing(engine: RetrieverEngine) -> None:
    planned, nothing = engine.import_values("house", [rule("a")], dry_run=True)
    _, first = engine.import_values("house", [rule("a")])
    again, second = engine.import_values("house", [rule("a")])

    assert (planned.added, nothing) == (1, "")
    assert first == second == again.base
    assert again.unchanged == 1
    assert len(engine.bases.states("house")) == 1


def test_the_same_imports_give_the_same_artifact_in_another_store(
    engine: RetrieverEngine, tmp_path: Path
) -> None:
    other = RetrieverEngine(open_at(tmp_path / "other"), RetrieverConfig())
    steps: list[tuple[list[ValueSpec], list[str]]] = [
        ([rule("a"), rule("b", "Use British spelling.")], []),
        ([rule("a", "Be very brief.")], ["b"]),
    ]

    for values, revoked in steps:
        _, here = engine.import_values("house", values, revoked=revoked)
        _, there = other.import_values("house", list(reversed(values)), revoked=revoked)

    assert here == there


def test_versions_survive_a_removal_across_states(engine: RetrieverEngine) -> None:
    engine.import_values("house", [rule("a")])
    engine.import_values("house", [], revoked=["a"])
    engine.import_values("house", [rule("a")])

    assert engine.get_value("house", "a").version == 2
    with pytest.raises(NotFoundError, match=r"no version 1 .* it has: 2"):
        engine.get_value("house", "a", 1)
    with pytest.raises(NotFoundError, match="has no value 'b'"):
        engine.get_value("house", "b")


def test_an_older_edition_imported_later_is_not_the_newest(engine: RetrieverEngine) -> None:
    engine.import_values("house", [rule("a", "new", effective_from="2024-01-01")])
    engine.import_values("house", [rule("a", "old", effective_from="2020-01-01")])

    assert engine.get_value("house", "a").text == "new"
    assert engine.get_value("house", "a", 2).text == "old"


def test_a_revoked_value_is_gone_the_moment_the_tag_moves(engine: RetrieverEngine) -> None:
    engine.import_values("house", [rule("a", "Mind the oven."), rule("b", "Mind the gap.")])
    before, _ = engine.retrieve("house", "oven", ValueQuery(), k=10)
    _, artifact = engine.import_values("house", [], revoked=["a"])
    after, answered = engine.retrieve("house", "oven", ValueQuery(), k=10)

    assert [hit.value.id for hit in before] == ["a", "b"]
    assert [hit.value.id for hit in after] == ["b"]
    assert answered == artifact


def test_nothing_is_published_where_one_value_is_bad(
    engine: RetrieverEngine, store: ArtifactStore
) -> None:
    with pytest.raises(InvalidInputError, match="empty text"):
        engine.import_values("house", [rule("a"), rule("b", " ")])

    assert store.tags() == {}
    assert list(store.list().artifacts) == []


def test_an_import_with_an_expectation_fails_where_another_was_first(
    engine: RetrieverEngine,
) -> None:
    _, first = engine.import_values("house", [rule("a")])
    _, second = engine.import_values("house", [rule("b")], expected_artifact=first)

    with pytest.raises(ConflictError, match="nothing was imported") as caught:
        engine.import_values("house", [rule("c")], expected_artifact=first)
    assert caught.value.metadata["current"] == second
    assert ids(engine.list_values("house")) == [("a", 1), ("b", 1)]


def test_imports_at_the_same_time_lose_nothing(engine: RetrieverEngine) -> None:
    start = threading.Barrier(4)

    def bring(number: int) -> None:
        start.wait()
        engine.import_values("house", [rule(f"v{number}")])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bring, range(4)))

    assert ids(engine.list_values("house")) == [(f"v{n}", 1) for n in range(4)]


def test_only_new_texts_are_embedded(store: ArtifactStore) -> None:
    """Vectors that the base holds are taken over as they are, even where they are wrong."""
    engine = RetrieverEngine(store, RetrieverConfig(), embedder=EmbedderConfig(dimensions=64))
    _, artifact = engine.import_values("house", [rule("a", "one"), rule("b", "two")])
    base = engine.bases.load(artifact)
    marked = np.array(base.index.vectors)
    marked[0] = 0
    base.index.vectors = marked

    _, later = engine.import_values("house", [rule("c", "three"), rule("b", "two, too")])

    found = engine.bases.load(later)
    assert ids(found.contents.values) == [("a", 1), ("b", 1), ("b", 2), ("c", 1)]
    np.testing.assert_array_equal(found.index.vectors[:2], marked)
    assert np.linalg.norm(found.index.vectors[2:], axis=1) == pytest.approx([1, 1])


def test_a_knowledge_base_keeps_its_embedder(store: ArtifactStore) -> None:
    narrow = RetrieverEngine(store, RetrieverConfig(), embedder=EmbedderConfig(dimensions=64))
    narrow.import_values("house", [rule("a")])
    plain = RetrieverEngine(store, RetrieverConfig())

    _, kept = plain.import_values("house", [rule("b")])
    _, changed = RetrieverEngine(
        store, RetrieverConfig(), embedder=EmbedderConfig(dimensions=32)
    ).import_values("house", [rule("c")])

    assert plain.bases.load(kept).index.vectors.shape == (2, 64)
    assert plain.bases.load(changed).index.vectors.shape == (3, 32)


def test_an_empty_knowledge_base_answers_with_nothing(engine: RetrieverEngine) -> None:
    engine.import_values("house", [rule("a")])
    engine.import_values("house", [], revoked=["a"])

    assert engine.retrieve("house", "anything", ValueQuery())[0] == []
    assert engine.values_in_force("house", ValueQuery())[0] == ()


def test_values_in_force_and_of_a_source(engine: RetrieverEngine) -> None:
    engine.import_values(
        "house",
        [
            rule("law:1", "old", source="law", effective_from="2020-01-01"),
            rule("law:1", "new", source="law", effective_from="2024-01-01"),
            rule("own"),
        ],
    )

    assert ids(engine.list_values("house")) == [("law:1", 1), ("law:1", 2), ("own", 1)]
    assert ids(engine.list_values("house", source="law")) == [("law:1", 1), ("law:1", 2)]
    past = ValueQuery(as_of="2023-12-31")
    assert ids(engine.list_values("house", where=past)) == [("law:1", 1), ("own", 1)]
    assert ids(engine.list_values("house", where=past, source="law")) == [("law:1", 1)]


def test_history_roll_back_and_tags(engine: RetrieverEngine, store: ArtifactStore) -> None:
    _, first = engine.import_values("house", [rule("a")])
    assert engine.bases.move_tag("house", "audited", first) == (first, "")
    _, second = engine.import_values("house", [rule("a", "new"), rule("b")])

    states = engine.bases.states("house")
    assert [(state.artifact_id, state.values) for state in states] == [(second, 3), (first, 1)]
    assert [state.tags for state in states] == [("kb/house@latest",), ("kb/house@audited",)]
    assert all(state.created_at.endswith("+00:00") for state in states)
    assert engine.bases.states("house", 1, 1) == states[1:]

    moved = engine.bases.move_tag("house", "", "audited", expected=second)
    assert moved == (first, second)
    assert engine.bases.resolve("house") == engine.bases.resolve("house@audited") == first
    assert store.resolve("kb/house@latest") == first
    with pytest.raises(ConflictError, match="expected"):
        engine.bases.move_tag("house", "", second, expected=second)


def test_a_tag_takes_only_states_of_its_own_knowledge_base(
    engine: RetrieverEngine, store: ArtifactStore
) -> None:
    engine.import_values("house", [rule("a")])
    _, other = engine.import_values("other", [rule("b")])
    corpus = store.put("corpus", {"x.txt": b"x"}, lineage=Lineage(stage="import")).id

    for target in ("other@latest", "kb/other@latest"):
        with pytest.raises(FailedPreconditionError, match="state of knowledge base 'other'"):
            engine.bases.move_tag("house", "", target)
    with pytest.raises(InvalidInputError, match="of kind 'corpus'"):
        engine.bases.move_tag("house", "", corpus)
    with pytest.raises(NotFoundError, match="does not exist"):
        engine.bases.move_tag("house", "", "none")
    # An id says exactly what is meant, so a state may be shared on purpose.
    assert engine.bases.move_tag("house", "shared", other) == (other, "")


@pytest.mark.parametrize("name", ["", "House", "a b", "x" * 64, "a@b@c"])
def test_names_that_are_refused(engine: RetrieverEngine, name: str) -> None:
    with pytest.raises(InvalidInputError, match="is refused"):
        engine.bases.resolve(name)
    with pytest.raises(InvalidInputError, match="is refused"):
        knowledge_base_tag(name)


def test_no_more_states_are_held_than_configured(store: ArtifactStore) -> None:
    engine = RetrieverEngine(store, RetrieverConfig(search=SearchConfig(snapshots=2)))
    made = [engine.import_values("house", [rule(f"v{n}")])[1] for n in range(3)]

    for artifact in made:
        engine.bases.load(artifact)

    assert engine.bases.held() == made[1:]
    assert engine.bases.load(made[1]) is engine.bases.load(made[1])


def test_one_thread_loads_a_state_and_the_others_wait(
    engine: RetrieverEngine, store: ArtifactStore
) -> None:
    _, artifact = engine.import_values("house", [rule("a")])
    fresh = RetrieverEngine(store, RetrieverConfig())

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fresh.bases.load(artifact), range(8)))

    assert all(snapshot is found[0] for snapshot in found)


def test_damaged_files_and_those_of_an_earlier_version_are_told(
    engine: RetrieverEngine, store: ArtifactStore, tmp_path: Path
) -> None:
    _, artifact = engine.import_values("house", [rule("a")])
    copy = tmp_path / "copy"
    shutil.copytree(store.materialise(artifact), copy)

    assert load_knowledge_base(copy).contents.values == (rule("a"),)
    (copy / "embedder.json").chmod(0o644)
    (copy / "embedder.json").write_text("{")
    with pytest.raises(CorruptArtifactError, match="is no knowledge base"):
        load_knowledge_base(copy)
    (copy / "embedder.json").write_text("{}")
    copy.chmod(0o755)
    (copy / "retired.json").unlink()
    with pytest.raises(FailedPreconditionError, match=r"has no retired\.json: an earlier version"):
        load_knowledge_base(copy)
