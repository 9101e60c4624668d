"""The lease under which an attempt's own process reports.

A process that its worker started holds that worker's lease to its end. One that runs elsewhere
outlives workers: it reports under the lease of whoever follows it now, and while nobody does it
waits.
"""

from __future__ import annotations

from typing import Protocol

from plumbline.core.errors import ConflictError
from plumbline.core.jobs import JobState, JobStore, Lease


class ReportingLease(Protocol):
    """Finds the lease for the next report."""

    def current(self) -> Lease | None:
        """None while nobody follows the attempt; what it has to say is then held back.

        Raises:
            ConflictError: the attempt is no longer wanted.
            NotFoundError: the job's record was deleted.
        """
        ...

    def refused(self, error: ConflictError) -> None:
        """The record did not take a report under the lease given last.

        Raises:
            ConflictError: another lease will not be better.
        """
        ...


class GivenLease:
    """The lease of the worker that started this process."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def current(self) -> Lease | None:
        return self._lease

    def refused(self, error: ConflictError) -> None:
        raise error


class FollowedLease:
    """The lease of whoever follows a Kubernetes Job; this process is a part of it."""

    def __init__(self, jobs: JobStore, job_id: str, name: str) -> None:
        """
        Args:
            name: of the Kubernetes Job.
        """
        self._jobs = jobs
        self._job_id = job_id
        self._name = name
        self._lease: Lease | None = None

    def current(self) -> Lease | None:
        if self._lease is None:
            self._lease = self._read()
        return self._lease

    def refused(self, error: ConflictError) -> None:
        self._lease = None

    def _read(self) -> Lease | None:
        job = self._jobs.get(self._job_id)
        if job.terminal or job.follows != self._name:
            state = f"is {job.state}" if job.terminal else f"goes on as {job.follows or 'another'}"
            raise ConflictError(
                f"the attempt {self._name} is no longer wanted: job {job.id} {state}",
                reason="LEASE_LOST",
            )
        if job.state is not JobState.RUNNING:
            return None
        return Lease(job.id, job.lease_owner or "", job.fencing_token, job.attempts)
