"""The stage over a real store: what goes, what stays, and what is said of every sample."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import ArtifactStore, Lineage, open_store
from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.curation.tasks import STAGES
from plumbline.data.records import Conversation, Document, Prompt, assistant, system, user
from plumbline.data.tables import read_records, write_records

STAGE = {stage.name: stage for stage in STAGES}["curation.decontaminate"]
QUESTION = (
    "A farmer has seventeen sheep and all but nine of them run away over the hill; "
    "how many sheep does the farmer have left on the meadow in the evening?"
)
ANSWER = "Nine sheep are left, because all but nine ran away."
LAW = "中华人民共和国公民在法律面前一律平等，任何公民享有宪法和法律规定的权利。"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return open_store(
        settings.store_url, cache_dir=settings.cache_dir, cache_bytes=settings.cache_bytes
    )


def prose(seed: int, words: int) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("abcdefgh", k=5)) for _ in range(words))


def put(store: ArtifactStore, tmp_path: Path, kind: str, name: str, records: list[Any]) -> str:
    directory = tmp_path / f"{kind}-{name}-{len(records)}"
    directory.mkdir()
    write_records(directory / name, records)
    return store.put(kind, directory, lineage=Lineage(stage="import")).id


def run(
    store: ArtifactStore, settings: Settings, config: dict[str, Any], inputs: dict[str, list[str]]
) -> tuple[Path, dict[str, Any]]:
    artifact, _ = run_stage(STAGE, config, inputs, store=store, settings=settings)
    files = store.materialise(artifact.id)
    return files, json.loads((files / "report.json").read_text())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def corpus(store: ArtifactStore, tmp_path: Path) -> str:
    documents = [
        Document("fair", prose(1, 100), source="web"),
        Document("leak", f"{prose(2, 60)} {QUESTION} {prose(3, 60)}", source="forum"),
        Document("法", f"普法知识问答：{LAW}请背诵。", source="web", language="zh"),
        Document("phrase", "All but nine of them run away over the hill, she said.", source="web"),
    ]
    return put(store, tmp_path, "corpus", "documents.parquet", documents)


@pytest.fixture
def prompts(store: ArtifactStore, tmp_path: Path) -> str:
    samples = [
        Prompt("sheep", (system("Be brief."), user(QUESTION))),
        Prompt("law", (user(LAW),)),
        Prompt("unseen", (user(prose(9, 30)),)),
        Prompt("short", (user("How many sheep?"),)),
    ]
    return put(store, tmp_path, "prompts", "prompts.parquet", samples)


def test_whole_documents_go_and_samples_are_sorted(
    store: ArtifactStore, settings: Settings, corpus: str, prompts: str
) -> None:
    files, report = run(store, settings, {}, {"corpus": [corpus], "evaluation": [prompts]})

    kept = read_records(files / "documents.parquet", Document)
    # "phrase" shares eleven words, which is reported and too common to remove.
    assert [document.id for document in kept] == ["fair", "phrase"]
    assert report["documents_contaminated"] == 3
    assert report["documents_removed"] == 2
    (found,) = report["evaluation"]
    assert found["subsets"] == {
        "clean": ["unseen"],
        "not_clean": ["sheep", "law"],
        "not_dirty": ["unseen"],
        "dirty": ["sheep", "law"],
    }
    assert found["shares"] == {"sheep": 1.0, "law": 1.0, "unseen": 0.0}
    assert found["too_short"] == ["short"]
    assert found["documents"] == ["leak", "phrase", "法"]
    by_id = {row["sample"]: row for row in lines(files / "samples.jsonl")}
    assert by_id["sheep"]["document_ids"] == ["leak", "phrase"]
    assert by_id["sheep"]["longest_match"] == by_id["sheep"]["words"] == 30
    listed = {row["id"]: row for row in lines(files / "contaminated.jsonl")}
    assert {key: row["removed"] for key, row in listed.items()} == {
        "leak": True, "法": True, "phrase": False,
    }  # fmt: skip


def test_spans_are_cut_in_the_original_characters(
    store: ArtifactStore, settings: Settings, tmp_path: Path, prompts: str
) -> None:
    """Full-width letters before the match shift nothing."""
    before, after = f"Ｐ{prose(4, 20)}", prose(5, 20)
    document = Document("x", f"{before} {QUESTION} {after}", metadata={"k": "v"})
    corpus = put(store, tmp_path, "corpus", "documents.parquet", [document])
    config = {"remove": "spans", "window_characters": 0, "min_piece_characters": 10}
    files, report = run(store, settings, config, {"corpus": [corpus], "evaluation": [prompts]})

    pieces = read_records(files / "documents.parquet", Document)
    assert [(piece.id, piece.text) for piece in pieces] == [("x#0", before), ("x#1", f"? {after}")]
    assert pieces[1].metadata == {"k": "v", "decontaminated_piece": "1"}
    assert (report["documents_cut"], report["documents_removed"]) == (1, 0)
    (listed,) = lines(files / "contaminated.jsonl")
    start, end = listed["matches"][0]["start"], listed["matches"][0]["end"]
    assert document.text[start:end] == QUESTION.rstrip("?")


def test_nothing_is_removed_where_only_a_report_is_wanted(
    store: ArtifactStore, settings: Settings, corpus: str, prompts: str
) -> None:
    files, report = run(
        store, settings, {"remove": "nothing"}, {"corpus": [corpus], "evaluation": [prompts]}
    )

    assert len(read_records(files / "documents.parquet", Document)) == 4
    assert (report["documents_contaminated"], report["documents_removed"]) == (3, 0)


def test_collisions_are_all_or_nothing(
    store: ArtifactStore, settings: Settings, corpus: str, prompts: str
) -> None:
    config = {"method": "collision"}
    _, report = run(store, settings, config, {"corpus": [corpus], "evaluation": [prompts]})

    assert report["ngram"] == 13
    assert report["evaluation"][0]["subsets"]["dirty"] == ["sheep", "law"]
    assert report["documents_contaminated"] == 2


def test_conversations_go_whole(
    store: ArtifactStore, settings: Settings, tmp_path: Path, prompts: str
) -> None:
    records = [
        Conversation("leaked", (user(QUESTION), assistant(ANSWER))),
        Conversation("own", (user("Who are you?"), assistant("A language model."))),
    ]
    given = put(store, tmp_path, "conversations", "conversations.parquet", records)
    inputs = {"corpus": [given], "evaluation": [prompts]}
    files, _ = run(store, settings, {}, inputs)

    kept = read_records(files / "conversations.parquet", Conversation)
    assert [record.id for record in kept] == ["own"]
    with pytest.raises(ConfigError, match="remove='spans' cuts documents into pieces"):
        run(store, settings, {"remove": "spans"}, inputs)


def test_evaluation_sets_come_from_data_files_too(
    store: ArtifactStore, settings: Settings, tmp_path: Path, corpus: str, prompts: str
) -> None:
    path = tmp_path / "riddles.jsonl"
    row = {"question_id": 7, "instruction": QUESTION, "output": ANSWER}
    path.write_text(json.dumps(row) + "\n")
    inputs = {"corpus": [corpus], "evaluation": [f"path:{path}", prompts]}
    _, report = run(store, settings, {}, inputs)

    riddles, others = report["evaluation"]
    assert riddles["name"] == "riddles"
    assert others["name"].startswith("prompts-")
    # The answer is part of the sample, and was not leaked.
    (share,) = riddles["shares"].values()
    assert share == pytest.approx(30 / 40, abs=0.03)


def test_benchmarks_of_any_layout_are_read_by_their_keys(
    store: ArtifactStore, settings: Settings, tmp_path: Path, corpus: str
) -> None:
    path = tmp_path / "bench.jsonl"
    rows = [{"qid": 7, "turns": [QUESTION, "And why is that so?"]}, {"qid": 8, "turns": [LAW]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    inputs = {"corpus": [corpus], "evaluation": [f"path:{path}"]}
    config = {"text_fields": ["turns"], "id_field": "qid"}
    _, report = run(store, settings, config, inputs)

    (found,) = report["evaluation"]
    assert found["name"] == "bench"
    assert found["shares"] == {"7": pytest.approx(30 / 35), "8": 1.0}
    with pytest.raises(InvalidInputError, match=r"bench\.jsonl:1: no text in the row; text is"):
        run(store, settings, {"text_fields": ["question"]}, inputs)


def test_training_files_say_what_they_hold(
    store: ArtifactStore, settings: Settings, tmp_path: Path, prompts: str
) -> None:
    path = tmp_path / "alpaca.json"
    rows = [
        {"instruction": QUESTION, "output": "9"},
        {"instruction": "Add 1 and 1.", "output": "2"},
    ]
    path.write_text(json.dumps(rows))
    files, report = run(store, settings, {}, {"corpus": [f"path:{path}"], "evaluation": [prompts]})

    (kept,) = read_records(files / "conversations.parquet", Conversation)
    assert kept.messages[0].content == "Add 1 and 1."
    assert report["read"]["formats"] == {"alpaca": 2}


def test_splits_of_prompts_are_evaluation_sets(
    store: ArtifactStore, settings: Settings, tmp_path: Path, corpus: str
) -> None:
    world = tmp_path / "world"
    world.mkdir()
    write_records(world / "documents.parquet", [Document("unused", QUESTION)])
    for split, text in (("heldout", QUESTION), ("train", LAW), ("rl", prose(7, 30))):
        write_records(world / f"prompts_{split}.parquet", [Prompt(split, (user(text),))])
    given = store.put("corpus", world, lineage=Lineage(stage="import")).id
    inputs = {"corpus": [corpus], "evaluation": [given]}
    _, report = run(store, settings, {"splits": ["heldout", "rl"]}, inputs)

    names = [found["name"].partition(".")[2] for found in report["evaluation"]]
    assert names == ["heldout", "rl"]
    assert [found["shares"] for found in report["evaluation"]] == [{"heldout": 1.0}, {"rl": 0.0}]


def test_the_same_inputs_give_the_same_bytes(
    store: ArtifactStore, settings: Settings, tmp_path: Path, corpus: str, prompts: str
) -> None:
    inputs = {"corpus": [corpus], "evaluation": [prompts]}
    first, _ = run(store, settings, {}, inputs)
    other = Settings(state_dir=tmp_path / "other")
    again = open_store(other.store_url, cache_dir=other.cache_dir, cache_bytes=other.cache_bytes)
    for artifact in (corpus, prompts):
        kind = store.get(artifact).kind
        again.put(kind, store.materialise(artifact), lineage=Lineage(stage="import"))
    second, _ = run(again, other, {}, inputs)

    names = sorted(path.name for path in first.iterdir() if path.name != "run.json")
    assert "samples.jsonl" in names
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_subsets_may_not_overlap() -> None:
    from plumbline.curation.decontamination.config import DecontaminateConfig

    with pytest.raises(ValueError, match=r"dirty_from=0\.3 is below clean_below=0\.5"):
        DecontaminateConfig(clean_below=0.5, dirty_from=0.3)
