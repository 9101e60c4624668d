"""What Kubernetes says about an attempt, in words for the job's record.

A pure function from the objects as the API server holds them. Everything that ends an attempt gets
the verdict that fits its cause: what the job did itself is charged to it, what happened to it is
not, and what another attempt would meet again ends the job at once.

Source: Kubernetes documentation, "Pod Lifecycle", "Disruptions" and "Jobs"; reasons as the kubelet,
scheduler and controllers of Kubernetes 1.34 write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from plumbline.core.execution import GANG_PATIENCE_S
from plumbline.core.stage_outcome import Outcome, Verdict
from plumbline.launcher.config import Patience
from plumbline.launcher.failures import (
    Failure,
    by_cause,
    disruption_words,
    failure_of,
    loss_of,
    lost_pods,
)
from plumbline.launcher.objects import (
    Json,
    conditions_of,
    containers_of,
    kueue_queue_of,
    last_words_of,
    message_of,
    newest_event,
    places_of,
    pod_index,
    pod_name,
    pod_phase,
    unix_seconds,
)
from plumbline.launcher.waits import Wait, wait_of

_REFUSALS = ("violates PodSecurity", "denied the request", "is invalid", "no PriorityClass")
"""In the message of a pod that was not created: another try would meet them again."""


_GANG_PATIENCE_S = 0.95 * GANG_PATIENCE_S
"""What the pods of a job may wait for each other. After a little more the first of them gives up,
which Kubernetes calls a failure, and the pod that knows the reason is deleted with the others. Two
jobs that hold what each other needs are untied so."""


class Phase(StrEnum):
    """How far an attempt is."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an attempt stands, and once it has ended, what to make of that."""

    phase: Phase
    why: str
    verdict: Verdict | None = None
    """None while the attempt goes on."""
    code: str = ""
    reported: Outcome | None = None
    """What the attempt's program said itself; then the verdict is its."""

    @property
    def ended(self) -> bool:
        return self.verdict is not None

    def outcome(self) -> Outcome:
        """Of an attempt that ended."""
        if self.reported is not None:
            return self.reported
        return Outcome(verdict=self.verdict or Verdict.CRASHED, why=self.why, code=self.code)


def standing(
    job: Json | None,
    pods: Sequence[Json],
    events: Sequence[Json],
    *,
    name: str,
    now: float,
    patience: Patience,
) -> Standing:
    """How an attempt stands.

    Args:
        job: the Job; None where it does not exist yet.
        pods: of this Job.
        events: warnings, of whatever objects.
        name: of the attempt, for the words.
        now: Unix seconds.
    """
    if job is None:
        return _pending(f"Kubernetes Job {name} waits to be created")
    if job["metadata"].get("deletionTimestamp"):
        return deleted(name)
    conditions = conditions_of(job)
    if "Complete" in conditions:
        return _completed(name, pods)
    lost = lost_pods(pods, now, patience)
    settled = all(pod_phase(pod) in ("Succeeded", "Failed") or pod in lost for pod in pods)
    # Kubernetes itself waits for pods on a lost machine before it calls the Job failed.
    if failed := conditions.get("Failed") or (settled and conditions.get("FailureTarget")):
        return _failed(name, failed, pods, lost)
    if suspended := conditions.get("Suspended"):
        words = f"{message_of(suspended)}{kueue_queue_of(job)}"
        return _pending(f"Kubernetes Job {name} is suspended: {words}")
    if lost:
        return _lost(pods, lost)
    found = _going_on(job, pods, events, now, patience)
    held_s = _held_s(pods, now)
    if found.phase is Phase.PENDING and held_s > _GANG_PATIENCE_S:
        why = f"{found.why} (the pods that run have waited {held_s:.0f} s)"
        return _failure(why, Verdict.UNAVAILABLE, "UNAVAILABLE")
    return found


def deleted(name: str) -> Standing:
    """An attempt whose Job somebody took away."""
    return _failure(
        f"Kubernetes Job {name} was deleted by somebody", Verdict.UNAVAILABLE, "UNAVAILABLE"
    )


# An attempt that goes on


def _going_on(
    job: Json, pods: Sequence[Json], events: Sequence[Json], now: float, patience: Patience
) -> Standing:
    name = job["metadata"]["name"]
    wanted = int(job["spec"].get("completions") or 1)
    running = [pod for pod in pods if pod_phase(pod) in ("Running", "Succeeded")]
    waits = [wait for pod in pods if (wait := wait_of(pod, events, patience, now))]
    head = f"{len(running)} of {wanted} pods run; " if wanted > 1 else ""
    if len(pods) < wanted:
        refused = newest_event(events, "Job", name, ("FailedCreate",))
        if refused is not None:
            return _without_pods(name, refused.get("message", ""))
        if not waits:
            return _pending(f"{head}Kubernetes creates the pods of Job {name}")
    if waits:
        return _waiting(head, waits, now)
    ending = [pod for pod in pods if pod_phase(pod) == "Failed"]
    if ending:
        return _pending(f"{head}pod {pod_name(ending[0])} failed, and the others are being ended")
    why = f"{len(running)} of {wanted} pods run {places_of(pods)}"
    threats = [text for pod in pods if (text := _threat(pod))]
    return Standing(phase=Phase.RUNNING, why="; ".join([why, *threats]))


