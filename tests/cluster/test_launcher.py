"""Training as Kubernetes Jobs, on a real control plane: launchers are worker processes.

Where training has to be real, pods run on an agent's machines as processes, with checkpoints and
artifacts in a real store; where only Kubernetes' part counts, kwok plays the pods.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.control_plane import ControlPlane
from cluster.helm import Helm
from cluster.launcher_platform import LaunchedPlatform
from cluster.pod_agent import PodAgent
from cluster.simulated_nodes import NodePool, SimulatedNodes

from plumbline.core.artifacts import open_configured_store
from plumbline.core.broker import connect_broker
from plumbline.core.jobs import Job, JobState
from plumbline.core.settings import Settings
from plumbline.data.records import Conversation, assistant, user
from plumbline.data.tables import write_records

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

AGENT_TAINT = {"key": "tests.plumbline.dev/agent", "value": "true", "effect": "NoSchedule"}
TOLERATED = {"key": AGENT_TAINT["key"], "operator": "Exists"}
POOL_LABEL = "tests.plumbline.dev/pool"
ONE_EACH = {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1}
WORDS = ("cat", "dog", "house", "sea", "mat", "old house")
ACCOUNT = "worker-training"
NO_INPUTS = {"base": ["path:/nowhere"], "conversations": ["path:/nowhere"]}
"""Of jobs whose pods kwok plays; nothing reads them."""
MADE = {"verdict": "succeeded", "why": "Made by a simulated pod", "artifact": "a" * 64}


@pytest.fixture
def platform(
    control_plane: ControlPlane, namespace: str, valkey: str, tmp_path: Path, helm: Helm
) -> Iterator[LaunchedPlatform]:
    """A platform whose launchers may do what the chart allows them, and no more."""
    url = f"{valkey.rpartition('/')[0]}/11"
    connect_broker(url).flushdb()
    settings = Settings(state_dir=tmp_path / "state", redis_url=url)
    allow_launching(control_plane, helm, namespace)
    kubeconfig = control_plane.account_kubeconfig(namespace, ACCOUNT)
    started = LaunchedPlatform(control_plane, namespace, settings, kubeconfig)
    yield started
    started.close()


@pytest.fixture
def agent(
    control_plane: ControlPlane, tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[PodAgent]:
    """Machines that run their pods' commands; a test adds them."""
    with PodAgent(control_plane.admin, tmp_path / "pods", free_port) as started:
        yield started
    for node in control_plane.admin.items("/api/v1/nodes", labelSelector=f"{POOL_LABEL}=agent"):
        control_plane.admin.delete(f"/api/v1/nodes/{node['metadata']['name']}")


@pytest.fixture
def conversations(tmp_path: Path) -> str:
    (tmp_path / "conversations").mkdir()
    records = [
        Conversation(f"{a}-{b}", (user(f"the {a} or the {b}?"), assistant("the mat")))
        for a in WORDS
        for b in WORDS
    ]
    write_records(tmp_path / "conversations" / "conversations.parquet", records)
    return f"path:{tmp_path / 'conversations'}"


def allow_launching(control_plane: ControlPlane, helm: Helm, namespace: str) -> None:
    """The role that the chart renders, bound to the tests' account."""
    values = {"launcher": {"executor": "kubernetes"}}
    rendered = yaml.safe_load_all(helm.template("values", namespace, values))
    role = next(one for one in rendered if one and one["kind"] == "Role")
    role["metadata"] = {"name": "launcher"}
    account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "launcher"}
    for manifest in (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}},
        role,
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "launcher"},
            "roleRef": reference,
            "subjects": [account],
        },
    ):
        control_plane.admin.apply(manifest, namespace)


def agent_pool(**more: Any) -> dict[str, Any]:
    """A launcher's pool on the agent's machines."""
    return {
        "node_selector": {POOL_LABEL: "agent"},
        "tolerations": [TOLERATED],
        "topology_spread": [{**ONE_EACH, "whenUnsatisfiable": "DoNotSchedule"}],
        "resources": {"requests": {"cpu": "1"}},
        "threads": 1,
        **more,
    }


def kwok_pool(name: str = "cpu", **more: Any) -> dict[str, Any]:
    """A launcher's pool on kwok's machines."""
    return {
        "node_selector": {POOL_LABEL: name},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "resources": {"requests": {"cpu": "1"}},
        **more,
    }


def machines(count: int) -> NodePool:
    return NodePool(name="agent", count=count, taints=(AGENT_TAINT,))


def sft(steps: int, **more: Any) -> dict[str, Any]:
    common = {"learning_rate": 1e-3, "log_every": 1, "checkpoint_every": 5, "device": "cpu"}
    return {**common, "batch_size": 4, "epochs": 999, "max_steps": steps, **more}


