"""The stages over a real store: what they write, and that they write it once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from plumbline.core.artifacts import ArtifactStore, open_store
from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.curation.tasks import STAGES
from plumbline.data.records import Conversation, Document, Preference, Prompt, Rollout
from plumbline.data.tables import read_records, write_records

STAGE = {stage.name: stage for stage in STAGES}
WORLD = {"seed": 4, "documents": 120}
ENGLISH = {"language": {"languages": ["en"]}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return open_store(
        settings.store_url, cache_dir=settings.cache_dir, cache_bytes=settings.cache_bytes
    )


def test_a_world_is_synthesized_curated_and_analyzed(
    store: ArtifactStore, settings: Settings
) -> None:
    world, _ = run_stage(STAGE["curation.synthesize"], WORLD, {}, store=store, settings=settings)
    files = store.materialise(world.id)
    documents = read_records(files / "documents.parquet", Document)
    assert len(read_records(files / "demonstrations.parquet", Conversation)) > 1000
    assert {p.split for p in read_records(files / "prompts_heldout.parquet", Prompt)} == {"heldout"}
    assert json.loads((files / "world.json").read_text())["seed"] == 4
    assert json.loads((files / "rules.jsonl").read_text().splitlines()[0])["triggers"]

    inputs = {"corpus": [world.id]}
    curated, cached = run_stage(
        STAGE["curation.curate"], ENGLISH, inputs, store=store, settings=settings
    )
    files = store.materialise(curated.id)
    kept = read_records(files / "documents.parquet", Document)
    removed = read_records(files / "removed.parquet", Document)
    report = json.loads((files / "report.json").read_text())
    assert not cached
    assert len(kept) + len(removed) == len(documents) == report["documents_in"]
    assert {document.metadata["removed_by"] for document in removed} == {
        rule["id"] for rule in report["rules"] if rule["removed"]
    }
    assert curated.manifest.metrics["noise_recall.gibberish"] == 1.0

    again, cached = run_stage(
        STAGE["curation.curate"], ENGLISH, inputs, store=store, settings=settings
    )
    assert (again.id, cached) == (curated.id, True)

    analysis, _ = run_stage(
        STAGE["curation.analyze"], {}, {"corpus": [curated.id]}, store=store, settings=settings
    )
    report = json.loads(store.read_bytes(analysis.id, "report.json"))
    assert report["documents"] == len(kept)
    assert set(report["pii"]["types"]) <= {"PERSON", "ADDRESS"}


def test_the_same_world_has_the_same_id_in_another_store(tmp_path: Path) -> None:
    ids = set()
    for name in ("one", "two"):
        settings = Settings(state_dir=tmp_path / name)
        store = open_store(
            settings.store_url, cache_dir=settings.cache_dir, cache_bytes=settings.cache_bytes
        )
        world, _ = run_stage(
            STAGE["curation.synthesize"], WORLD, {}, store=store, settings=settings
        )
        curated, _ = run_stage(
            STAGE["curation.curate"], ENGLISH, {"corpus": [world.id]}, store=store,
            settings=settings,
        )  # fmt: skip
        ids.add((world.id, curated.id))
    assert len(ids) == 1


def test_a_file_by_path_is_curated(
    tmp_path: Path, store: ArtifactStore, settings: Settings
) -> None:
    rows = [{"text": "A sentence with enough words to be kept by the rules."}, {"txt": "broken"}]
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    inputs = {"corpus": [f"path:{path}"]}

    with pytest.raises(InvalidInputError, match="no known format has the keys txt"):
        run_stage(
            STAGE["curation.curate"], {}, inputs, store=store, settings=settings, stages=STAGE
        )
    curated, _ = run_stage(
        STAGE["curation.curate"],
        {"on_error": "skip"},
        inputs,
        store=store,
        settings=settings,
        stages=STAGE,
    )
    report = json.loads(store.read_bytes(curated.id, "report.json"))
    assert report["documents_out"] == 1
    assert report["read"]["refused"] == {"UNKNOWN_FORMAT": 1}


def test_shards_give_the_artifact_of_one_piece_and_leave_nothing(
    store: ArtifactStore, settings: Settings
) -> None:
    """The sharding is part of the config, so the artifacts differ; their files do not."""
    config = {"seed": 4, "documents": 4200}
    world, _ = run_stage(STAGE["curation.synthesize"], config, {}, store=store, settings=settings)
    made = []
    for shard_documents in (1_000_000, 4096):
        curated, _ = run_stage(
            STAGE["curation.curate"],
            {**ENGLISH, "sharding": {"shard_documents": shard_documents}},
            {"corpus": [world.id]},
            store=store,
            settings=settings,
            stages=STAGE,
        )
        made.append({entry.name: entry.sha256 for entry in curated.manifest.files})

    assert made[0] == made[1]
    assert store.list(kind="shard").artifacts == ()


def test_sampled_responses_are_annotated(
    tmp_path: Path, store: ArtifactStore, settings: Settings
) -> None:
    world, _ = run_stage(STAGE["curation.synthesize"], WORLD, {}, store=store, settings=settings)
    prompts = read_records(store.materialise(world.id) / "prompts_train.parquet", Prompt)[:20]
    rollouts = [
        Rollout(f"{p.id}{i}", p.id, p.messages, text, (1,), (2,), (-1.0,), "stop", 1.0, i, "policy")
        for p in prompts
        for i, text in enumerate((p.metadata["reference"], "I cannot help with that.", "a b"))
    ]
    (tmp_path / "rollouts").mkdir()
    write_records(tmp_path / "rollouts" / "rollouts.parquet", rollouts)

    pairs, _ = run_stage(
        STAGE["curation.annotate"],
        {"seed": 1},
        {"world": [world.id], "rollouts": [f"path:{tmp_path / 'rollouts'}"]},
        store=store,
        settings=settings,
    )
    preferences = read_records(store.materialise(pairs.id) / "preferences.parquet", Preference)
    assert {preference.head for preference in preferences} == {"helpfulness", "safety"}
    assert pairs.manifest.metrics["preferences"] == len(preferences) > 40


def test_an_unknown_key_is_refused_before_anything_runs(
    store: ArtifactStore, settings: Settings
) -> None:
    with pytest.raises(ConfigError, match="lenght"):
        run_stage(
            STAGE["curation.curate"],
            {"lenght": {}},
            {"corpus": ["corpus/none@latest"]},
            store=store,
            settings=settings,
        )
