"""How an attempt's end becomes a verdict, and how a process is told from its successor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from plumbline.core.stage_outcome import LAST_WORDS_BYTES, Outcome, Verdict, outcome_of_error


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


def test_last_words_overwrite_a_file_that_cannot_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "termination-log"
    path.touch()
    inode = path.stat().st_ino
    outcome = Outcome(verdict=Verdict.FAILED, why="steps=-1", code="INVALID_ARGUMENT")

    outcome.write_last_words(path)

    assert Outcome.read(path) == outcome
    assert path.stat().st_ino == inode, "Kubernetes mounts this very file"


@given(
    why=st.text(max_size=3000),
    waiting_for=st.lists(st.text("0123456789abcdef", min_size=32, max_size=32), max_size=200),
)
def test_last_words_fit_and_stay_complete(why: str, waiting_for: list[str]) -> None:
    """Kubernetes cuts at 4096 bytes, in the middle of JSON if need be."""
    given_outcome = Outcome(verdict=Verdict.WAITING, why=why, waiting_for=tuple(waiting_for))

    encoded = given_outcome.json_within(LAST_WORDS_BYTES)

    read = Outcome.parse(encoded)
    assert len(encoded) <= LAST_WORDS_BYTES and read is not None
    assert why.startswith(read.why)
    assert list(read.waiting_for) == waiting_for[: len(read.waiting_for)]
    # Ids matter more than words, and both stay whole where there is room.
    assert read.why == "" or read.waiting_for == given_outcome.waiting_for
    if len(given_outcome.model_dump_json().encode()) <= LAST_WORDS_BYTES:
        assert read == given_outcome


def test_words_are_cut_to_the_bound_and_not_far_below() -> None:
    outcome = Outcome(verdict=Verdict.CRASHED, why="x" * 6000, code="INTERNAL")

    assert LAST_WORDS_BYTES - 10 < len(outcome.json_within(LAST_WORDS_BYTES)) <= LAST_WORDS_BYTES


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
