"""Names and labels by which an attempt's objects are found again."""

from __future__ import annotations

from plumbline.core.execution import RENDEZVOUS_PORT
from plumbline.core.jobs import Job
from plumbline.launcher.config import LauncherConfig

COMPONENT = "training"
REPLICATED_JOB = "nodes"
"""Of a JobSet, the one Job that it holds."""
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
JOB_ID_LABEL = "plumbline.dev/job-id"
ATTEMPT_LABEL = "plumbline.dev/attempt"
STAGE_LABEL = "plumbline.dev/stage"


def attempt_name(job_id: str, attempt: int) -> str:
    """Name of an attempt's objects; short enough for the pods' names that begin with it."""
    return f"plumbline-{job_id[:12]}-{attempt}"


def selector(config: LauncherConfig) -> str:
    """Label selector of everything that launchers of this instance created."""
    return f"{COMPONENT_LABEL}={COMPONENT},{INSTANCE_LABEL}={config.instance}"


def rendezvous_endpoint(name: str, namespace: str, *, job_set: bool = False) -> str:
    """host:port of the pod with index 0, as the attempt's other pods find it."""
    pod = f"{name}-{REPLICATED_JOB}-0-0" if job_set else f"{name}-0"
    return f"{pod}.{name}.{namespace}.svc:{RENDEZVOUS_PORT}"


def labels_of(job: Job, attempt: int, config: LauncherConfig) -> dict[str, str]:
    """Labels of everything that an attempt is made of."""
    return {
        "app.kubernetes.io/name": "plumbline",
        INSTANCE_LABEL: config.instance,
        COMPONENT_LABEL: COMPONENT,
        "app.kubernetes.io/part-of": "plumbline",
        "app.kubernetes.io/managed-by": "plumbline-launcher",
        JOB_ID_LABEL: job.id,
        ATTEMPT_LABEL: str(attempt),
        STAGE_LABEL: job.kind,
    }
