"""Scores of clean and contaminated samples, by hand."""

from __future__ import annotations

import math

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.curation.decontamination.subsets import score_subsets, subset_names


def test_borders_belong_to_the_contaminated_side() -> None:
    assert subset_names(0.19) == ["clean", "not_dirty"]
    assert subset_names(0.2) == ["not_clean", "not_dirty"]
    assert subset_names(0.79) == ["not_clean", "not_dirty"]
    assert subset_names(0.8) == ["not_clean", "dirty"]


def test_by_hand() -> None:
    """Scores 0 0 1 1: mean 1/2, sigma 1/2. Of the two dirty ones (both 1) the standard error is
    1/2 / sqrt(2) * sqrt(2/3) = 0.28868, so z is 0.5 / 0.28868 = 1.7321."""
    scores = {"a": 0.0, "b": 0.0, "c": 1.0, "d": 1.0}
    found = score_subsets(scores, {"a": 0.0, "b": 0.5, "c": 0.8, "d": 1.0, "unscored": 1.0})

    assert found.mean == 0.5
    assert (found.subsets["dirty"].samples, found.subsets["dirty"].mean) == (2, 1.0)
    assert found.subsets["dirty"].z == pytest.approx(math.sqrt(3))
    assert found.subsets["not_dirty"].z == pytest.approx(-math.sqrt(3))
    assert found.subsets["clean"].samples == 1
    assert not found.affected


def test_a_memorised_benchmark_is_affected() -> None:
    """Half of 100 samples dirty and all right, of the others one in five."""
    shares = {str(i): 1.0 if i < 50 else 0.0 for i in range(100)}
    scores = {str(i): 1.0 if i < 50 or i % 5 == 0 else 0.0 for i in range(100)}

    assert score_subsets(scores, shares).affected
    assert not score_subsets({key: 1 - score for key, score in scores.items()}, shares).affected


def test_subsets_without_samples_have_no_score() -> None:
    found = score_subsets({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 0.0})

    assert found.subsets["dirty"].mean is None
    assert found.subsets["clean"].z is None


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidInputError, match="1 of 2 scored samples have no contaminated share"):
        score_subsets({"a": 1.0, "b": 0.0}, {"a": 0.0})
    with pytest.raises(InvalidInputError, match="no scores"):
        score_subsets({}, {})
