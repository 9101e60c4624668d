"""A plan as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plumbline.retriever.planner.coverage import Cell, CoverageReport, Tally, ValuePlan
from plumbline.retriever.planner.matrix import Place


def report_json(report: CoverageReport) -> dict[str, Any]:
    """Everything the report knows, in JSON types."""
    return {
        "total": _tally_json(report.total),
        "coverage": {
            kind.value: {place.value: _tally_json(tally) for place, tally in row.items()}
            for kind, row in report.tallies().items()
        },
        "stages": {place.value: list(names) for place, names in report.stages.items()},
        "undecided": list(report.undecided),
        "values": [_plan_json(plan) for plan in report.plans],
    }


def _tally_json(tally: Tally) -> dict[str, int]:
    return {
        "recommended": tally.recommended,
        "covered": tally.covered,
        "extra": tally.extra,
        "misplaced": tally.misplaced,
    }


def _plan_json(plan: ValuePlan) -> dict[str, Any]:
    value = plan.value
    return {
        "id": value.id,
        "kind": str(value.kind),
        "category": value.category,
        "title": value.title,
        "effective_from": value.effective_from,
        "missing": [place.value for place in plan.missing],
        "cells": {cell.place.value: _cell_json(cell) for cell in plan.cells},
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "fit": cell.suitability.fit.value,
        "why": cell.suitability.why,
        "state": cell.state.value,
        "evidence": [
            {"where": piece.where, "what": piece.what, "link": piece.link.value}
            for piece in cell.evidence
        ],
        "advice": cell.advice,
    }


def coverage_rows(report: CoverageReport) -> list[tuple[str, ...]]:
    """Kind, then `covered/recommended` for each place, with what is covered or misplaced beyond."""
    rows = [
        (kind.value, *(_tally_text(row[place]) for place in Place))
        for kind, row in report.tallies().items()
    ]
    every_cell = [cell for plan in report.plans for cell in plan.cells]
    totals = (Tally.of([cell for cell in every_cell if cell.place is place]) for place in Place)
    return [*rows, ("all", *map(_tally_text, totals))]


def _tally_text(tally: Tally) -> str:
    parts = [f"{tally.covered}/{tally.recommended}"] if tally.recommended else []
    if tally.extra:
        parts.append(f"+{tally.extra} possible")
    if tally.misplaced:
        parts.append(f"{tally.misplaced} misplaced")
    return ", ".join(parts) or "-"


def value_rows(report: CoverageReport, limit: int) -> list[tuple[str, ...]]:
    """Id, kind and the state at each place, of the first values."""
    return [
        (plan.value.id, str(plan.value.kind), *(cell.state.value for cell in plan.cells))
        for plan in report.plans[:limit]
    ]


def finding_lines(report: CoverageReport, limit: int) -> Iterator[str]:
    """What was found, and what is to be done, for the first values."""
    for plan in report.plans[:limit]:
        for cell in plan.cells:
            at = f"{plan.value.id}, {cell.place.value}"
            for piece in cell.evidence:
                yield f"{at}: {piece.where}: {piece.what} (by {piece.link.value})"
            if cell.state.value in ("missing", "misplaced"):
                yield f"{at} {cell.state.value}: {cell.advice}"


def report_markdown(report: CoverageReport, *, limit: int = 200) -> str:
    """The report as a page; `report_json` has the values beyond the limit."""
    total = report.total
    places = [place.value for place in Place]
    lines = [
        "# Where values are enforced",
        "",
        f"{len(report.plans)} values; {total.covered} of {total.recommended} recommended cells are "
        f"covered by evidence, {total.misplaced} are covered where they should not be.",
        "",
        "Covered of recommended, by kind and place:",
        "",
        *_table(("kind", *places), coverage_rows(report)),
        "",
        *_table(("value", "kind", *places), value_rows(report, limit)),
    ]
    if len(report.plans) > limit:
        lines += ["", f"{len(report.plans) - limit} further values are left out here."]
    lines += ["", "## Evidence, and what is missing", ""]
    lines += [f"- {line}" for line in finding_lines(report, limit)]
    lines += ["", "## Stages by place", ""]
    lines += [
        f"- {place.value}: {', '.join(names) or 'none'}" for place, names in report.stages.items()
    ]
    if report.undecided:
        lines += ["", "Only a run would tell what these import, so they count for nothing:", ""]
        lines += [f"- {name}" for name in report.undecided]
    return "\n".join(lines) + "\n"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield _row(columns)
    yield _row(("---",) * len(columns))
    yield from (_row(row) for row in rows)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
