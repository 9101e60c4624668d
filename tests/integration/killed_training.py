"""Run one training stage in child processes, killing each at a given step; prints what came out.

Reads a JSON object: `state_dir`, `method`, `config`, `inputs` (name: directory), `kills` (steps at
which a child is killed, rising), `delay_s` (how long after the step is reported, one per kill).
Everything is imported once and each attempt is a fork, so that ten kills take seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from plumbline.core.artifacts import open_configured_store
from plumbline.core.settings import Settings
from plumbline.core.stages import Stage, load_run_function, run_stage
from plumbline.trainer.tasks import STAGES


class StepReporter:
    """Tells the parent which step is done."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def progress(self, done: int, total: int, message: str) -> None:
        os.write(self._pipe, f"{done}\n".encode())

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        return None

    def cancel_reason(self) -> str | None:
        return None


def attempt(stage: Stage, given: dict[str, Any], pipe: int) -> None:
    """What a child does: the stage from its newest checkpoint to its artifact."""
    settings = Settings(state_dir=Path(given["state_dir"]), threads=1)
    store = open_configured_store(settings)
    references = {name: [f"path:{path}"] for name, path in given["inputs"].items()}
    artifact, _ = run_stage(
        stage,
        given["config"],
        references,
        store=store,
        settings=settings,
        reporter=StepReporter(pipe),
    )
    files = {entry.name: entry.sha256 for entry in artifact.manifest.files}
    result = {"files": files, "metrics": dict(artifact.manifest.metrics)}
    (settings.state_dir / "result.json").write_text(json.dumps(result), encoding="utf-8")


def fork(stage: Stage, given: dict[str, Any]) -> tuple[int, int]:
    """Start a child; returns its process id and where its steps are read."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    try:
        attempt(stage, given, write)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def watch(child: int, steps: int, kill_at: int | None, delay_s: float) -> int:
    """Kill a child once it reports a step, or let it end; returns how it ended."""
    with os.fdopen(steps, encoding="utf-8") as lines:
        for line in lines:
            if kill_at is not None and int(line) >= kill_at:
                time.sleep(delay_s)
                os.kill(child, signal.SIGKILL)
                break
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    given = json.loads(sys.stdin.read())
    torch.set_num_threads(1)
    stage = next(stage for stage in STAGES if stage.name == given["method"])
    load_run_function(stage)
    kills = 0
    for kill_at, delay_s in zip(given["kills"], given["delay_s"], strict=True):
        ended = watch(*fork(stage, given), kill_at, delay_s)
        kills += ended == -signal.SIGKILL
    ended = watch(*fork(stage, given), None, 0.0)
    if ended:
        return 1
    result = json.loads((Path(given["state_dir"]) / "result.json").read_text(encoding="utf-8"))
    print(json.dumps({**result, "kills": kills}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
