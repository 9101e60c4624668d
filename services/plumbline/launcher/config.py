"""How the launcher shapes the Kubernetes Jobs that run attempts.

A YAML file that PLUMBLINE_LAUNCHER_CONFIG names holds one `LauncherConfig`; keys are the fields'
names. What stands under a key that Kubernetes defines itself (tolerations, resources, volumes) is
passed on as it is, and checked by the API server.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from plumbline.core.errors import ConfigError
from plumbline.core.validation import FrozenConfig, closest, configured

CONFIG_VARIABLE = "PLUMBLINE_LAUNCHER_CONFIG"
NODE_LOST_S = 30

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""A DNS label, as Kubernetes takes for most names."""
LabelValue = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")
]
KubernetesObject = Mapping[str, Any]
Resources = Mapping[Literal["requests", "limits"], Mapping[str, str | int | float]]


_SMALL: Resources = {
    "requests": {"cpu": "1", "memory": "2Gi"},
    "limits": {"memory": "4Gi"},
}


class EnvironmentVariable(FrozenConfig):
    """One variable of a pod: a plain value, or a key of a Secret."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")
    value: str = ""
    """May refer to variables before it as `$(NAME)`."""
    secret: str = ""
    """Name of a Secret of the namespace."""
    key: str = ""
    """In the Secret."""
    optional: bool = False
    """Whether the pod starts where the Secret or the key is missing."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.secret) != bool(self.key):
            raise ValueError(
                f"{self.name}: secret={self.secret!r} and key={self.key!r} must be set together"
            )
        if self.secret and self.value:
            raise ValueError(f"{self.name}: has a value and a secret; accepted: one of them")
        return self


class Pool(FrozenConfig):
    """What the pods of a job ask for, and which machines they may use."""

    node_selector: Mapping[str, str] = Field(default_factory=dict)
    tolerations: tuple[KubernetesObject, ...] = ()
    affinity: KubernetesObject = Field(default_factory=dict)
    topology_spread: tuple[KubernetesObject, ...] = ()
    """Topology spread constraints; one without a selector gets that of its job's pods."""
    runtime_class: str = ""
    priority_class: str = ""
    resources: Resources = Field(default_factory=lambda: _SMALL)
    """Of a pod, without its accelerators."""
    gpu_resource: str = "nvidia.com/gpu"
    """Resource that stands for one accelerator; a MIG slice has one of its own."""
    gpus_per_rank: int = Field(0, ge=0)
    threads: int = Field(2, ge=1)
    """torch threads per rank."""
    state_size_limit: str = ""
    """Bound of a pod's caches, logs and scratch, as Kubernetes writes sizes; empty: none."""
    shared_memory_size_limit: str = ""
    """Size of /dev/shm, for several ranks and data loaders; empty: the runtime's 64 MiB."""


class Patience(FrozenConfig):
    """How long an attempt may wait for what may yet come, s; 0 means for ever."""

    unschedulable_s: float = Field(0.0, ge=0)
    """For a machine with room."""
    image_pull_s: float = Field(900.0, ge=0)
    """For an image that cannot be pulled."""
    creation_s: float = Field(300.0, ge=0)
    """For a volume, Secret or ConfigMap that a container needs, or a sandbox."""
    deletion_s: float = Field(30.0, gt=0)
    """For pods that should be gone, after their grace period; a lost machine's never go."""


class LauncherConfig(FrozenConfig):
    """One launcher's way to run attempts."""

    image: str = Field(min_length=1)
    namespace: str = ""
    """Empty: the launcher's own; outside of a cluster that of the kubeconfig's context."""
    instance: LabelValue = "plumbline"
    """Label `app.kubernetes.io/instance`. Launchers of one instance share their Jobs, so that one
    follows what another began; two installations in one namespace need two."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str = "default"
    """Of the pods, which get no token of it."""
    python: str = "/opt/plumbline/bin/python"
    """The interpreter in the image."""
    run_as_user: int | None = Field(10001, gt=0)
    """User and groups of the pods; None leaves them to the cluster, as OpenShift wants it."""
    state_dir: str = "/var/lib/plumbline"

    pools: Mapping[Name, Pool] = Field(default_factory=lambda: {"default": Pool()})
    default_pool: Name = "default"

    environment: tuple[EnvironmentVariable, ...] = ()
    volumes: tuple[KubernetesObject, ...] = ()
    """Volumes of the pods beside their own, for certificates and tokens."""
    volume_mounts: tuple[KubernetesObject, ...] = ()

    pod_labels: Mapping[str, str] = Field(default_factory=dict)
    pod_annotations: Mapping[str, str] = Field(default_factory=dict)
    kueue_queue: str = ""
    """Local queue of Kueue that admits the Jobs; empty: they start at once."""
    scheduler: str = ""
    """`schedulerName` of the pods; `volcano` schedules the pods of a job together."""
    volcano_queue: str = ""
    job_set: bool = False
    """Create a JobSet in place of a Job; its controller must be installed."""

    ttl_s: int = Field(3600, ge=60)
    """How long a Kubernetes Job that ended is kept; the launcher must see its end."""
    termination_grace_s: int = Field(60, ge=1)
    """Between SIGTERM and SIGKILL of a pod, in which it may end its step."""
    node_lost_s: int = Field(NODE_LOST_S, ge=0)
    """How long a pod stays bound to a machine that stopped answering."""
    poll_period_s: float = Field(1.0, gt=0)
    """Between two looks at the cluster."""
    sweep_period_s: float = Field(10.0, gt=0)
    """Between two searches for Jobs that nobody follows any more."""
    log_tail_lines: int = Field(2000, ge=0)
    """Of each pod, which go to the job's log when an attempt ended."""
    patience: Patience = Patience()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.default_pool not in self.pools:
            raise ValueError(
                f"default_pool={self.default_pool!r} is none of pools "
                f"{', '.join(sorted(self.pools)) or '(none)'}"
            )
        if self.volcano_queue and self.scheduler != "volcano":
            raise ValueError(
                f"volcano_queue={self.volcano_queue!r} needs scheduler='volcano'; "
                f"scheduler={self.scheduler!r} was given"
            )
        if self.kueue_queue and self.scheduler == "volcano":
            raise ValueError(
                f"kueue_queue={self.kueue_queue!r} and scheduler='volcano' are both gates; "
                "accepted: one of them"
            )
        return self

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> LauncherConfig:
        """
        Raises:
            ConfigError: no file is named, it cannot be read, or it is not accepted.
        """
        variables = os.environ if environment is None else environment
        if not variables.get(CONFIG_VARIABLE):
            raise ConfigError(
                f"PLUMBLINE_EXECUTOR=kubernetes needs {CONFIG_VARIABLE}, the YAML file that says "
                "which image and pools training pods use",
                field="executor",
            )
        return configured(cls, variables, CONFIG_VARIABLE)

    def pool(self, name: str) -> Pool:
        """The pool of this name, or the default one where it is empty.

        Raises:
            ConfigError: there is no such pool.
        """
        wanted = name or self.default_pool
        if wanted not in self.pools:
            raise ConfigError(
                f"pool={wanted!r} is not known{closest(wanted, set(self.pools))}; accepted: "
                f"{', '.join(sorted(self.pools))}",
                field="execution.pool",
            )
        return self.pools[wanted]
