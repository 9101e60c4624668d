"""Groups of workers, and how they scale."""

from __future__ import annotations

from typing import Any

import pytest
from charts.rendering import Object, Rendered, render

QUEUES = ("curation", "sampling", "scoring", "training", "evaluation", "pipeline")


def words(release: Rendered, group: str) -> list[str]:
    found: list[str] = release.pod(f"worker-{group}").main["command"]
    return found


def scaled(kind: str, **keda: Any) -> Rendered:
    return render(changes={"workers": {"curation": {"keda": {"kind": kind, **keda}}}})


def test_every_queue_is_served_and_that_of_pipelines_by_its_own_group(release: Rendered) -> None:
    served = [
        word.partition("=")[2].split(",")
        for pod in release.pods()
        for word in pod.main.get("command") or []
        if word.startswith("--queues=")
    ]

    assert {queue for queues in served for queue in queues} == set(QUEUES)
    assert ["pipeline"] in served


def test_a_worker_is_told_its_name_queues_and_concurrency() -> None:
    made = render(changes={"workers": {"models": {"concurrency": 3}}})

    assert {"--queues=sampling,scoring,evaluation", "--name=$(POD_NAME)", "--concurrency=3"} <= set(
        words(made, "models")
    )
    name = made.pod("worker-models").environment()["POD_NAME"]["valueFrom"]
    assert name == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_groups_can_be_added_and_left_out() -> None:
    made = render(
        changes={
            "workers": {
                "models": {"enabled": False},
                "own": {"enabled": True, "queues": ["sampling", "scoring", "evaluation"]},
            }
        }
    )

    assert made.find("Deployment", "worker-models") is None
    assert made.find("NetworkPolicy", "worker-models") is None
    assert "--queues=sampling,scoring,evaluation" in words(made, "own")
    assert made.pod("worker-own").main["image"] == "plumbline-worker:0.1.0"


def test_a_launcher_follows_many_jobs_at_once() -> None:
    made = render(changes={"launcher": {"executor": "kubernetes", "concurrency": 99}})

    assert "--concurrency=99" in words(made, "training")
    assert "--concurrency=1" in words(made, "curation")


def test_liveness_is_the_time_of_the_last_poll() -> None:
    made = render(changes={"workerDefaults": {"liveness": {"maxPollAgeSeconds": 33}}})
    probe = made.pod("worker-curation").main["livenessProbe"]["exec"]["command"]

    assert probe[1:3] == ["-m", "plumbline.probe"]
    assert "--older-than-s=33" in probe


def test_a_probe_has_time_to_start_python() -> None:
    # An exec probe is a process: a timeout of 1 s, the default, would kill busy workers.
    for kind in ("startupProbe", "livenessProbe"):
        assert render().pod("worker-curation").main[kind]["timeoutSeconds"] >= 5


def test_pseudonyms_reach_those_who_anonymize() -> None:
    made = render(changes={"pseudonyms": {"existingSecret": "keys"}})
    variable = "PLUMBLINE_PSEUDONYM_KEYS_FILE"
    holders = {pod.component for pod in made.pods() if variable in pod.environment()}

    assert holders == {"curation", "worker-curation"}


# Scaling


def test_nothing_scales_by_itself_unless_asked() -> None:
    made = render()

    assert made.of_kind("HorizontalPodAutoscaler", "ScaledObject", "ScaledJob") == []
    assert all("replicas" in entry["spec"] for entry in made.of_kind("Deployment"))


@pytest.mark.parametrize(("section", "component"), [("reward", "reward"), ("sampler", "sampler")])
def test_an_autoscaler_owns_the_number_of_replicas(section: str, component: str) -> None:
    scaling = {
        "enabled": True,
        "minReplicas": 2,
        "maxReplicas": 9,
        "targetCPUUtilizationPercentage": 55,
    }
    made = render(changes={"services": {section: {"autoscaling": scaling}}})
    spec = made.one("HorizontalPodAutoscaler", component)["spec"]

    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 9)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 55
    assert spec["scaleTargetRef"]["name"] == made.one("Deployment", component)["metadata"]["name"]
    # An upgrade that wrote a number would undo the autoscaler's.
    assert "replicas" not in made.one("Deployment", component)["spec"]


