"""The retrieval benchmark's made-up rules, its oracle, and the order of its rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from retrieval_data import (
    AFTER,
    SHARES,
    Filter,
    filter_of,
    load_data,
    make_queries,
    make_rules,
    save_data,
    truth,
)
from retrieval_rounds import MEDIAN_MS, RATE, TAIL_MS, Table, Turn, take_turns
from retrieval_tables import tables


def test_filters_keep_exactly_their_share(tmp_path: Path) -> None:
    rules = make_rules(4000)
    save_data(tmp_path, rules, np.zeros((4000, 2), np.float32), [], np.zeros((0, 2), np.float32))
    data = load_data(tmp_path)

    kept = [int(data.allowed(filter_of(share)).sum()) for share in SHARES]

    assert kept == [4000, 2000, 400, 100, 20]
    assert data.rules == tuple(rules)


def test_rules_and_queries_are_the_same_every_time_and_all_differ() -> None:
    assert make_rules(50) == make_rules(50)
    queries = make_queries(200, 50)
    assert queries == make_queries(200, 50)
    assert len(set(queries)) == 200


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Cosines of the one query: 1, 0.8, 0.8, 0.6, 0; the last rule is not of its category."""
    vectors = np.array([[1, 0], [0.8, 0.6], [0.8, -0.6], [0.6, 0.8], [0, 1]], np.float32)
    save_data(tmp_path, make_rules(5), vectors, ["q"], vectors[:1])
    return tmp_path


def test_recall_counts_what_is_as_near_as_the_last(few: Path) -> None:
    """Of the two nearest one is sure and two are equal: either of those will do."""
    exact = truth(load_data(few), Filter(AFTER), 1, 2)

    assert exact.last[0] == pytest.approx(0.8)
    assert exact.recall(0, [0, 1]) == exact.recall(0, [2, 0]) == exact.recall(0, [0, 1, 2]) == 1.0
    assert exact.recall(0, [0, 3]) == exact.recall(0, [0, 0]) == exact.recall(0, [0]) == 0.5
    assert exact.recall(0, []) == 0.0


def test_recall_does_not_count_rules_that_do_not_match(few: Path) -> None:
    data = load_data(few)
    exact = truth(data, Filter(AFTER, (data.rules[3].category,)), 1, 2)

    assert exact.count == 1
    assert exact.recall(0, [3]) == 1.0
    assert exact.recall(0, [0, 1]) == 0.0


def test_engines_take_turns_from_both_ends() -> None:
    order = []

    def measure(name: str) -> Turn:
        order.append(name)
        return Turn(1.0, (1.0,))

    turns = take_turns(["a", "b", "c"], 2, measure)

    assert "".join(order) == "abccba"
    assert [len(taken) for taken in turns.values()] == [2, 2, 2]


def test_ratios_above_one_are_in_our_favour() -> None:
    """Ours answers 4 in 2 s, each in 1 ms; the peer 2 in 2 s, each in 3 ms: ratios 2, 3 and 3."""
    turns = {"ours": [Turn(2.0, (1.0,) * 4)], "peer": [Turn(2.0, (3.0,) * 2)]}

    rows = list(Table("shape", "gate").beside("work", turns, "ours", "note"))

    assert [(row.unit, row.ratio) for row in rows] == [(RATE, 2), (MEDIAN_MS, 3), (TAIL_MS, 3)]
    assert (rows[0].ours, rows[0].peer, rows[0].peer_name, rows[0].note) == (2, 1, "peer", "note")


def test_tables_have_engines_down_and_shares_across() -> None:
    turns = {"ours": [Turn(2.0, (1.0,) * 4)], "peer": [Turn(2.0, (3.0,) * 2)]}
    rows = []
    for share in ("50 %", "2.5 %"):
        table = Table(f"5 x 4, {share} match", "gate")
        rows += table.beside("gRPC", turns, "ours")
        rows += table.alone("gRPC, with BM25", turns["peer"], "note")
        rows.append(table.row("found", "found", [(1.0, 0.25)], "peer", more_is_better=True))

    speeds, found = tables([*rows, Table("5 x 4", "gate").figure("swap", "s", [1.0])])

    assert speeds.splitlines() == [
        "| gRPC | 50 % | 2.5 % |",
        "|---|---|---|",
        "| ours | 2 (1, 1) | 2 (1, 1) |",
        "| peer | 1 (3, 3) | 1 (3, 3) |",
        "| ours, with BM25 | 1 (3, 3) | 1 (3, 3) |",
    ]
    assert found.splitlines()[2:] == ["| ours | 1.000 | 1.000 |", "| peer | 0.250 | 0.250 |"]
