"""Trains a filter from labelled texts, and says how good and how even-handed it is.

The filter learns from all the texts. What it is worth is measured on folds, cut by the digest of
each text so that copies stay together: every text is scored by a model that has not seen it, and
those scores calibrate the filter, set its threshold and are reported on.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import InvalidInputError
from plumbline.curation.analysis.identity import IdentityTerm
from plumbline.curation.filters.classifier import FilterCard, TextClassifier
from plumbline.curation.filters.config import TrainFilterConfig
from plumbline.curation.filters.logistic import SparseRows, calibrate, fit_logistic, sigmoid
from plumbline.curation.filters.metrics import (
    expected_calibration_error,
    roc_auc,
    threshold_at,
)
from plumbline.curation.filters.neutral import NeutralSentence, neutral_sentences
from plumbline.curation.filters.ngrams import feature_text, windows
from plumbline.curation.normalize import normalize
from plumbline.data.containers import ReadLimits, Row, iter_rows

_TRUE = ("1", "true", "yes")
_MIN_TEXTS = 20
"""Of each label, or there is nothing to learn from."""
_MIN_GROUP = 20
"""Held-out texts of a group below which its flag rate says nothing."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, normalized and case-folded, and whether it is of the filter's kind."""

    text: str
    positive: bool
    group: str = ""

    def fold(self, folds: int) -> int:
        """In [0, folds), the same for copies."""
        digest = hashlib.sha256(self.text.encode("utf-8", errors="replace")).digest()
        return int.from_bytes(digest[:8], "big") % folds


@dataclass(slots=True)
class LabelledReport:
    """What became of the records of the labelled files."""

    read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """By reason: no text, no label, broken."""

    def to_json(self) -> dict[str, Any]:
        return {"read": self.read, "skipped": dict(sorted(self.skipped.items()))}


@dataclass(frozen=True, slots=True)
class TrainedFilter:
    """A filter and the account of its making."""

    classifier: TextClassifier
    report: dict[str, Any]


def read_labelled(
    paths: Iterable[Path], config: TrainFilterConfig, report: LabelledReport
) -> Iterator[LabelledText]:
    """Labelled texts of data files (JSON lines, JSON, CSV, Parquet; compressed or not).

    A record is positive where any of its label fields holds a positive value, negative where all
    that it has hold others, and left out where it has none: an absent label is not a negative one.
    """
    accepted = _positives(config)
    for path in paths:
        for row in iter_rows(path, limits=ReadLimits(), text_unit="line"):
            reason, found = _labelled(row, config, accepted)
            if found is None:
                report.skipped[reason] += 1
                continue
            report.read += 1
            yield found


def _labelled(
    row: Row, config: TrainFilterConfig, accepted: Mapping[str, frozenset[str]]
) -> tuple[str, LabelledText | None]:
    if row.problem or not isinstance(row.value, dict):
        return "broken", None
    texts = [row.value[name] for name in config.text_fields if row.value.get(name)]
    if not texts or not isinstance(texts[0], str) or not texts[0].strip():
        return "no text", None
    labels = {
        name: _as_text(row.value[name])
        for name in config.label_fields
        if row.value.get(name) not in (None, "")
    }
    if not labels:
        return "no label", None
    positive = any(label in accepted[name] for name, label in labels.items())
    group = _as_text(row.value.get(config.group_field, "")) if config.group_field else ""
    return "", LabelledText(normalize(texts[0]).text.casefold(), positive, group)


def _positives(config: TrainFilterConfig) -> dict[str, frozenset[str]]:
    """Values that count as positive, by label field."""
    found: dict[str, set[str]] = {name: set() for name in config.label_fields}
    for item in config.positive:
        name, separator, value = item.partition("=")
        for target in (name,) if separator and name in found else tuple(found):
            found[target].add((value if separator and name in found else item).casefold())
    return {name: frozenset(values or _TRUE) for name, values in found.items()}


def _as_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def train_filter(
    examples: Sequence[LabelledText],
    config: TrainFilterConfig,
    terms: Sequence[IdentityTerm] = (),
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TrainedFilter:
    """Fit, calibrate and measure a filter.

    Args:
        terms: names of groups that must not raise a text's probability by themselves.
    Raises:
        InvalidInputError: too few texts of one label.
    """
    _check_counts(examples, config.folds)
    neutral = [_folded(sentence) for sentence in neutral_sentences(terms)]
    held, raw = _out_of_fold(examples, neutral, config, progress)
    labels = np.array([example.positive for example in held])
    calibration = calibrate(raw, labels)
    classifier, fitted = _fit(examples, neutral, config)
    progress(config.folds + 1, config.folds + 1)
    classifier = classifier.with_calibration(*calibration)
    scores = sigmoid(calibration[0] * raw + calibration[1])
    fresh = [_folded(sentence) for sentence in neutral_sentences(terms, held_out=True)]
    neutral_scores = classifier.scores_of_folded([sentence.text for sentence in fresh])
    threshold = _threshold(scores[~labels], fresh, neutral_scores, config)
    report = {
        "name": config.name,
        "threshold": threshold,
        "train": _counts(examples) | {"neutral_sentences": len(neutral)} | fitted,
        "held_out": _counts(held) | measure(scores, labels, threshold),
        "groups": _groups(held, scores, threshold),
        "neutral_flag_rates": _axis_rates(fresh, neutral_scores, threshold),
    }
    return TrainedFilter(classifier.with_threshold(threshold), report)


def _out_of_fold(
    examples: Sequence[LabelledText],
    neutral: Sequence[NeutralSentence],
    config: TrainFilterConfig,
    progress: Callable[[int, int], None],
) -> tuple[list[LabelledText], NDArray[np.float64]]:
    """The texts by fold, and the linear score of each under a model of the other folds."""
    held: list[LabelledText] = []
    scores = []
    for fold in range(config.folds):
        progress(fold, config.folds + 1)
        inside = [example.fold(config.folds) == fold for example in examples]
        part = list(itertools.compress(examples, inside))
        rest = [example for example, out in zip(examples, inside, strict=True) if not out]
        classifier, _ = _fit(rest, neutral, config)
        held += part
        scores.append(classifier.raw_scores([example.text for example in part]))
    return held, np.concatenate(scores)


def measure(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], threshold: float
) -> dict[str, float]:
    """Figures of a filter's probabilities on labelled texts."""
    flagged = scores >= threshold
    return {
        "auc": roc_auc(scores, labels),
        "ece": expected_calibration_error(scores, labels),
        "recall": float(flagged[labels].mean()),
        "false_positive_rate": float(flagged[~labels].mean()),
    }