def test_what_scales_exists(release: Rendered) -> None:
    deployments = {entry["metadata"]["name"] for entry in release.of_kind("Deployment")}
    for entry in release.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        assert entry["spec"]["scaleTargetRef"]["name"] in deployments
    for entry in release.of_kind("HorizontalPodAutoscaler"):
        assert entry["spec"]["metrics"], entry["metadata"]["name"]
        assert entry["spec"]["minReplicas"] <= entry["spec"]["maxReplicas"]


def test_a_scaled_object_looks_at_each_queue_of_its_group() -> None:
    keda = {"kind": "ScaledObject", "minReplicas": 1, "maxReplicas": 7, "jobsPerPod": 2}
    made = render(changes={"workers": {"models": {"keda": keda}}})
    spec = made.one("ScaledObject", "worker-models")["spec"]

    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 7)
    assert [t["metadata"]["listName"] for t in spec["triggers"]] == [
        "sampling",
        "scoring",
        "evaluation",
    ]
    for trigger in spec["triggers"]:
        assert trigger["type"] == "redis"
        assert trigger["metadata"]["listLength"] == "2"
        assert trigger["metadata"]["address"] == "demo-plumbline-valkey.values.svc:6379"
    assert "replicas" not in made.one("Deployment", "worker-models")["spec"]


def test_keda_reads_the_password_from_the_secret() -> None:
    made = scaled("ScaledObject")
    (authentication,) = made.of_kind("TriggerAuthentication")
    (reference,) = authentication["spec"]["secretTargetRef"]
    secret = made.one("Secret", "valkey")

    assert reference["parameter"] == "password"
    assert reference["name"] == secret["metadata"]["name"] and reference["key"] in secret["data"]
    (trigger,) = made.one("ScaledObject", "worker-curation")["spec"]["triggers"]
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    assert render().of_kind("TriggerAuthentication") == []


def test_pods_of_a_scaled_job_end_by_themselves_and_are_not_started_again() -> None:
    made = scaled("ScaledJob", idleSeconds=12)
    target = made.one("ScaledJob", "worker-curation")["spec"]["jobTargetRef"]
    pod = made.pod("worker-curation")

    assert made.find("Deployment", "worker-curation") is None
    assert target["backoffLimit"] == 0
    assert pod.spec["restartPolicy"] == "Never"
    assert "--exit-when-idle-s=12" in pod.main["command"]
    assert not any("idle" in word for word in render().pod("worker-curation").main["command"])


@pytest.mark.parametrize("tls", [True, False])
def test_keda_meets_a_redis_outside(tls: bool) -> None:
    outside: Object = {
        "valkey": {"enabled": False},
        "externalRedis": {
            "host": "redis.example.com",
            "port": 6380,
            "existingSecret": "r",
            "database": 3,
            "tls": {"enabled": tls, "caSecret": "redis-ca" if tls else ""},
        },
        "workers": {"curation": {"keda": {"kind": "ScaledObject"}}},
    }
    made = render(changes=outside)
    (trigger,) = made.one("ScaledObject", "worker-curation")["spec"]["triggers"]
    (authentication,) = made.of_kind("TriggerAuthentication")

    assert trigger["metadata"]["address"] == "redis.example.com:6380"
    assert trigger["metadata"]["databaseIndex"] == "3"
    assert trigger["metadata"]["enableTLS"] == str(tls).lower()
    parameters = {entry["parameter"] for entry in authentication["spec"]["secretTargetRef"]}
    assert parameters == ({"password", "ca"} if tls else {"password"})
