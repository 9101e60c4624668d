"""A curation engine in a process of its own, so that native code which crashes costs one batch.

A shard that is attempted a second time may have crashed its process; it then works through this.
Requests and answers are JSON lines on the process's standard input and output.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np

from plumbline.curation.config import CurationConfig
from plumbline.curation.corpus.careful import ProcessCrashedError, Processor, TookTooLongError
from plumbline.curation.dedup.sketch import Sketch
from plumbline.curation.engine import Processed, open_engine
from plumbline.curation.filters.rules import Objection


def engine_command(config: CurationConfig, filters: Sequence[Path]) -> list[str]:
    """The command that serves an engine."""
    arguments = {"config": config.model_dump(mode="json"), "filters": [str(f) for f in filters]}
    return [sys.executable, "-m", __name__, json.dumps(arguments)]


class IsolatedProcessor:
    """Judges batches in a child process, which is started again after a crash.

    Args:
        command: runs `serve` around the engine.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()

    def process(self, texts: Sequence[str]) -> list[Processed]:
        """
        Raises:
            ProcessCrashedError: the process ended before it answered.
        """
        process = self._running()
        try:
            answer = self._ask(process, texts)
        except TookTooLongError:
            # It is still busy with the batch that nobody waits for any more.
            self._kill()
            raise
        if not answer:
            self._kill()
            raise ProcessCrashedError(f"the process ended with status {process.returncode}")
        return [_from_json(row) for row in json.loads(answer)]

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="surrogatepass",
            )
        return self._process

    def _ask(self, process: subprocess.Popen[str], texts: Sequence[str]) -> str:
        if process.stdin is None or process.stdout is None:
            raise ProcessCrashedError("the process has no pipes")
        try:
            process.stdin.write(json.dumps(list(texts)) + "\n")
            process.stdin.flush()
            return process.stdout.readline()
        except BrokenPipeError:
            return ""

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            # Closes both pipes, and collects the exit status.
            self._process.communicate()
            self._process = None


def serve(processor: Processor, requests: TextIO, answers: TextIO) -> None:
    """Answer requests until their stream ends."""
    for line in requests:
        processed = processor.process(json.loads(line))
        answers.write(json.dumps([_to_json(item) for item in processed]) + "\n")
        answers.flush()


def _to_json(item: Processed) -> dict[str, Any]:
    return {
        "text": item.text,
        "language": item.language,
        "rule": item.rule,
        "objection": [item.objection.code, item.objection.detail] if item.objection else None,
        "pii": item.pii,
        "digest": item.digest.hex(),
        "sketch": (
            [
                item.sketch.bands.tolist(),
                item.sketch.shingles.tolist(),
                item.sketch.shingles.dtype.name,
            ]
            if item.sketch
            else None
        ),
    }


def _from_json(row: dict[str, Any]) -> Processed:
    sketch = row["sketch"]
    return Processed(
        text=row["text"],
        language=row["language"],
        rule=row["rule"],
        objection=Objection(*row["objection"]) if row["objection"] else None,
        pii=tuple(row["pii"]),
        digest=bytes.fromhex(row["digest"]),
        sketch=(
            Sketch(np.array(sketch[0], dtype=np.uint64), np.array(sketch[1], dtype=sketch[2]))
            if sketch
            else None
        ),
    )


def main() -> None:
    arguments = json.loads(sys.argv[1])
    engine = open_engine(
        CurationConfig.model_validate(arguments["config"]), [Path(f) for f in arguments["filters"]]
    )
    serve(engine, sys.stdin, sys.stdout)


if __name__ == "__main__":
    main()
