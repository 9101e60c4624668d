"""How an attempt's end becomes a verdict, and how a process is told from its successor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.core.errors import (
    CancelledError,
    CheckpointError,
    ConfigError,
    ConflictError,
    CorruptArtifactError,
    DeadlineExceededError,
    NotFoundError,
    ResourceExhaustedError,
    ServiceUnavailableError,
    StorageFullError,
)
from plumbline.core.job_runner import WorkerConfig
from plumbline.core.process_identity import ProcessIdentity, lease_owner, owner_is_gone
from plumbline.core.stage_outcome import Outcome, Verdict, outcome_of_error


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConfigError("steps=-1"), Verdict.FAILED),
        (NotFoundError("no artifact"), Verdict.FAILED),
        (CheckpointError("a shard is missing"), Verdict.FAILED),
        (CorruptArtifactError("bytes differ"), Verdict.FAILED),
        (ServiceUnavailableError("away"), Verdict.UNAVAILABLE),
        (DeadlineExceededError("slow"), Verdict.UNAVAILABLE),
        (ResourceExhaustedError("busy"), Verdict.UNAVAILABLE),
        (StorageFullError("disk full"), Verdict.CRASHED),
        (ConflictError("lost"), Verdict.CRASHED),
        (CancelledError("stop"), Verdict.CANCELLED),
        (ValueError("bug"), Verdict.CRASHED),
        (MemoryError(), Verdict.CRASHED),
    ],
)
def test_errors_become_verdicts(error: Exception, verdict: Verdict) -> None:
    assert outcome_of_error(error).verdict is verdict


def test_unexpected_errors_are_named_with_their_type() -> None:
    assert outcome_of_error(ZeroDivisionError("by zero")).why == "ZeroDivisionError: by zero"


def test_expected_errors_speak_for_themselves() -> None:
    outcome = outcome_of_error(ConfigError("steps=-1; accepted: 1 and above"))

    assert (outcome.why, outcome.code) == ("steps=-1; accepted: 1 and above", "INVALID_ARGUMENT")


def test_outcomes_survive_their_file(tmp_path: Path) -> None:
    outcome = Outcome(verdict=Verdict.SUCCEEDED, why="Made by attempt 1", artifact="a" * 64)
    outcome.write(tmp_path / "outcome.json")

    assert Outcome.read(tmp_path / "outcome.json") == outcome


@pytest.mark.parametrize("content", [None, b"", b'{"verdict": "succee', b'{"verdict": "maybe"}'])
def test_an_incomplete_outcome_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "outcome.json"
    if content is not None:
        path.write_bytes(content)

    assert Outcome.read(path) is None


def test_a_lease_shorter_than_three_renewals_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lease_ttl_s=2\.0 must be at least three times"):
        WorkerConfig(lease_ttl_s=2.0, renew_period_s=1.0)


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, the kernel's list")


@linux_only
def test_an_owner_is_gone_when_its_process_ended() -> None:
    code = "from plumbline.core.process_identity import lease_owner; print(lease_owner('w'))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert owner_is_gone(child.stdout.strip())
    assert not owner_is_gone(lease_owner("w"))


@linux_only
def test_an_unreaped_process_counts_as_gone() -> None:
    code = "from plumbline.core.process_identity import lease_owner; print(lease_owner('w'))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        owner = child.stdout.read().strip()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert owner_is_gone(owner)


@pytest.mark.parametrize("owner", ["", "w", "w#elsewhere/1/2/n", "w#//", "w#a/b/c/d"])
def test_owners_elsewhere_are_not_known_to_be_gone(owner: str) -> None:
    assert not owner_is_gone(owner)


def test_a_reused_pid_is_another_process() -> None:
    mine = ProcessIdentity.current()

    assert not mine.is_gone()
    assert ProcessIdentity(mine.machine, mine.pid, mine.started_ticks + 1).is_gone()
