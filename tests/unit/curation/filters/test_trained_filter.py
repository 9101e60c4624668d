"""Training a filter: the optimiser, the figures, the files, and fairness to groups."""

from __future__ import annotations

import csv
import gzip
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from plumbline.core.errors import (
    CorruptArtifactError,
    FailedPreconditionError,
    InvalidInputError,
)
from plumbline.curation.analysis.identity import builtin_terms, read_descriptors
from plumbline.curation.filters.classifier import TextClassifier, load_filter
from plumbline.curation.filters.config import (
    ClassifierConfig,
    LanguageConfig,
    TrainFilterConfig,
)
from plumbline.curation.filters.logistic import (
    SparseRows,
    calibrate,
    fit_logistic,
    minimize,
    sigmoid,
)
from plumbline.curation.filters.metrics import (
    expected_calibration_error,
    roc_auc,
    threshold_at,
)
from plumbline.curation.filters.neutral import invented_terms, neutral_sentences
from plumbline.curation.filters.ngrams import CodePoints, NgramSpec, length_scale, windows
from plumbline.curation.filters.rules import ClassifierRule
from plumbline.curation.filters.stage import run_train_filter
from plumbline.curation.filters.training import (
    LabelledReport,
    LabelledText,
    TrainedFilter,
    read_labelled,
    train_filter,
)
from plumbline.curation.view import DocumentView

SMALL = {"name": "toxicity", "folds": 2, "buckets_log2": 14, "iterations": 25}
INSULTS = ("you vile toad", "what a rotten fool", "shut up you pest", "你这个坏蛋", "滚开讨厌鬼")
KINDNESS = ("a lovely day", "thank you so much", "see you at noon", "今天天气很好", "谢谢你的帮助")


def example(seed: int) -> LabelledText:
    rng = random.Random(seed)
    positive = rng.random() < 0.5
    core = rng.choice(INSULTS if positive else KINDNESS)
    around = " ".join(rng.choices(("well", "and", "then", "it was", "今天", "on monday"), k=4))
    return LabelledText(f"{around} {core} {seed}", positive, f"group{seed % 2}")


EXAMPLES = [example(seed) for seed in range(300)]


@pytest.fixture(scope="module")
def trained() -> TrainedFilter:
    return train_filter(EXAMPLES, TrainFilterConfig(**SMALL), builtin_terms())


def test_figures_by_hand() -> None:
    """Positives 0.8 and 0.4, negatives 0.4 and 0.1: of 4 pairs 3 are right and one is a tie.

    Two bins: 0.1 and 0.4 say 0.5 together where 1 was so; 0.4... all three below 0.5 say 0.9 where
    1 was so; 0.8 says 0.8 where 1 was so: (0.1 + 0.2) / 4.
    """
    scores = np.array([0.8, 0.4, 0.4, 0.1])
    labels = np.array([True, True, False, False])

    assert roc_auc(scores, labels) == pytest.approx(3.5 / 4)
    assert expected_calibration_error(scores, labels, bins=2) == pytest.approx(0.3 / 4)
    with pytest.raises(InvalidInputError, match="both kinds"):
        roc_auc(scores, np.ones(4, dtype=np.bool_))


def test_the_threshold_lets_so_many_negatives_pass() -> None:
    negatives = np.arange(100) / 100
    threshold = threshold_at(negatives, 0.05)

    assert (negatives >= threshold).mean() == pytest.approx(0.05)
    assert 0.94 < threshold < 0.95
    assert threshold_at(np.zeros(10), 0.5) > 0
    assert threshold_at(np.zeros(0), 0.5) == 0


def test_minimize_finds_the_minimum_of_a_quadratic() -> None:
    """f(x) = sum(c * (x - t)^2) has its minimum, 0, at t."""
    target, curvature = np.array([3.0, -2.0, 0.5]), np.array([1.0, 50.0, 0.1])

    def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        away = x - target
        return float((curvature * away**2).sum()), 2 * curvature * away

    point, value, iterations = minimize(objective, np.zeros(3), iterations=60)
    assert point == pytest.approx(target, abs=1e-5)
    assert value < 1e-9
    assert iterations < 60