def messages(**more: str) -> dict[str, str]:
    """Annotations that make kwok's pods succeed with an outcome."""
    return {"simulated.plumbline.dev/message": json.dumps(MADE), **more}


def test_a_job_of_four_nodes_runs_to_its_artifact(
    platform: LaunchedPlatform, agent: PodAgent, conversations: str, tiny_policy: Path
) -> None:
    agent.add(machines(4))
    platform.configure({"agent": agent_pool()})
    platform.start("launcher")
    started = time.monotonic()
    job = platform.submit(
        sft(20), {"base": [f"path:{tiny_policy}"], "conversations": [conversations]}, nodes=4
    )

    platform.progressed(job, 1)
    placed = {pod["spec"]["nodeName"] for pod in platform.pods(job)}
    ended = platform.ended(job)

    print(f"four nodes, 20 steps: {time.monotonic() - started:.1f} s")
    assert (ended.state, ended.attempts) == (JobState.SUCCEEDED, 1), ended.why
    assert len(placed) == 4
    store = open_configured_store(platform.settings)
    assert store.get(str(ended.result)).manifest.metrics["steps"] == 20


def test_a_job_goes_on_from_its_checkpoint_when_a_machine_is_lost(
    platform: LaunchedPlatform, agent: PodAgent, conversations: str, tiny_policy: Path
) -> None:
    agent.add(machines(3))
    platform.configure({"agent": agent_pool()})
    platform.start("launcher")
    job = platform.submit(
        sft(60), {"base": [f"path:{tiny_policy}"], "conversations": [conversations]}, nodes=2
    )
    platform.progressed(job, 12)
    lost = platform.pods(job)[-1]["spec"]["nodeName"]
    started = time.monotonic()

    agent.lose(lost)
    seen = platform.jobs.metrics(job.id)
    platform.until(lambda: platform.jobs.get(job.id).attempts == 2)
    print(f"second attempt {time.monotonic() - started:.1f} s after the machine was lost")
    ended = platform.ended(job)

    assert ended.state is JobState.SUCCEEDED, ended.why
    assert ended.charged_attempts <= 1, "a lost machine is not the job's fault"
    first = platform.jobs.metrics(job.id)[len(seen)].step
    assert 5 < first <= seen[-1].step + 1, f"went on from step {first} after {seen[-1].step}"


def test_a_job_that_finds_no_room_says_why_and_starts_when_there_is_some(
    platform: LaunchedPlatform, nodes: SimulatedNodes
) -> None:
    gpus = kwok_pool("gpu", gpus_per_rank=4)
    platform.configure(
        {"gpu": gpus}, annotations=messages(**{"simulated.plumbline.dev/runs-for": "20s"})
    )
    platform.start("launcher")
    first = [platform.submit(sft(seed), NO_INPUTS, pool="gpu") for seed in (1, 2)]
    platform.until(lambda: all(phase(platform, job) == "Running" for job in first))

    started = time.monotonic()
    waits = platform.submit(sft(3), NO_INPUTS, pool="gpu")
    why = platform.why(waits, "nvidia.com/gpu", within_s=10)

    print(f"said why {time.monotonic() - started:.1f} s after it was submitted: {why}")
    assert "Insufficient nvidia.com/gpu" in why
    assert platform.jobs.get(waits.id).state is JobState.RUNNING
    platform.until(lambda: phase(platform, waits) == "Running")
    assert all(platform.ended(job).state is JobState.SUCCEEDED for job in (*first, waits))


def test_cancelling_removes_everything(
    platform: LaunchedPlatform, agent: PodAgent, conversations: str, tiny_policy: Path
) -> None:
    agent.add(machines(2))
    platform.configure({"agent": agent_pool()})
    platform.start("launcher")
    job = platform.submit(
        sft(5000), {"base": [f"path:{tiny_policy}"], "conversations": [conversations]}, nodes=2
    )
    platform.progressed(job, 1)
    pids = agent.pids()
    assert platform.objects(job) == {"Pod", "Service", "Job"}

    started = time.monotonic()
    platform.jobs.cancel(job.id, "not needed")
    ended = platform.ended(job)

    print(f"cancelled after {time.monotonic() - started:.1f} s")
    assert (ended.state, ended.why) == (JobState.CANCELLED, "Cancelled: not needed")
    platform.until(lambda: platform.objects(job) == set(), within_s=30)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_a_launcher_that_goes_away_loses_nothing(
    platform: LaunchedPlatform,
    agent: PodAgent,
    conversations: str,
    tiny_policy: Path,
    end: str,
) -> None:
    agent.add(machines(1))
    platform.configure({"agent": agent_pool()})
    launcher = platform.start("first")
    job = platform.submit(
        sft(400), {"base": [f"path:{tiny_policy}"], "conversations": [conversations]}
    )
    platform.progressed(job, 3)

    if end == "killed":
        platform.kill("first")
    else:
        launcher.terminate()
        assert launcher.wait(30) == 0
        assert "the attempt goes on" in platform.jobs.get(job.id).why
    platform.start("second")
    ended = platform.ended(job)

    assert (ended.state, ended.attempts) == (JobState.SUCCEEDED, 1), ended.why
    steps = [row.step for row in platform.jobs.metrics(job.id)]
    assert sorted(set(steps)) == steps == list(range(1, 401)), "the pod went on, undisturbed"
    assert len(agent.started) == 1


