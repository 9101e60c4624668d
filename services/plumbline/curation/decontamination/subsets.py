"""Evaluation samples by how contaminated they are, and what a metric says of each subset.

Source: Touvron et al. 2023, Llama 2, arXiv:2307.09288, appendix A.6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from plumbline.core.errors import InvalidInputError

SUBSETS = ("clean", "not_clean", "not_dirty", "dirty")
_SIGNIFICANT = 2.0


@dataclass(frozen=True, slots=True)
class SubsetScore:
    """A metric over one subset of an evaluation set."""

    samples: int
    mean: float | None
    """None without samples."""
    z: float | None
    """How many standard errors the mean lies above that of all samples; None where the subset is
    empty or everything, or all scores are equal."""


@dataclass(frozen=True, slots=True)
class SubsetScores:
    """A metric over the four subsets."""

    mean: float
    """Over all samples."""
    subsets: Mapping[str, SubsetScore]
    """By the names of `SUBSETS`."""
    affected: bool
    """Whether contamination has raised the metric beyond doubt: |z| above 2 for all four subsets,
    the clean and the not dirty ones below the mean, the others above."""


def subset_names(share: float, *, clean_below: float = 0.2, dirty_from: float = 0.8) -> list[str]:
    """The two subsets that a sample with this contaminated share belongs to."""
    return [
        "clean" if share < clean_below else "not_clean",
        "dirty" if share >= dirty_from else "not_dirty",
    ]


def score_subsets(
    scores: Mapping[str, float],
    shares: Mapping[str, float],
    *,
    clean_below: float = 0.2,
    dirty_from: float = 0.8,
) -> SubsetScores:
    """Compare a metric between contaminated and clean samples.

    A subset's mean is compared with the means of random subsets of its size, drawn without
    replacement from all samples: their standard error is sigma / sqrt(n) * sqrt((N - n) / (N - 1)).

    Args:
        scores: metric of each sample by id, higher is better.
        shares: contaminated share of each sample by id, 0 to 1; further ids are ignored.

    Raises:
        InvalidInputError: no scores, or a sample without a share.
    """
    if not scores:
        raise InvalidInputError("no scores; at least one sample is needed", field="scores")
    missing = sorted(set(scores) - set(shares))
    if missing:
        raise InvalidInputError(
            f"{len(missing)} of {len(scores)} scored samples have no contaminated share, for "
            f"example {missing[0]!r}",
            field="shares",
        )
    groups: dict[str, list[float]] = {name: [] for name in SUBSETS}
    for sample, score in scores.items():
        for name in subset_names(shares[sample], clean_below=clean_below, dirty_from=dirty_from):
            groups[name].append(score)
    mean = math.fsum(scores.values()) / len(scores)
    spread = math.sqrt(math.fsum((s - mean) ** 2 for s in scores.values()) / len(scores))
    subsets = {name: _score(group, mean, spread, len(scores)) for name, group in groups.items()}
    return SubsetScores(mean, subsets, _affected(subsets))


def _score(group: list[float], mean: float, spread: float, total: int) -> SubsetScore:
    if not group:
        return SubsetScore(0, None, None)
    own = math.fsum(group) / len(group)
    if len(group) == total or spread == 0:
        return SubsetScore(len(group), own, None)
    error = spread / math.sqrt(len(group)) * math.sqrt((total - len(group)) / (total - 1))
    return SubsetScore(len(group), own, (own - mean) / error)


def _affected(subsets: Mapping[str, SubsetScore]) -> bool:
    signs = {"clean": -1, "not_clean": 1, "not_dirty": -1, "dirty": 1}
    found = {name: subset.z for name, subset in subsets.items()}
    return all(z is not None and z * signs[name] > _SIGNIFICANT for name, z in found.items())
