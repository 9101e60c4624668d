"""`submit`, `jobs`, `logs`, `cancel`, `resume`, `status` against a running stack."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SUBMIT = ("submit", "curation.synthesize", "--set", "documents=60", "--request-id", "live")
SLOW = """\
name: slow
params: {steps: 100000}
stages:
  world:
    uses: curation.synthesize
    with: {documents: 60}
  base:
    uses: trainer.pretrain
    inputs: {corpus: world}
    with:
      steps: "${params.steps}"
      vocab_size: 300
      hidden_size: 16
      intermediate_size: 16
      layers: 1
      heads: 1
      batch_size: 2
      sequence_length: 16
"""


def test_a_job_is_submitted_once_shown_and_logged(live: Any) -> None:
    made = live.json(*SUBMIT, "--wait")
    again = live.json(*SUBMIT)

    assert made["state"] == "SUCCEEDED"
    assert again["job_id"] == made["job_id"]
    assert again["job_id"] in [job["job_id"] for job in live.json("jobs")]
    assert live.json("jobs", made["job_id"]) == again
    assert f"artifact {made['artifact']}" in live("logs", made["job_id"])
    assert '"job_id"' in live("logs", "worker-compute")
    assert "accepted: a job id, a run id" in live("logs", "nothing", code=2)
    refused = live(*SUBMIT, "--set", "seed=9", code=2)
    assert "already made job" in refused


def test_a_run_is_cancelled_and_resumed(
    live: Any, tmp_path: Any, wait_until: Callable[..., None]
) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW)
    run = live.json("run", str(tmp_path / "slow.yaml"), "--detach")["run_id"]

    def state_of(run_id: str) -> tuple[str, list[str]]:
        found = next(one for one in live.json("runs") if one["run_id"] == run_id)
        return found["state"], [stage["state"] for stage in found["stages"]]

    wait_until(lambda: state_of(run) == ("RUNNING", ["SUCCEEDED", "RUNNING"]))
    live("cancel", run, "--reason", "to see it end")
    wait_until(lambda: state_of(run)[0] == "CANCELLED")
    assert state_of(run) == ("CANCELLED", ["SUCCEEDED", "CANCELLED"])
    assert "trainer.pretrain" in live("logs", run)

    with live.start("resume", run, "--json") as resumed:
        wait_until(lambda: live.json("runs")[0]["run_id"] != run)
        newest = live.json("runs")[0]
        assert newest["stages"][0]["cached"], "what was finished is found"
        live("cancel", newest["run_id"])
        out, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 1
    assert '"state": "CANCELLED"' in out, err


def test_every_part_is_ready(live: Any) -> None:
    status = live.json("status")

    assert status["state"] == "ready"
    assert {child["state"] for child in status["children"]} == {"ready"}
    assert all(child["rss_bytes"] > 0 for child in status["children"])
    assert "worker-control" in live("status")


def test_in_the_foreground_an_interrupt_stops_everything(
    shell: Any, wait_until: Callable[..., None]
) -> None:
    endpoints = shell.state_dir / "endpoints.json"
    with shell.start("up", "--foreground") as foreground:
        wait_until(endpoints.exists)
        foreground.send_signal(signal.SIGINT)
        _, err = foreground.communicate(timeout=60)

    assert foreground.returncode == 0
    assert "everything is ready" in err
    assert shell.processes() == []
