"""What runs in a pod, as a real process: it outlives launchers and leaves its last words.

The test plays the launchers: it holds the job's lease, lets it go, and takes it again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import open_configured_store
from plumbline.core.broker import connect_broker
from plumbline.core.errors import ConflictError
from plumbline.core.jobs import Job, JobStore, Lease
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import Outcome, Verdict

PROGRAM = Path(__file__).with_name("worker_stages.py")
NAME = "plumbline-0123456789ab-1"
TTL_S = 30.0
PATIENCE_S = 30.0

pytestmark = pytest.mark.integration


@dataclass
class Pod:
    """A pod's process, and where Kubernetes would look for its last words."""

    process: subprocess.Popen[bytes]
    message: Path

    def last_words(self) -> Outcome:
        self.process.wait(PATIENCE_S)
        words = Outcome.parse(self.message.read_bytes())
        assert words is not None
        return words


@dataclass
class Attempt:
    """A job whose attempt runs in a pod."""

    jobs: JobStore
    job: Job
    lease: Lease
    pod: Pod
    gate: Path

    def steps(self) -> int:
        return len(self.jobs.metrics(self.job.id))

    def pass_on(self, owner: str) -> None:
        """The launcher goes; after a while another one follows the attempt."""
        self.jobs.release_for_retry(self.lease, "the launcher was stopped", cause="stopped")
        time.sleep(1.0)
        lease = self.jobs.acquire(self.job.id, owner, TTL_S)
        assert lease is not None
        self.lease = lease


@pytest.fixture
def settings(valkey: str, tmp_path: Path) -> Settings:
    url = f"{valkey.rpartition('/')[0]}/6"
    connect_broker(url).flushdb()
    return Settings(state_dir=tmp_path / "state", redis_url=url)


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Callable[[str], Attempt]]:
    """Starts a pod for a job that a launcher follows."""
    jobs = JobStore(settings.redis_url)
    pods: list[Pod] = []

    def begin(behaviour: str) -> Attempt:
        gate = tmp_path / "gate"
        config = {"trace": str(tmp_path / "trace"), "behaviour": behaviour, "gate": str(gate)}
        spec = {"stage": "probe.run", "config": config, "inputs": {}}
        job = jobs.create(spec, queue="training")
        lease = jobs.acquire(job.id, "l1", TTL_S)
        assert lease is not None
        jobs.follow(lease, NAME)
        pods.append(_start_pod(settings, job, tmp_path / "termination-log"))
        return Attempt(jobs, job, lease, pods[-1], gate)

    yield begin
    for pod in pods:
        pod.process.kill()
        pod.process.wait()
    jobs.close()


def _start_pod(settings: Settings, job: Job, message: Path) -> Pod:
    environment = {
        **os.environ,
        "PLUMBLINE_STATE_DIR": str(settings.state_dir),
        "REDIS_URL": str(settings.redis_url),
    }
    message.touch()
    process = subprocess.Popen(
        [sys.executable, PROGRAM, "stage", job.id, f"--follow={NAME}", f"--outcome={message}"],
        env=environment,
        # A container's standard input is closed; that must not end the process.
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    return Pod(process, message)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s"
        time.sleep(0.05)


def test_a_pod_works_on_while_launchers_come_and_go(
    start: Callable[[str], Attempt], settings: Settings
) -> None:
    attempt = start("wait")
    until(lambda: attempt.steps() > 2)
    first_token = attempt.lease.fencing_token

    attempt.pass_on("l2")
    before = attempt.steps()
    until(lambda: attempt.steps() > before)
    attempt.gate.touch()
    words = attempt.pod.last_words()

    assert (words.verdict, words.why) == (Verdict.SUCCEEDED, "Made by attempt 1")
    assert attempt.pod.process.returncode == 0
    assert attempt.lease.fencing_token == first_token + 1
    store = open_configured_store(settings)
    assert store.read_bytes(words.artifact, "result.txt") == b"result"
    # No step that was made while nobody followed is missing.
    steps = [row.step for row in attempt.jobs.metrics(attempt.job.id) if "loss" in row.values]
    assert steps[:-1] == list(range(1, len(steps)))


def test_a_pod_that_is_asked_to_end_says_so(start: Callable[[str], Attempt]) -> None:
    attempt = start("wait")
    until(lambda: attempt.steps() > 0)

    attempt.pod.process.send_signal(signal.SIGTERM)
    words = attempt.pod.last_words()

    assert words.verdict is Verdict.CANCELLED
    assert attempt.pod.process.returncode == 1


def test_a_pod_whose_attempt_was_given_up_ends_by_itself(start: Callable[[str], Attempt]) -> None:
    attempt = start("wait")
    until(lambda: attempt.steps() > 0)

    attempt.jobs.release_for_retry(attempt.lease, "its machine was lost", cause="crash")
    words = attempt.pod.last_words()

    assert words.verdict is Verdict.CANCELLED and "no longer wanted" in words.why
    with pytest.raises(ConflictError):
        attempt.jobs.renew(attempt.lease, TTL_S)


def test_a_refusal_of_the_stage_is_its_last_word(start: Callable[[str], Attempt]) -> None:
    words = start("refuse").pod.last_words()

    assert (words.verdict, words.code) == (Verdict.FAILED, "INVALID_ARGUMENT")
    assert "rate=-1 is negative" in words.why
