"""A large corpus through CurateCorpus: two workers, one of them killed, against one worker.

Prints the wall time, the highest memory of any process of a job at each tenth of the run, and
whether both runs made the same artifact.

    .venv/bin/python tests/benchmarks/large_run.py --documents 1000000 --kill-after 60
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

import psutil
from generate import write_corpus
from scale_out import Curated, running_stack

_SAMPLE_S = 1.0


class Memory:
    """Samples the resident memory of job processes, which are children of the workers."""

    def __init__(self, workers: list[int]) -> None:
        self._workers = workers
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.samples: list[float] = []
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stopping.wait(_SAMPLE_S):
            largest = 0
            for worker in self._workers:
                try:
                    children = psutil.Process(worker).children(recursive=True)
                    # Without the pages of files that are mapped: the kernel takes those back.
                    held = [child.memory_info() for child in children]
                except psutil.Error:
                    continue
                largest = max([largest, *(info.rss - info.shared for info in held)])
            self.samples.append(largest / 2**20)

    def tenths(self) -> list[int]:
        """Largest figure of each tenth of the run, MiB."""
        size = max(1, len(self.samples) // 10)
        parts = [self.samples[i : i + size] for i in range(0, len(self.samples), size)]
        return [round(max(part)) for part in parts[:10]]


def run(corpus: Path, workers: int, kill_after_s: float | None) -> Curated:
    """One corpus through a fresh stack; the first worker is killed after a while."""
    with tempfile.TemporaryDirectory(prefix="large-run-") as scratch:
        with running_stack(workers, Path(scratch) / "state") as stack:
            memory = Memory([worker.pid for worker in stack.workers])
            if kill_after_s is not None:
                timer = threading.Timer(kill_after_s, stack.workers[0].kill)
                timer.start()
            start = time.monotonic()
            curated = stack.curate(corpus, [], Path(scratch))
            memory.stop()
        killed = "" if kill_after_s is None else f", one killed after {kill_after_s:.0f} s"
        print(
            f"{workers} workers{killed}: {time.monotonic() - start:.0f} s, "
            f"artifact {curated.artifact}\n  MiB by tenth of the run: {memory.tenths()}",
            flush=True,
        )
        return curated


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--kill-after", type=float, default=60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="large-corpus-") as scratch:
        corpus = Path(scratch) / "documents.parquet"
        write_corpus(corpus, arguments.documents)
        print(f"{arguments.documents:,} documents, {os.path.getsize(corpus) / 2**20:.0f} MiB")
        two = run(corpus, 2, arguments.kill_after)
        one = run(corpus, 1, None)
    if one.artifact != two.artifact:
        raise SystemExit(f"different artifacts: {one.artifact} and {two.artifact}")
    print("both runs made the same artifact")


if __name__ == "__main__":
    main()
