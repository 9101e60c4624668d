"""Why a pod failed, and which of several pods' failures is the cause of the others.

What the job did itself (ran out of memory, exited with an error) is charged to it; what happened to
it (its machine was lost, it made room for others) is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from plumbline.core.stage_outcome import Outcome, Verdict
from plumbline.launcher.config import Patience
from plumbline.launcher.objects import (
    Json,
    conditions_of,
    last_words_of,
    memory_limit_of,
    message_of,
    pod_name,
    pod_phase,
    termination_of,
    unix_seconds,
)

_DISRUPTIONS = {
    "PreemptionByScheduler": "made room for pods of higher priority",
    "DeletionByTaintManager": "was removed from its machine, which stopped answering or was closed",
    "EvictionByEvictionAPI": "was evicted",
    "DeletionByPodGC": "was lost with its machine",
    "TerminationByKubelet": "was ended by its machine",
}
_LOST_REASONS = {
    "Evicted": "was evicted by its machine",
    "Preempting": "made room for a more important pod on its machine",
    "NodeLost": "was lost with its machine",
    "NodeShutdown": "ended because its machine shut down",
    "Shutdown": "ended because its machine shut down",
    "Terminated": "ended because its machine shut down",
    "NodeAffinity": "no longer fitted its machine",
    "UnexpectedAdmissionError": "was refused by its machine",
}


class Weight(IntEnum):
    """Which of several pods' failures is the cause of the others, smallest first."""

    REFUSED = 0
    DISRUPTED = 1
    WAITS = 2
    OUT_OF_MEMORY = 3
    CRASHED = 4
    STOPPED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one pod ended the attempt."""

    weight: Weight
    at: str
    """Time, as Kubernetes writes it; the earliest of equals is the cause."""
    verdict: Verdict
    why: str
    code: str
    reported: Outcome | None = None


def failure_of(pod: Json) -> Failure | None:
    """Why a pod failed; None where it did not, or only because others did."""
    if pod_phase(pod) == "Unknown":
        return loss_of(pod)
    if pod_phase(pod) != "Failed":
        return None
    status = pod["status"]
    reason = status.get("reason", "")
    ended = termination_of(pod)
    if reason in _LOST_REASONS or reason.startswith("OutOf"):
        text = _LOST_REASONS.get(reason, "found no room on its machine after all")
        return _disrupted(pod, f"{text} ({reason}): {status.get('message', '')}")
    if disruption := conditions_of(pod).get("DisruptionTarget"):
        return _disrupted(pod, disruption_words(disruption))
    words = last_words_of(pod)
    if words is not None and words.verdict not in (Verdict.CANCELLED, Verdict.STOPPED):
        return _from_words(words, ended)
    if ended.get("reason") == "OOMKilled":
        return Failure(
            weight=Weight.OUT_OF_MEMORY,
            at=ended.get("finishedAt") or "",
            verdict=Verdict.CRASHED,
            why=f"Pod {pod_name(pod)} ran out of memory (OOMKilled){memory_limit_of(pod)}",
            code="RESOURCE_EXHAUSTED",
        )
    if words is not None:
        return _stopped(pod, words)
    deadline = reason == "DeadlineExceeded"
    text = _exit(ended) if ended else f"failed ({reason}): {status.get('message', '')}"
    return Failure(
        weight=Weight.CRASHED,
        at=ended.get("finishedAt") or "",
        verdict=Verdict.CRASHED,
        why=f"Pod {pod_name(pod)} {text}",
        code="DEADLINE_EXCEEDED" if deadline else "INTERNAL",
    )


def _from_words(words: Outcome, ended: Json) -> Failure:
    weights = {Verdict.FAILED: Weight.REFUSED, Verdict.CRASHED: Weight.CRASHED}
    return Failure(
        weight=weights.get(words.verdict, Weight.WAITS),
        at=ended.get("finishedAt") or "",
        verdict=words.verdict,
        why=words.why,
        code=words.code,
        reported=words,
    )


def _stopped(pod: Json, words: Outcome) -> Failure | None:
    """Where nobody deleted the pod, one of its ranks was killed."""
    if words.verdict is not Verdict.STOPPED or pod["metadata"].get("deletionTimestamp"):
        return None
    return Failure(
        weight=Weight.STOPPED,
        at=termination_of(pod).get("finishedAt") or "",
        verdict=Verdict.CRASHED,
        why=f"Pod {pod_name(pod)}: {words.why}",
        code=words.code,
    )


def _disrupted(pod: Json, text: str) -> Failure:
    return Failure(
        weight=Weight.DISRUPTED,
        at=termination_of(pod).get("finishedAt") or "",
        verdict=Verdict.UNAVAILABLE,
        why=f"Pod {pod_name(pod)} {text}",
        code="UNAVAILABLE",
    )


def loss_of(pod: Json) -> Failure:
    """The failure of a pod whose machine does not answer."""
    node = pod["spec"].get("nodeName", "its machine")
    return _disrupted(pod, f"is lost: {node} does not answer, and does not end it")


def lost_pods(pods: Sequence[Json], now: float, patience: Patience) -> list[Json]:
    """Pods that should be gone, which only their machine could have done."""
    lost = []
    for pod in pods:
        due = pod["metadata"].get("deletionTimestamp")
        if pod_phase(pod) in ("Succeeded", "Failed"):
            continue
        if pod_phase(pod) == "Unknown" or (due and now > unix_seconds(due) + patience.deletion_s):
            lost.append(pod)
    return lost


def _exit(ended: Json) -> str:
    status = int(ended.get("exitCode", 0))
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return f"could not start ({ended['reason']}): {ended.get('message', '')}"
    if status == 137:
        hint = "killed (SIGKILL), often for want of memory"
    elif status == 143:
        hint = "asked to stop (SIGTERM)"
    elif status > 128:
        hint = f"ended by signal {status - 128}"
    else:
        hint = "see the job's log"
    return f"exited with status {status}: {hint}"


def by_cause(failure: Failure) -> tuple[int, str]:
    """Sorts the cause before what it led to."""
    return failure.weight, failure.at


def disruption_words(condition: Json) -> str:
    """What a condition of type DisruptionTarget says."""
    reason = condition.get("reason", "")
    text = _DISRUPTIONS.get(reason, "was disturbed")
    return f"{text} ({reason}): {message_of(condition)}"
