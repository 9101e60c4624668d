"""The Kubernetes objects of one attempt, as the API server takes them.

An attempt is an Indexed Job: one pod per node, of which the one with index 0 hosts the rendezvous
and has the last word. A job of several nodes gets a headless Service, by whose names they meet.
Kubernetes repeats nothing (`backoffLimit: 0`): the platform does, and counts.
"""

from __future__ import annotations

from collections.abc import Mapping

from plumbline.core.execution import RENDEZVOUS_PORT, Execution
from plumbline.core.jobs import Job
from plumbline.launcher.config import LauncherConfig
from plumbline.launcher.names import (
    ATTEMPT_LABEL,
    JOB_ID_LABEL,
    REPLICATED_JOB,
    attempt_name,
    labels_of,
)
from plumbline.launcher.pods import Manifest, pod_spec

KUEUE_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_VOLCANO = "scheduling.volcano.sh"


def attempt_manifest(job: Job, attempt: int, config: LauncherConfig, namespace: str) -> Manifest:
    """The Indexed Job of an attempt, or the JobSet around it.

    Args:
        attempt: its number, from 1.
        namespace: where it will be created.
    Raises:
        ConfigError: the job asks for a pool that the configuration does not have.
    """
    name = attempt_name(job.id, attempt)
    labels = labels_of(job, attempt, config)
    annotations = _volcano_annotations(Execution.of(job.spec), config)
    gate = {KUEUE_QUEUE_LABEL: config.kueue_queue} if config.kueue_queue else {}
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": labels | gate,
        "annotations": annotations,
    }
    spec = _job_spec(job, attempt, config, namespace)
    if not config.job_set:
        # Kueue lifts the suspension when it admits the Job.
        suspend = {"suspend": True} if gate else {}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata,
            "spec": spec | suspend,
        }
    return _job_set(metadata, spec, labels, config)


def service_manifest(job: Job, attempt: int, config: LauncherConfig, owner: Manifest) -> Manifest:
    """The headless Service of an attempt with several nodes.

    Args:
        owner: the created Job; when it is deleted, so is the Service.
    """
    labels = labels_of(job, attempt, config)
    metadata = owner["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "clusterIP": "None",
            # The pods meet before any of them is ready.
            "publishNotReadyAddresses": True,
            "selector": {key: labels[key] for key in (JOB_ID_LABEL, ATTEMPT_LABEL)},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP"}],
        },
    }


def needs_service(job: Job, config: LauncherConfig) -> bool:
    """Whether an attempt's pods must find each other; a JobSet brings a Service of its own."""
    return Execution.of(job.spec).nodes > 1 and not config.job_set


def _volcano_annotations(execution: Execution, config: LauncherConfig) -> dict[str, str]:
    """All pods or none; read on the Job and on its pods, by Volcano's version."""
    if config.scheduler != "volcano":
        return {}
    queue = {f"{_VOLCANO}/queue-name": config.volcano_queue} if config.volcano_queue else {}
    return {f"{_VOLCANO}/group-min-member": str(execution.nodes), **queue}


def _job_spec(job: Job, attempt: int, config: LauncherConfig, namespace: str) -> Manifest:
    execution = Execution.of(job.spec)
    labels = dict(config.pod_labels) | labels_of(job, attempt, config)
    annotations = dict(config.pod_annotations) | _volcano_annotations(execution, config)
    return {
        "completionMode": "Indexed",
        "completions": execution.nodes,
        "parallelism": execution.nodes,
        "backoffLimit": 0,
        # Names a disruption in the Job's own status, which outlives the pods of a lost machine.
        "podFailurePolicy": {
            "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]}]
        },
        "ttlSecondsAfterFinished": config.ttl_s,
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": pod_spec(job, attempt, config, namespace),
        },
    }


def _job_set(
    metadata: Manifest, job_spec: Manifest, labels: Mapping[str, str], config: LauncherConfig
) -> Manifest:
    replicated = {
        "name": REPLICATED_JOB,
        "replicas": 1,
        "template": {"metadata": {"labels": dict(labels)}, "spec": job_spec},
    }
    ttl = job_spec.pop("ttlSecondsAfterFinished")
    # The JobSet gives its pods host names and a Service by its own name.
    job_spec["template"]["spec"].pop("subdomain", None)
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "replicatedJobs": [replicated],
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {"maxRestarts": 0},
            "ttlSecondsAfterFinished": ttl,
            "suspend": bool(config.kueue_queue),
        },
    }
