"""`respond` and `reply-record` against a running retriever."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plumbline.cli.main import app
from plumbline.core.rpc import connect

sys.path.append(str(Path(__file__).parent))
from scripted_services import (
    KEPT,
    OVEN,
    TITANIC,
    ScriptedSampler,
    config,
    import_values,
    mending,
    retriever_target,
)


@pytest.fixture
def sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedSampler]:
    """The sampler behind the retriever that the commands find."""
    scripted = ScriptedSampler(lambda prompt, seed: KEPT)
    with retriever_target(tmp_path / "service", scripted, config=config()) as target:
        with connect("retriever", target=target) as stub:
            import_values(stub, OVEN, TITANIC)
        monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
        monkeypatch.setenv("PLUMBLINE_RETRIEVER_TARGET", target)
        yield scripted


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def respond(prompt: str, *options: str) -> Result:
    return run("respond", prompt, "--policy", "p", "--kb", "house", *options)


def test_a_reply_is_shown_with_what_it_follows(sampler: ScriptedSampler) -> None:
    result = respond("What about baking?", "--seed", "3")

    assert result.exit_code == 0
    assert result.stdout == f"{KEPT}\n"
    assert "answered" in result.stderr
    assert "oven version 1 " in result.stderr and "followed" in result.stderr
    assert sampler.prompts[0][1] == 3


def test_json_holds_everything_and_nothing_else_is_on_stdout(sampler: ScriptedSampler) -> None:
    sampler.script = mending("Bake it.", KEPT)

    answer = json.loads(respond("What about baking?", "--json").stdout)
    record = json.loads(run("reply-record", answer["reply_id"], "--json").stdout)

    assert (answer["reply"], answer["outcome"]) == (KEPT, "revised")
    (cited,) = answer["citations"]
    assert (cited["value_id"], cited["verdict"], len(cited["content_digest"])) == (
        "oven",
        "followed",
        64,
    )
    assert [one["reply"] for one in answer["revisions"]] == ["Bake it."]
    assert record["reply"] == KEPT
    assert [one["id"] for one in record["values_in_force"]] == ["oven", "ship"]
    assert {key: record[key] for key in answer} == answer


def test_a_withdrawn_beginning_is_marked(sampler: ScriptedSampler) -> None:
    sampler.script = mending("Sail east. Think of the Titanic. Rest.", "Sail west.")

    result = respond("What about ships?", "--check-mode", "sentences")

    assert result.stdout == "Sail east.\nSail west.\n"
    assert "withdrawn" in result.stderr
    assert "not given: 'Sail east. Think of the Titanic." in result.stderr


def test_a_refusal_is_told_and_is_no_failure(sampler: ScriptedSampler) -> None:
    sampler.script = lambda prompt, seed: "No."

    result = respond("What about baking?", "--max-revisions", "0")

    assert result.exit_code == 0
    assert result.stdout.startswith("Sorry")
    assert "refused: no reply of 1 kept to what applies" in result.stderr


def test_a_reply_that_could_not_be_checked_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = ScriptedSampler(lambda prompt, seed: KEPT)
    strict = config(rewards={"minimum_safety": 0.5})
    with retriever_target(tmp_path / "service", scripted, config=strict) as target:
        with connect("retriever", target=target) as stub:
            import_values(stub, OVEN)
        monkeypatch.setenv("PLUMBLINE_RETRIEVER_TARGET", target)
        monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
        result = respond("What about baking?")

    assert result.exit_code == 1
    assert "failed_closed" in result.stderr
    assert KEPT not in result.stdout
