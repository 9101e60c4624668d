"""The seam between a job's bookkeeping and what its attempts run as.

`job_runner` holds the lease and the record; an executor starts processes of this machine
(`local_executor`) or pods of a cluster (`plumbline.launcher`).
"""

from __future__ import annotations

from typing import Protocol

from plumbline.core.jobs import Job, Lease
from plumbline.core.stage_outcome import Outcome


class Attempt(Protocol):
    """One attempt at a job, wherever it runs. One thread uses it, but for `detach` and `kill`."""

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended. Returns before the timeout when `why` says something new."""
        ...

    def why(self) -> str | None:
        """How it stands, for the job's record; None where it simply runs."""
        ...

    def terminate(self, grace_s: float) -> None:
        """Ask it to end; `wait` tells when nothing of it runs any more."""
        ...

    def kill(self) -> None:
        """End what is left of it, also after a regular end."""
        ...

    def detach(self) -> bool:
        """Let go of it, if it can go on without this worker; returns whether it does."""
        ...

    def outcome(self) -> Outcome:
        """What came of it; to be read once, after its end."""
        ...


class Executor(Protocol):
    """Starts attempts, or goes on with those that another worker began."""

    def place(self, job: Job, lease: Lease) -> str:
        """Name of what will run the attempt outside of the worker; empty where nothing does."""
        ...

    def start(self, job: Job, lease: Lease) -> Attempt:
        """
        Raises:
            PlumblineError: the attempt cannot be started; the error's kind says whether ever.
        """
        ...
