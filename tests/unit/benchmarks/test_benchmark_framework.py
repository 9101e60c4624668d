"""The arithmetic and the order of the benchmarks' runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from framework import (
    UNITS,
    BenchmarkError,
    Run,
    compared_rows,
    in_turn,
    ratios,
    run_program,
    show_rows,
)
from measured_run import RESULT_MARK, Measured


def run(*, documents: int = 100, size: int = 2_000_000, wall_s: float, cpu_s: float) -> Run:
    return Run(documents, size, wall_s, cpu_s, 0, 0.0, {})


def test_rates_by_wall_and_cpu_time() -> None:
    """100 documents of 2 MB in 4 s of wall and 2 s of CPU time: 25 and 50 a second, 0.5, 1 MB."""
    one = run(wall_s=4.0, cpu_s=2.0)
    assert [one.rate(unit) for unit in UNITS] == [25.0, 0.5, 50.0, 1.0]


def test_ratios_are_taken_pair_by_pair() -> None:
    """Ratios 6/2, 8/4 and 20/4 seconds: median 3, least 2, greatest 5.

    The ratio of the medians would be 8/4 = 2.
    """
    times = ((2.0, 6.0), (4.0, 8.0), (4.0, 20.0))
    pairs = [(run(wall_s=own, cpu_s=1), run(wall_s=peer, cpu_s=1)) for own, peer in times]
    assert ratios(pairs, UNITS[0]) == (3.0, 2.0, 5.0)


def test_runs_go_in_turn_so_that_neither_is_always_first() -> None:
    order: list[str] = []
    pairs = in_turn(lambda: order.append("A") or "A", lambda: order.append("B") or "B", 3)
    assert "".join(order) == "ABBAAB"
    assert pairs == [("A", "B")] * 3


def test_every_unit_has_a_row_with_all_that_the_table_needs() -> None:
    pairs = [(run(wall_s=1.0, cpu_s=1.0), run(wall_s=2.0, cpu_s=4.0))]
    rows = compared_rows(pairs, work="w", shape="s", peer_name="p", gate="equal")
    assert [row.unit for row in rows] == list(UNITS)
    assert [row.ratio for row in rows] == [2.0, 2.0, 4.0, 4.0]
    wanted = "work shape unit ours peer peer_name ratio ratio_min ratio_max repeats gate"
    assert set(wanted.split()) <= set(asdict(rows[0]))


def test_the_table_shows_gates(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [(run(wall_s=1.0, cpu_s=1.0), run(wall_s=2.0, cpu_s=4.0))]
    show_rows("t", compared_rows(pairs, work="w", shape="s", peer_name="p", gate="equal"))
    assert "gate: equal" in capsys.readouterr().out


def test_a_measured_block_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    measured = Measured()
    with measured.block():
        sum(range(100_000))
    measured.report(documents=3, size_bytes=7, kept=2)
    printed = capsys.readouterr().out
    result = Run(**json.loads(printed.removeprefix(RESULT_MARK)))
    assert (result.documents, result.bytes, result.facts) == (3, 7, {"kept": 2})
    assert result.wall_s > 0


def test_a_program_that_fails_is_named(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('no such corpus')")
    with pytest.raises(BenchmarkError, match=r"ended with 1:\nno such corpus"):
        run_program(Path(sys.executable), str(script), {})
