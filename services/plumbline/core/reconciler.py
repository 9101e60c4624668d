"""Brings job records and queues back in step after a fault.

A pass looks at every job that has not ended. A running one whose lease ran out (or whose worker is
known to be dead) is ended if its artifact exists, queued again otherwise; a queued one whose
message is in no queue gets a new message; a pipeline run with an ended job that nobody followed up
is advanced. Each step is atomic in the record, so two reconcilers at once do no harm; a lock only
keeps them from doing the work twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from plumbline.core.errors import BrokerUnavailableError, PlumblineError
from plumbline.core.job_runner import JobMessages
from plumbline.core.jobs import Job, JobState, JobStore
from plumbline.core.process_identity import lease_owner, owner_is_gone

FindOutput = Callable[[Job], "str | None"]
"""The id of the artifact that a job would make, where it exists already."""

RETENTION_S = 30 * 86_400.0
"""How long records of ended jobs are kept; with them goes the memory of their request ids."""

_LOCK = "reconciler"
_RUN_GRACE_S = 2.0
_RESEND_ADVANCE_S = 15.0
_PRUNE_PERIOD_S = 600.0

logger = logging.getLogger(__name__)


class Reconciler:
    """Runs passes in a thread of a worker."""

    def __init__(
        self,
        jobs: JobStore,
        messages: JobMessages,
        find_output: FindOutput,
        *,
        name: str,
        period_s: float,
        broker_grace_s: float,
    ) -> None:
        """
        Args:
            broker_grace_s: after a broker's restart, owners get this long to renew their leases.
        """
        self._jobs = jobs
        self._messages = messages
        self._find_output = find_output
        self._owner = lease_owner(name)
        self._period_s = period_s
        self._broker_grace_s = broker_grace_s
        self._advanced_at: dict[str, float] = {}
        self._pruned_at = float("-inf")
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._loop, name="reconciler", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def run_once(self) -> None:
        """One pass, unless another worker does it.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        if not self._jobs.hold_lock(_LOCK, self._owner, 2 * self._period_s + 1):
            return
        jobs = self._jobs.active()
        if self._jobs.broker_uptime_s() >= self._broker_grace_s:
            self._recover_unattended(job for job in jobs if job.state is JobState.RUNNING)
        open_jobs = {job.id for job in jobs}
        self._send_lost_messages(
            [
                job
                for job in jobs
                # A job whose parts still run is woken when they have ended.
                if job.state is JobState.QUEUED and open_jobs.isdisjoint(job.waiting_for)
            ]
        )
        self._advance_runs()
        if time.monotonic() - self._pruned_at > _PRUNE_PERIOD_S:
            self._jobs.prune(older_than_s=RETENTION_S)
            self._pruned_at = time.monotonic()

    def _loop(self) -> None:
        while not self._stopping.wait(self._period_s):
            try:
                self.run_once()
            except BrokerUnavailableError as error:
                logger.warning("reconciliation waits: %s", error)
            # A pass that meets a bug must not end all later ones; the log keeps the stack.
            except Exception:
                logger.exception("reconciliation failed; it is tried again")

    def _recover_unattended(self, jobs: Iterable[Job]) -> None:
        now = self._jobs.now()
        for job in jobs:
            owner = job.lease_owner or ""
            if owner_is_gone(owner):
                self._jobs.expire_lease(job.id, owner)
            elif (job.lease_expires_at or 0) > now:
                continue
            self._recover(job)

    def _recover(self, job: Job) -> None:
        artifact = None if job.cancel_requested else self._output(job)
        if artifact is not None and self._jobs.adopt_result(job.id, artifact):
            logger.info("job %s: its artifact %s exists", job.id, artifact)
            return
        state = self._jobs.requeue_expired(job.id)
        if state is not None:
            logger.info("job %s lost its worker and is %s", job.id, state)
        if state is JobState.QUEUED:
            self._messages.send_job(job)

    def _output(self, job: Job) -> str | None:
        try:
            return self._find_output(job)
        except PlumblineError as error:
            # Then the job runs again, and finds its artifact itself or says what is wrong.
            logger.warning("job %s: its artifact was not looked up: %s", job.id, error)
            return None

    def _send_lost_messages(self, queued: list[Job]) -> None:
        for queue in {job.queue for job in queued}:
            waiting = self._jobs.queued_job_ids(queue)
            for job in queued:
                lost = job.queue == queue and job.id not in waiting
                if lost and self._jobs.take_due(job.id):
                    self._messages.send_job(job)

    def _advance_runs(self) -> None:
        pending = self._jobs.pending_runs(older_than_s=_RUN_GRACE_S)
        now = time.monotonic()
        self._advanced_at = {run: at for run, at in self._advanced_at.items() if run in pending}
        for run_id in pending:
            if now - self._advanced_at.get(run_id, float("-inf")) >= _RESEND_ADVANCE_S:
                self._advanced_at[run_id] = now
                self._messages.send_advance(run_id)
