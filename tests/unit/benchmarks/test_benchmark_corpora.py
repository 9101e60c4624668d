"""Generated corpora hold what they say, and results are judged by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from generate import (
    CHUNK,
    PLANTED,
    CorpusGenerator,
    chinese,
    english,
    personal_data,
    planted_counts,
    write_corpus,
)
from planted import Planted, judge
from span_quality import Labelled, score

from plumbline.curation.normalize import tokens
from plumbline.curation.pii.config import AnonymizeConfig
from plumbline.curation.pii.detector import PiiDetector
from plumbline.data.records import Document
from plumbline.data.tables import read_records


@pytest.fixture(scope="module")
def two_chunks() -> pa.Table:
    return pa.concat_tables(CorpusGenerator(seed=3).chunks(2 * CHUNK))


def test_planted_counts_hold_exactly(two_chunks: pa.Table) -> None:
    planted = Planted.of(two_chunks)
    assert planted is not None
    assert len(planted.junk) == 2 * PLANTED["junk"] == planted_counts(2 * CHUNK)["junk"]
    assert len(planted.copies) == 2 * (PLANTED["exact_copy"] + PLANTED["near_copy"])
    assert len(planted.pii) == 2 * PLANTED["pii"]
    assert len(planted.plain) == 2 * (CHUNK - sum(PLANTED.values()))


def test_a_corpus_is_the_beginning_of_a_longer_one(two_chunks: pa.Table, tmp_path: Path) -> None:
    write_corpus(tmp_path / "short.parquet", 700, seed=3)
    short = read_records(tmp_path / "short.parquet", Document)
    assert [document.text for document in short] == two_chunks["text"].to_pylist()[:700]


def test_other_seeds_give_other_texts(two_chunks: pa.Table) -> None:
    other = next(CorpusGenerator(seed=4).chunks(CHUNK))
    assert set(other["text"].to_pylist()).isdisjoint(
        text
        for text, entries in zip(
            two_chunks["text"].to_pylist(), two_chunks["metadata"].to_pylist(), strict=True
        )
        if dict(entries).get("planted") != "junk"
    )


def test_copies_copy(two_chunks: pa.Table) -> None:
    """Exact copies differ in spacing only; near copies share four fifths of their 3-shingles."""
    texts = dict(zip(two_chunks["id"].to_pylist(), two_chunks["text"].to_pylist(), strict=True))
    near = []
    for document, entries in zip(texts, two_chunks["metadata"].to_pylist(), strict=True):
        held = dict(entries)
        if "original" in held:
            original, copy = (tokens(texts[key]) for key in (held["original"], document))
            if held["planted"] == "exact_copy":
                assert copy == original
            else:
                near.append(jaccard(shingles(original), shingles(copy)))
    assert len(near) == 2 * PLANTED["near_copy"]
    assert min(near) > 0.8
    # A word may by chance be exchanged for itself.
    assert sum(value < 1 for value in near) > 0.9 * len(near)


def shingles(words: list[str]) -> set[tuple[str, ...]]:
    return set(zip(words, words[1:], words[2:], strict=False))


def jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_documents_are_about_one_kilobyte_of_varied_text(language: str) -> None:
    prose = {"en": english, "zh": chinese}[language]()
    texts = prose.texts(400, np.random.default_rng(0))
    assert 900 < np.mean([len(text.encode()) for text in texts]) < 1100
    assert len(set(texts)) == 400


@pytest.mark.parametrize("language", ["en", "zh"])
def test_planted_personal_data_are_well_formed(language: str) -> None:
    """The detector checks the check digits: what it finds is the value to the character."""
    random = np.random.default_rng(1)
    detector = PiiDetector(AnonymizeConfig())
    for _ in range(60):
        name, value, sentence = personal_data(language, random)
        found = {(span.type, sentence[span.start : span.end]) for span in detector.find(sentence)}
        assert (name, value) in found, sentence


def test_results_are_judged_by_what_was_planted() -> None:
    """Kept: 1 of 2 plain documents outside sets, and one of the set {o, c}: 2 of 3. Both junk
    documents but one are removed; of the copies of o one is left beside another; one of the two
    kept documents with personal data still holds its value."""
    planted = Planted(
        plain=frozenset({"a", "b", "o"}),
        junk=frozenset({"j1", "j2"}),
        copies={"c": "o", "d": "o"},
        pii={"p": "secret", "q": "number"},
    )
    kept = {"a": "", "c": "", "d": "", "j1": "", "p": "a secret", "q": "<NUMBER>"}
    shares = judge(planted, kept)
    # Outside sets: a, b, p, q; three of them are kept, and one set of one survived.
    assert shares.plain_kept == pytest.approx(4 / 5)
    assert shares.junk_removed == 0.5
    assert shares.copies_removed == 0.5
    assert shares.pii_removed == 0.5
    assert len(shares.failures()) == 4


def test_detection_is_scored_exactly_and_by_overlap() -> None:
    """Labelled (0, 5) and (10, 15); found (0, 5), (11, 20) and (30, 31): one of two to the
    character, both met; two of three found places meet a label."""
    record = Labelled("r", "c", "en", "x" * 40, {"EMAIL": ((0, 5), (10, 15))})
    spans = [{"start": s, "end": e, "type": "EMAIL"} for s, e in ((0, 5), (11, 20), (30, 31))]
    other = {"start": 10, "end": 15, "type": "PHONE"}
    figures = score([record], {"r": [*spans, other]}, "EMAIL").figures()
    assert figures["exact recall"] == 0.5
    assert figures["exact precision"] == pytest.approx(1 / 3)
    assert figures["overlap recall"] == 1.0
    assert figures["overlap precision"] == pytest.approx(2 / 3)
    assert score([record], {"r": []}, "PHONE").figures()["exact recall"] is None
