"""`plumbline mix`, `subset` and `decontaminate` over plain files, alone on one machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plumbline.cli.main import app
from plumbline.data.records import Document
from plumbline.data.tables import read_records


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
    for name in ("PLUMBLINE_JOBS_TARGET", "PLUMBLINE_PIPELINE_TARGET", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


def invoke(*arguments: str | Path) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    metrics: dict[str, Any] = json.loads(done.stdout)["metrics"]
    return metrics


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_mix_and_subset(tmp_path: Path) -> None:
    news = write(tmp_path / "news.jsonl", [f"News of day {i}." for i in range(30)])
    facts = write(tmp_path / "facts.jsonl", [f"Fact number {i}." for i in range(10)])
    mixture = tmp_path / "mix.yaml"
    mixture.write_text("sources:\n- {name: news, input: 0}\n- {name: facts, input: 1, epochs: 2}\n")
    out = tmp_path / "mixed"

    metrics = invoke("mix", news, facts, "--config", mixture, "--total", "35", "--out", out)
    assert metrics["documents_out"] == 35
    mixed = read_records(out / "documents.parquet", Document)
    assert sum(d.metadata["mix_source"] == "facts" for d in mixed) == 20

    metrics = invoke("subset", news, "--share", "0.5", "--by", "source")
    assert metrics["documents_out"] == 15


def test_decontaminate(tmp_path: Path) -> None:
    question = "Which of the seven bridges over the river did the old painter cross every morning?"
    corpus = write(tmp_path / "corpus.jsonl", [f"Quiz: {question} He crossed two.", "Fair text."])
    benchmark = write(tmp_path / "benchmark.jsonl", [question, "An unrelated question?"])

    metrics = invoke("decontaminate", corpus, "--against", benchmark)
    assert metrics["documents_removed"] == 1
    assert metrics["samples_dirty"] == 1
