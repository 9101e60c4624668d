"""The command in a context: a platform elsewhere, which sees none of the caller's files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PIPELINE = """\
name: from-afar
params:
  corpus: {type: path}
stages:
  curated: {uses: curation.curate, inputs: {corpus: "${params.corpus}"}}
"""


@pytest.fixture
def afar(new_shell: Any, live: Any, tmp_path: Path) -> Iterator[Any]:
    """A shell whose only platform is the shared stack, by its addresses. The stack reads local
    files too; that they went through the store shows in lineage alone."""
    shell = new_shell(tmp_path)
    endpoints = live.endpoints()
    context = {"services": endpoints["services"], "store": endpoints["store"]}
    contexts = tmp_path / "contexts.yaml"
    contexts.write_text(yaml.safe_dump({"contexts": {"shared": context}}))
    shell.environment |= {
        "PLUMBLINE_CONTEXTS_FILE": str(contexts),
        "PLUMBLINE_CONTEXT": "shared",
    }
    yield shell
    assert not shell.processes(), "nothing was started on this machine"


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A corpus that no other test has: its name is in it."""
    file = tmp_path / "documents.jsonl"
    about = f"of {tmp_path.name}, long enough to be kept."
    lines = [f"Paragraph {number} {about}" for number in range(9)]
    file.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return file


def test_a_job_takes_a_local_file_from_the_store(afar: Any, documents: Path) -> None:
    job = afar.json("submit", "curation.curate", "--input", f"corpus={documents}", "--wait")

    assert job["state"] == "SUCCEEDED"
    (given,) = job["inputs"]["corpus"]
    shown = afar.json("artifacts", "show", given)
    assert shown["run_info"]["source"] == str(documents)
    assert afar.json("jobs", job["job_id"])["artifact"] == job["artifact"]


def test_a_pipeline_takes_a_local_file_from_the_store(
    afar: Any, documents: Path, tmp_path: Path
) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    pipeline.write_text(PIPELINE)
    arguments = (str(pipeline), "--param", f"corpus={documents}")

    planned = afar.json("plan", *arguments)
    result = afar.json("run", *arguments)

    assert [stage["cached"] for stage in planned["stages"]] == [False]
    assert result["state"] == "SUCCEEDED"
    shown = afar.json("artifacts", "show", result["artifacts"]["curated"])
    (given,) = shown["manifest"]["lineage"]["inputs"]["corpus"]
    assert afar.json("artifacts", "show", given)["run_info"]["source"] == str(documents)
    again = afar.json("resume", result["run_id"])
    assert [stage["cached"] for stage in again["stages"]] == [True]


def test_what_is_local_is_refused_in_words(afar: Any, documents: Path, tmp_path: Path) -> None:
    assert "plumbline artifacts put PATH" in afar(
        "respond", "--policy", str(tmp_path), "--kb", "none", "Hello?", code=1
    )
    assert "plumbline --context local" in afar("up", code=1)
    assert "this one names addresses" in afar("status", code=1)
    assert "this one names addresses" in afar("logs", "trainer", code=1)

    stored = afar.json("artifacts", "put", str(documents), "--kind", "corpus", "--tag", "corpus/it")
    assert afar.json("artifacts", "show", "corpus/it")["id"] == stored["artifact"]
    assert "unknown; accepted: adapters" in afar(
        "artifacts", "put", str(documents), "--kind", "corpuses", code=2
    )