def test_the_fit_is_that_of_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 40, size=12).astype(np.uint32) for _ in range(80)]
    labels = np.array([bool((row < 20).sum() + rng.integers(-2, 3) > 6) for row in rows])
    sparse = SparseRows(rows, 40)
    fit = fit_logistic(sparse, labels, np.ones(80), natural=80, l2=1e-2, iterations=300)

    counts = np.stack([np.bincount(row, minlength=40) for row in rows]) / math.sqrt(12)
    idf = np.log(81 / (1 + (counts > 0).sum(axis=0))) + 1
    # scikit-learn sums where we average, and its C is one over the penalty.
    model = linear.LogisticRegression(C=1 / (1e-2 * 80), tol=1e-10, max_iter=5000)
    model.fit(counts * idf, labels)
    assert fit.weights == pytest.approx(model.coef_[0] * idf, abs=1e-3)
    assert fit.bias == pytest.approx(float(model.intercept_[0]), abs=1e-3)


def test_rows_and_their_transpose_agree() -> None:
    """<A w, v> = <w, A' v>; the document [0, 0, 2] has 2 and 1 of buckets, over root 3."""
    sparse = SparseRows([np.array([0, 0, 2], dtype=np.uint32), np.array([1], dtype=np.uint32)], 4)
    weights, values = np.array([1.0, 5.0, 10.0, 7.0]), np.array([2.0, 3.0])

    assert sparse.dot(weights) == pytest.approx([12 / math.sqrt(3), 5])
    assert sparse.dot(weights) @ values == pytest.approx(weights @ sparse.transposed_dot(values))
    assert sparse.document_frequency(2).tolist() == [1, 1, 1, 0]


def test_calibration_recovers_the_probabilities() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=20_000)
    labels = rng.random(20_000) < sigmoid(2.5 * scores - 1)
    slope, intercept = calibrate(scores, labels)

    assert slope == pytest.approx(2.5, rel=0.06)
    assert intercept == pytest.approx(-1, abs=0.06)
    separable = calibrate(np.array([-1.0, -1.0, 1.0, 1.0]), np.array([False, False, True, True]))
    assert all(map(math.isfinite, separable))


def test_ngrams_do_not_span_documents() -> None:
    spec = NgramSpec(1, 3, 12)
    alone = [spec.per_document([text])[0] for text in ("ab", "猫狗")]
    together = spec.per_document(["ab", "猫狗"])

    assert [len(row) for row in together] == [6, 6]
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))
    assert CodePoints(["ab", "c"], 3).starts.tolist() == [0, 4]


def test_windows_cover_the_text() -> None:
    text = "".join(chr(0x4E00 + n) for n in range(1000))

    assert windows(text, 1000, 4) == [text]
    assert "".join(windows(text, 300, 4)) == text
    few = windows(text, 100, 4)
    assert [len(piece) for piece in few] == [100] * 4
    assert text.startswith(few[0]) and text.endswith(few[-1])


def test_a_filter_learns_in_both_languages(trained: TrainedFilter) -> None:
    report = trained.report
    scores = trained.classifier.scores(["Shut up, you PEST!", "see you at noon", "坏蛋", "谢谢你"])

    assert report["held_out"]["auc"] > 0.95
    assert report["held_out"]["false_positive_rate"] <= 0.05
    assert scores[0] > 0.5 > scores[1]
    assert scores[2] > scores[3]
    assert set(report["groups"]) == {"group0", "group1"}
    assert max(report["neutral_flag_rates"].values()) <= 0.005


