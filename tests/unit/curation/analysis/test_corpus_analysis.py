"""The analysis of small corpora against figures counted by hand."""

from __future__ import annotations

import gc
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from plumbline.curation.analysis.figures import (
    BATCH_DOCUMENTS,
    DocumentFigures,
    cut_batches,
)
from plumbline.curation.analysis.identity import IdentityMatcher, parse_descriptors
from plumbline.curation.analysis.stage import CorpusAnalysis
from plumbline.curation.analysis.summary import octaves, percentile
from plumbline.curation.config import AnalyzeConfig
from plumbline.data.records import Document
from plumbline.data.tables import ROWS_PER_GROUP, read_records

TERMS = {
    "religion": {"all": ["Muslim", "Quaker"]},
    "race_ethnicity": {"white": [{"descriptor": "white", "ambiguous": True}], "zh": ["黑人"]},
}
MATCHER = IdentityMatcher(parse_descriptors(TERMS, where="test"), person_nouns=("men",))
CONFIG = AnalyzeConfig.model_validate({"erasure": {"min_mentions": 1}})

ENGLISH_1 = "She told the Muslim baker that her bread was the best in the whole long street."
ENGLISH_2 = "Two white men painted the white fence and they wrote to anna@example.net about it."
ENGLISH_3 = "The river was cold this morning, and boats came slowly out of the grey harbour fog."
CHINESE_1 = "他们说这位黑人老师讲课非常生动，学生都很喜欢在教室里听她讲历史故事。"
CHINESE_2 = "今天早上天气很好，公园里有很多人在散步、打太极拳，湖边的柳树也发芽了。"
SHORT = "Too short."
DOCUMENTS = [
    Document("a", ENGLISH_1, "web"),
    Document("b", ENGLISH_2, "web"),
    Document("c", ENGLISH_3, "web"),
    Document("d", CHINESE_1, "news"),
    Document("e", CHINESE_2, "news"),
    Document("f", SHORT, "news"),
    Document("g", ENGLISH_1.upper(), "copies"),
]
"""4 English, 2 Chinese, 1 undetermined; g copies a up to case."""


class LengthScorer:
    """Scores 0.9 for texts of 80 characters and more, else 0.1."""

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([0.9 if len(text) >= 80 else 0.1 for text in texts])


def analyze(
    documents: Iterable[Document], directory: Path, config: AnalyzeConfig = CONFIG, **options: Any
) -> dict[str, Any]:
    analysis = CorpusAnalysis(config, MATCHER, **options)
    shard = directory / "shard"
    shard.mkdir()
    analysis.add(documents, shard)
    return analysis.finish(directory / "documents.parquet")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return analyze(DOCUMENTS, tmp_path_factory.mktemp("analysis"), filters={"long": LengthScorer()})


def counts(shares: dict[str, Any]) -> dict[str, int]:
    return {name: int(share["count"]) for name, share in shares.items()}


def test_languages_and_sources(report: dict[str, Any]) -> None:
    found = {name: entry["documents"] for name, entry in report["languages"].items()}

    assert found == {"en": 4, "zh": 2, "und": 1}
    assert list(found) == ["en", "zh", "und"]
    assert report["languages"]["en"]["share"]["value"] == pytest.approx(4 / 7)
    assert report["documents"] == 7
    assert report["characters"] == sum(len(document.text) for document in DOCUMENTS)
    assert report["sources"] == {"copies": 1, "news": 3, "web": 3}


def test_pronouns_are_counted_by_document_and_language(report: dict[str, Any]) -> None:
    """English: she in a and g; they and it in b, so third person in three of four. `it` and
    `they` make b gendered, as the table counts they among the gendered ones."""
    english = report["pronouns"]["en"]
    assert counts(english["of_all"]) == {
        "she": 2, "he": 0, "unspecified": 1,
        "first_person": 0, "second_person": 0, "third_person": 3,
    }  # fmt: skip
    assert english["gendered"]["count"] == english["any_person"]["count"] == 3
    assert english["of_all"]["she"]["value"] == pytest.approx(2 / 4)
    assert english["of_those_with_any"]["she"]["value"] == pytest.approx(2 / 3)
    chinese = report["pronouns"]["zh"]["of_all"]
    assert counts(chinese) == {
        "she": 1, "he": 0, "unspecified": 1,
        "first_person": 0, "second_person": 0, "third_person": 1,
    }  # fmt: skip


def test_identity_terms_are_shares_of_their_axis(report: dict[str, Any]) -> None:
    english = report["identity"]["en"]
    axes = {axis["axis"]: axis for axis in english["axes"]}

    assert axes["religion"]["share"]["count"] == 2
    assert axes["race_ethnicity"]["share"]["value"] == pytest.approx(1 / 4)
    assert english["any_axis"]["count"] == 3
    (muslim,) = axes["religion"]["terms"]
    assert (muslim["term"], muslim["share_of_axis"]["value"]) == ("Muslim", 1.0)
    (chinese,) = report["identity"]["zh"]["axes"][0]["terms"]
    assert chinese["term"] == "黑人"


