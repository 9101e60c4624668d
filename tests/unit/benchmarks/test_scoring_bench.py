"""The scoring benchmark's work and its gate."""

from __future__ import annotations

import statistics

import pytest
from framework import BenchmarkError
from scoring_bench import check_gate, in_order, make_pairs


def test_pairs_are_of_mixed_length_and_always_the_same() -> None:
    pairs = make_pairs(500)
    lengths = [len(prompt[0].content.split()) + len(response.split()) for prompt, response in pairs]
    assert make_pairs(500) == pairs
    assert min(lengths) < 10 and max(lengths) > 120
    assert statistics.median(lengths) < statistics.mean(lengths)


def test_scores_of_clients_in_turn_come_back_in_order() -> None:
    scores = [float(n) for n in range(7)]
    assert in_order([scores[client::3] for client in range(3)]) == scores


def test_the_gate_refuses_scores_that_differ() -> None:
    check_gate({"one": [0.0, 1.0], "other": [0.0, 1.000009]})
    with pytest.raises(BenchmarkError, match=r"other differs from one by 0\.1"):
        check_gate({"one": [0.0], "other": [0.1]})
