"""The retrieval benchmark's rows as tables of Markdown: engines down, shares across."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from framework import Row
from retrieval_rounds import MEDIAN_MS, RATE, TAIL_MS

MATCH = " match"
BM25 = ", with BM25"
_Cells = dict[tuple[str, str, str], dict[str, float]]
"""By way, engine and share: figures by unit."""


def tables(rows: Sequence[Row]) -> Iterator[str]:
    """One table for each way of asking: queries a second, and milliseconds, p50 and p99."""
    cells, shares = _cells(rows)
    for way in dict.fromkeys(way for way, _, _ in cells):
        engines = dict.fromkeys(engine for found, engine, _ in cells if found == way)
        lines = [f"| {way} | {' | '.join(shares)} |", "|---" * (len(shares) + 1) + "|"]
        for engine in engines:
            shown = [_shown(cells.get((way, engine, share), {})) for share in shares]
            lines.append(f"| {engine} | {' | '.join(shown)} |")
        yield "\n".join(lines)


def _cells(rows: Sequence[Row]) -> tuple[_Cells, list[str]]:
    cells: _Cells = {}
    shares: dict[str, None] = {}
    for row in rows:
        if not row.shape.endswith(MATCH):
            continue
        share = row.shape.removesuffix(MATCH).rpartition(", ")[2]
        shares[share] = None
        way, words, _ = row.work.partition(BM25)
        for engine, value in ((f"ours{words}", row.ours), (row.peer_name, row.peer)):
            if value is not None:
                cells.setdefault((way, engine, share), {})[row.unit] = value
    return cells, list(shares)


def _shown(figures: dict[str, float]) -> str:
    if RATE not in figures:
        return " ".join(f"{value:.3f}" for value in figures.values()) or "-"
    return f"{figures[RATE]:,.0f} ({figures[MEDIAN_MS]:.3g}, {figures[TAIL_MS]:.3g})"
