"""Runs one job: takes its lease, starts its process, watches both, and records what came of it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from prometheus_client import Counter, Gauge
from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumbline.core.errors import BrokerUnavailableError, ConflictError, NotFoundError
from plumbline.core.jobs import PARENT_LABEL, Job, JobState, JobStore, Lease
from plumbline.core.process_identity import lease_owner
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import TRACE_HEADERS_VARIABLE, Outcome, Verdict
from plumbline.core.telemetry import bind_log_context, outgoing_headers

T = TypeVar("T")

_RUNNING = Gauge("plumbline_jobs_running", "Jobs that run in this worker.")
_ATTEMPTS = Counter("plumbline_job_attempts", "Attempts ended, by verdict.", ["stage", "verdict"])

logger = logging.getLogger(__name__)


class WorkerConfig(BaseModel):
    """How a worker keeps, watches and ends its jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: int = Field(1, ge=1)
    """Jobs at a time."""
    lease_ttl_s: float = Field(15.0, gt=0)
    """After this long without renewal another worker may take the job."""
    renew_period_s: float = Field(1.0, gt=0)
    """Between renewals, which also notice a cancellation."""
    reconcile_period_s: float = Field(2.0, gt=0)
    soft_shutdown_s: float = Field(5.0, ge=0)
    """How long running jobs may go on after the worker was asked to stop."""
    terminate_grace_s: float = Field(5.0, ge=0)
    """Between SIGTERM and SIGKILL of a job's processes."""
    broker_patience_s: float = Field(600.0, ge=0)
    """How long a finished job's outcome is held for a broker that does not answer."""
    attempt_cap: int = Field(3, ge=1)
    unavailable_cap: int = Field(20, ge=0)

    @model_validator(mode="after")
    def _renew_in_time(self) -> WorkerConfig:
        if self.renew_period_s * 3 > self.lease_ttl_s:
            raise ValueError(
                f"lease_ttl_s={self.lease_ttl_s} must be at least three times "
                f"renew_period_s={self.renew_period_s}, or one late renewal loses the job"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessages:
    """What a worker sends to the queues."""

    send_job: Callable[[Job], None]
    send_advance: Callable[[str], None]


class JobRunner:
    """Runs jobs of one worker; `run` may be called from several threads."""

    def __init__(
        self,
        jobs: JobStore,
        messages: JobMessages,
        *,
        settings: Settings,
        config: WorkerConfig,
        name: str,
        stage_command: Sequence[str],
    ) -> None:
        self._jobs = jobs
        self._messages = messages
        self._settings = settings
        self._config = config
        self._name = name
        self._stage_command = list(stage_command)
        self._draining_since: float | None = None
        self._processes: set[StageProcess] = set()
        self._lock = threading.Lock()

    def drain(self) -> None:
        """Let running jobs go on for the soft shutdown, then give them back to their queues."""
        self._draining_since = self._draining_since or time.monotonic()

    def kill_all(self) -> None:
        """Kill every job's processes; their leases run out."""
        with self._lock:
            for process in self._processes:
                process.kill()

    def run(self, job_id: str) -> None:
        """Run a job to its end, or leave at once when it is not ours to run."""
        try:
            lease = self._jobs.acquire(job_id, lease_owner(self._name), self._config.lease_ttl_s)
        except NotFoundError as error:
            logger.warning("message dropped: %s", error)
            return
        if lease is None:
            logger.info("job %s is not for this delivery: it ended, is held or is not due", job_id)
            return
        with bind_log_context(job_id=job_id), _RUNNING.track_inprogress():
            try:
                self._run_leased(lease)
            except ConflictError as error:
                logger.warning("%s", error)

    def _run_leased(self, lease: Lease) -> None:
        job = self._jobs.get(lease.job_id)
        logger.info("attempt %d of stage %s", lease.attempt, job.kind)
        try:
            process = StageProcess.start(self._stage_command, lease, self._settings)
        except OSError as error:
            why = f"the job's process did not start: {error}"
            self._follow_up(job, self._jobs.release_for_retry(lease, why), Verdict.CRASHED)
            return
        with self._lock:
            self._processes.add(process)
        try:
            stopped = self._watch(process, lease)
        finally:
            process.kill()
            with self._lock:
                self._processes.discard(process)
        outcome = process.outcome()
        _ATTEMPTS.labels(job.kind, outcome.verdict).inc()
        logger.info("attempt %d: %s, %s", lease.attempt, outcome.verdict, outcome.why)
        state = self._with_patience(lambda: self._record(lease, outcome, stopped=stopped))
        self._follow_up(job, state, outcome.verdict)

    def _watch(self, process: StageProcess, lease: Lease) -> bool:
        """Renew the lease until the process ends; returns whether this worker stopped it.

        Raises:
            ConflictError: the lease was lost; the process is killed by the caller.
        """
        while not process.wait(self._config.renew_period_s):
            try:
                cancelled = self._jobs.renew(lease, self._config.lease_ttl_s)
            except BrokerUnavailableError as error:
                # The fencing token decides, once the broker is back, whether the job is still ours.
                logger.warning("lease not renewed: %s", error)
                cancelled = False
            if cancelled or self._must_stop():
                process.terminate(self._config.terminate_grace_s)
                return True
        return False

    def _must_stop(self) -> bool:
        since = self._draining_since
        return since is not None and time.monotonic() - since >= self._config.soft_shutdown_s

    def _record(self, lease: Lease, outcome: Outcome, *, stopped: bool) -> JobState:
        if outcome.verdict is Verdict.SUCCEEDED:
            self._jobs.succeed(lease, outcome.artifact, why=outcome.why)
            return JobState.SUCCEEDED
        if outcome.verdict is Verdict.WAITING:
            return self._jobs.await_jobs(lease, outcome.waiting_for)
        if stopped and self._jobs.cancel_requested(lease.job_id):
            self._jobs.confirm_cancelled(lease)
            return JobState.CANCELLED
        if stopped:
            why = f"Worker {self._name} was stopped; waiting for another"
            return self._jobs.release_for_retry(lease, why, cause="stopped")
        if outcome.verdict is Verdict.FAILED:
            self._jobs.fail(lease, outcome.why, outcome.code)
            return JobState.FAILED
        # CANCELLED though nobody cancelled the job: the stage called a service that was stopping.
        crashed = outcome.verdict is Verdict.CRASHED
        return self._jobs.release_for_retry(
            lease, outcome.why, code=outcome.code, cause="crash" if crashed else "unavailable"
        )

    def _follow_up(self, job: Job, state: JobState, verdict: Verdict) -> None:
        """Send the messages that the attempt's end calls for; the reconciler sends lost ones."""
        try:
            if state is JobState.QUEUED and verdict is Verdict.WAITING:
                self._start_parts(self._jobs.get(job.id))
            elif state is JobState.QUEUED and verdict is not Verdict.UNAVAILABLE:
                self._messages.send_job(job)
            elif state.terminal:
                self._tell_waiting(job, state)
        except BrokerUnavailableError as error:
            logger.warning("the reconciler will send what was not sent: %s", error)

    def _start_parts(self, job: Job) -> None:
        for part in job.waiting_for:
            part_job = self._jobs.get(part)
            if part_job.state is JobState.QUEUED and part_job.attempts == 0:
                self._messages.send_job(part_job)
        # Parts that ended before their parent's record said that it waits woke nobody.
        self._wake(job)

    def _tell_waiting(self, job: Job, state: JobState) -> None:
        """Whoever waits for an ended job: its pipeline run, or the job that it is a part of."""
        if state is not JobState.SUCCEEDED:
            self._jobs.cancel_parts(job, f"job {job.id} is {state}")
        if run_id := job.labels.get("run_id"):
            self._messages.send_advance(run_id)
        if parent_id := job.labels.get(PARENT_LABEL):
            with contextlib.suppress(NotFoundError):
                self._wake(self._jobs.get(parent_id))

    def _wake(self, job: Job) -> None:
        """Send a waiting job's message when all of its parts, or one that failed, have ended."""
        if job.state is JobState.QUEUED and job.waiting_for:
            parts = self._jobs.parts(job)
            if parts.broken or parts.ended == parts.total:
                self._messages.send_job(job)

    def _with_patience(self, record: Callable[[], T]) -> T:
        """Call until the broker answers."""
        deadline = time.monotonic() + self._config.broker_patience_s
        while True:
            try:
                return record()
            except BrokerUnavailableError as error:
                if time.monotonic() >= deadline or self._must_stop():
                    raise
                logger.warning("outcome held back: %s", error)
                time.sleep(min(1.0, self._config.renew_period_s))


class StageProcess:
    """The operating system's side of one attempt."""

    def __init__(self, process: subprocess.Popen[bytes], outcome_path: Path) -> None:
        self._process = process
        self._outcome_path = outcome_path

    @classmethod
    def start(cls, command: Sequence[str], lease: Lease, settings: Settings) -> StageProcess:
        """Start an attempt in a process group of its own, with its output in the job's log."""
        outcome_path = settings.scratch_dir / f"job-{lease.job_id}-{lease.fencing_token}.json"
        outcome_path.parent.mkdir(parents=True, exist_ok=True)
        log_path = job_log_path(settings, lease.job_id)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        arguments = [
            *command,
            lease.job_id,
            f"--owner={lease.owner}",
            f"--fencing-token={lease.fencing_token}",
            f"--attempt={lease.attempt}",
            f"--outcome={outcome_path}",
        ]
        with log_path.open("ab") as log:
            header = {"event": "attempt", "job_id": lease.job_id, "attempt": lease.attempt}
            log.write(json.dumps(header).encode() + b"\n")
            log.flush()
            process = subprocess.Popen(
                arguments,
                # The process ends when this pipe does: see stage_process.die_with_worker.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_stage_environment(settings)},
                start_new_session=True,
            )
        return cls(process, outcome_path)

    def wait(self, timeout_s: float) -> bool:
        """Whether the process ended within the timeout."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode is not None

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


def job_log_path(settings: Settings, job_id: str) -> Path:
    """Where a job's processes write, on the worker's machine; `plumbline logs` shows it."""
    return settings.state_dir / "logs" / "jobs" / f"{job_id}.log"


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
