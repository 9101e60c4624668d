"""A worker with small stages that misbehave on request; the fault tests start it as a program.

python worker_stages.py worker --queues training ...
python worker_stages.py stage JOB_ID ...
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from celery import Celery
from pydantic import BaseModel, ConfigDict

from plumbline.core import stage_process, worker
from plumbline.core.errors import InvalidInputError, ServiceUnavailableError
from plumbline.core.jobs import JobStore
from plumbline.core.settings import Settings
from plumbline.core.stages import Stage, StageContext, StageInputs, StageResult


class ProbeConfig(BaseModel):
    """What the probe does once it has written a line to `trace`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trace: str
    behaviour: str = "finish"
    gate: str = ""
    """A file; the behaviours that wait go on when it exists."""
    text: str = "result"


def run_probe(config: ProbeConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    """Leave a trace of this attempt, behave as told, and write one small file."""
    with Path(config.trace).open("a") as trace:
        trace.write(f"{os.getpid()}\n")
    BEHAVIOURS[config.behaviour](config, context)
    context.log_metrics(1, {"loss": 0.5})
    context.progress(1, 1, "done")
    (context.output_dir / "result.txt").write_text(config.text)
    return StageResult(metrics={"length": float(len(config.text))})


def _finish(config: ProbeConfig, context: StageContext) -> None:
    print("the probe says hello")


def _wait(config: ProbeConfig, context: StageContext) -> None:
    step = 0
    while not Path(config.gate).exists():
        step += 1
        context.log_metrics(step, {"loss": 1 / step})
        context.progress(step, 0, "waiting")
        time.sleep(0.05)


def _die(config: ProbeConfig, context: StageContext) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _break(config: ProbeConfig, context: StageContext) -> None:
    raise ArithmeticError("the sum of the parts is odd")


def _refuse(config: ProbeConfig, context: StageContext) -> None:
    raise InvalidInputError("rate=-1 is negative; accepted: 0 and above")


def _need(config: ProbeConfig, context: StageContext) -> None:
    if not Path(config.gate).exists():
        raise ServiceUnavailableError("service reward does not answer")


def _ignore_signals(config: ProbeConfig, context: StageContext) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with Path(config.trace).open("a") as trace:
        trace.write(f"{grandchild.pid}\n")
    time.sleep(600)


BEHAVIOURS: Mapping[str, Callable[[ProbeConfig, StageContext], None]] = {
    "finish": _finish,
    "wait": _wait,
    "die": _die,
    "break": _break,
    "refuse": _refuse,
    "need": _need,
    "ignore signals": _ignore_signals,
}

STAGES: Mapping[str, Stage] = {
    "probe.run": Stage(
        name="probe.run",
        version=1,
        config=ProbeConfig,
        inputs={},
        output_kind="report",
        queue="training",
        run="worker_stages:run_probe",
    )
}


def advance_run(run_id: str, settings: Settings, jobs: JobStore, app: Celery) -> None:
    """A pipeline runner that only notes which runs it was called for."""
    with (settings.state_dir / "advanced").open("a") as notes:
        notes.write(f"{run_id}\n")


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    if program == "stage":
        sys.exit(stage_process.main(STAGES, arguments))
    worker.main(
        STAGES,
        advance_run=advance_run,
        stage_command=(sys.executable, __file__, "stage"),
        argv=arguments,
    )
