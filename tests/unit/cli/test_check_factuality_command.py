"""`check-factuality`, run in this process against a store of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plumbline.cli.main import app
from plumbline.core.errors import InvalidInputError

TEXT = "It costs 60 * 3 = 181. The smallest ocean is the Arctic Ocean."


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PLUMBLINE_RETRIEVER_TARGET", raising=False)
    monkeypatch.delenv("PLUMBLINE_RETRIEVER_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reply.txt").write_text(TEXT)
    (tmp_path / "seas.md").write_text("The smallest ocean is the Arctic Ocean.")


def run(*arguments: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(app, ["check-factuality", *arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_json_holds_every_claim() -> None:
    answer = json.loads(run("reply.txt", "--evidence", "seas.md", "--json").stdout)

    assert answer["factual"] is False
    assert [(one["kind"], one["verdict"]) for one in answer["claims"]] == [
        ("arithmetic", "refuted"),
        ("knowledge", "supported"),
    ]
    assert answer["claims"][0] | {"why": ""} == {
        "kind": "arithmetic", "claim": "60 * 3 = 181", "start": 9, "end": 21,
        "verdict": "refuted", "why": "", "correction": "180", "queries": [], "evidence": [],
    }  # fmt: skip
    assert answer["claims"][1]["evidence"][0]["document_id"] == "seas.md"


def test_people_get_a_table_and_a_count() -> None:
    result = run("-", "--kind", "arithmetic", stdin=TEXT)

    assert "should be: 180" in result.stdout
    assert "1 claims checked, 1 refuted" in result.stderr


def test_strict_fails_on_a_refuted_claim_only() -> None:
    assert run("reply.txt").exit_code == 0
    assert run("reply.txt", "--strict").exit_code == 1
    assert run("reply.txt", "--kind", "citation", "--strict").exit_code == 0


def test_programs_are_held_to_assertions() -> None:
    answer = json.loads(
        run(
            "-", "--kind", "code", "--assertion", "f(2) == 5", "--json",
            stdin="```python\ndef f(x): return x * 2\n```",
        ).stdout
    )  # fmt: skip

    assert answer["claims"][0]["correction"] == "f(2) == 4"


def test_a_missing_file_is_invalid_input() -> None:
    with pytest.raises(InvalidInputError, match="no such file: gone"):
        run("gone.txt")
