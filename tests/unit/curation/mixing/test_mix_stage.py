"""Mixes and subsets over a real store: exact, and the same whatever order the inputs come in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plumbline.core.artifacts import ArtifactStore, Lineage, open_store
from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.curation.mixing import writing
from plumbline.curation.tasks import STAGES
from plumbline.data.records import Conversation, Document, Preference, assistant, user
from plumbline.data.tables import read_records, write_records

STAGE = {stage.name: stage for stage in STAGES}
Put = Callable[..., str]
Run = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def store(settings: Settings) -> ArtifactStore:
    return open_store(
        settings.store_url, cache_dir=settings.cache_dir, cache_bytes=settings.cache_bytes
    )


@pytest.fixture(scope="module")
def put(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> Put:
    def put(*records: Sequence[Any]) -> str:
        directory = tmp_path_factory.mktemp("dataset")
        kind = "corpus"
        for own in records:
            is_text = isinstance(own[0], Document)
            write_records(
                directory / ("documents.parquet" if is_text else "conversations.parquet"), own
            )
            kind = "corpus" if is_text else "conversations"
        return store.put(kind, directory, lineage=Lineage(stage="import")).id

    return put


@pytest.fixture(scope="module")
def run(store: ArtifactStore, settings: Settings) -> Run:
    def run(stage: str, config: dict[str, Any], *inputs: str) -> tuple[Path, dict[str, Any]]:
        artifact, _ = run_stage(
            STAGE[stage], config, {"datasets": list(inputs)}, store=store, settings=settings
        )
        files = store.materialise(artifact.id)
        return files, json.loads((files / "report.json").read_text())

    return run


def texts(name: str, count: int, **more: Any) -> list[Document]:
    return [
        Document(f"{name}{i}", f"{name} text {'x ' * (i % 7)}{i}", source=name, **more)
        for i in range(count)
    ]


def talks(name: str, count: int) -> list[Conversation]:
    return [
        Conversation(
            f"{name}{i}",
            (user(f"Question {i}?"), assistant(f"Answer {i}.")),
            source=name,
            metadata={"task": f"task{i % 3}", "score": str(i % 10)},
        )
        for i in range(count)
    ]


def documents(files: Path) -> list[Document]:
    return read_records(files / "documents.parquet", Document)


def conversations(files: Path) -> list[Conversation]:
    return read_records(files / "conversations.parquet", Conversation)


def test_everything_once_unless_told_otherwise(put: Put, run: Run) -> None:
    files, report = run("curation.mix", {}, put(texts("a", 30)), put(texts("b", 10)))

    mixed = documents(files)
    assert sorted(d.id for d in mixed) == sorted(d.id for d in texts("a", 30) + texts("b", 10))
    assert Counter(d.metadata["mix_source"] for d in mixed) == {"input0": 30, "input1": 10}
    assert [d.metadata["mix_source"] for d in mixed] != ["input0"] * 30 + ["input1"] * 10
    assert report["planned"] == report["drawn"] == 40


def test_fractional_epochs_are_exact(put: Put, run: Run) -> None:
    """2.5 epochs of 10: five records thrice, five twice, each repetition with an id of its own."""
    config = {
        "sources": [{"name": "facts", "source": "a", "epochs": 2.5}, {"name": "rest"}],
        "total": 100,
    }
    files, report = run(
        "curation.mix", config, put(texts("a", 10), talks("c", 3)), put(texts("b", 300))
    )

    facts = [d for d in documents(files) if d.metadata["mix_source"] == "facts"]
    times = Counter(d.text for d in facts)
    assert sorted(times.values()) == [2] * 5 + [3] * 5
    assert len({d.id for d in facts}) == 25
    assert all(
        d.id.endswith("~" + d.metadata["mix_repetition"]) == (d.metadata["mix_repetition"] != "0")
        for d in facts
    )
    assert report["records_out"] == 100
    by_name = {source["name"]: source for source in report["sources"]}
    assert by_name["facts"]["epochs"] == 2.5
    assert by_name["facts"]["records_used"] == 10
    assert by_name["rest"]["drawn"] == 75


def test_inputs_and_records_may_come_in_any_order(put: Put, run: Run) -> None:
    a, b = texts("a", 200), texts("b", 50)
    config = {"group_by": "source", "temperature": 3, "total": 180, "seed": 5}
    first, _ = run("curation.mix", config, put(a), put(b))
    second, _ = run("curation.mix", config, put(b[::-1] + a[::-1]))

    assert (first / "documents.parquet").read_bytes() == (second / "documents.parquet").read_bytes()
    other, _ = run("curation.mix", {**config, "seed": 6}, put(a), put(b))
    assert documents(other) != documents(first)


def test_a_larger_mix_holds_the_smaller_one(put: Put, run: Run) -> None:
    given = put(texts("a", 100))
    small, large = (
        {d.id for d in documents(run("curation.mix", {"total": n}, given)[0])} for n in (20, 50)
    )

    assert small < large


def test_caps_of_tasks_and_sources(put: Put, run: Run) -> None:
    """30 conversations of 3 tasks; 4 of each task are left, and 10 of these 12."""
    _, report = run("curation.mix", {"task_cap": 4}, put(talks("t", 30)))
    assert report["sources"][0]["records_after_caps"] == 12

    config = {"task_cap": 4, "cap": 10}
    files, report = run("curation.mix", config, put(talks("t", 30)))

    mixed = conversations(files)
    assert len(mixed) == 10
    assert max(Counter(c.metadata["task"] for c in mixed).values()) <= 4
    assert report["sources"][0]["records_after_caps"] == 10


def test_plain_text_among_instructions(put: Put, run: Run) -> None:
    config = {"pretraining_share": 0.2}
    files, report = run("curation.mix", config, put(talks("t", 80)), put(texts("a", 500)))

    assert (len(conversations(files)), len(documents(files))) == (80, 20)
    assert report["document_share"] == 0.2


def test_a_source_of_both_kinds_has_no_plain_share(put: Put, run: Run) -> None:
    with pytest.raises(ConfigError, match="holds 5 documents and 4 conversations"):
        run("curation.mix", {"pretraining_share": 0.5}, put(texts("a", 5), talks("t", 4)))


@pytest.mark.parametrize("unit", ["tokens", "characters"])
def test_totals_in_text_come_within_half_a_record(unit: str, put: Put, run: Run) -> None:
    config = {"unit": unit, "total": 500, "group_by": "source"}
    _, report = run("curation.mix", config, put(texts("a", 90)), put(texts("b", 60)))

    longest = 9 if unit == "tokens" else 22
    for source in report["sources"]:
        assert abs(source["drawn"] - source["planned"]) <= longest / 2
    assert report["planned"] == 500


def test_curricula(put: Put, run: Run) -> None:
    given = put(talks("t", 40)), put(texts("a", 40))
    files, _ = run("curation.mix", {"order": "length"}, *given)
    lengths = [len(d.text) for d in documents(files)]
    assert lengths == sorted(lengths)

    config = {"order": "score", "score_field": "score", "descending": True}
    files, _ = run("curation.mix", config, given[0])
    scores = [int(c.metadata["score"]) for c in conversations(files)]
    assert scores == sorted(scores, reverse=True)

    config = {
        "order": "phases",
        "sources": [{"name": "late", "source": "a", "phase": 2}, {"name": "early", "source": "b"}],
    }
    files, report = run(
        "curation.mix", config, put(texts("a", 20), talks("x", 2)), put(texts("b", 20))
    )
    phases = [d.metadata["mix_source"] for d in documents(files)]
    assert phases == ["early"] * 20 + ["late"] * 20
    assert report["records_without_source"] == 2

    files, _ = run("curation.mix", {"order": "input"}, given[1])
    assert [d.id for d in documents(files)] == [f"a{i}" for i in range(40)]
    config = {"order": "input", "sources": [{"name": "a", "epochs": 2}]}
    files, _ = run("curation.mix", config, put(texts("a", 3)))
    assert [d.id for d in documents(files)] == ["a0", "a1", "a2", "a0~1", "a1~1", "a2~1"]


def test_what_does_not_exist_is_named(put: Put, run: Run) -> None:
    given = put(texts("a", 12))

    with pytest.raises(ConfigError, match="source 'wiki' fits 0 of 12 records"):
        run("curation.mix", {"sources": [{"name": "wiki", "source": "wiki"}]}, given)
    with pytest.raises(ConfigError, match="source 'x' names input 1; there are 1"):
        run("curation.mix", {"sources": [{"name": "x", "input": 1}]}, given)
    with pytest.raises(ConfigError, match="record 'a0' has quality=None in its metadata"):
        run("curation.mix", {"order": "score", "score_field": "quality"}, given)
    with pytest.raises(ConfigError, match="size=13 is more than the 12 records"):
        run("curation.subset", {"size": 13}, given)


def test_foreign_files_are_read_and_others_refused(run: Run, tmp_path: Path) -> None:
    alpaca = tmp_path / "alpaca.json"
    alpaca.write_text(json.dumps([{"instruction": f"Say {i}", "output": f"{i}"} for i in range(5)]))
    files, _ = run("curation.mix", {}, f"path:{alpaca}")
    assert len(conversations(files)) == 5

    pairs = tmp_path / "pairs"
    pairs.mkdir()
    write_records(pairs / "pairs.parquet", [Preference("p", (user("?"),), "a", "b")])
    with pytest.raises(InvalidInputError, match="Preference records; accepted: documents"):
        run("curation.mix", {}, f"path:{pairs / 'pairs.parquet'}")


def test_a_subset_keeps_the_proportions(put: Put, run: Run) -> None:
    """60 English, 30 Chinese, 10 of another source: a fifth is 12, 6 and 2, in their order."""
    given = put(
        texts("a", 60, language="en")
        + texts("a", 30, language="zh")
        + texts("b", 10, language="en")
    )
    files, report = run("curation.subset", {"share": 0.2}, given)

    chosen = documents(files)
    assert Counter((d.source, d.language) for d in chosen) == {
        ("a", "en"): 12, ("a", "zh"): 6, ("b", "en"): 2,
    }  # fmt: skip
    assert all(not d.metadata for d in chosen)
    positions = {(d.id, d.language): i for i, d in enumerate(_all(given_files=run, given=given))}
    assert [positions[d.id, d.language] for d in chosen] == sorted(
        positions[d.id, d.language] for d in chosen
    )
    assert [source["name"] for source in report["sources"]] == ["a/en", "a/zh", "b/en"]


def _all(*, given_files: Run, given: str) -> list[Document]:
    files, _ = given_files("curation.subset", {"share": 1.0}, given)
    return documents(files)


def test_small_buckets_change_nothing(
    put: Put, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same bytes however little memory there is; a second store, so that nothing is found."""
    given = texts("a", 500) + texts("b", 77)
    config = {"seed": 3, "group_by": "source", "total": 900}
    files, _ = run("curation.mix", config, put(given))
    monkeypatch.setattr(writing, "_BUCKET_CHARACTERS", 2000)

    settings = Settings(state_dir=tmp_path / "other")
    store = open_store(
        settings.store_url, cache_dir=settings.cache_dir, cache_bytes=settings.cache_bytes
    )
    write_records(tmp_path / "documents.parquet", given)
    reference = f"path:{tmp_path / 'documents.parquet'}"
    again, cached = run_stage(
        STAGE["curation.mix"], config, {"datasets": [reference]}, store=store, settings=settings
    )
    assert not cached
    assert (
        store.read_bytes(again.id, "documents.parquet")
        == (files / "documents.parquet").read_bytes()
    )


@hypothesis_settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    total=st.integers(1, 150),
    temperature=st.sampled_from([None, 0.5, 1.0, 2.0, 10.0]),
    seed=st.integers(0, 2**64 - 1),
)
def test_counts_are_exact_for_any_mix(
    sizes: list[int], total: int, temperature: float | None, seed: int, put: Put, run: Run
) -> None:
    given_ids = [put(texts(f"s{i}-", size)) for i, size in enumerate(sizes)]
    config = {"total": total, "temperature": temperature, "seed": seed}
    files, report = run("curation.mix", config, *given_ids)

    counts = Counter(d.metadata["mix_source"] for d in documents(files))
    assert sum(counts.values()) == total
    assert {s["name"]: s["planned"] for s in report["sources"] if s["planned"]} == dict(counts)
    # No record is taken twice more often than another of its source.
    for name in counts:
        times = Counter(d.text for d in documents(files) if d.metadata["mix_source"] == name)
        size = sizes[int(name.removeprefix("input"))]
        spread = max(times.values()) - (min(times.values()) if len(times) == size else 0)
        assert spread <= 1
