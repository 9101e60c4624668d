"""The training benchmark's gate and data."""

from __future__ import annotations

import pytest
from framework import BenchmarkError
from training_bench import SIZES, largest_gap, make_rows


def test_the_gate_takes_the_worst_step() -> None:
    """Relative to the peer: 0.1 of 2 is 0.05, 0.03 of 0.5 is 0.06."""
    assert largest_gap([2.1, 0.53, 1.0], [2.0, 0.5, 1.0]) == pytest.approx(0.06)
    with pytest.raises(BenchmarkError, match="3 steps of ours and 2 of the peer's"):
        largest_gap([1.0, 1.0, 1.0], [1.0, 1.0])


def test_rows_are_the_same_every_time_and_end_once() -> None:
    rows = make_rows(SIZES[0], 20)

    assert rows == make_rows(SIZES[0], 20) != make_rows(SIZES[1], 20)
    for row in rows:
        assert 20 <= len(row["prompt"]) <= 100
        for side in ("chosen", "rejected"):
            assert 11 <= len(row[side]) <= 80
            assert row[side].count(2) == 1 and row[side][-1] == 2
