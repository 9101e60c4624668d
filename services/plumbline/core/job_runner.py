"""Runs one job: takes its lease, starts its attempt, watches both, and records what came of it.

What an attempt runs as, a process of this machine or pods of a cluster, is an `Executor`'s matter.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from prometheus_client import Counter, Gauge
from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumbline.core.errors import (
    BrokerUnavailableError,
    ConflictError,
    FailedPreconditionError,
    NotFoundError,
    PlumblineError,
)
from plumbline.core.execution import Execution
from plumbline.core.executors import Attempt, Executor
from plumbline.core.jobs import PARENT_LABEL, Job, JobState, JobStore, Lease
from plumbline.core.process_identity import lease_owner
from plumbline.core.stage_outcome import Outcome, Verdict, outcome_of_error
from plumbline.core.telemetry import bind_log_context

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
    exit_when_idle_s: float = Field(0.0, ge=0)
    """End after so long without a job; 0 means never. For workers that an autoscaler starts per
    message."""
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


class _End(Enum):
    ENDED = auto()
    STOPPED = auto()
    """By this worker: the job was cancelled, or the worker shuts down."""
    LET_GO = auto()
    """The worker shuts down, and the attempt goes on."""


class JobRunner:
    """Runs jobs of one worker; `run` may be called from several threads."""

    def __init__(
        self,
        jobs: JobStore,
        messages: JobMessages,
        *,
        executors: Mapping[str, Executor],
        default_executor: str,
        config: WorkerConfig,
        name: str,
    ) -> None:
        """
        Args:
            executors: by the names that a job's `execution` may say.
            default_executor: of jobs that name none.
        """
        self._jobs = jobs
        self._messages = messages
        self._executors = executors
        self._default_executor = default_executor
        self._config = config
        self._name = name
        self._draining_since: float | None = None
        self._attempts: set[Attempt] = set()
        self._running = 0
        self._idle_since = time.monotonic()
        self._lock = threading.Lock()

    def drain(self) -> None:
        """Let running jobs go on for the soft shutdown, then give them back to their queues."""
        self._draining_since = self._draining_since or time.monotonic()

    def kill_all(self) -> None:
        """End every attempt that cannot go on alone; the leases run out."""
        with self._lock:
            for attempt in self._attempts:
                if not attempt.detach():
                    attempt.kill()

    def idle_s(self) -> float:
        """How long this worker has been without a job; 0 while it has one."""
        with self._lock:
            return 0.0 if self._running else time.monotonic() - self._idle_since

    def run(self, job_id: str) -> None:
        """Run a job to its end, or leave at once when it is not ours to run."""
        with self._counted():
            try:
                owner = lease_owner(self._name)
                lease = self._jobs.acquire(job_id, owner, self._config.lease_ttl_s)
            except NotFoundError as error:
                logger.warning("message dropped: %s", error)
                return
            if lease is None:
                logger.info("job %s is not for this delivery: it ended, is held or early", job_id)
                return
            with bind_log_context(job_id=job_id), _RUNNING.track_inprogress():
                try:
                    self._run_leased(lease)
                except ConflictError as error:
                    logger.warning("%s", error)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._idle_since = time.monotonic()

    def _run_leased(self, lease: Lease) -> None:
        job = self._jobs.get(lease.job_id)
        logger.info("attempt %d of stage %s", lease.attempt, job.kind)
        try:
            attempt = self._start(job, lease)
        except (BrokerUnavailableError, ConflictError):
            raise  # nothing of the job's own is wrong, and the record decides whose it is
        except PlumblineError as error:
            self._conclude(job, lease, outcome_of_error(error), _End.ENDED)
            return
        with self._lock:
            self._attempts.add(attempt)
        try:
            end, outcome = self._follow(attempt, lease)
        finally:
            with self._lock:
                self._attempts.discard(attempt)
        self._conclude(job, lease, outcome, end)

    def _start(self, job: Job, lease: Lease) -> Attempt:
        name = Execution.of(job.spec).executor or self._default_executor
        executor = self._executors.get(name)
        if executor is None:
            raise FailedPreconditionError(
                f"executor={name!r} was asked for, and this worker has none; accepted: "
                f"{', '.join(self._executors)} (PLUMBLINE_EXECUTOR sets a worker up)"
            )
        # The name is in the record before anything exists by it: the attempt's own processes look
        # for it there, and so does whoever takes over.
        place = executor.place(job, lease)
        if place != job.follows:
            self._jobs.follow(lease, place)
        return executor.start(job, lease)

    def _follow(self, attempt: Attempt, lease: Lease) -> tuple[_End, Outcome]:
        """Watch an attempt to its end, and leave nothing of it that nobody follows."""
        try:
            end = self._watch(attempt, lease)
        # Whatever went wrong here, the lease included: an attempt that can goes on for another.
        except BaseException:
            if not attempt.detach():
                attempt.kill()
            raise
        if end is _End.LET_GO:
            return end, Outcome(verdict=Verdict.CANCELLED, why="the worker was stopped")
        attempt.kill()
        outcome = attempt.outcome()
        if end is _End.ENDED and outcome.verdict is Verdict.STOPPED:
            outcome = outcome.model_copy(update={"verdict": Verdict.CRASHED})
        return end, outcome

    def _conclude(self, job: Job, lease: Lease, outcome: Outcome, end: _End) -> None:
        if end is not _End.LET_GO:
            _ATTEMPTS.labels(job.kind, outcome.verdict).inc()
            logger.info("attempt %d: %s, %s", lease.attempt, outcome.verdict, outcome.why)
        state = self._with_patience(lambda: self._record(lease, outcome, end))
        self._follow_up(job, state, outcome.verdict)

    def _watch(self, attempt: Attempt, lease: Lease) -> _End:
        """Renew the lease until the attempt ends.

        Raises:
            ConflictError: the lease was lost.
        """
        told: str | None = None
        while not attempt.wait(self._config.renew_period_s):
            cancelled = self._renewed(lease)
            if cancelled:
                self._terminate(attempt, lease)
                return _End.STOPPED
            if self._draining_since is not None and attempt.detach():
                return _End.LET_GO
            if self._must_stop():
                self._terminate(attempt, lease)
                return _End.STOPPED
            told = self._explained(attempt, lease, told)
        return _End.ENDED

    def _terminate(self, attempt: Attempt, lease: Lease) -> None:
        """End an attempt; the lease is kept until nothing of it runs any more."""
        attempt.terminate(self._config.terminate_grace_s)
        while not attempt.wait(self._config.renew_period_s):
            self._renewed(lease)
            if self._draining_since is not None and attempt.detach():
                return

    def _renewed(self, lease: Lease) -> bool:
        """Keep the lease; returns whether cancellation was requested."""
        try:
            return self._jobs.renew(lease, self._config.lease_ttl_s)
        except BrokerUnavailableError as error:
            # The fencing token decides, once the broker is back, whether the job is still ours.
            logger.warning("lease not renewed: %s", error)
            return False

    def _explained(self, attempt: Attempt, lease: Lease, told: str | None) -> str | None:
        """Put what is new about the attempt into the record; returns what this now says."""
        why = attempt.why()
        if why is None or why == told:
            return told
        try:
            self._jobs.explain(lease, why)
        except BrokerUnavailableError as error:
            logger.warning("not recorded: %s: %s", why, error)
            return told
        return why

    def _must_stop(self) -> bool:
        since = self._draining_since
        return since is not None and time.monotonic() - since >= self._config.soft_shutdown_s

    def _record(self, lease: Lease, outcome: Outcome, end: _End) -> JobState:
        if outcome.verdict is Verdict.SUCCEEDED:
            self._jobs.succeed(lease, outcome.artifact, why=outcome.why)
            return JobState.SUCCEEDED
        if outcome.verdict is Verdict.WAITING:
            return self._jobs.await_jobs(lease, outcome.waiting_for)
        if end is _End.STOPPED and self._jobs.cancel_requested(lease.job_id):
            self._jobs.confirm_cancelled(lease)
            return JobState.CANCELLED
        if end is not _End.ENDED:
            goes_on = "; the attempt goes on" if end is _End.LET_GO else ""
            why = f"Worker {self._name} was stopped{goes_on}; waiting for another"
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
