"""`plumbline analyze` over a plain file, alone on one machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.cli.main import app


def test_a_file_is_analyzed_with_a_list_of_terms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
    for name in ("PLUMBLINE_JOBS_TARGET", "PLUMBLINE_PIPELINE_TARGET", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    corpus, terms, out = (tmp_path / name for name in ("docs.jsonl", "terms.json", "out"))
    rows = [
        {"text": "A Quaker told her friends that the meeting begins at seven in the evening."},
        {"text": "The harbour was quiet, and nobody had seen the small ferry since the morning."},
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    terms.write_text(json.dumps({"religion": ["Quaker"]}))

    done = CliRunner().invoke(
        app,
        ["analyze", str(corpus), "--descriptors", str(terms), "--out", str(out), "--json"],
        catch_exceptions=False,
    )

    assert done.exit_code == 0
    metrics = json.loads(done.stdout)["metrics"]
    assert metrics["identity.en.religion"] == metrics["pronouns.en.she"] == 0.5
    assert {path.name for path in out.iterdir()} >= {
        "documents.parquet", "report.html", "report.json",
    }  # fmt: skip
