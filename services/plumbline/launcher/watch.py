"""One look at the cluster per period, for all attempts of a launcher.

Following 200 jobs costs the API server what following one does: a list of Jobs and one of Pods,
and where something does not get going, one of warnings.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from prometheus_client import Counter, Gauge

from plumbline.core.errors import NotFoundError, PlumblineError
from plumbline.core.jobs import JobStore
from plumbline.launcher.cluster import Cluster, Json, Snapshot
from plumbline.launcher.config import LauncherConfig
from plumbline.launcher.names import JOB_ID_LABEL

_WARNINGS_PERIOD_S = 2.0
_LOOK_ERRORS = Counter(
    "plumbline_launcher_api_errors", "Looks at the cluster that the Kubernetes API did not answer."
)
_FOLLOWED = Gauge("plumbline_launcher_attempts_followed", "Attempts that this launcher follows.")
_SWEPT = Counter("plumbline_launcher_leftovers_deleted", "Kubernetes Jobs that nobody wanted.")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the newest look saw."""

    number: int = 0
    """Of looks so far; 0 before the first one."""
    began_at: float = 0.0
    """Monotonic seconds: what was done before is in it, or was undone."""
    snapshot: Snapshot = field(default_factory=Snapshot)
    warnings: Sequence[Json] = ()
    warned_at: float = float("-inf")
    """Monotonic seconds: the warnings were asked for then, maybe before this look."""
    trouble: str = ""
    """Why the newest look failed, and the one before is shown; empty where it did not."""


class ClusterWatch:
    """Looks at the cluster in a thread of its own, and deletes what no job wants any more."""

    def __init__(self, cluster: Cluster, config: LauncherConfig, jobs: JobStore) -> None:
        self._cluster = cluster
        self._config = config
        self._jobs = jobs
        self._look = Look()
        self._followed: set[str] = set()
        self._slow: set[str] = set()
        self._warned_at = float("-inf")
        self._swept_at = float("-inf")
        self._stopping = False
        self._changed = threading.Condition()

    def start(self) -> None:
        threading.Thread(target=self._loop, name="cluster-watch", daemon=True).start()

    def stop(self) -> None:
        """End the thread after its look."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def follow(self, name: str) -> None:
        """Take an attempt into account, at once."""
        with self._changed:
            self._followed.add(name)
            _FOLLOWED.set(len(self._followed))
            self._changed.notify_all()

    def forget(self, name: str) -> None:
        with self._changed:
            self._followed.discard(name)
            self._slow.discard(name)
            _FOLLOWED.set(len(self._followed))

    def explain(self, name: str, *, slow: bool) -> None:
        """Say whether warnings are wanted for an attempt, because it does not get going."""
        with self._changed:
            if slow:
                self._slow.add(name)
            else:
                self._slow.discard(name)

    def newer_than(self, number: int, timeout_s: float) -> Look:
        """The newest look; waits for one with a higher number, at most for the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._look.number > number, timeout_s)
            return self._look

    def look(self) -> None:
        """Look once."""
        before = self._look
        began_at = time.monotonic()
        try:
            snapshot = self._cluster.snapshot()
            warnings, warned_at = self._warnings(before)
        except PlumblineError as error:
            if error.message != before.trouble:
                logger.warning("the cluster is out of sight: %s", error)
            look = _failed_look(before, error.message)
        # The followers wait for this thread and hold their leases: no bug may end it.
        except Exception as error:
            trouble = f"the look at the cluster failed: {type(error).__name__}: {error}"
            if trouble != before.trouble:
                logger.exception("the cluster is out of sight")
            look = _failed_look(before, trouble)
        else:
            if before.trouble:
                logger.info("the cluster is in sight again")
            look = Look(
                number=before.number + 1,
                began_at=began_at,
                snapshot=snapshot,
                warnings=warnings,
                warned_at=warned_at,
            )
        with self._changed:
            self._look = look
            self._changed.notify_all()

    def sweep(self) -> None:
        """Delete the Jobs of jobs that have ended, or go on as another attempt.

        A Job whose record is missing is left alone: a broker that is being restored forgets too.
        """
        for name, item in self._look.snapshot.jobs.items():
            ends = has_ended(item) or "deletionTimestamp" in item["metadata"]
            if name in self._followed or ends or self._wanted(name, item):
                continue
            logger.info("%s is deleted: no job wants it any more", name)
            self._cluster.delete(name)
            _SWEPT.inc()

    def _wanted(self, name: str, item: Json) -> bool:
        # The record names an attempt before its Job exists, so it is never behind the snapshot.
        try:
            job = self._jobs.get(item["metadata"]["labels"].get(JOB_ID_LABEL, ""))
        except NotFoundError:
            return True
        return not job.terminal and job.follows == name

    def _warnings(self, before: Look) -> tuple[Sequence[Json], float]:
        """The newest warnings, where any are wanted, and when they were asked for."""
        if not self._slow:
            return (), float("-inf")
        now = time.monotonic()
        if now - self._warned_at < _WARNINGS_PERIOD_S:
            return before.warnings, before.warned_at
        self._warned_at = now
        return self._cluster.warnings(), now

    def _loop(self) -> None:
        while not self._stopping:
            self.look()
            self._sweep_when_due()
            self._pause()

    def _pause(self) -> None:
        with self._changed:
            known = set(self._followed)
            # Idle, it looks for leftovers only; a new attempt ends that pause.
            pause = self._config.poll_period_s if known else self._config.sweep_period_s
            self._changed.wait_for(lambda: self._stopping or (not known and self._followed), pause)

    def _sweep_when_due(self) -> None:
        now = time.monotonic()
        if now - self._swept_at < self._config.sweep_period_s or self._look.trouble:
            return
        self._swept_at = now
        try:
            self.sweep()
        except PlumblineError as error:
            logger.warning("leftovers are looked for again: %s", error)
        # A pass that meets a bug must not end the watch; the log keeps the stack.
        except Exception:
            logger.exception("looking for leftovers failed; it is tried again")


def _failed_look(before: Look, trouble: str) -> Look:
    """A look that saw nothing: it shows what the one before saw, and says so."""
    _LOOK_ERRORS.inc()
    return replace(before, number=before.number + 1, trouble=trouble)


def has_ended(job: Json) -> bool:
    """Whether a Job's work is over, so that its time to live takes care of the rest."""
    conditions: Sequence[Mapping[str, str]] = job.get("status", {}).get("conditions") or ()
    return any(
        condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True"
        for condition in conditions
    )