def test_personal_data_is_a_density(report: dict[str, Any]) -> None:
    email = report["pii"]["types"]["EMAIL"]

    assert (email["pieces"], email["documents"]["count"]) == (1, 1)
    assert email["per_1000_documents"] == pytest.approx(1000 / 7)
    assert email["per_1000_characters"] == pytest.approx(1000 / report["characters"])


def test_copies_and_rules(report: dict[str, Any]) -> None:
    assert report["exact_copies"]["count"] == 1
    removed = {(row["rule"], row["code"]): row["removed"]["count"] for row in report["rules"]}
    assert removed[("length", "TOO_SHORT")] == 1
    assert removed[("exact_duplicate", "EXACT_DUPLICATE")] == 1


def test_erasure_sees_the_copy(report: dict[str, Any]) -> None:
    """Of two documents on religion the copy goes, of all four English ones too: 1/2 - 1/4."""
    (row,) = [
        row
        for row in report["erasure"]["rows"]
        if (row["rule"], row["group"]) == ("exact_duplicate", "religion")
    ]
    assert row["difference"] == pytest.approx(0.25)


def test_toxicity_is_a_histogram(report: dict[str, Any]) -> None:
    """ENGLISH_1 (twice), 2 and 3 have 80 characters and more."""
    found = report["toxicity"]["filters"]["long"]

    assert [len(text) >= 80 for text in (ENGLISH_1, ENGLISH_2, ENGLISH_3)] == [False, True, True]
    assert found["at_least_threshold"]["count"] == 2
    assert found["histogram"][18] == 2 and found["histogram"][2] == 5
    assert sum(found["histogram"]) == 7


def test_lengths_by_hand() -> None:
    lengths = {1: 2, 5: 1, 9: 1}  # 1 1 5 9

    assert [percentile(lengths, p) for p in (0, 50, 51, 75, 100)] == [1, 1, 5, 5, 9]
    assert octaves({0: 1, 1: 2, 5: 1, 9: 1}) == [(1, 3), (2, 0), (4, 1), (8, 1)]
    assert octaves({}) == []


def test_the_table_holds_every_document(tmp_path: Path) -> None:
    analyze(DOCUMENTS, tmp_path)
    rows = {row.id: row for row in read_records(tmp_path / "documents.parquet", DocumentFigures)}

    assert list(rows) == list("abcdefg")
    assert (rows["b"].words, rows["b"].tokens) == (16, 16)
    assert (rows["e"].words, rows["e"].tokens) == (0, 31)
    assert rows["b"].pii == {"EMAIL": 1}
    assert rows["b"].identity_terms == ("race_ethnicity/white/white",)
    assert rows["d"].identity_axes == ("race_ethnicity",)
    assert (rows["g"].exact_duplicate, rows["g"].rule) == (True, "exact_duplicate")
    assert (rows["a"].exact_duplicate, rows["a"].rule, rows["a"].digest) == (
        False, "", rows["g"].digest,
    )  # fmt: skip
    assert (rows["f"].rule, rows["f"].code) == ("length", "TOO_SHORT")


def test_order_and_shards_change_nothing_in_the_report(
    tmp_path: Path, report: dict[str, Any]
) -> None:
    documents = random.Random(3).sample(DOCUMENTS, len(DOCUMENTS))
    parts = []
    for number, start in enumerate((0, 3, 5)):
        directory = tmp_path / str(number)
        directory.mkdir()
        part = CorpusAnalysis(CONFIG, MATCHER, {"long": LengthScorer()})
        part.add(documents[start : (3, 5, 7)[number]], directory)
        parts.append(part)
    first, *others = parts
    for other in others:
        first.merge(other)

    assert first.finish(tmp_path / "documents.parquet") == report
    rows = read_records(tmp_path / "documents.parquet", DocumentFigures)
    assert [row.id for row in rows] == [document.id for document in documents]


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    tables = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        analyze(DOCUMENTS, tmp_path / name)
        tables.append((tmp_path / name / "documents.parquet").read_bytes())

    assert tables[0] == tables[1]


def test_an_empty_corpus_has_a_report(tmp_path: Path) -> None:
    report = analyze([], tmp_path)

    assert (report["documents"], report["languages"], report["pronouns"]) == (0, {}, {})
    assert report["exact_copies"]["n"] == report["near_copies"]["share"]["n"] == 0


def test_a_document_that_is_far_too_long_is_not_read(tmp_path: Path) -> None:
    config = AnalyzeConfig.model_validate({"curation": {"length": {"max_characters": 200}}})
    analyze([Document("long", "她 wrote to a@b.com " * 100), *DOCUMENTS], tmp_path, config)
    row = read_records(tmp_path / "documents.parquet", DocumentFigures)[0]

    assert (row.language, row.tokens, row.pii, row.code) == ("und", 0, {}, "TOO_LONG")
    assert row.characters == 1900


