"""What a pod waits for before it runs, and for how long that may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.launcher.config import Patience
from plumbline.launcher.objects import (
    Json,
    conditions_of,
    containers_of,
    message_of,
    newest_event,
    pod_name,
    pod_phase,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What one pod waits for."""

    why: str
    since: str = ""
    patience_s: float = 0.0
    """0 means for ever."""
    hopeless: bool = False
    code: str = "FAILED_PRECONDITION"


def wait_of(pod: Json, events: Sequence[Json], patience: Patience) -> Wait | None:
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
            return _wait_for_container(pod, container, waiting, since, patience)
    return _wait_for_start(pod, events, since, patience)


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
    pod: Json, container: Json, waiting: Json, since: str, patience: Patience
) -> Wait:
    reason, message = waiting["reason"], waiting.get("message", "")
    image = container.get("image", "")
    if reason == "InvalidImageName":
        why = f"Pod {pod_name(pod)}: {image!r} is no name of an image (InvalidImageName): {message}"
        return Wait(why=why, hopeless=True, code="INVALID_ARGUMENT")
    if reason in _IMAGE_REASONS:
        why = f"Pod {pod_name(pod)} waits for its image {image} ({reason}): {message}"
        return Wait(why=why, since=since, patience_s=patience.image_pull_s)
    if reason in _CREATION_REASONS:
        why = f"Pod {pod_name(pod)}: its container cannot be created ({reason}): {message}"
        return Wait(why=why, since=since, patience_s=patience.creation_s)
    return Wait(why=f"Pod {pod_name(pod)} waits ({reason}): {message}")


def _wait_for_start(pod: Json, events: Sequence[Json], since: str, patience: Patience) -> Wait:
    node = pod["spec"].get("nodeName", "its machine")
    warning = newest_event(events, "Pod", pod_name(pod), _START_TROUBLES)
    if warning is None:
        return Wait(why=f"Pod {pod_name(pod)} is being started on {node}")
    why = (
        f"Pod {pod_name(pod)} is not started yet on {node} ({warning.get('reason', '')}): "
        f"{warning.get('message', '')}"
    )
    return Wait(why=why, since=since, patience_s=patience.creation_s)
