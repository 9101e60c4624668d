"""`plumbline anonymize` over records: whole files or none, and errors that name the line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.cli.curation_commands import register
from plumbline.core.errors import ConfigError, InvalidInputError


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs the command in this process, with a service of its own; raises what it raises."""
    import typer

    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PLUMBLINE_CURATION_TARGET", raising=False)
    app = typer.Typer()
    register(app)

    def invoke(*arguments: str, stdin: str = "") -> str:
        done = CliRunner().invoke(app, ["anonymize", *arguments], input=stdin)
        if isinstance(done.exception, Exception):
            raise done.exception
        return str(done.output)

    return invoke


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_records_keep_their_fields_and_get_spans(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    source = write(
        tmp_path / "in.jsonl",
        '{"id": 7, "text": "机 a@b.com", "more": {"x": [1.5, null]}}',
        '{"text": "nothing"}',
    )
    target = tmp_path / "out.jsonl.gz"
    run("--input", str(source), "--output", str(target), "--spans")

    with gzip.open(target, "rt", encoding="utf-8") as lines:
        first, second = (json.loads(line) for line in lines)
    assert first == {
        "id": 7,
        "text": "机 <EMAIL>",
        "more": {"x": [1.5, None]},
        "spans": [
            {"start": 2, "end": 9, "type": "EMAIL", "confidence": 1.0, "replacement": "<EMAIL>"}
        ],
    }
    assert second == {"text": "nothing", "spans": []}


def test_options_and_their_file(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    config = write(tmp_path / "o.yaml", "action: keep", "actions: {EMAIL: mask}")
    given = ("--config", str(config), "--action-for", "PHONE=redact")

    assert run(*given, stdin="a@b.com 13812345678\n") == "a@b.com <PHONE>\n"
    assert run("--types", "PHONE", stdin="a@b.com 13812345678\n") == "a@b.com <PHONE>\n"
    with pytest.raises(ConfigError, match="EMIAL"):
        run("--types", "EMIAL", stdin="x\n")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('{"text": 3}', "in.jsonl:2: field 'text' holds int"),
        ('{"body": "x"}', "in.jsonl:2: field 'text' holds NoneType"),
        ("[1]", "in.jsonl:2: holds a list"),
        ("{", "in.jsonl:2: "),
        ('{"text": "\\ud800"}', "in.jsonl:2: field 'text' holds half a character"),
    ],
)
def test_a_broken_line_leaves_no_file(tmp_path: Path, run, broken: str, message: str) -> None:  # type: ignore[no-untyped-def]
    source = write(tmp_path / "in.jsonl", '{"text": "fine"}', broken)
    target = tmp_path / "out" / "out.jsonl"
    with pytest.raises(InvalidInputError, match=message):
        run("--input", str(source), "--output", str(target))

    assert list(target.parent.iterdir()) == []
