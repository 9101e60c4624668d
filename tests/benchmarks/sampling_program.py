"""A program that loads a model once and runs one piece of sampling after another.

It waits for commands (`resident`), so that only sampling is timed and only one program runs at a
time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import resident
from framework import Run
from measured_run import Measured
from resident import Resident
from sampling_work import Options, Request, load_work

Responses = Sequence[Sequence[Sequence[int]]]
"""Token ids by request and response."""
RunClosed = Callable[[Any, Sequence[Request], Options], Responses]
"""All requests wait at the start."""
RunArrivals = Callable[[Any, Sequence[Request], Sequence[float], Options], Sequence[list[float]]]
"""Requests of one response arrive; when each token was there, seconds from the start."""

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

    def __init__(self, resident: Resident) -> None:
        self._resident = resident
        self.name = resident.name
        self.version = str(resident.ready.facts["version"])

    def run(self, work: Path, options: Options) -> Run:
        """
        Args:
            work: a file of `save_work`.
        Raises:
            BenchmarkError: the program ended, or took too long.
        """
        return self._resident.ask({"work": str(work), "options": asdict(options)})


@contextmanager
def started(
    name: str, python: Path, script: str, model: Path, *, threads: int
) -> Iterator[Program]:
    """Start a script of this directory, with a model loaded; stops it at the end.

    Raises:
        BenchmarkError: it did not come up.
    """
    environment = {
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    given = {"model": str(model), "threads": threads}
    with resident.started(name, python, script, given, environment=environment) as program:
        yield Program(program)
