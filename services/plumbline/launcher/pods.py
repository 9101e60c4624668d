"""The pods of an attempt: one for each node, each a container that runs the node's ranks.

They pass the `restricted` level of Pod Security, and write to volumes of their own only.
"""

from __future__ import annotations

import json
from typing import Any

from plumbline.core.execution import RENDEZVOUS_PORT, Execution, rank_command
from plumbline.core.jobs import Job
from plumbline.core.stage_outcome import TRACE_HEADERS_VARIABLE
from plumbline.core.telemetry import outgoing_headers
from plumbline.launcher.config import EnvironmentVariable, LauncherConfig, Pool
from plumbline.launcher.names import ATTEMPT_LABEL, JOB_ID_LABEL, attempt_name, rendezvous_endpoint

Manifest = dict[str, Any]

CONTAINER = "stage"
_NODE_RANK = "$(JOB_COMPLETION_INDEX)"
"""Kubernetes puts the pod's number in, from a variable that it adds itself."""


def pod_spec(job: Job, attempt: int, config: LauncherConfig, namespace: str) -> Manifest:
    """
    Raises:
        ConfigError: the job asks for a pool that the configuration does not have.
    """
    execution = Execution.of(job.spec)
    pool = config.pool(execution.pool)
    name = attempt_name(job.id, attempt)
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": config.termination_grace_s,
        "serviceAccountName": config.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            **_identity(config.run_as_user),
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": dict(pool.node_selector),
        "tolerations": [*pool.tolerations, *_node_lost_tolerations(config)],
        "topologySpreadConstraints": _spread(pool, job, attempt),
        "containers": [_container(job, attempt, config, namespace)],
        "volumes": [*_own_volumes(pool), *map(dict, config.volumes)],
        "imagePullSecrets": [{"name": secret} for secret in config.image_pull_secrets],
        "affinity": _affinity(pool, job, attempt),
        "runtimeClassName": pool.runtime_class,
        "priorityClassName": pool.priority_class,
        "schedulerName": config.scheduler,
        # With the Job's own host names this makes the names that the nodes meet by.
        "subdomain": name if execution.nodes > 1 else "",
    }
    return {key: value for key, value in spec.items() if value not in ("", [], {})}


def _identity(user: int | None) -> Manifest:
    return {} if user is None else dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), user)


def _container(job: Job, attempt: int, config: LauncherConfig, namespace: str) -> Manifest:
    execution = Execution.of(job.spec)
    pool = config.pool(execution.pool)
    name = attempt_name(job.id, attempt)
    endpoint = rendezvous_endpoint(name, namespace, job_set=config.job_set)
    arguments = [job.id, f"--follow={name}"]
    return {
        "name": CONTAINER,
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "command": rank_command(config.python, arguments, execution, _NODE_RANK, endpoint),
        "env": _environment(config, pool),
        "resources": _resources(pool, execution),
        "ports": [{"name": "rendezvous", "containerPort": RENDEZVOUS_PORT, "protocol": "TCP"}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "state", "mountPath": config.state_dir},
            {"name": "tmp", "mountPath": "/tmp"},
            *([{"name": "shm", "mountPath": "/dev/shm"}] if pool.shared_memory_size_limit else []),
            *map(dict, config.volume_mounts),
        ],
    }


def _environment(config: LauncherConfig, pool: Pool) -> list[Manifest]:
    threads = str(pool.threads)
    own = {
        "PLUMBLINE_STATE_DIR": config.state_dir,
        "PLUMBLINE_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # Caches of libraries go where the root file system's lock does not reach.
        "HOME": config.state_dir,
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        TRACE_HEADERS_VARIABLE: json.dumps(outgoing_headers()),
    }
    named = {variable.name for variable in config.environment}
    return [
        *({"name": name, "value": value} for name, value in own.items() if name not in named),
        *map(_variable, config.environment),
    ]


def _variable(variable: EnvironmentVariable) -> Manifest:
    if not variable.secret:
        return {"name": variable.name, "value": variable.value}
    source: Manifest = {"name": variable.secret, "key": variable.key}
    if variable.optional:
        source["optional"] = True
    return {"name": variable.name, "valueFrom": {"secretKeyRef": source}}


def _resources(pool: Pool, execution: Execution) -> Manifest:
    resources: Manifest = {str(kind): dict(amounts) for kind, amounts in pool.resources.items()}
    if gpus := pool.gpus_per_rank * execution.ranks_per_node:
        # An extended resource cannot be overcommitted: request and limit are one.
        for kind in ("requests", "limits"):
            resources.setdefault(kind, {})[pool.gpu_resource] = gpus
    return resources


def _own_volumes(pool: Pool) -> list[Manifest]:
    state = {"sizeLimit": pool.state_size_limit} if pool.state_size_limit else {}
    volumes: list[Manifest] = [
        {"name": "state", "emptyDir": state},
        {"name": "tmp", "emptyDir": {}},
    ]
    if size := pool.shared_memory_size_limit:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    return volumes


def _node_lost_tolerations(config: LauncherConfig) -> list[Manifest]:
    """Kubernetes' own default leaves a pod on a lost machine for five minutes."""
    return [
        {
            "key": f"node.kubernetes.io/{condition}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": config.node_lost_s,
        }
        for condition in ("not-ready", "unreachable")
    ]


def _spread(pool: Pool, job: Job, attempt: int) -> list[Manifest]:
    own = _own_pods(job, attempt)
    return [{"labelSelector": own, **constraint} for constraint in pool.topology_spread]


def _affinity(pool: Pool, job: Job, attempt: int) -> Manifest:
    """The pool's own, and each node of a job on another machine where there is one."""
    own = {"labelSelector": _own_pods(job, attempt), "topologyKey": "kubernetes.io/hostname"}
    apart = {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": own},
        ]
    }
    several = Execution.of(job.spec).nodes > 1
    return ({"podAntiAffinity": apart} if several else {}) | dict(pool.affinity)


def _own_pods(job: Job, attempt: int) -> Manifest:
    return {"matchLabels": {JOB_ID_LABEL: job.id, ATTEMPT_LABEL: str(attempt)}}
