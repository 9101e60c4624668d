"""What a pod waits for before it runs, and for how long that may take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plumbline.launcher.config import Patience
from plumbline.launcher.objects import (
    Json,
    conditions_of,
    containers_of,
    event_times,
    events_about,
    message_of,
    newest_event,
    pod_name,
    pod_phase,
    unix_seconds,
)

_IMAGE_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)
_CREATION_REASONS = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PostStartHookError",
)
_STARTING = ("", "ContainerCreating", "PodInitializing")
_START_TROUBLES = (
    "FailedMount",
    "FailedAttachVolume",
    "FailedMapVolume",
    "FailedCreatePodSandBox",
    "NetworkNotReady",
)
"""Warnings about a pod that has a machine and no container yet."""
_REPEATED_WITHIN_S = 180.0
"""A warning that was not repeated for so long is over: the kubelet tries a mount again after 2 min
2 s at the latest, and a sandbox sooner. Events themselves stay for an hour."""
_IMAGE_WARNINGS = ("Failed", "InspectFailed", "ErrImageNeverPull")
_CREATION_WARNINGS = ("Failed", "FailedPostStartHook")
_PULL_FAILED = ("Failed to pull image", *(f"Error: {reason}" for reason in _IMAGE_REASONS))
"""How a warning `Failed` begins that is about an image; the kubelet uses it for all else too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What one pod waits for."""

    why: str
    since: str = ""
    patience_s: float = 0.0
    """0 means for ever."""
    hopeless: bool = False
    code: str = "FAILED_PRECONDITION"


def wait_of(pod: Json, events: Sequence[Json], patience: Patience, now: float) -> Wait | None:
    """What a pod waits for; None where it runs or has ended."""
    if pod_phase(pod) != "Pending" or pod["metadata"].get("deletionTimestamp"):
        return None
    scheduled = conditions_of(pod, status=None).get("PodScheduled")
    if scheduled is None or scheduled.get("status") != "True":
        return _wait_for_machine(pod, scheduled, patience)
    since = pod["status"].get("startTime") or pod["metadata"].get("creationTimestamp", "")
    for container in containers_of(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason not in _STARTING:
            warnings = _warnings_about(pod, container, events)
            return _wait_for_container(pod, container, waiting, warnings, since, patience)
    return _wait_for_start(pod, events, since, patience, now)


def _wait_for_machine(pod: Json, scheduled: Json | None, patience: Patience) -> Wait:
    reason = (scheduled or {}).get("reason", "")
    if reason == "SchedulingGated":
        gates = ", ".join(gate["name"] for gate in pod["spec"].get("schedulingGates", []))
        return Wait(why=f"Pod {pod_name(pod)} is held back by the scheduling gates {gates}")
    if scheduled is None:
        scheduler = pod["spec"].get("schedulerName", "default-scheduler")
        return Wait(why=f"Pod {pod_name(pod)} waits for the scheduler ({scheduler})")
    return Wait(
        why=f"Pod {pod_name(pod)} waits for a machine ({reason}): {message_of(scheduled)}",
        since=scheduled.get("lastTransitionTime") or "",
        patience_s=patience.unschedulable_s,
        code="RESOURCE_EXHAUSTED",
    )


def _wait_for_container(
    pod: Json,
    container: Json,
    waiting: Json,
    warnings: Sequence[Json],
    since: str,
    patience: Patience,
) -> Wait:
    reason, message = waiting["reason"], waiting.get("message", "")
    image = container.get("image", "")
    if reason == "InvalidImageName":
        why = f"Pod {pod_name(pod)}: {image!r} is no name of an image (InvalidImageName): {message}"
        return Wait(why=why, hopeless=True, code="INVALID_ARGUMENT")
    if reason in _IMAGE_REASONS:
        why = f"Pod {pod_name(pod)} waits for its image {image} ({reason}): {message}"
        began = _first_time(filter(_is_about_image, warnings), since)
        return Wait(why=why, since=began, patience_s=patience.image_pull_s)
    if reason in _CREATION_REASONS:
        why = f"Pod {pod_name(pod)}: its container cannot be created ({reason}): {message}"
        began = _first_time(filter(_is_about_creation, warnings), since)
        return Wait(why=why, since=began, patience_s=patience.creation_s)
    return Wait(why=f"Pod {pod_name(pod)} waits ({reason}): {message}")


def _wait_for_start(
    pod: Json, events: Sequence[Json], since: str, patience: Patience, now: float
) -> Wait:
    node = pod["spec"].get("nodeName", "its machine")
    warning = newest_event(events, "Pod", pod_name(pod), _START_TROUBLES)
    if warning is None or _is_over(pod, warning, now):
        return Wait(why=f"Pod {pod_name(pod)} is being started on {node}")
    why = (
        f"Pod {pod_name(pod)} is not started yet on {node} ({warning.get('reason', '')}): "
        f"{warning.get('message', '')}"
    )
    return Wait(why=why, since=since, patience_s=patience.creation_s)


# Warnings


def _is_over(pod: Json, warning: Json, now: float) -> bool:
    """Whether the kubelet has got past a warning about the start of a pod."""
    # Volumes come before the sandbox, so that with a sandbox only images and containers are left.
    if "PodReadyToStartContainers" in conditions_of(pod):
        return True
    seen = map(unix_seconds, event_times(warning))
    return now - max(seen, default=now) > _REPEATED_WITHIN_S


def _warnings_about(pod: Json, container: Json, events: Sequence[Json]) -> Sequence[Json]:
    """Those about one container of a pod, or about the pod without a word on which one."""
    place = f"{{{container.get('name', '')}}}"
    return [
        event
        for event in events_about(events, "Pod", pod_name(pod))
        if (event["involvedObject"].get("fieldPath") or place).endswith(place)
    ]


def _is_about_image(event: Json) -> bool:
    if event.get("reason") == "Failed":
        return _tells_of_pull(event)
    return event.get("reason") in _IMAGE_WARNINGS


def _is_about_creation(event: Json) -> bool:
    return event.get("reason") in _CREATION_WARNINGS and not _tells_of_pull(event)


def _tells_of_pull(event: Json) -> bool:
    return str(event.get("message") or "").startswith(_PULL_FAILED)


def _first_time(events: Iterable[Json], otherwise: str) -> str:
    """When the first of some events came first; a time in its place where there is none."""
    times = (time for event in events for time in event_times(event))
    return min(times, key=unix_seconds, default=otherwise)