def test_training_is_deterministic(trained: TrainedFilter, tmp_path: Path) -> None:
    again = train_filter(EXAMPLES, TrainFilterConfig(**SMALL), builtin_terms())
    trained.classifier.save(tmp_path / "a")
    again.classifier.save(tmp_path / "b")

    for name in ("filter.json", "weights.npy"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_scores_do_not_depend_on_the_batch(trained: TrainedFilter) -> None:
    rng = random.Random(5)
    texts = [example(seed).text * rng.randrange(1, 90) for seed in range(40)] + [
        "",
        " ",
        "\0",
        "猫",
    ]
    expected = [float(trained.classifier.scores([text])[0]) for text in texts]

    assert trained.classifier.scores(texts).tolist() == expected
    assert trained.classifier.scores([]).shape == (0,)


def test_harm_cannot_hide_in_a_long_document(trained: TrainedFilter) -> None:
    card = trained.classifier.card.model_copy(update={"window_characters": 100, "max_windows": 50})
    short = TextClassifier(card, trained.classifier._weights)
    harmless = "see you at noon and thank you so much for a lovely day. " * 20
    harmful = harmless + "shut up you pest, you vile toad, what a rotten fool. " * 2 + harmless

    assert short.scores([harmless])[0] < 0.5 < short.scores([harmful])[0]


def test_filters_are_saved_and_loaded(trained: TrainedFilter, tmp_path: Path) -> None:
    trained.classifier.save(tmp_path)
    loaded = load_filter(tmp_path)
    texts = [item.text for item in EXAMPLES[:20]]

    assert loaded.card == trained.classifier.card
    assert loaded.digest == trained.classifier.digest
    assert loaded.scores(texts).tolist() == trained.classifier.scores(texts).tolist()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"format": 2}, FailedPreconditionError, "format 2 is not known"),
        ({"hash_version": 9}, FailedPreconditionError, "hash_version 9 is not known"),
        ({"bias": "high"}, InvalidInputError, "bias"),
        ({"buckets_log2": 13}, CorruptArtifactError, r"accepted: int16\[8192\]"),
        ({"weights_sha256": "0" * 64}, CorruptArtifactError, "is not the card's"),
    ],
)
def test_wrong_filters_are_refused(
    change: dict[str, Any],
    error: type[Exception],
    message: str,
    trained: TrainedFilter,
    tmp_path: Path,
) -> None:
    trained.classifier.save(tmp_path)
    card = json.loads((tmp_path / "filter.json").read_text("utf-8"))
    (tmp_path / "filter.json").write_text(json.dumps(card | change), encoding="utf-8")
    with pytest.raises(error, match=message):
        load_filter(tmp_path)


