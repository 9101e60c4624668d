"""Reads Kubernetes' objects as the API server writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from plumbline.core.stage_outcome import Outcome

Json = Mapping[str, Any]

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
_SHOWN_NODES = 4


def pod_name(pod: Json) -> str:
    return str(pod["metadata"]["name"])


def pod_phase(pod: Json) -> str:
    return str(pod["status"].get("phase", "Pending"))


def pod_index(pod: Json) -> int:
    return int(pod["metadata"].get("annotations", {}).get(INDEX_ANNOTATION, 0))


def conditions_of(item: Json, status: str | None = "True") -> dict[str, Json]:
    """Conditions of an object by type, those with a status only, or all of them."""
    return {
        condition["type"]: condition
        for condition in item.get("status", {}).get("conditions") or ()
        if status is None or condition.get("status") == status
    }


def containers_of(pod: Json) -> Iterable[Json]:
    status = pod["status"]
    return (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))


def termination_of(pod: Json) -> Json:
    """How the pod's container ended, the first that failed before others; else empty."""
    ended = [
        terminated
        for container in containers_of(pod)
        if (terminated := (container.get("state") or {}).get("terminated"))
    ]
    return next((e for e in ended if e.get("exitCode")), ended[-1] if ended else {})


def last_words_of(pod: Json) -> Outcome | None:
    """The outcome that a pod's program left; None where it left none."""
    for container in pod["status"].get("containerStatuses", ()):
        terminated = (container.get("state") or {}).get("terminated") or {}
        if words := Outcome.parse(terminated.get("message") or ""):
            return words
    return None


def message_of(condition: Json) -> str:
    return str(condition.get("message") or condition.get("reason") or "no reason given")


def memory_limit_of(pod: Json) -> str:
    limits = [
        limit
        for container in pod["spec"].get("containers", ())
        if (limit := container.get("resources", {}).get("limits", {}).get("memory"))
    ]
    return f"; its limit is {limits[0]}" if limits else ""


def places_of(pods: Sequence[Json]) -> str:
    nodes = sorted({str(pod["spec"].get("nodeName", "")) for pod in pods} - {""})
    shown, more = ", ".join(nodes[:_SHOWN_NODES]), len(nodes) - _SHOWN_NODES
    return f"on {shown} and {more} more" if more > 0 else f"on {shown}"


def kueue_queue_of(job: Json) -> str:
    queue = job["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
    return f"; it waits for Kueue's queue {queue}" if queue else ""


def newest_event(
    events: Sequence[Json], kind: str, name: str, reasons: Sequence[str]
) -> Json | None:
    """The newest event about an object with one of these reasons."""
    found = (event for event in events_about(events, kind, name) if event.get("reason") in reasons)
    return max(found, key=_last_time, default=None)


def events_about(events: Sequence[Json], kind: str, name: str) -> list[Json]:
    return [
        event
        for event in events
        if event["involvedObject"].get("kind") == kind
        and event["involvedObject"].get("name") == name
    ]


def event_times(event: Json) -> list[str]:
    """All times of an event, in no order: which are set depends on the API that wrote it."""
    times = (
        event.get("firstTimestamp"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        (event.get("series") or {}).get("lastObservedTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return [time for time in times if time]


def _last_time(event: Json) -> float:
    return max(map(unix_seconds, event_times(event)), default=0.0)


def unix_seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
