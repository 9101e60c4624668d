"""The funnel over a whole corpus: order-independent, accounted for, blind to metadata."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from plumbline.core.errors import ConfigError, ResourceExhaustedError
from plumbline.curation.config import CurationConfig
from plumbline.curation.engine import CurationEngine
from plumbline.data.records import Document
from plumbline.world.config import WorldConfig
from plumbline.world.generator import build_world

CONFIG = CurationConfig.model_validate({"language": {"languages": ["en"]}})
STORY = (
    "The old miller walked along the river every morning and counted the boats that came in, "
    "because his daughter had promised to return before the first snow."
)
DOCUMENTS = [
    Document("c", STORY),
    Document("a", STORY.upper()),
    Document("b", STORY + " Copied."),
    Document("d", "Too short."),
    Document("e", "Le petit chat dort sur la chaise pendant que la pluie tombe doucement."),
    Document("f", "You are a disgusting moron and nobody at this table wants you here."),
    Document("g", "xkcd qzrtp wvbnm " * 10),
    Document("h", "Write to anna@example.net or call her on +1 212 555 1234 after lunch today."),
]


Curate = Callable[..., Any]


def reasons(removed: list[Document]) -> dict[str, str]:
    return {document.id: document.metadata["removed_by"] for document in removed}


def test_every_document_is_kept_or_removed_for_one_reason(curate_corpus: Curate) -> None:
    result = curate_corpus(DOCUMENTS, CONFIG)

    assert [document.id for document in result.kept] == ["a", "h"]
    assert reasons(result.removed) == {
        "c": "exact_duplicate",
        "b": "near_duplicate",
        "d": "length",
        "e": "language",
        "f": "lexicon",
        "g": "gibberish",
    }
    assert [document.id for document in result.removed] == list("cbdefg")
    assert {d.metadata.get("duplicate_of", "") for d in result.removed} == {"", "a"}


def test_kept_text_is_anonymized_and_else_untouched(curate_corpus: Curate) -> None:
    result = curate_corpus(DOCUMENTS, CONFIG)

    assert result.kept[0].text == STORY.upper()
    assert result.kept[0].language == "en"
    assert result.kept[1].text == "Write to <EMAIL> or call her on <PHONE> after lunch today."
    assert result.report["pii"] == {"EMAIL": 1, "PHONE": 1}
    assert result.report["documents_with_pii"] == 1


def test_removed_documents_do_not_leak_personal_data(curate_corpus: Curate) -> None:
    french = "Le petit chat de paul@example.net dort sur la chaise pendant que la pluie tombe."
    result = curate_corpus([Document("x", french, metadata={"page": "3"})], CONFIG)

    assert "paul" not in result.removed[0].text
    assert result.removed[0].metadata["removed_by"] == "language"
    assert result.removed[0].metadata["removed_code"] == "LANGUAGE"
    assert result.removed[0].metadata["page"] == "3"
    assert "paul" not in json.dumps(result.report)


def test_the_order_of_documents_changes_nothing(curate_corpus: Curate) -> None:
    expected = curate_corpus(DOCUMENTS, CONFIG)
    rng = random.Random(5)
    for _ in range(5):
        result = curate_corpus(rng.sample(DOCUMENTS, len(DOCUMENTS)), CONFIG)
        assert {d.id: d.text for d in result.kept} == {d.id: d.text for d in expected.kept}
        assert result.report == expected.report


@pytest.mark.parametrize("shard_documents", [1, 37, 200])
def test_shards_and_batches_change_not_one_byte(
    curate_corpus: Curate, shard_documents: int
) -> None:
    """Planted copies lie in other shards than their originals."""
    documents = [*build_world(WorldConfig(seed=12, documents=150)).documents[:240], *DOCUMENTS]
    cut = CONFIG.model_copy(
        update={"sharding": CONFIG.sharding.model_copy(update={"batch_documents": 7})}
    )

    whole = curate_corpus(documents, CONFIG)
    result = curate_corpus(documents, cut, shard_documents=shard_documents)

    assert whole.report["quarantined"] == 0
    assert {"exact_duplicate", "near_duplicate"} <= set(reasons(whole.removed).values())
    for name in ("documents.parquet", "removed.parquet", "quarantined.jsonl"):
        assert (result.directory / name).read_bytes() == (whole.directory / name).read_bytes()
    assert result.report == whole.report


def test_the_funnel_adds_up(curate_corpus: Curate) -> None:
    report = curate_corpus(DOCUMENTS, CONFIG).report

    left = report["documents_in"]
    for rule in report["rules"]:
        assert rule["documents_in"] == left
        assert sum(rule["codes"].values()) == rule["removed"]
        left -= rule["removed"]
    assert left == report["documents_out"] == 2
    assert report["rules"][-1] == {
        "id": "near_duplicate",
        "version": 2,
        "documents_in": 3,
        "removed": 1,
        "codes": {"NEAR_DUPLICATE": 1},
        "examples": [
            {"id": "b", "detail": "copy of a, similarity 0.96", "text": (STORY + " Copied.")[:160]}
        ],
    }


def test_rules_that_are_off_do_nothing(curate_corpus: Curate) -> None:
    off = {
        name: {"enabled": False}
        for name in ("length", "language", "gibberish", "quality", "repetition", "lexicon",
                     "exact_duplicates", "near_duplicates", "anonymize")
    }  # fmt: skip
    result = curate_corpus(DOCUMENTS, CurationConfig.model_validate(off))

    assert [d.text for d in result.kept] == [d.text for d in DOCUMENTS]
    assert result.report["rules"] == []


def test_an_empty_corpus_gives_an_empty_report(curate_corpus: Curate) -> None:
    report = curate_corpus([], CONFIG).report

    assert (report["documents_in"], report["documents_out"]) == (0, 0)


def test_exact_copies_of_a_near_copy_name_the_kept_document(curate_corpus: Curate) -> None:
    documents = [Document("a", STORY), Document("b", STORY + " Copied."),
                 Document("c", STORY + " Copied.")]  # fmt: skip
    result = curate_corpus(documents, CONFIG)

    assert [d.id for d in result.kept] == ["a"]
    assert reasons(result.removed)["b"] == "near_duplicate"
    assert {d.metadata["duplicate_of"] for d in result.removed} <= {"a", "b"}


def test_short_chinese_documents_are_compared_exactly(curate_corpus: Curate) -> None:
    off = {name: {"enabled": False} for name in ("length", "gibberish", "language")}
    config = CurationConfig.model_validate(off)
    documents = [Document(str(i), text) for i, text in enumerate(["猫", "狗", "猫"])]

    assert [d.text for d in curate_corpus(documents, config).kept] == ["猫", "狗"]


def test_streams_keep_the_first_copy_and_are_bounded() -> None:
    stream = CurationEngine(CONFIG).open_filter(capacity=2)
    second = "Seven sisters kept a small bakery beside the harbour and sold bread to the sailors."

    outcomes = stream.decide(list(zip("012", [STORY, STORY, second], strict=True)))
    assert [outcome.kept for outcome in outcomes] == [True, False, True]
    assert outcomes[1].duplicate_of == "0"
    third = "A third and quite different text about the winter in the mountains."
    with pytest.raises(ResourceExhaustedError, match="more than 2"):
        stream.decide([("3", third)])


def test_planted_noise_is_found_and_clean_documents_stay(curate_corpus: Curate) -> None:
    world = build_world(WorldConfig(seed=11, documents=600))
    noise = curate_corpus(world.documents, CONFIG, shard_documents=300).report["noise"]

    assert min(noise["recall"].values()) >= 0.98, noise
    assert noise["clean_removed_share"] <= 0.01
    assert set(noise["planted"]) == {
        "exact_duplicate", "near_duplicate", "toxic", "pii", "gibberish", "foreign",
    }  # fmt: skip


def test_decisions_do_not_read_the_noise_labels(curate_corpus: Curate) -> None:
    world = build_world(WorldConfig(seed=12, documents=200))
    unlabelled = [Document(d.id, d.text, d.source) for d in world.documents]

    labelled = curate_corpus(world.documents, CONFIG).report
    del labelled["noise"]
    assert curate_corpus(unlabelled, CONFIG).report == labelled


def test_noise_recall_by_hand(curate_corpus: Curate) -> None:
    """Two planted copies: one dropped, one kept in place of its clean twin: both found. Of two
    planted toxic documents one is missed. The clean loss is `d`, which is too short."""
    documents = [
        Document("a", STORY, metadata={"noise": "exact_duplicate"}),
        Document("b", STORY),
        Document("c", STORY, metadata={"noise": "exact_duplicate"}),
        Document("d", "Too short."),
        Document("e", DOCUMENTS[5].text, metadata={"noise": "toxic"}),
        Document("f", "A mild and friendly sentence, called toxic.", metadata={"noise": "toxic"}),
    ]
    noise = curate_corpus(documents, CONFIG).report["noise"]

    assert noise["recall"] == {"exact_duplicate": 1.0, "toxic": 0.5}
    assert (noise["clean"], noise["clean_removed"]) == (2, 1)


def test_rules_of_one_name_are_refused() -> None:
    endpoint = {"name": "lexicon", "url": "http://127.0.0.1:9/"}
    with pytest.raises(ConfigError, match="more than one rule is named lexicon"):
        CurationEngine(CurationConfig.model_validate({"endpoints": [endpoint]}))
