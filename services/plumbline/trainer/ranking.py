"""How well a reward model ranks pairs that it has not seen: accuracy, baselines, length, safety.

Legend: B held-out pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from plumbline.core.statistics import Estimate, proportion
from plumbline.data.records import Preference, content_id
from plumbline.models.reward import RewardModel
from plumbline.reward.combine import SAFETY_THRESHOLD
from plumbline.trainer.calibration import Calibration, calibrate, score_deciles
from plumbline.trainer.preference_mix import source_of

_MOST_SOURCES = 20
"""Sources with an accuracy of their own, the largest; data may name one for each record."""
_SAFETY = {True: "both_safe", False: "both_unsafe", None: "differ"}


@dataclass(frozen=True, slots=True)
class RankingReport:
    """Accuracy on held-out pairs, whole and by group, beside trivial rankings."""

    overall: Estimate
    groups: Mapping[str, Estimate]
    """By `grade.<grade>`, `source.<source>`, `agreement.unanimous`, `agreement.split`,
    `kind.<kind>`, `length.longer_chosen`, `length.longer_rejected`, `safety.both_safe`,
    `safety.both_unsafe` and `safety.differ`."""
    length_baseline: Estimate
    """The longer (or shorter, whichever ranked more training pairs right) response wins."""
    majority_baseline: Estimate
    """Always the side that was chosen more often in training; sides are drawn by digest."""
    length_correlation: float | None
    """See `length_correlation`."""
    calibration: Calibration | None
    """None where there are too few pairs."""
    unsafe: Mapping[str, Estimate]
    """Of the safety head, where responses are labelled: `precision` and `recall` of unsafe ones,
    at the threshold of the combined reward."""
    deciles: tuple[float, ...] | None = None
    """See `score_deciles`."""

    def metrics(self) -> dict[str, float]:
        """Flat figures, named in `trainer.config`."""
        figures = {
            "accuracy": self.overall.value,
            "accuracy.low": self.overall.low,
            "accuracy.high": self.overall.high,
            "baseline.length": self.length_baseline.value,
            "baseline.majority": self.majority_baseline.value,
            "pairs.test": float(self.overall.n),
        }
        for name, estimate in self.groups.items():
            figures[f"accuracy.{name.removeprefix('agreement.')}"] = estimate.value
        if self.length_correlation is not None:
            figures["length.correlation"] = self.length_correlation
        if self.calibration is not None:
            figures["calibration.error"] = self.calibration.error
            figures["calibration.scaled_error"] = self.calibration.scaled_error
            figures["calibration.temperature"] = self.calibration.temperature
        for name, estimate in self.unsafe.items():
            if estimate.n:
                figures[f"unsafe.{name}"] = estimate.value
        return figures

    def to_json(self) -> dict[str, Any]:
        """Every estimate with its interval and sample size."""
        return {
            "accuracy": self.overall.to_dict(),
            "groups": _estimates_to_json(self.groups),
            "baselines": {
                "length": self.length_baseline.to_dict(),
                "majority": self.majority_baseline.to_dict(),
            },
            "unsafe": _estimates_to_json({n: e for n, e in self.unsafe.items() if e.n}),
            "length_correlation": self.length_correlation,
            "calibration": asdict(self.calibration) if self.calibration else None,
        }


def evaluate_ranking(
    model: RewardModel,
    train: Sequence[Preference],
    test: Sequence[Preference],
    *,
    tokens_per_batch: int,
) -> RankingReport:
    """Rank held-out pairs; a tie counts as wrong."""
    prompts = [p.prompt for p in test]
    scores = model.score_responses(
        prompts + prompts,
        [p.chosen for p in test] + [p.rejected for p in test],
        tokens_per_batch=tokens_per_batch,
    )
    chosen, rejected = scores.split(len(test)) if test else (scores, scores)
    leads = chosen - rejected
    correct = (leads > 0).tolist()
    lengths = torch.tensor([float(_length_lead(p)) for p in test])
    labels = [p.chosen_is_safe for p in test] + [p.rejected_is_safe for p in test]
    return RankingReport(
        overall=_share(correct),
        groups=_by_group(test, correct),
        length_baseline=_share(baseline(train, test, longer_is_chosen)),
        majority_baseline=_share(baseline(train, test, first_is_chosen)),
        length_correlation=length_correlation(leads, lengths),
        calibration=calibrate(leads),
        unsafe=_unsafe_found(scores, labels) if model.card.head == "safety" else {},
        deciles=score_deciles(scores),
    )


def length_correlation(leads: Tensor, length_leads: Tensor) -> float | None:
    """Spearman's correlation of score difference and length difference between two responses.

    Every pair counts in both orders, so that which response was chosen does not matter.

    Args:
        leads: [B] score of the chosen response less that of the rejected one.
        length_leads: [B] likewise, of their lengths in characters.
    Returns:
        From -1 to 1, above 0 where longer responses score higher; None where all scores or all
        lengths are equal, or there are no pairs.
    """
    ranks = [_ranks(torch.cat([values, -values]).double()) for values in (leads, length_leads)]
    scores, lengths = (rank - rank.mean() for rank in ranks)
    scale = float(scores.norm() * lengths.norm())
    return float(scores @ lengths) / scale if scale > 0 else None


def baseline(
    train: Sequence[Preference],
    test: Sequence[Preference],
    feature: Callable[[Preference], bool | None],
) -> list[bool]:
    """Predict by one binary feature, in the direction that fits the training pairs better."""
    known = [value for value in map(feature, train) if value is not None]
    direction = 2 * sum(known) >= len(known)
    return [feature(preference) == direction for preference in test]


def longer_is_chosen(preference: Preference) -> bool | None:
    """None for a tie, which no direction ranks right."""
    lead = _length_lead(preference)
    return lead > 0 if lead else None


def first_is_chosen(preference: Preference) -> bool:
    """Whether the chosen response would have stood first; the digest of the pair draws the side."""
    digest = content_id(*sorted((preference.chosen, preference.rejected)))
    first = min(preference.chosen, preference.rejected)
    return (int(digest[-1], 16) % 2 == 0) == (preference.chosen == first)


def _length_lead(preference: Preference) -> int:
    """Characters."""
    return len(preference.chosen) - len(preference.rejected)


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values sharing their mean rank."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum(dim=0)
    means: Tensor = ends - (counts - 1) / 2
    return means.double()[inverse]


def _share(correct: Sequence[bool]) -> Estimate:
    return proportion(sum(correct), len(correct))


def _by_group(test: Sequence[Preference], correct: Sequence[bool]) -> dict[str, Estimate]:
    sources = Counter(source_of(preference) for preference in test)
    largest = {name for name, _ in sources.most_common(_MOST_SOURCES) if name}
    groups: dict[str, list[bool]] = {}
    for preference, right in zip(test, correct, strict=True):
        names = _groups_of(preference)
        if source_of(preference) in largest:
            names.append(f"source.{source_of(preference)}")
        for name in names:
            groups.setdefault(name, []).append(right)
    return {name: _share(members) for name, members in sorted(groups.items())}


def _groups_of(preference: Preference) -> list[str]:
    names = []
    if preference.grade is not None:
        names.append(f"grade.{preference.grade.value}")
    if preference.agreement is not None:
        names.append(f"agreement.{'unanimous' if preference.agreement == 1 else 'split'}")
    if preference.metadata.get("kind"):
        names.append(f"kind.{preference.metadata['kind']}")
    longer = longer_is_chosen(preference)
    if longer is not None:
        names.append(f"length.longer_{'chosen' if longer else 'rejected'}")
    labels = (preference.chosen_is_safe, preference.rejected_is_safe)
    if None not in labels:
        names.append(f"safety.{_SAFETY[labels[0] if labels[0] == labels[1] else None]}")
    return names


def _unsafe_found(scores: Tensor, labels: Sequence[bool | None]) -> dict[str, Estimate]:
    """Precision and recall of unsafe responses among the labelled ones, scores [N] as logits."""
    flagged = (torch.sigmoid(scores) < SAFETY_THRESHOLD).tolist()
    found = zip(flagged, labels, strict=True)
    known = [(flag, not is_safe) for flag, is_safe in found if is_safe is not None]
    hits = sum(flag and unsafe for flag, unsafe in known)
    return {
        "precision": proportion(hits, sum(flag for flag, _ in known)),
        "recall": proportion(hits, sum(unsafe for _, unsafe in known)),
    }


def _estimates_to_json(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {name: estimate.to_dict() for name, estimate in estimates.items()}