def _held_s(pods: Sequence[Json], now: float) -> float:
    """How long the pods that run have held their machines; 0 where one has ended."""
    if any(pod_phase(pod) in ("Succeeded", "Failed") for pod in pods):
        return 0.0
    running = [(c.get("state") or {}).get("running") or {} for p in pods for c in containers_of(p)]
    started = [unix_seconds(state["startedAt"]) for state in running if state.get("startedAt")]
    return now - min(started, default=now)


def _waiting(head: str, waits: Sequence[Wait], now: float) -> Standing:
    for wait in waits:
        waited_s = now - unix_seconds(wait.since) if wait.since else 0.0
        over = 0 < wait.patience_s < waited_s
        if wait.hopeless or over:
            patience = f" (given up after {waited_s:.0f} s)" if over else ""
            return _failure(f"{head}{wait.why}{patience}", Verdict.FAILED, wait.code)
    # A pod that only takes its time has nothing to say beside one that is in trouble.
    return _pending(f"{head}{max(waits, key=lambda wait: bool(wait.since)).why}")


def _without_pods(name: str, message: str) -> Standing:
    """Kubernetes was refused a pod; a quota may have room again, a rule stays."""
    why = f"Kubernetes may not create a pod of Job {name} (FailedCreate): {message}"
    if any(words in message for words in _REFUSALS):
        return _failure(why, Verdict.FAILED, "FAILED_PRECONDITION")
    return _pending(why)


def _threat(pod: Json) -> str:
    """What is about to end a pod that runs."""
    if disruption := conditions_of(pod).get("DisruptionTarget"):
        return f"pod {pod_name(pod)} {disruption_words(disruption)}"
    ready = conditions_of(pod, status="False").get("Ready")
    lively = any((c.get("state") or {}).get("running") for c in containers_of(pod))
    if ready is not None and lively and ready.get("reason") not in ("ContainersNotReady", None):
        node = pod["spec"].get("nodeName", "its machine")
        return f"pod {pod_name(pod)} is not ready ({ready['reason']}): {node} may be lost"
    return ""


# An attempt that has ended


def _completed(name: str, pods: Sequence[Json]) -> Standing:
    words = _first_success(pods)
    if words is not None:
        return _reported(Phase.SUCCEEDED, words)
    return Standing(
        phase=Phase.SUCCEEDED,
        why=f"Kubernetes Job {name} completed and left no outcome; see the job's log",
        verdict=Verdict.CRASHED,
        code="INTERNAL",
    )


def _failed(name: str, condition: Json, pods: Sequence[Json], lost: Sequence[Json]) -> Standing:
    words = _first_success(pods)
    if words is not None:
        return _reported(Phase.SUCCEEDED, words)
    failures = [failure for pod in pods if (failure := failure_of(pod)) is not None]
    failures += map(loss_of, lost)
    if failures:
        return _ended_by(min(failures, key=by_cause))
    reason = condition.get("reason", "")
    why = f"Kubernetes Job {name} failed ({reason}): {message_of(condition)}"
    if reason == "DeadlineExceeded":
        return _failure(why, Verdict.CRASHED, "DEADLINE_EXCEEDED")
    if reason == "PodFailurePolicy":
        # The only rule is the one about disruptions; the pods are gone with their machine.
        return _failure(why, Verdict.UNAVAILABLE, "UNAVAILABLE")
    # A pod that failed by itself would still be there to tell.
    return _failure(f"{why}; its pods were ended from outside", Verdict.UNAVAILABLE, "UNAVAILABLE")


def _lost(pods: Sequence[Json], lost: Sequence[Json]) -> Standing:
    words = _first_success(pods)
    if words is not None:
        return _reported(Phase.SUCCEEDED, words)
    return _ended_by(min(map(loss_of, lost), key=by_cause))


def _first_success(pods: Sequence[Json]) -> Outcome | None:
    """The words of a pod that tell of success: the artifact exists, whatever became of others."""
    for pod in sorted(pods, key=pod_index):
        words = last_words_of(pod)
        if words is not None and words.verdict is Verdict.SUCCEEDED:
            return words
    return None


def _ended_by(failure: Failure) -> Standing:
    if failure.reported is not None:
        return _reported(Phase.FAILED, failure.reported)
    return _failure(failure.why, failure.verdict, failure.code)


def _reported(phase: Phase, words: Outcome) -> Standing:
    return Standing(
        phase=phase, why=words.why, verdict=words.verdict, code=words.code, reported=words
    )


def _failure(why: str, verdict: Verdict, code: str) -> Standing:
    return Standing(phase=Phase.FAILED, why=why, verdict=verdict, code=code)


def _pending(why: str) -> Standing:
    return Standing(phase=Phase.PENDING, why=why)
