"""One attempt at a job, in a process of its own.

The worker starts it as `python -m plumbline.stage_process JOB_ID ...`, so that native code which
crashes, leaks or is killed for memory takes no other job along. The process ends with its worker,
reports progress under the lease that it was given, and leaves its outcome in a file.

In a pod it is `python -m plumbline.stage_process JOB_ID --follow NAME`: a part of the Kubernetes
Job of that name. It outlives workers, reports under the lease of the one that follows the Job, and
leaves its outcome where Kubernetes takes a container's last words from.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from plumbline.core.artifacts import open_configured_store
from plumbline.core.delegation import WaitingForJobs
from plumbline.core.errors import ConfigError, ConflictError, NotFoundError, PlumblineError
from plumbline.core.job_delegate import JobDelegate
from plumbline.core.job_leases import FollowedLease, GivenLease, ReportingLease
from plumbline.core.jobs import Job, JobStore, Lease
from plumbline.core.other_ranks import attempt_share
from plumbline.core.ranks import Place, RankGroup, leave
from plumbline.core.settings import Settings
from plumbline.core.stage_outcome import (
    TERMINATION_LOG,
    TRACE_HEADERS_VARIABLE,
    Outcome,
    Verdict,
    outcome_of_error,
)
from plumbline.core.stages import Stage, run_stage
from plumbline.core.telemetry import (
    REQUEST_ID_KEY,
    bind_log_context,
    configure_logging,
    configure_tracing,
    flush,
    span,
)
from plumbline.core.validation import closest

FLUSH_PERIOD_S = 0.25
FOLLOWER_PATIENCE_S = 45.0
"""How long a pod that is done waits for a launcher to take its last figures: longer than a dead
launcher's lease."""
STUCK_PATIENCE_S = 2.0
"""How long rank 0 may take to notice that another rank has failed, before it is told to end."""
_AWAY_PAUSE_S = 2.0
_ROWS_HELD = 20_000
_PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


def main(stages: Mapping[str, Stage], argv: Sequence[str] | None = None) -> int:
    """Run one attempt; the exit status is 0 when it succeeded."""
    arguments = _parse(argv)
    if not arguments.follow:
        die_with_worker()
    settings = Settings.from_environment()
    configure_logging("job")
    if settings.otlp_endpoint:
        configure_tracing("job", settings.otlp_endpoint)
    headers: dict[str, str] = json.loads(os.environ.get(TRACE_HEADERS_VARIABLE) or "{}")
    with (
        bind_log_context(job_id=arguments.job_id, request_id=headers.get(REQUEST_ID_KEY)),
        span("plumbline.stage", kind="CONSUMER", carrier=headers),
    ):
        place = Place.from_environment()
        if place.is_first:
            outcome = _attempt(stages, settings, arguments, place)
            status = 0 if outcome.verdict is Verdict.SUCCEEDED else 1
        else:
            status = attempt_share(
                stages, settings, place, partial(_leave_share, arguments=arguments, place=place)
            )
    if place.world_size > 1:
        flush()
        leave(status)
    return status


