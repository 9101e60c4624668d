"""Programs that a test session starts and ends, each with a log of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.1


class Processes:
    """Runs programs by name, in process groups of their own; `stop_all` leaves none behind."""

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[Sequence[str | Path], Mapping[str, str] | None]] = {}

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program that dies with this one.

        Args:
            environment: the whole of it; None hands on this process's own.
        """
        self._commands[name] = (command, environment)
        guard = shutil.which("setpriv")
        prefix = [guard, "--pdeathsig", "KILL", "--"] if guard else []
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*prefix, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running[name] = process
        return process

    def restart(self, name: str) -> None:
        """Start a program again, as it was started first."""
        self.start(name, *self._commands[name])

    def stop(self, name: str, grace_s: float = 10.0) -> None:
        """Ask a program to end, then make it; grace 0 kills it at once."""
        process = self._running.pop(name)
        if grace_s:
            _signal_group(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(grace_s)
        _signal_group(process, signal.SIGKILL)
        process.wait()

    def stop_all(self) -> None:
        """End all programs, the last started first."""
        for name in list(self._running)[::-1]:
            self.stop(name)

    def wait_for(
        self, what: str, condition: Callable[[], T | None], within_s: float, name: str = ""
    ) -> T:
        """The condition's first true value, while the program of that name runs."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            if name and self._running[name].poll() is not None:
                break
            time.sleep(POLL_S)
        raise TimeoutError(f"{what} not within {within_s} s\n{self.tail(name) if name else ''}")

    def tail(self, name: str, characters: int = 3000) -> str:
        """The end of a program's log."""
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace")[-characters:] if path.exists() else ""


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
