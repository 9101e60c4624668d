"""`values plan` over the repository's own pipelines, and over knowledge bases of a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.data.judging import DEFAULT_PRINCIPLES

PIPELINES = Path(__file__).parents[3] / "pipelines"
VALUES = [
    {"id": "respect", "kind": "fixed", "text": DEFAULT_PRINCIPLES[2], "category": "fairness"},
    {"id": "private", "kind": "fixed", "text": "Keep personal data out.", "category": "privacy"},
    {"id": "safe", "kind": "fixed", "text": "Do no harm.", "category": "harmless"},
    {"id": "honest", "kind": "fixed", "text": "Make nothing up.", "category": "honesty"},
    {"id": "refunds", "kind": "changing", "text": "Refunds are paid within 14 days."},
    {"id": "old", "kind": "changing", "text": "Gone.", "effective_to": "2001-01-01"},
]


@pytest.fixture(autouse=True)
def a_state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PLUMBLINE_RETRIEVER_TARGET", raising=False)
    monkeypatch.delenv("PLUMBLINE_RETRIEVER_CONFIG", raising=False)


@pytest.fixture
def values(tmp_path: Path) -> Path:
    path = tmp_path / "values.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in VALUES))
    return path


def run(*arguments: object) -> Any:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def plan(values: Path, *arguments: object) -> dict[str, Any]:
    done = run("values", "plan", values, "--pipelines", PIPELINES, "--json", *arguments)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def evidence(report: dict[str, Any], value_id: str, place: str) -> list[tuple[str, str]]:
    rows = {row["id"]: row for row in report["values"]}
    found = rows[value_id]["cells"][place]["evidence"]
    return [(Path(piece["where"].split(": ")[0]).name, piece["link"]) for piece in found]


def test_the_repositorys_pipelines(values: Path) -> None:
    """The quickstart anonymizes what it pre-trains on and rewards safety; the judge of rlaif.yaml
    applies the default principles. Nothing there holds the refund rule."""
    report = plan(values)

    assert ("rlaif.yaml", "text") in evidence(report, "respect", "reward")
    assert ("quickstart.yaml", "concern") in evidence(report, "private", "pretraining")
    assert ("quickstart.yaml", "concern") in evidence(report, "safe", "reward")
    assert evidence(report, "refunds", "inference") == []
    assert report["ended"] == 1
    # Only a run of the quickstart tells which rules it imports.
    assert [name.split(": ")[1] for name in report["undecided"] if "quickstart" in name] == [
        "rules"
    ]


def test_a_knowledge_base_covers_what_it_holds(values: Path) -> None:
    run("import-values", values, "--kb", "house")

    before = plan(values)
    after = plan(values, "--kb", "house")

    assert after["total"]["covered"] == before["total"]["covered"] + 1
    assert evidence(after, "refunds", "inference") == [("house", "content")]


def test_an_import_from_a_file_is_read(values: Path, tmp_path: Path) -> None:
    pipeline = tmp_path / "own.yaml"
    pipeline.write_text(
        "name: own\n"
        "stages:\n"
        f"  - {{name: rules, uses: retriever.import_values, inputs: {{values: 'path:{values}'}}}}\n"
    )

    done = run("values", "plan", values, "--pipelines", pipeline, "--json")

    assert evidence(json.loads(done.stdout), "refunds", "inference") == [("own.yaml", "content")]


def test_for_people_and_as_a_page(values: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.md"

    done = run("values", "plan", values, "--pipelines", PIPELINES, "--markdown", page)

    assert "refunds, inference missing: plumbline import-values FILE --kb NAME" in done.stdout
    assert "covered of recommended" in done.stdout
    assert "# Where values are enforced" in page.read_text()


def test_what_cannot_be_planned_is_refused(values: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no folder or file"):
        run("values", "plan", values, "--pipelines", tmp_path / "none")
    with pytest.raises(InvalidInputError, match="no date"):
        plan(values, "--as-of", "tomorrow")


def test_settings_of_the_retriever_are_read(values: Path, tmp_path: Path) -> None:
    settings = tmp_path / "retriever.yaml"
    settings.write_text(
        "respond: {rewards: {minimum_safety: 0.15}, claims: {kinds: [arithmetic, citation]}}\n"
    )

    report = plan(values, "--retriever-config", settings)

    assert evidence(report, "safe", "inference") == [("retriever.yaml", "concern")]
    assert evidence(report, "honest", "tools") == [("retriever.yaml", "concern")]