def die_with_worker() -> None:
    """Tie this process's life to its worker's, even if that is killed without a chance to act.

    The worker holds the other end of stdin: its end takes down the whole process group. The
    kernel's parent-death signal covers native code that keeps Python's threads from running.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_await_worker_death, name="lifeline", daemon=True).start()


def _await_worker_death() -> None:
    while os.read(0, 64):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _leave(outcome: Outcome, arguments: argparse.Namespace) -> None:
    if arguments.follow:
        outcome.write_last_words(arguments.outcome)
    else:
        outcome.write(arguments.outcome)


def _leave_share(outcome: Outcome, arguments: argparse.Namespace, place: Place) -> None:
    """A pod without rank 0 keeps its own cause: rank 0's pod is removed as soon as this one has
    failed, and with it what that one was told."""
    if arguments.follow and place.node:
        _leave(outcome, arguments)


def _leave_if_stuck(outcome: Outcome, arguments: argparse.Namespace) -> None:
    """End rank 0 after another rank failed, where it waits for that one and hears nothing."""
    time.sleep(STUCK_PATIENCE_S)
    _leave(outcome, arguments)
    os._exit(1)


def _attempt(
    stages: Mapping[str, Stage],
    settings: Settings,
    arguments: argparse.Namespace,
    place: Place,
) -> Outcome:
    jobs = JobStore(settings.redis_url)
    reporter = JobReporter(jobs, _lease(jobs, arguments))
    signal.signal(signal.SIGTERM, reporter.on_terminate)
    # The outcome is left before the last figures are: those may wait for a launcher.
    with contextlib.ExitStack() as last:
        last.callback(reporter.close, FOLLOWER_PATIENCE_S if arguments.follow else 0.0)
        outcome = _outcome(stages, settings, arguments, place, jobs, reporter)
        _leave(outcome, arguments)
    return outcome


def _outcome(
    stages: Mapping[str, Stage],
    settings: Settings,
    arguments: argparse.Namespace,
    place: Place,
    jobs: JobStore,
    reporter: JobReporter,
) -> Outcome:
    group: RankGroup | None = None
    try:
        if place.world_size > 1:
            group = RankGroup.join(place)
            group.watch(lambda failure: _leave_if_stuck(failure, arguments))
        job = jobs.get(arguments.job_id)
        logger.info("attempt %d of stage %s starts", job.attempts, job.kind)
        with span(job.kind):
            return _run(job, stages, settings, reporter, jobs, group)
    # The outcome carries every error to the worker, which decides what becomes of the job.
    except Exception as error:
        outcome = outcome_of_error(error)
        if group is not None:
            outcome = group.explained(
                outcome, stop_reason=reporter.cancel_reason(), by_signal=reporter.by_signal
            )
        # A known error needs no stack; the user reads the message.
        expected = isinstance(error, PlumblineError | WaitingForJobs)
        level = logging.INFO if outcome.verdict is Verdict.WAITING else logging.ERROR
        logger.log(level, "attempt ended: %s", outcome.why, exc_info=None if expected else error)
        return outcome
    finally:
        if group is not None:
            group.close()


def _lease(jobs: JobStore, arguments: argparse.Namespace) -> ReportingLease:
    if arguments.follow:
        return FollowedLease(jobs, arguments.job_id, arguments.follow)
    return GivenLease(
        Lease(arguments.job_id, arguments.owner, arguments.fencing_token, arguments.attempt)
    )


def _run(
    job: Job,
    stages: Mapping[str, Stage],
    settings: Settings,
    reporter: JobReporter,
    jobs: JobStore,
    group: RankGroup | None,
) -> Outcome:
    stage = stages.get(job.kind)
    if stage is None:
        raise ConfigError(
            f"this worker knows no stage {job.kind!r}{closest(job.kind, set(stages))}; it may run "
            "an older version than the one that took the job",
            field="stage",
        )
    store = open_configured_store(settings)
    started = time.monotonic()
    artifact, cached = run_stage(
        stage,
        job.spec["config"],
        job.spec["inputs"],
        store=store,
        settings=settings,
        reporter=reporter,
        delegate=JobDelegate(stages, store=store, jobs=jobs, parent=job),
        attempt=job.charged_attempts,
        ranks=group,
    )
    seconds = time.monotonic() - started
    logger.info("artifact %s %s after %.2f s", artifact.id, "found" if cached else "made", seconds)
    why = "Found the artifact of an earlier run" if cached else f"Made by attempt {job.attempts}"
    return Outcome(verdict=Verdict.SUCCEEDED, why=why, artifact=artifact.id)


class JobReporter:
    """Writes a stage's progress and metrics to its job, from a thread of its own.

    The stage never waits for the broker: while that is away, the newest rows are held back.
    """

    def __init__(self, jobs: JobStore, lease: ReportingLease) -> None:
        self._jobs = jobs
        self._lease = lease
        self._lock = threading.Lock()
        self._rows: deque[tuple[int, Mapping[str, float]]] = deque(maxlen=_ROWS_HELD)
        self._progress: tuple[int, int, str] | None = None
        self._stop_reason: str | None = None
        self.by_signal = False
        """Whether SIGTERM, and not the record, asked the stage to end."""
        self._patience_s = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._flush_often, name="reporter", daemon=True)
        self._thread.start()

    def progress(self, done: int, total: int, message: str) -> None:
        with self._lock:
            self._progress = (done, total, message)

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        with self._lock:
            self._rows.append((step, dict(values)))

    def cancel_reason(self) -> str | None:
        return self._stop_reason

    def on_terminate(self, _signal: int, _frame: FrameType | None) -> None:
        """SIGTERM: the worker wants the stage to end at its next report."""
        if self._stop_reason is None:
            self._stop_reason, self.by_signal = "the worker stopped this attempt", True

    def close(self, patience_s: float = 0.0) -> None:
        """Write what is left and stop the thread.

        Args:
            patience_s: how long what cannot be written yet is held back.
        """
        self._patience_s = patience_s
        self._closing.set()
        self._thread.join()

    def _flush_often(self) -> None:
        pause = FLUSH_PERIOD_S
        while not self._closing.wait(pause):
            pause = FLUSH_PERIOD_S if self._flush() else _AWAY_PAUSE_S
        deadline = time.monotonic() + self._patience_s
        while not self._flush() and time.monotonic() < deadline:
            time.sleep(_AWAY_PAUSE_S)

    def _flush(self) -> bool:
        """Whether nothing is held back."""
        with self._lock:
            rows, self._rows = list(self._rows), deque(maxlen=_ROWS_HELD)
            progress, self._progress = self._progress, None
        if not rows and progress is None:
            return True
        try:
            if self._report(rows, progress):
                return True
        except (ConflictError, NotFoundError) as error:
            self._stop_reason = error.message
            return True
        except PlumblineError as error:  # the broker is away or full
            logger.warning("progress is held back: %s", error)
        with self._lock:
            self._rows = deque([*rows, *self._rows], maxlen=_ROWS_HELD)
            self._progress = self._progress or progress
        return False

    def _report(
        self, rows: list[tuple[int, Mapping[str, float]]], progress: tuple[int, int, str] | None
    ) -> bool:
        """Whether the record took everything; `rows` keeps those that it did not.

        Raises:
            ConflictError: the attempt is no longer wanted.
        """
        lease = self._lease.current()
        if lease is None:
            return False
        try:
            if rows:
                self._heed(self._jobs.append_metric_rows(lease, rows))
                rows.clear()
            if progress is not None:
                self._heed(self._jobs.report_progress(lease, *progress))
        except ConflictError as error:
            self._lease.refused(error)
            return False
        return True

    def _heed(self, cancel_requested: bool) -> None:
        if cancel_requested:
            self._stop_reason = self._stop_reason or "the job was cancelled"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="plumbline.stage_process", description=__doc__)
    parser.add_argument("job_id")
    parser.add_argument("--owner", default="", help="who holds the lease")
    parser.add_argument("--fencing-token", type=int, default=0)
    parser.add_argument("--attempt", type=int, default=0)
    parser.add_argument(
        "--follow",
        default="",
        help="in place of a lease: the Kubernetes Job that this is a part of",
    )
    parser.add_argument(
        "--outcome", type=Path, default=TERMINATION_LOG, help="file for the outcome [%(default)s]"
    )
    arguments = parser.parse_args(argv)
    if bool(arguments.follow) == bool(arguments.owner):
        parser.error("give the lease (--owner, --fencing-token, --attempt), or --follow")
    return arguments