def test_two_hundred_jobs_at_once_all_end(
    platform: LaunchedPlatform, nodes: SimulatedNodes
) -> None:
    platform.configure(
        {"cpu": kwok_pool()}, annotations=messages(**{"simulated.plumbline.dev/runs-for": "2s"})
    )
    platform.start("launcher")
    started = time.monotonic()
    jobs = [platform.submit(sft(steps), NO_INPUTS) for steps in range(1, 201)]
    submitted = time.monotonic() - started

    def all_ended() -> list[Job] | None:
        now = [platform.jobs.get(job.id) for job in jobs]
        return now if all(job.terminal for job in now) else None

    ended = platform.until(all_ended, within_s=400)

    print(f"200 jobs: submitted in {submitted:.1f} s, ended in {time.monotonic() - started:.1f} s")
    assert {(job.state, job.attempts) for job in ended} == {(JobState.SUCCEEDED, 1)}
    assert {job.result for job in ended} == {MADE["artifact"]}


def test_a_pod_out_of_memory_fails_the_job_with_kubernetes_words(
    platform: LaunchedPlatform, nodes: SimulatedNodes
) -> None:
    says = {"exit-code": "137", "reason": "OOMKilled"}
    annotations = {f"simulated.plumbline.dev/{name}": value for name, value in says.items()}
    platform.configure({"cpu": kwok_pool()}, annotations=annotations)
    platform.start("launcher")

    ended = platform.ended(platform.submit(sft(1), NO_INPUTS))

    assert (ended.state, ended.attempts) == (JobState.FAILED, 3)
    assert "OOMKilled" in ended.why


def test_an_evicted_pod_is_tried_again_and_not_charged(
    platform: LaunchedPlatform, nodes: SimulatedNodes
) -> None:
    says = {"exit-code": "137", "pod-reason": "Evicted"}
    annotations = {f"simulated.plumbline.dev/{name}": value for name, value in says.items()}
    platform.configure({"cpu": kwok_pool()}, annotations=annotations)
    platform.start("launcher")
    job = platform.submit(sft(1), NO_INPUTS)

    why = platform.why(job, "Evicted")
    platform.until(lambda: platform.jobs.get(job.id).attempts > 1)

    assert "evicted by its machine" in why
    assert platform.jobs.get(job.id).charged_attempts <= 1
    platform.jobs.cancel(job.id)
    assert platform.ended(job).state is JobState.CANCELLED


def test_an_image_that_cannot_be_pulled_is_named(
    platform: LaunchedPlatform, nodes: SimulatedNodes
) -> None:
    waits = {"simulated.plumbline.dev/waits": "ImagePullBackOff"}
    platform.configure(
        {"cpu": kwok_pool()}, annotations=waits, patience={"image_pull_s": 10, "deletion_s": 3}
    )
    platform.start("launcher")
    started = time.monotonic()
    job = platform.submit(sft(1), NO_INPUTS)

    why = platform.why(job, "ImagePullBackOff")
    print(f"said why {time.monotonic() - started:.1f} s after it was submitted: {why}")
    ended = platform.ended(job)

    assert "registry.test/plumbline-worker:0.1.0" in why
    assert ended.state is JobState.FAILED
    assert "given up after" in ended.why


def test_jobs_outlive_an_api_server_that_is_away(
    platform: LaunchedPlatform, nodes: SimulatedNodes, control_plane: ControlPlane
) -> None:
    platform.configure(
        {"cpu": kwok_pool()}, annotations=messages(**{"simulated.plumbline.dev/runs-for": "5s"})
    )
    platform.start("launcher")
    job = platform.submit(sft(1), NO_INPUTS)
    platform.until(lambda: phase(platform, job) == "Running")

    control_plane.processes.stop("kube-apiserver", grace_s=0)
    time.sleep(10)
    assert not platform.jobs.get(job.id).terminal
    control_plane.processes.restart("kube-apiserver")
    control_plane.await_api_server()

    ended = platform.ended(job)
    assert (ended.state, ended.attempts) == (JobState.SUCCEEDED, 1), ended.why


def phase(platform: LaunchedPlatform, job: Job) -> str:
    """Of the job's first pod; empty before there is one."""
    pods = platform.pods(job)
    return str(pods[0]["status"]["phase"]) if pods else ""
