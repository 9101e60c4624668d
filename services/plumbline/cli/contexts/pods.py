"""Logs and states of a release's pods, for `plumbline logs` and `plumbline status`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plumbline.cli.contexts.release import is_ready, pod_name
from plumbline.core.errors import FailedPreconditionError, NotFoundError, PlumblineError
from plumbline.launcher.names import COMPONENT_LABEL

if TYPE_CHECKING:
    from plumbline.cli.contexts.release import Release
    from plumbline.cli.contexts.settings import ContextSettings


def pod_logs(
    settings: ContextSettings,
    name: str,
    lines: int,
    jobs_of_run: Callable[[], Sequence[tuple[str, str]]] = tuple,
) -> list[tuple[str, str]]:
    """Titles and ends of logs: of a component's pods, or of the pods of jobs. For a pod whose log
    cannot be read, why.

    Args:
        name: a component, a job or a run.
        jobs_of_run: gives stage and job id of each job of the run. It is called where the name is
            nothing else, because it asks a service that may be down: what logs are read for.
    Raises:
        FailedPreconditionError: the context is no release on a cluster.
        NotFoundError: no pod bears the name.
    """
    release = required_release(settings, "logs")
    found = [(f"{name}: {pod_name(pod)}", pod) for pod in release.job_pods(name)]
    found = found or [(pod_name(pod), pod) for pod in release.pods(name)]
    found = found or [
        (f"{stage}: {pod_name(pod)}", pod)
        for stage, job_id in jobs_of_run()
        for pod in release.job_pods(job_id)
    ]
    if not found:
        components = sorted({_component(pod) for pod in release.pods()})
        raise NotFoundError(
            f"no pod of {release} is of a component or a launched job called {name!r}; accepted: "
            f"{', '.join(components)}. What a job wrote that ran inside a worker is in that "
            "worker's pod"
        )
    return [(title, _log(release, pod, lines)) for title, pod in found]


def pod_states(settings: ContextSettings) -> list[dict[str, Any]]:
    """Every pod of the release as JSON types, by component."""
    release = required_release(settings, "the state of pods")
    rows = [_state(pod) for pod in release.pods()]
    return sorted(rows, key=lambda row: (row["component"], row["pod"]))


def required_release(settings: ContextSettings, what: str) -> Release:
    """The release of a context on a cluster."""
    if settings.release is None:
        raise FailedPreconditionError(
            f"{what} can be read where the context is a release on a cluster; this one names "
            "addresses. `plumbline check` asks the services themselves"
        )
    return settings.release


def _log(release: Release, pod: Any, lines: int) -> str:
    """The end of a pod's log, or why there is none: a container that has not started has no log."""
    try:
        return release.log(pod, lines)
    except PlumblineError as error:
        return error.message


def _state(pod: Any) -> dict[str, Any]:
    statuses = pod["status"].get("containerStatuses") or ()
    return {
        "component": _component(pod),
        "pod": pod_name(pod),
        "state": "ready" if is_ready(pod) else _why(pod, statuses),
        "restarts": sum(int(status["restartCount"]) for status in statuses),
        "node": pod["spec"].get("nodeName", ""),
    }


def _why(pod: Any, statuses: Sequence[Any]) -> str:
    """Kubernetes' own word for why a pod is not ready: a container's, else the pod's."""
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for status in statuses:
        waiting = status.get("state", {}).get("waiting")
        if waiting:
            return str(waiting["reason"])
    return str(pod["status"].get("reason") or pod["status"].get("phase", "unknown"))


def _component(pod: Any) -> str:
    return str(pod["metadata"].get("labels", {}).get(COMPONENT_LABEL, ""))