def _fit(
    train: Sequence[LabelledText],
    neutral: Sequence[NeutralSentence],
    config: TrainFilterConfig,
) -> tuple[TextClassifier, dict[str, float]]:
    card = FilterCard(
        name=config.name,
        min_order=config.min_order,
        max_order=config.max_order,
        buckets_log2=config.buckets_log2,
        saturation_characters=config.saturation_characters,
        window_characters=config.window_characters,
        max_windows=config.max_windows,
        weight_scale=1.0,
        bias=0.0,
        slope=1.0,
        intercept=0.0,
        threshold=0.5,
        weights_sha256="",
    )
    texts = [example.text for example in train] + [sentence.text for sentence in neutral]
    # The label of a long text is mostly its head's; other windows have no labels of their own.
    heads = [
        windows(feature_text(text)[: config.window_characters], config.window_characters, 2)[0]
        for text in texts
    ]
    labels = np.array([example.positive for example in train] + [False] * len(neutral))
    fit = fit_logistic(
        SparseRows(card.ngrams.per_document(heads), card.ngrams.buckets, card.saturation),
        labels,
        _sample_weights(labels, len(neutral), config),
        natural=len(train),
        l2=config.l2,
        iterations=config.iterations,
    )
    card = card.model_copy(update={"bias": fit.bias})
    fitted = {"iterations": float(fit.iterations), "loss": fit.loss}
    return TextClassifier.quantized(card, fit.weights), fitted


def _sample_weights(
    labels: NDArray[np.bool_], neutral: int, config: TrainFilterConfig
) -> NDArray[np.float64]:
    """Positive and negative texts weigh the same together; neutral sentences come on top."""
    weights = np.where(labels, 0.5 / labels.sum(), 0.0)
    negatives = np.flatnonzero(~labels)
    real = negatives[: len(negatives) - neutral]
    weights[real] = 0.5 / len(real)
    if neutral:
        weights[negatives[-neutral:]] = config.neutral_weight / neutral
    return weights


def _threshold(
    negatives: NDArray[np.float64],
    neutral: Sequence[NeutralSentence],
    neutral_scores: NDArray[np.float64],
    config: TrainFilterConfig,
) -> float:
    """Where the false positive rate holds, and that of every axis of the neutral sentences."""
    found = [threshold_at(negatives, config.false_positive_rate)]
    axes = np.array([sentence.axis for sentence in neutral])
    for axis in sorted(set(axes.tolist())):
        found.append(threshold_at(neutral_scores[axes == axis], config.neutral_flag_rate))
    return min(1.0, max(found))


def _axis_rates(
    neutral: Sequence[NeutralSentence], scores: NDArray[np.float64], threshold: float
) -> dict[str, float]:
    axes = np.array([sentence.axis for sentence in neutral])
    return {
        axis: float((scores[axes == axis] >= threshold).mean())
        for axis in sorted(set(axes.tolist()))
    }


def _groups(
    held: Sequence[LabelledText], scores: NDArray[np.float64], threshold: float
) -> dict[str, dict[str, float]]:
    """Flag rates of the held-out texts of each group, by label."""
    groups = np.array([example.group for example in held])
    labels = np.array([example.positive for example in held])
    found = {}
    for group in sorted(set(groups.tolist()) - {""}):
        member = groups == group
        if member.sum() < _MIN_GROUP:
            continue
        found[group] = {
            f"flag_rate_{name}": float((scores[member & kind] >= threshold).mean())
            for name, kind in (("negative", ~labels), ("positive", labels))
            if (member & kind).any()
        } | {"texts": float(member.sum())}
    return found


def _counts(examples: Sequence[LabelledText]) -> dict[str, float]:
    positive = sum(example.positive for example in examples)
    return {"texts": len(examples), "positive": positive}


def _check_counts(examples: Sequence[LabelledText], folds: int) -> None:
    """Every fold must leave texts of both labels to the others, and hold some."""
    for positive, name in ((True, "positive"), (False, "negative")):
        places = Counter(
            example.fold(folds) for example in examples if example.positive is positive
        )
        if len(places) < folds or places.total() < _MIN_TEXTS:
            raise InvalidInputError(
                f"{places.total()} {name} texts in {len(places)} of {folds} folds; at least "
                f"{_MIN_TEXTS} and one in each fold are needed. Check label_fields and positive",
                reason="TOO_FEW_LABELS",
            )


def _folded(sentence: NeutralSentence) -> NeutralSentence:
    return NeutralSentence(normalize(sentence.text).text.casefold(), sentence.axis)
