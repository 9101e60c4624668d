"""Stage retriever.import_values: any format of values, on top of a base where one is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import Artifact, ArtifactStore, Lineage, open_configured_store
from plumbline.core.errors import NotFoundError
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.tasks import STAGES

(IMPORT,) = [stage for stage in STAGES if stage.name == "retriever.import_values"]
OLD = "# Data Act\n\nSection 1. Keep data.\n\nSection 2. Share data.\n"
NEW = "# Data Act\n\nSection 1. Delete data.\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path)


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return open_configured_store(settings)


def corpus(store: ArtifactStore, **files: str) -> str:
    named = {name.replace("__", "."): text.encode() for name, text in files.items()}
    return store.put("corpus", named, lineage=Lineage(stage="import")).id


def run(
    store: ArtifactStore, settings: Settings, values: str, base: str = "", **config: Any
) -> Artifact:
    inputs: Mapping[str, list[str]] = {"values": [values], **({"base": [base]} if base else {})}
    return run_stage(IMPORT, config, inputs, store=store, settings=settings)[0]


def versions(store: ArtifactStore, artifact: Artifact) -> list[tuple[str, int, str]]:
    values = RetrieverEngine(store, RetrieverConfig()).list_values(artifact.id)
    return [(value.id, value.version, value.effective_to) for value in values]


def test_a_world_s_rules_are_read_and_nothing_beside_them(
    store: ArtifactStore, settings: Settings
) -> None:
    rows = '{"id": "a", "text": "one"}\n{"id": "b", "text": "two"}\n{"id": "c", "text": "three"}\n'
    world = corpus(store, rules__jsonl=rows, documents__jsonl='{"text": "no value"}\n')

    assert [row[0] for row in versions(store, run(store, settings, world))] == ["a", "b", "c"]
    assert [row[0] for row in versions(store, run(store, settings, world, limit=1))] == ["a"]
    assert [row[0] for row in versions(store, run(store, settings, world, ids=["c"]))] == ["c"]
    with pytest.raises(NotFoundError, match="value 'd' is not in artifact"):
        run(store, settings, world, ids=["d"])


def test_a_new_edition_on_top_of_a_base(store: ArtifactStore, settings: Settings) -> None:
    old = corpus(store, **{"act_2020-01-01__md": OLD, "LICENSE": "public"})
    new = corpus(store, **{"act_2024-01-01__md": NEW})

    first = run(store, settings, old)
    second = run(store, settings, new, first.id, complete=True)
    third = run(store, settings, new, second.id, revoked=["Data-Act:2"])

    assert versions(store, second) == [
        ("Data-Act:1", 1, ""),
        ("Data-Act:1", 2, ""),
        ("Data-Act:2", 1, ""),
        ("Data-Act:2", 2, "2024-01-01"),
    ]
    assert (second.manifest.metrics["changed"], second.manifest.metrics["ended"]) == (1, 1)
    assert [row[:2] for row in versions(store, third)] == [("Data-Act:1", 1), ("Data-Act:1", 2)]
    assert third.manifest.metrics["removed"] == 1
    states = RetrieverEngine(store, RetrieverConfig()).bases.states(third.id)
    assert [state.artifact_id for state in states] == [third.id, second.id, first.id]


def test_fields_of_values_that_leave_them_out(store: ArtifactStore, settings: Settings) -> None:
    values = corpus(store, rules__csv="id,text,tenant\na,one,\nb,two,acme\n")
    made = run(store, settings, values, fields={"tenant": "zeta", "triggers": "x|y"})

    found = RetrieverEngine(store, RetrieverConfig()).list_values(made.id)

    assert [(value.tenant, value.triggers) for value in found] == [
        ("zeta", ("x", "y")),
        ("acme", ("x", "y")),
    ]


def test_replace_all_and_the_embedder(store: ArtifactStore, settings: Settings) -> None:
    one = corpus(store, rules__csv="id,text\na,one\n")
    two = corpus(store, rules__csv="id,text\nb,two\n")
    engine = RetrieverEngine(store, RetrieverConfig())

    first = run(store, settings, one, embedder={"dimensions": 64})
    second = run(store, settings, two, first.id, replace_all=True)

    assert versions(store, second) == [("b", 1, "")]
    assert engine.bases.load(second.id).index.vectors.shape == (1, 64)
