"""Runs attempts as processes of the worker's own machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from plumbline.core.errors import PlumblineError
from plumbline.core.execution import Execution, check_one_machine, rank_command
from plumbline.core.job_log import attempt_header, job_log_path
from plumbline.core.jobs import Job, Lease
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import TRACE_HEADERS_VARIABLE, Outcome, Verdict
from plumbline.core.telemetry import outgoing_headers


class LocalExecutor:
    """Starts each attempt as a process of its own, or as torchrun where it has several ranks."""

    def __init__(self, stage_command: Sequence[str], settings: Settings) -> None:
        """
        Args:
            stage_command: starts a stage's process; the job's arguments are appended.
        """
        self._stage_command = list(stage_command)
        self._settings = settings

    def place(self, job: Job, lease: Lease) -> str:
        return ""

    def start(self, job: Job, lease: Lease) -> StageProcess:
        """
        Raises:
            ConfigError: the job asks for more than this machine.
            PlumblineError: the system refuses the process.
        """
        execution = Execution.of(job.spec)
        check_one_machine(execution)
        outcome_path = self._settings.scratch_dir / f"job-{lease.job_id}-{lease.fencing_token}.json"
        arguments = [
            lease.job_id,
            f"--owner={lease.owner}",
            f"--fencing-token={lease.fencing_token}",
            f"--attempt={lease.attempt}",
            f"--outcome={outcome_path}",
        ]
        command = [*self._stage_command, *arguments]
        if execution.world_size > 1:
            command = rank_command(sys.executable, arguments, execution)
        return StageProcess.start(command, lease, self._settings, outcome_path)


class StageProcess:
    """The operating system's side of one attempt."""

    def __init__(self, process: subprocess.Popen[bytes], outcome_path: Path) -> None:
        self._process = process
        self._outcome_path = outcome_path

    @classmethod
    def start(
        cls, command: Sequence[str], lease: Lease, settings: Settings, outcome_path: Path
    ) -> StageProcess:
        """Start an attempt in a process group of its own, with its output in the job's log.

        Raises:
            PlumblineError: the system refuses the process.
        """
        outcome_path.parent.mkdir(parents=True, exist_ok=True)
        log_path = job_log_path(settings, lease.job_id)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab") as log:
            log.write(attempt_header(lease))
            log.flush()
            try:
                process = subprocess.Popen(
                    command,
                    # The process ends when this pipe does: see stage_process.die_with_worker.
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **_stage_environment(settings)},
                    start_new_session=True,
                )
            except OSError as error:
                raise PlumblineError(f"the job's process did not start: {error}") from error
        return cls(process, outcome_path)

    def wait(self, timeout_s: float) -> bool:
        """Whether the process ended within the timeout."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode is not None

    def why(self) -> None:
        """Nothing: while the process lives it runs."""

    def detach(self) -> bool:
        """Never: a process ends with its worker."""
        return False

    def terminate(self, grace_s: float) -> None:
        """Ask all processes of the attempt to end, and kill what is left after the grace."""
        self._signal(signal.SIGTERM)
        self.wait(grace_s)
        self.kill()

    def kill(self) -> None:
        """Kill what is left of the attempt's processes, children of a finished one included."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def outcome(self) -> Outcome:
        """What the process reported, or what its end says; to be read once, after the end."""
        reported = Outcome.read(self._outcome_path)
        self._outcome_path.unlink(missing_ok=True)
        return reported or Outcome(
            verdict=Verdict.CRASHED, why=_describe_end(self._process.returncode), code="INTERNAL"
        )

    def _signal(self, number: signal.Signals) -> None:
        # The group's id is the leader's pid, because it started a session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _stage_environment(settings: Settings) -> Mapping[str, str]:
    threads = str(settings.threads)
    return {
        "PLUMBLINE_STATE_DIR": str(settings.state_dir.absolute()),
        "PLUMBLINE_STORE": settings.store_url,
        "REDIS_URL": settings.redis_url or "",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # Threads that spin while they wait take the cores from whatever else runs here.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        TRACE_HEADERS_VARIABLE: json.dumps(outgoing_headers()),
    }


def _describe_end(status: int) -> str:
    if status >= 0:
        return f"the job's process exited with status {status} and no outcome; see the job's log"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    hint = "; often the kernel for want of memory" if -status == signal.SIGKILL else ""
    return f"the job's process was killed by signal {-status} ({name}{hint}); see the job's log"
