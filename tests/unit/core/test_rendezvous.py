"""A node waits until the first one has a name, and then becomes torchrun."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.core.rendezvous import await_name, main
from plumbline.core.stage_outcome import Outcome, Verdict


def test_it_waits_for_a_name_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter([socket.gaierror("unknown"), socket.gaierror("unknown"), None])
    slept: list[float] = []

    def resolve(host: str) -> None:
        if (answer := next(answers)) is not None:
            raise answer

    assert await_name("node-0", 60, resolve=resolve, sleep=slept.append)
    assert slept == [1.0, 1.0]
    # Once for both waits: it is told every half minute.
    assert capsys.readouterr().err.count("waiting for node-0") == 1


def test_its_patience_ends(capsys: pytest.CaptureFixture[str]) -> None:
    slept: list[float] = []

    def resolve(host: str) -> None:
        raise socket.gaierror("unknown")

    assert not await_name("node-0", 3, resolve=resolve, sleep=slept.append)
    assert len(slept) == 3
    assert "node-0 is unknown after 3 s" in capsys.readouterr().err


def test_a_wait_in_vain_is_not_charged_to_the_job(tmp_path: Path) -> None:
    last_words = tmp_path / "termination-log"
    given = ["--patience-s=0", f"--outcome={last_words}", "node-0.invalid", "true"]

    assert main(given) == 1
    outcome = Outcome.read(last_words)
    assert outcome is not None and outcome.verdict is Verdict.UNAVAILABLE
    assert outcome.why == (
        "the first node of the job did not start within 0 s: node-0.invalid is unknown"
    )


def test_it_becomes_the_command() -> None:
    program = "import os, sys; print(os.getpid(), sys.argv[1:]); sys.exit(7)"
    command = ["localhost", sys.executable, "-c", program, "--nnodes=2", "-m", "x"]

    with subprocess.Popen(
        [sys.executable, "-m", "plumbline.core.rendezvous", *command],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out, _ = process.communicate(timeout=30)

    # The same process, so that a signal to it is one to torchrun.
    assert out.split(" ", 1) == [str(process.pid), "['--nnodes=2', '-m', 'x']\n"]
    assert process.returncode == 7


def test_without_a_command_it_says_how() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "plumbline.core.rendezvous", "localhost"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 2 and "no command to start" in done.stderr
