"""A program that stays up: it loads what it needs once and answers one command after another.

The benchmark writes a command to the program's standard input and reads one result from its
output (`measured_run`), so that only what a command does is timed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framework import HERE, BenchmarkError, Run
from measured_run import RESULT_MARK

TIME_LIMIT_S = 1800.0


class Resident:
    """The benchmark's side of one program.

    Attributes:
        ready: what the program said when it was loaded.
    """

    def __init__(self, name: str, process: subprocess.Popen[str], errors: Path) -> None:
        self.name = name
        self._process, self._errors = process, errors
        self.ready = self._result()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, command: Mapping[str, Any]) -> Run:
        """Send a command and wait for its result.

        Raises:
            BenchmarkError: the program ended, or took longer than `TIME_LIMIT_S`.
        """
        try:
            self._stdin.write(json.dumps(command) + "\n")
            self._stdin.flush()
        except BrokenPipeError as error:
            raise self._failure() from error
        return self._result()

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    def _result(self) -> Run:
        limit = threading.Timer(TIME_LIMIT_S, self._process.kill)
        limit.start()
        try:
            for line in self._process.stdout or ():
                if line.startswith(RESULT_MARK):
                    return Run(**json.loads(line.removeprefix(RESULT_MARK)))
        finally:
            limit.cancel()
        raise self._failure()

    def _failure(self) -> BenchmarkError:
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return BenchmarkError(f"{self.name} was stopped: no result in {TIME_LIMIT_S:g} s")
        tail = "\n".join(self._errors.read_text(encoding="utf-8").splitlines()[-15:])
        return BenchmarkError(f"{self.name} ended with {status}:\n{tail}")


@contextmanager
def started(
    name: str,
    python: Path,
    script: str,
    arguments: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    core: int | None = None,
) -> Iterator[Resident]:
    """Start a script of this directory; stops it at the end.

    Args:
        environment: variables beside the inherited ones.
        core: the only one that it may use; None means any.
    Raises:
        BenchmarkError: it did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="bench-errors-") as directory:
        errors = Path(directory) / "errors.txt"
        with (
            errors.open("w", encoding="utf-8") as stream,
            subprocess.Popen(
                [python, HERE / script, json.dumps(arguments)],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            ) as process,
        ):
            if core is not None:
                # From outside, before it has a second thread: what runs between fork and exec
                # must not meet the threads of a gRPC client in this process.
                os.sched_setaffinity(process.pid, {core})
            try:
                yield Resident(name, process, errors)
            finally:
                process.kill()
