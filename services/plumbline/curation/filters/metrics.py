"""How good a filter's probabilities are: ranking, calibration, and the threshold to use.

Shapes: D documents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plumbline.core.errors import InvalidInputError

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]


def roc_auc(scores: Floats, labels: Labels) -> float:
    """Probability that a positive document scores above a negative one; ties count half.

    Source: Hanley and McNeil 1982, The meaning and use of the area under a ROC curve.
    Raises:
        InvalidInputError: all documents have the same label.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise InvalidInputError(
            f"{positives} positive and {negatives} negative documents; both kinds are needed"
        )
    _, ranks, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_ranks[ranks][labels].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def expected_calibration_error(probabilities: Floats, labels: Labels, *, bins: int = 10) -> float:
    """Mean distance between what was said and what was so, over bins of equal width.

    Source: Naeini, Cooper and Hauskrecht 2015, Obtaining well calibrated probabilities using
    Bayesian binning.
    """
    places = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    said = np.bincount(places, weights=probabilities, minlength=bins)
    so = np.bincount(places, weights=labels.astype(np.float64), minlength=bins)
    return float(np.abs(said - so).sum() / len(labels))


def threshold_at(negatives: Floats, rate: float) -> float:
    """The lowest score that at most `rate` of the given negative scores reach.

    A score flags when it is at or above the threshold. 0 where there are no negatives.
    """
    if not len(negatives):
        return 0.0
    ordered = np.sort(negatives)
    allowed = int(rate * len(ordered))
    return float(np.nextafter(ordered[len(ordered) - 1 - allowed], np.inf))
