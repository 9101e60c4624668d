"""A program that stays up: it loads a model once and runs one piece of sampling after another.

The benchmark writes a command to the program's standard input and reads one result from its
output (`measured_run`), so that only sampling is timed and only one program runs at a time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from framework import HERE, BenchmarkError, Run
from measured_run import RESULT_MARK, Measured
from sampling_work import Options, Request, load_work

Responses = Sequence[Sequence[Sequence[int]]]
"""Token ids by request and response."""
RunClosed = Callable[[Any, Sequence[Request], Options], Responses]
"""All requests wait at the start."""
RunArrivals = Callable[[Any, Sequence[Request], Sequence[float], Options], Sequence[list[float]]]
"""Requests of one response arrive; when each token was there, seconds from the start."""

TIME_LIMIT_S = 1800.0
_READY = "ready"


def serve(
    engine: Any,
    *,
    run_closed: RunClosed,
    run_arrivals: RunArrivals | None = None,
    version: str,
) -> None:
    """The program's side: run commands until there are no more.

    Args:
        engine: what the functions take first, loaded.
        run_arrivals: None where an engine takes nothing while it works.
    """
    Measured().report(documents=0, size_bytes=0, state=_READY, version=version)
    for line in sys.stdin:
        command = json.loads(line)
        work, options = load_work(Path(command["work"])), Options(**command["options"])
        measured, facts = Measured(), {}
        if work.arrivals is None:
            with measured.block():
                facts["responses"] = run_closed(engine, work.requests, options)
        elif run_arrivals is not None:
            with measured.block():
                facts["token_times"] = run_arrivals(engine, work.requests, work.arrivals, options)
        measured.report(documents=work.tokens, size_bytes=0, **facts)


class Program:
    """The benchmark's side of one program. Commands wait for their results."""

    def __init__(self, name: str, process: subprocess.Popen[str], errors: Path) -> None:
        self.name = name
        self._process, self._errors = process, errors
        self.version = str(self._result().facts["version"])

    def run(self, work: Path, options: Options) -> Run:
        """
        Args:
            work: a file of `save_work`.
        Raises:
            BenchmarkError: the program ended, or took longer than `TIME_LIMIT_S`.
        """
        command = {"work": str(work), "options": asdict(options)}
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
    name: str, python: Path, script: str, model: Path, *, threads: int
) -> Iterator[Program]:
    """Start a script of this directory, with a model loaded; stops it at the end.

    Raises:
        BenchmarkError: it did not come up.
    """
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    quiet: Mapping[str, str] = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    given = json.dumps({"model": str(model), "threads": threads})
    with tempfile.TemporaryDirectory(prefix="bench-sampling-errors-") as directory:
        errors = Path(directory) / "errors.txt"
        with (
            errors.open("w", encoding="utf-8") as stream,
            subprocess.Popen(
                [python, HERE / script, given],
                env={**os.environ, **limits, **quiet},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            ) as process,
        ):
            try:
                yield Program(name, process, errors)
            finally:
                process.kill()