def prose(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(VOCABULARY) for _ in range(words))


VOCABULARY = [
    a + b for a, b in itertools.product(("ba", "ko", "mi", "tu", "se"), ("ran", "lod", "nip", "s"))
]


def near_corpus(count: int, copies: int) -> list[Document]:
    """`count` random documents of 200 words; of the first few a copy that lacks the last word."""
    rng = random.Random(11)
    texts = [prose(rng, 200) for _ in range(count)]
    texts += [text.rpartition(" ")[0] for text in texts[:copies]]
    return [Document(f"{number:04}", text) for number, text in enumerate(texts)]


ANY_TEXT = {"language": {"enabled": False}, "gibberish": {"enabled": False}}


def test_near_copies_are_counted_once_for_each_pair(tmp_path: Path) -> None:
    config = AnalyzeConfig.model_validate({"curation": ANY_TEXT})
    found = analyze(near_corpus(60, 20), tmp_path, config)["near_copies"]

    assert (found["distinct"], found["looked_up"], found["sampled"]) == (80, 80, False)
    assert found["share"]["value"] == pytest.approx(20 / 80)


def test_a_sample_estimates_the_share_of_the_whole(tmp_path: Path) -> None:
    """A third of 600 documents are near copies. Pairs inside a sample of a third would show 4 in
    36; looking up among all keeps the true share inside the interval."""
    config = AnalyzeConfig.model_validate(
        {"curation": ANY_TEXT, "near_copies": {"sample_documents": 200}}
    )
    found = analyze(near_corpus(400, 200), tmp_path, config)["near_copies"]

    assert (found["distinct"], found["looked_up"], found["sampled"]) == (600, 200, True)
    assert found["share"]["low"] < 1 / 3 < found["share"]["high"]


def test_a_corpus_passes_by_and_is_never_held(tmp_path: Path) -> None:
    """While 20 thousand documents stream through, no more live than two batches of them and the
    rows of two row groups: the one being written and the one being filled."""
    most: Counter[type] = Counter()

    def generated(count: int) -> Iterator[Document]:
        for number in range(count):
            if number % 4000 == 3999:
                alive = Counter(map(type, gc.get_objects()))
                most[Document] = max(most[Document], alive[Document])
                most[DocumentFigures] = max(most[DocumentFigures], alive[DocumentFigures])
            yield Document(f"{number:06}", f"The ferry number {number} leaves at noon.")

    off = ("language", "gibberish", "near_duplicates", "lexicon", "anonymize")
    config = AnalyzeConfig.model_validate({"curation": {name: {"enabled": False} for name in off}})
    before = Counter(map(type, gc.get_objects()))
    report = analyze(generated(20_000), tmp_path, config)

    assert report["documents"] == 20_000
    assert most[Document] - before[Document] <= 2 * BATCH_DOCUMENTS
    assert most[DocumentFigures] - before[DocumentFigures] <= 2 * (ROWS_PER_GROUP + BATCH_DOCUMENTS)


def test_batches_are_bounded_by_their_text() -> None:
    documents = [Document(str(n), "x" * size) for n, size in enumerate([400_000, 500_000, 700_000])]
    batches = [[document.id for document in batch] for batch in cut_batches(documents)]

    assert batches == [["0", "1"], ["2"]]
    many = (Document(str(n), "x") for n in range(BATCH_DOCUMENTS + 1))
    assert [len(batch) for batch in cut_batches(many)] == [BATCH_DOCUMENTS, 1]
    assert list(cut_batches([])) == []


def test_curation_mix_is_analyzed(public_data: Callable[[str], Path], tmp_path: Path) -> None:
    from plumbline.curation.analysis.identity import load_terms
    from plumbline.data.readers import DatasetReader

    matcher = load_terms([public_data("holistic_bias/descriptors.json")], CONFIG.identity)
    analysis = CorpusAnalysis(AnalyzeConfig(), matcher)
    (tmp_path / "shard").mkdir()
    corpus = DatasetReader(public_data("curation_mix/docs.jsonl.gz"), kind=Document)
    analysis.add(corpus, tmp_path / "shard")
    report = analysis.finish(tmp_path / "documents.parquet")

    assert report["documents"] == 2035
    assert report["languages"]["en"]["share"]["value"] == pytest.approx(0.51, abs=0.04)
    assert report["languages"]["zh"]["share"]["value"] == pytest.approx(0.35, abs=0.04)
    assert report["languages"]["vi"]["documents"] >= 95  # 100 in the mix
    assert report["pii"]["documents"]["count"] >= 200
    # Quite ordinary figures, but far from none and from all.
    for language in ("en", "zh"):
        assert 0.03 < report["pronouns"][language]["of_all"]["she"]["value"] < 0.5
        assert 0.1 < report["identity"][language]["any_axis"]["value"] < 0.8
