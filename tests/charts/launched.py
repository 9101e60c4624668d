"""The pods that the launcher makes when it reads the configuration that the chart renders."""

from __future__ import annotations

from typing import Any

import yaml
from charts.rendering import NAMESPACE, Object, Pod, Rendered, pods_of

from plumbline.core.jobs import Job, JobState, Progress
from plumbline.core.validation import parse_config
from plumbline.launcher.config import LauncherConfig
from plumbline.launcher.manifests import attempt_manifest


def launcher_config(release: Rendered) -> LauncherConfig | None:
    """The launcher's configuration as the launcher reads it; None where nothing is launched."""
    found = release.find("ConfigMap", "launcher")
    if found is None:
        return None
    return parse_config(LauncherConfig, yaml.safe_load(found["data"]["launcher.yaml"]))


def launched_job(config: LauncherConfig, *, pool: str = "", nodes: int = 2) -> Object:
    """The Kubernetes object of a training job's first attempt."""
    execution: dict[str, Any] = {"executor": "kubernetes", "nodes": nodes, "pool": pool}
    job = Job(
        id="0123456789abcdef0123456789abcdef",
        request_id="",
        kind="trainer.sft",
        spec={"stage": "trainer.sft", "config": {}, "inputs": {}, "execution": execution},
        queue="training",
        state=JobState.RUNNING,
        why="an attempt begins",
        code="",
        progress=Progress(),
        attempts=1,
        created_at=0.0,
        started_at=0.0,
        finished_at=None,
        result=None,
        labels={},
        metrics={},
        fencing_token=1,
        lease_owner="launcher",
        lease_expires_at=1.0,
        cancel_requested=False,
    )
    return attempt_manifest(job, 1, config, NAMESPACE)


def launched_pods(release: Rendered) -> list[Pod]:
    """A pod of each pool; none where training runs in workers."""
    config = launcher_config(release)
    pools = config.pools if config else {}
    return [pod for pool in pools for pod in pods_of(_as_job(launched_job(config, pool=pool)))]


def _as_job(entry: Object) -> Object:
    """A Job as it is; of a JobSet the one that it repeats."""
    if entry["kind"] == "Job":
        return entry
    (replicated,) = entry["spec"]["replicatedJobs"]
    return {"kind": "Job", "metadata": entry["metadata"], "spec": replicated["template"]["spec"]}
