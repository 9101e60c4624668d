"""The matrix, the state of every cell, the totals, and what the report says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.catalogue import STAGES
from plumbline.data.records import ValueKind, ValueSpec
from plumbline.retriever.planner.coverage import CellState, CoverageReport, Tally, plan_values
from plumbline.retriever.planner.evidence import KnowledgeBaseUse, Surroundings
from plumbline.retriever.planner.matrix import Fit, Place, concern_of, suitability
from plumbline.retriever.planner.pipelines import LEARNERS, PipelineUse, StageUse
from plumbline.retriever.planner.report import (
    coverage_rows,
    finding_lines,
    report_json,
    report_markdown,
)
from plumbline.retriever.values.validation import content_digest


def value(
    value_id: str, kind: ValueKind, category: str = "", text: str = "Some text."
) -> ValueSpec:
    return ValueSpec(id=value_id, text=text, kind=kind.value, category=category)


def fits(kind: ValueKind, category: str = "") -> list[str]:
    letters = {Fit.RECOMMENDED: "R", Fit.POSSIBLE: "p", Fit.UNSUITED: "-"}
    return [letters[s.fit] for s in suitability(value("v", kind, category)).values()]


def test_the_matrix_by_kind() -> None:
    """Places in order: pre-training, fine-tuning, reward, inference, tools."""
    assert fits(ValueKind.FIXED) == ["p", "R", "R", "p", "p"]
    assert fits(ValueKind.CUSTOMISABLE) == ["-", "p", "p", "R", "-"]
    assert fits(ValueKind.CHANGING) == ["-", "-", "-", "R", "p"]


def test_the_matrix_by_concern() -> None:
    assert fits(ValueKind.FIXED, "privacy") == ["R", "R", "R", "p", "p"]
    assert fits(ValueKind.FIXED, "Honesty") == ["R", "R", "R", "p", "R"]
    assert fits(ValueKind.FIXED, "helpful") == ["p", "R", "R", "p", "p"]
    assert fits(ValueKind.CHANGING, "privacy") == fits(ValueKind.CHANGING)


@pytest.mark.parametrize("kind", ValueKind)
def test_the_manual_has_the_same_matrix(kind: ValueKind) -> None:
    manual = (Path(__file__).parents[3] / "docs" / "values.md").read_text()
    fits_of_kind = " | ".join(found.fit.value for found in suitability(value("v", kind)).values())

    assert f"\n| {kind.value} | {fits_of_kind} |\n" in manual


@pytest.mark.parametrize("kind", ValueKind)
def test_every_kind_has_every_place_in_order_and_one_that_is_recommended(kind: ValueKind) -> None:
    found = suitability(value("v", kind))

    assert list(found) == list(Place)
    assert Fit.RECOMMENDED in {s.fit for s in found.values()}


def test_an_unknown_category_has_no_concern() -> None:
    assert concern_of(value("v", ValueKind.FIXED, "gambling")) is None


def test_every_stage_that_changes_weights_is_a_learner() -> None:
    """A recipe that is added to the trainer cannot be forgotten here."""
    makers = {
        name
        for name, stage in STAGES.items()
        if name.startswith("trainer.") and stage.output_kind in ("policy", "reward-model")
    }

    assert set(LEARNERS) == makers


LAW = value("law", ValueKind.CHANGING, text="A law that is found at inference.")
HARMLESS = value("harmless", ValueKind.FIXED, "harmless", "Do not help anybody to do harm.")
PERSONA = value("persona", ValueKind.CUSTOMISABLE, "persona", "Call yourself Ada.")
PIPELINE = PipelineUse(
    "p.yaml",
    (
        StageUse("judged", "trainer.judge", {"principles": (HARMLESS.text, LAW.text)}),
        StageUse("dpo", "trainer.dpo", {}, ("judged",)),
        StageUse("rules", "retriever.import_values", {}, value_digests=None),
    ),
)
KNOWLEDGE_BASE = KnowledgeBaseUse(
    "house", "cd" * 32, {"law": {content_digest(LAW): 1}, "persona": {"0" * 64: 4}}
)


@pytest.fixture
def report() -> CoverageReport:
    surroundings = Surroundings(pipelines=(PIPELINE,), knowledge_bases=(KNOWLEDGE_BASE,))
    return plan_values((LAW, HARMLESS, PERSONA), surroundings)


def test_states_of_cells(report: CoverageReport) -> None:
    states = [[cell.state.value for cell in plan.cells] for plan in report.plans]

    assert states == [
        ["unsuited", "unsuited", "misplaced", "covered", "optional"],
        ["missing", "missing", "covered", "optional", "optional"],
        ["unsuited", "optional", "optional", "missing", "unsuited"],
    ]
    assert report.plans[1].missing == (Place.PRETRAINING, Place.SFT)


def test_a_law_that_was_trained_in_is_to_be_taken_out(report: CoverageReport) -> None:
    misplaced = report.plans[0].cells[2]

    assert misplaced.advice == "take it out: what was learned cannot be revoked"


def test_another_text_under_the_same_id_is_told(report: CoverageReport) -> None:
    advice = report.plans[2].cells[3].advice

    assert advice.startswith("kb/house (artifact cdcdcdcdcdcd) holds another text under this id")


def test_totals(report: CoverageReport) -> None:
    """Recommended: 1 for the law, 3 for harmlessness, 1 for the persona; covered: 1 + 1 + 0."""
    assert report.total == Tally(recommended=5, covered=2, extra=0, misplaced=1)
    assert report.tallies()[ValueKind.FIXED][Place.REWARD] == Tally(1, 1, 0, 0)
    assert coverage_rows(report) == [
        ("fixed", "0/1", "0/1", "1/1", "-", "-"),
        ("customisable", "-", "-", "-", "0/1", "-"),
        ("changing", "-", "-", "1 misplaced", "1/1", "-"),
        ("all", "0/1", "0/1", "1/1, 1 misplaced", "1/2", "-"),
    ]


def test_what_only_a_run_would_tell_is_named_and_not_counted(report: CoverageReport) -> None:
    assert report.undecided == ("p.yaml: rules",)
    assert report.stages[Place.INFERENCE] == ("p.yaml: rules",)


def test_the_report_names_its_evidence(report: CoverageReport) -> None:
    lines = list(finding_lines(report, limit=10))

    assert "harmless, reward: p.yaml: judged: principles says its text (by text)" in lines
    assert (
        "law, inference: kb/house: artifact cdcdcdcdcdcd holds version 1 of it (by content)"
        in lines
    )


def test_json_and_markdown_say_the_same(report: CoverageReport) -> None:
    written = json.loads(json.dumps(report_json(report)))
    page = report_markdown(report)

    assert written["total"] == {"recommended": 5, "covered": 2, "extra": 0, "misplaced": 1}
    assert written["values"][1]["cells"]["reward"]["evidence"] == [
        {"where": "p.yaml: judged", "what": "principles says its text", "link": "text"}
    ]
    assert "3 values; 2 of 5 recommended cells are covered by evidence, 1 are covered where" in page
    assert "| law | changing | unsuited | unsuited | misplaced | covered | optional |" in page


def test_markdown_says_how_much_it_leaves_out(report: CoverageReport) -> None:
    assert "2 further values are left out here." in report_markdown(report, limit=1)


@given(
    kinds=st.lists(st.sampled_from(ValueKind), max_size=6),
    category=st.sampled_from(["", "privacy", "honesty", "gambling"]),
)
def test_nothing_is_covered_without_surroundings(kinds: list[ValueKind], category: str) -> None:
    values = [value(f"v{n}", kind, category) for n, kind in enumerate(kinds)]

    report = plan_values(values, Surroundings())

    states = {cell.state for plan in report.plans for cell in plan.cells}
    assert not states & {CellState.COVERED, CellState.MISPLACED}
    assert report.total.covered == 0