def test_pickled_weights_are_refused(trained: TrainedFilter, tmp_path: Path) -> None:
    trained.classifier.save(tmp_path)
    np.save(tmp_path / "weights.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(CorruptArtifactError, match="cannot be read"):
        load_filter(tmp_path)
    with pytest.raises(InvalidInputError, match=r"holds no filter\.json"):
        load_filter(tmp_path / "nowhere")


def test_the_rule_flags_at_the_threshold(trained: TrainedFilter) -> None:
    texts = ("well and then shut up you pest", "well and then a lovely day")
    views = [DocumentView(text, LanguageConfig()) for text in texts]
    rule = ClassifierRule(trained.classifier, ClassifierConfig(threshold=0.5))

    flagged, kept = rule.judge(views)
    assert flagged is not None and flagged.code == "TOXICITY"
    assert kept is None
    assert rule.id == "filter_toxicity"
    assert all(ClassifierRule(trained.classifier, ClassifierConfig(threshold=0)).judge(views))
    assert rule.judge([]) == []


def labelled(tmp_path: Path, rows: list[dict[str, Any]], **config: Any) -> list[bool]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    report = LabelledReport()
    read = list(read_labelled([path], TrainFilterConfig(name="x", **config), report))
    assert report.read == len(read)
    assert report.read + report.skipped.total() == len(rows)
    return [item.positive for item in read]


def test_labels_of_several_fields(tmp_path: Path) -> None:
    rows = [
        {"tweet": "a", "class": 0},
        {"tweet": "b", "class": "2"},
        {"TEXT": "c", "label": 0},
        {"TEXT": "d", "label": 1.0},
        {"TEXT": "e"},
        {"TEXT": " ", "label": 1},
    ]
    config = {
        "text_fields": ("tweet", "TEXT"),
        "label_fields": ("class", "label"),
        "positive": ("class=0", "class=1", "label=1"),
    }
    assert labelled(tmp_path, rows, **config) == [True, False, False, True]


def test_an_absent_label_is_not_a_negative_one(tmp_path: Path) -> None:
    rows = [{"text": "a", "H": 0, "V": 1}, {"text": "b", "V": 0}, {"text": "c", "H": None}]
    assert labelled(tmp_path, rows, label_fields=("H", "V")) == [True, False]


def test_too_few_labels_are_refused() -> None:
    one_sided = [LabelledText(f"text {n}", False) for n in range(100)]
    with pytest.raises(InvalidInputError, match="0 positive texts"):
        train_filter(one_sided, TrainFilterConfig(**SMALL))


def test_neutral_frames_are_held_out() -> None:
    terms = [*builtin_terms(), *invented_terms()]
    train = {sentence.text for sentence in neutral_sentences(terms)}
    held = {sentence.text for sentence in neutral_sentences(terms, held_out=True)}

    assert not train & held
    assert {sentence.axis for sentence in neutral_sentences(terms)} >= {"religion", "invented"}
    assert invented_terms() == invented_terms()


def split(rows: list[tuple[str, bool]]) -> tuple[list[LabelledText], list[tuple[str, bool]]]:
    """Seven tenths to train, the others to look at, by the text's digest."""
    examples = [LabelledText(text.casefold(), positive) for text, positive in rows]
    train = [item for item in examples if item.fold(10) < 7]
    return train, [row for row, item in zip(rows, examples, strict=True) if item.fold(10) >= 7]


def holistic_bias(folder: Path) -> dict[str, list[str]]:
    """Sentences "I am a DESCRIPTOR NOUN." by axis."""
    nouns = json.loads((folder / "nouns.json").read_text("utf-8"))
    singular = [pair[0] for group in nouns.values() for pair in group]
    sentences: dict[str, list[str]] = {}
    for term in read_descriptors(folder / "descriptors.json"):
        article = "an" if term.term[0].lower() in "aeiou" else "a"
        sentences.setdefault(term.axis, []).extend(
            f"I am {article} {term.term} {noun}." for noun in singular
        )
    return sentences


def test_published_abuse_is_found_and_groups_are_spared(
    public_data: Callable[[str], Path],
) -> None:
    """Area under the ROC curve on texts not trained on, and flag rates of benign sentences."""
    path = public_data("davidson_hate/labeled_data_first12000.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = [(row["tweet"], row["class"] != "2") for row in csv.DictReader(file)]
    train, rest = split(rows[:6000])
    folder = public_data("holistic_bias")
    terms = [*read_descriptors(folder / "descriptors.json"), *builtin_terms(), *invented_terms()]
    config = TrainFilterConfig(name="toxicity", folds=2, iterations=40, buckets_log2=18)

    classifier = train_filter(train, config, terms).classifier

    scores = classifier.scores([text for text, _ in rest])
    labels = np.array([positive for _, positive in rest])
    rates = {
        axis: float((classifier.scores(texts) >= classifier.threshold).mean())
        for axis, texts in holistic_bias(folder).items()
    }
    assert roc_auc(scores, labels) > 0.95
    assert expected_calibration_error(scores, labels) < 0.05
    assert max(rates.values()) - min(rates.values()) <= 0.02


def test_the_stage_writes_a_filter(tmp_path: Path) -> None:
    from plumbline.core.artifacts import open_configured_store
    from plumbline.core.settings import Settings
    from plumbline.core.stages import run_stage
    from plumbline.curation.tasks import STAGES

    data = tmp_path / "labels.jsonl"
    rows = [{"text": item.text, "label": int(item.positive)} for item in EXAMPLES]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    terms = tmp_path / "terms.txt"
    terms.write_text("# groups\nMartian\n", encoding="utf-8")
    (stage,) = [stage for stage in STAGES if stage.name == "curation.train_filter"]
    settings = Settings(state_dir=tmp_path / "state")
    store = open_configured_store(settings)
    inputs = {"labelled": [f"path:{data}"], "neutral_terms": [f"path:{terms}"]}

    artifact, cached = run_stage(stage, SMALL, inputs, store=store, settings=settings)

    assert (artifact.kind, cached) == ("filter", False)
    assert artifact.manifest.metrics["auc"] > 0.95
    with store.pinned(artifact.id) as directory:
        report = json.loads((directory / "report.json").read_text("utf-8"))
        assert load_filter(directory).scores(["shut up you pest"])[0] > 0.5
    assert "given" in report["neutral_flag_rates"]
    assert report["read"] == {"read": 300, "skipped": {}}
    assert run_stage(stage, SMALL, inputs, store=store, settings=settings)[1]
    assert stage.run.endswith(run_train_filter.__name__)


def test_length_alone_does_not_condemn() -> None:
    """Below saturation: root over length, 2 / 4. Beyond it, at 100 of 400: 10 / 400."""
    scale = length_scale(np.array([4, 100, 400]), 100)
    assert scale == pytest.approx([0.5, 0.1, 0.025])
