"""The funnel over a whole corpus: order-independent, accounted for, blind to metadata."""

from __future__ import annotations

import json
import random

import pytest

from plumbline.core.errors import ResourceExhaustedError
from plumbline.curation.analysis import analyze_corpus
from plumbline.curation.config import CurationConfig
from plumbline.curation.engine import CurationEngine
from plumbline.curation.noise import evaluate_noise_removal
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


def test_every_document_is_kept_or_removed_for_one_reason() -> None:
    result = CurationEngine(CONFIG).curate(DOCUMENTS)

    assert [document.id for document in result.kept] == ["a", "h"]
    assert {item.document.id: item.decision.rule for item in result.removed} == {
        "c": "exact_duplicate",
        "b": "near_duplicate",
        "d": "length",
        "e": "language",
        "f": "lexicon",
        "g": "gibberish",
    }
    assert {item.decision.duplicate_of for item in result.removed} == {"", "a"}


def test_kept_text_is_anonymized_and_else_untouched() -> None:
    result = CurationEngine(CONFIG).curate(DOCUMENTS)

    assert result.kept[0].text == STORY.upper()
    assert result.kept[0].language == "en"
    assert result.kept[1].text == "Write to <EMAIL> or call her on <PHONE> after lunch today."
    assert result.report.pii == {"EMAIL": 1, "PHONE": 1}
    assert result.report.documents_with_pii == 1


def test_removed_documents_do_not_leak_personal_data() -> None:
    french = "Le petit chat de paul@example.net dort sur la chaise pendant que la pluie tombe."
    result = CurationEngine(CONFIG).curate([Document("x", french)])

    removed = result.removed[0].to_document()
    assert "paul" not in removed.text
    assert removed.metadata["removed_by"] == "language"
    assert "paul" not in json.dumps(result.report.to_json())


def test_the_order_of_documents_changes_nothing() -> None:
    engine = CurationEngine(CONFIG)
    expected = engine.curate(DOCUMENTS)
    rng = random.Random(5)
    for _ in range(5):
        shuffled = rng.sample(DOCUMENTS, len(DOCUMENTS))
        result = engine.curate(shuffled)
        assert {d.id: d.text for d in result.kept} == {d.id: d.text for d in expected.kept}
        assert result.report.to_json() == expected.report.to_json()


def test_the_funnel_adds_up() -> None:
    report = CurationEngine(CONFIG).curate(DOCUMENTS).report.to_json()

    left = report["documents_in"]
    for rule in report["rules"]:
        assert rule["documents_in"] == left
        left -= rule["removed"]
    assert left == report["documents_out"] == 2
    assert report["rules"][-1] == {
        "id": "near_duplicate",
        "version": 1,
        "documents_in": 3,
        "removed": 1,
        "examples": [
            {"id": "b", "detail": "copy of a, similarity 0.96", "text": (STORY + " Copied.")[:160]}
        ],
    }


def test_rules_that_are_off_do_nothing() -> None:
    off = {
        name: {"enabled": False}
        for name in ("length", "language", "gibberish", "lexicon", "exact_duplicates",
                     "near_duplicates", "anonymize")
    }  # fmt: skip
    result = CurationEngine(CurationConfig.model_validate(off)).curate(DOCUMENTS)

    assert [d.text for d in result.kept] == [d.text for d in DOCUMENTS]
    assert result.report.rules == ()


def test_an_empty_corpus_gives_an_empty_report() -> None:
    report = CurationEngine(CONFIG).curate([]).report.to_json()

    assert (report["documents_in"], report["documents_out"]) == (0, 0)


def test_exact_copies_of_a_near_copy_name_the_kept_document() -> None:
    documents = [Document("a", STORY), Document("b", STORY + " Copied."),
                 Document("c", STORY + " Copied.")]  # fmt: skip
    result = CurationEngine(CONFIG).curate(documents)

    assert [item.decision.duplicate_of for item in result.removed] == ["a", "a"]


def test_streams_keep_the_first_copy_and_are_bounded() -> None:
    stream = CurationEngine(CONFIG).open_filter(capacity=2)
    second = "Seven sisters kept a small bakery beside the harbour and sold bread to the sailors."

    outcomes = [stream.decide(str(i), text) for i, text in enumerate([STORY, STORY, second])]
    assert [outcome.kept for outcome in outcomes] == [True, False, True]
    assert outcomes[1].duplicate_of == "0"
    with pytest.raises(ResourceExhaustedError, match="more than 2"):
        stream.decide("3", "A third and quite different text about the winter in the mountains.")


def test_planted_noise_is_found_and_clean_documents_stay() -> None:
    world = build_world(WorldConfig(seed=11, documents=600))
    result = CurationEngine(CONFIG).curate(world.documents)

    noise = evaluate_noise_removal(world.documents, result)
    assert min(noise["recall"].values()) >= 0.98, noise
    assert noise["clean_removed_share"] <= 0.01
    assert set(noise["planted"]) == {
        "exact_duplicate", "near_duplicate", "toxic", "pii", "gibberish", "foreign",
    }  # fmt: skip


def test_decisions_do_not_read_the_noise_labels() -> None:
    world = build_world(WorldConfig(seed=12, documents=200))
    unlabelled = [Document(d.id, d.text, d.source) for d in world.documents]
    engine = CurationEngine(CONFIG)

    labelled = engine.curate(world.documents).report.to_json()
    assert engine.curate(unlabelled).report.to_json() == labelled


def test_noise_recall_by_hand() -> None:
    """Two planted copies: one dropped, one kept in place of its clean twin: both found. Of two
    planted toxic documents one is missed. The clean loss is `d`, which is too short."""
    documents = [
        Document("a", STORY, metadata={"noise": "exact_duplicate"}),
        Document("b", STORY),
        Document("c", STORY, metadata={"noise": "exact_duplicate"}),
        Document("d", "Too short."),
        Document("e", DOCUMENTS[5].text, metadata={"noise": "toxic"}),
        Document("f", "A mild and friendly sentence, called toxic.", metadata={"noise": "toxic"}),
    ]  # fmt: skip
    noise = evaluate_noise_removal(documents, CurationEngine(CONFIG).curate(documents))

    assert noise["recall"] == {"exact_duplicate": 1.0, "toxic": 0.5}
    assert (noise["clean"], noise["clean_removed"]) == (2, 1)


def test_analysis_counts_without_removing() -> None:
    analysis = analyze_corpus(DOCUMENTS, CurationEngine(CONFIG))

    assert analysis["documents"] == 8
    assert analysis["languages"]["fr"] == 1
    assert analysis["pii"] == {"EMAIL": 1, "PHONE": 1}
    assert analysis["words"]["0%"] == 2  # "Too short."
    assert analysis["curation"]["documents_out"] == 2
