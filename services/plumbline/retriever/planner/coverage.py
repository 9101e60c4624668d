"""The plan: for every value and place what is wanted, what was found, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from plumbline.data.records import ValueKind, ValueSpec
from plumbline.retriever.planner.evidence import Evidence, EvidenceFinder, Surroundings
from plumbline.retriever.planner.matrix import Fit, Place, Suitability, suitability
from plumbline.retriever.planner.pipelines import stages_at


class CellState(StrEnum):
    """What is to be said of a value at a place."""

    COVERED = "covered"
    """Recommended or possible, and evidence was found."""
    MISSING = "missing"
    """Recommended, and no evidence was found."""
    OPTIONAL = "optional"
    """Possible, and no evidence was found."""
    UNSUITED = "unsuited"
    MISPLACED = "misplaced"
    """Unsuited, and yet evidence was found."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value at one place."""

    place: Place
    suitability: Suitability
    evidence: tuple[Evidence, ...]
    advice: str
    """What would cover it, or why it should not be there; empty where nothing is to be done."""

    @property
    def state(self) -> CellState:
        fit = self.suitability.fit
        if fit is Fit.UNSUITED:
            return CellState.MISPLACED if self.evidence else CellState.UNSUITED
        if self.evidence:
            return CellState.COVERED
        return CellState.MISSING if fit is Fit.RECOMMENDED else CellState.OPTIONAL


@dataclass(frozen=True, slots=True)
class ValuePlan:
    """One value at all places, in their order."""

    value: ValueSpec
    cells: tuple[Cell, ...]

    @property
    def missing(self) -> tuple[Place, ...]:
        return tuple(cell.place for cell in self.cells if cell.state is CellState.MISSING)


@dataclass(frozen=True, slots=True)
class Tally:
    """Cells, counted."""

    recommended: int
    covered: int
    """Of those recommended."""
    extra: int
    """Not recommended but possible, and covered."""
    misplaced: int

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Tally:
        wanted = [cell for cell in cells if cell.suitability.fit is Fit.RECOMMENDED]
        covered = [cell for cell in cells if cell.state is CellState.COVERED]
        needed = sum(bool(cell.evidence) for cell in wanted)
        return cls(
            recommended=len(wanted),
            covered=needed,
            extra=len(covered) - needed,
            misplaced=sum(cell.state is CellState.MISPLACED for cell in cells),
        )


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """The plan of a set of values."""

    plans: tuple[ValuePlan, ...]
    stages: Mapping[Place, tuple[str, ...]]
    """Stages that act at a place, whether or not they refer to any value."""
    undecided: tuple[str, ...]
    """Imports whose values only a run would tell; they count for nothing."""

    def tallies(self) -> dict[ValueKind, dict[Place, Tally]]:
        """By kind and place; kinds without a value are left out."""
        cells: dict[ValueKind, dict[Place, list[Cell]]] = {}
        for plan in self.plans:
            row = cells.setdefault(ValueKind(plan.value.kind), {place: [] for place in Place})
            for cell in plan.cells:
                row[cell.place].append(cell)
        return {
            kind: {place: Tally.of(found) for place, found in cells[kind].items()}
            for kind in ValueKind
            if kind in cells
        }

    @property
    def total(self) -> Tally:
        return Tally.of([cell for plan in self.plans for cell in plan.cells])


def plan_values(values: Sequence[ValueSpec], surroundings: Surroundings) -> CoverageReport:
    """Where each value should be enforced, and what enforces it in these surroundings.

    Args:
        values: each version of a value is planned by itself.
    """
    finder = EvidenceFinder(surroundings)
    plans = []
    for value in values:
        evidence, others = finder.find(value), finder.other_texts(value)
        plans.append(
            ValuePlan(
                value,
                tuple(
                    _cell(value, place, fit, evidence.get(place, ()), others)
                    for place, fit in suitability(value).items()
                ),
            )
        )
    return CoverageReport(
        plans=tuple(plans),
        stages={
            place: tuple(
                f"{pipeline}: {stage.name}"
                for pipeline, stage in stages_at(surroundings.pipelines, place)
            )
            for place in Place
        },
        undecided=tuple(
            f"{pipeline}: {stage.name}"
            for pipeline, stage in stages_at(surroundings.pipelines, Place.INFERENCE)
            if stage.value_digests is None
        ),
    )


def _cell(
    value: ValueSpec,
    place: Place,
    fit: Suitability,
    evidence: tuple[Evidence, ...],
    other_texts: tuple[str, ...],
) -> Cell:
    if fit.fit is Fit.UNSUITED:
        return Cell(place, fit, evidence, f"take it out: {fit.why}" if evidence else "")
    advice = "" if evidence else _advice(value, place)
    if advice and place is Place.INFERENCE and other_texts:
        advice = f"{', '.join(other_texts)} holds another text under this id; {advice}"
    return Cell(place, fit, evidence, advice)


def _advice(value: ValueSpec, place: Place) -> str:
    """The least that would be found as evidence."""
    category = value.category or "CATEGORY"
    ways = {
        Place.PRETRAINING: f"list terms under lexicon.categories.{category} of curation.curate, "
        f"or name an endpoint {category!r}, in a pipeline with trainer.pretrain",
        Place.SFT: f"give trainer.context_distillation an answer template {category!r}, or "
        "trainer.ghost_attention a constraint of that kind, and train on what it makes",
        Place.REWARD: "add its text to the principles of a trainer.judge whose preferences a "
        "policy learns from",
        Place.INFERENCE: "plumbline import-values FILE --kb NAME, and pass that --kb here",
        Place.TOOLS: "name kinds of claims under respond.claims.kinds of the retriever's settings",
    }
    return ways[place]
