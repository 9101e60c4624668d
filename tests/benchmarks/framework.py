"""Runs two programs on the same work in turn and compares their rates.

A program is a script in a process of its own that prints one result (`measured_run`). Runs go in
the order ours, peer, peer, ours, and so again, so that a machine that slows down or warms up
favours neither; each pair of neighbours gives a ratio, of which the median, the least and the
greatest are reported. Processes run one at a time, on one core unless a benchmark says otherwise.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from measured_run import RESULT_MARK

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
OURS_PYTHON = REPOSITORY / ".venv" / "bin" / "python"
PEER_PYTHON = REPOSITORY / ".venv-bench" / "bin" / "python"
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_IO_THREADS"), "1"
)


R = TypeVar("R")


class BenchmarkError(Exception):
    """A program failed, or a gate found that results are not what they must be."""


@dataclass(frozen=True)
class Run:
    """One run of a program."""

    documents: int
    bytes: int
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    load_average: float
    facts: Mapping[str, Any]

    def rate(self, unit: str) -> float:
        """
        Args:
            unit: documents or MB, by wall or CPU time: one of `UNITS`.
        """
        amount = self.documents if unit.startswith("documents") else self.bytes / 1e6
        return amount / (self.cpu_s if unit.endswith("CPU time") else self.wall_s)


UNITS = (
    "documents/s/core, wall time",
    "MB/s/core, wall time",
    "documents/s/core, CPU time",
    "MB/s/core, CPU time",
)
"""The first is the headline: one process on one core, reading and writing included."""


@dataclass(frozen=True)
class Row:
    """One line of the table, and one entry of the JSON file."""

    work: str
    shape: str
    unit: str
    ours: float | None
    peer: float | None
    peer_name: str
    ratio: float | None
    ratio_min: float | None
    ratio_max: float | None
    repeats: int
    gate: str
    note: str = ""
    load_average: float = field(default_factory=lambda: os.getloadavg()[0])


def run_program(
    python: Path, script: str, arguments: Mapping[str, Any], *, all_cores: bool = False
) -> Run:
    """Run a script of this directory, on one core and one thread unless `all_cores` is set.

    Raises:
        BenchmarkError: it failed, or printed no result; with the end of what it printed.
    """
    cores = os.sched_getaffinity(0)
    done = subprocess.run(
        [python, HERE / script, json.dumps(arguments)],
        env={**os.environ, **({} if all_cores else _ONE_THREAD), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores if all_cores else {max(cores)}),
        check=False,
    )
    results = [line for line in done.stdout.splitlines() if line.startswith(RESULT_MARK)]
    if done.returncode or not results:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BenchmarkError(f"{script} ended with {done.returncode}:\n{tail}")
    return Run(**json.loads(results[-1].removeprefix(RESULT_MARK)))


def in_turn(ours: Callable[[], R], peer: Callable[[], R], pairs: int) -> list[tuple[R, R]]:
    """Pairs of neighbouring runs (ours, peer) in ABBA order."""
    found = []
    for number in range(pairs):
        if number % 2 == 0:
            own = ours()
            found.append((own, peer()))
        else:
            other = peer()
            found.append((ours(), other))
    return found


def ratios(pairs: Sequence[tuple[Run, Run]], unit: str) -> tuple[float, float, float]:
    """Median, least and greatest of our rate over the peer's, pair by pair."""
    found = [own.rate(unit) / other.rate(unit) for own, other in pairs]
    return statistics.median(found), min(found), max(found)


def compared_rows(
    pairs: Sequence[tuple[Run, Run]],
    *,
    work: str,
    shape: str,
    peer_name: str,
    gate: str,
    note: str = "",
) -> list[Row]:
    """A row for each unit."""
    rows = []
    for unit in UNITS:
        median, least, greatest = ratios(pairs, unit)
        rows.append(
            Row(
                work,
                shape,
                unit,
                statistics.median(own.rate(unit) for own, _ in pairs),
                statistics.median(other.rate(unit) for _, other in pairs),
                peer_name,
                median,
                least,
                greatest,
                len(pairs),
                gate,
                note,
            )
        )
    return rows


def rows_alone(
    runs: Sequence[Run], *, work: str, shape: str, peer_name: str, gate: str, note: str
) -> list[Row]:
    """Rows without a peer; `note` says why there is none."""
    return [
        Row(
            work,
            shape,
            unit,
            statistics.median(run.rate(unit) for run in runs),
            None,
            peer_name,
            None,
            None,
            None,
            len(runs),
            gate,
            note,
        )
        for unit in UNITS
    ]


def failed_row(*, work: str, shape: str, peer_name: str, gate: str) -> Row:
    """Nothing is timed where the gate does not hold."""
    return Row(work, shape, UNITS[0], None, None, peer_name, None, None, None, 0, gate)


def has_peers() -> bool:
    return PEER_PYTHON.exists()


NO_PEERS = "the peers' environment .venv-bench is missing; `make setup-bench` makes it"


def write_rows(part: str, rows: Sequence[Row]) -> Path:
    """Write `.plumbline/bench/PART.json`."""
    path = REPOSITORY / ".plumbline" / "bench" / f"{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def show_rows(title: str, rows: Sequence[Row]) -> None:
    """Print a table, with the gates and notes of each work below it."""
    columns = ("work", "shape", "unit", "ours", "peer", "peer is", "ratio", "least", "most", "n")
    cells = [
        (
            row.work,
            row.shape,
            row.unit,
            _shown(row.ours),
            _shown(row.peer),
            row.peer_name,
            _shown(row.ratio),
            _shown(row.ratio_min),
            _shown(row.ratio_max),
            str(row.repeats),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    print(f"\n{title}")
    for line in (columns, *cells):
        pieces = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        print("  " + "  ".join(pieces).rstrip())
    for text in dict.fromkeys(
        f"  {row.work} / {row.peer_name}: gate: {row.gate}" + (f"; {row.note}" * bool(row.note))
        for row in rows
    ):
        print(text)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
