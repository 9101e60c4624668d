"""The objects of an attempt, beside what Kubernetes' documentation asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from plumbline.core.errors import ConfigError
from plumbline.core.jobs import Job, JobState, Progress
from plumbline.launcher.config import CONFIG_VARIABLE, LauncherConfig
from plumbline.launcher.manifests import attempt_manifest, needs_service, service_manifest
from plumbline.launcher.names import attempt_name, selector

JOB_ID = "0123456789abcdef0123456789abcdef"
NAME = "plumbline-0123456789ab-3"
CONFIG = {
    "image": "registry.example/plumbline-worker:1.2",
    "instance": "team",
    "pools": {
        "cpu": {
            "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}}
        },
        "gpu": {
            "node_selector": {"gpu": "h200"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "topology_spread": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
            ],
            "runtime_class": "nvidia",
            "priority_class": "training",
            "resources": {"requests": {"cpu": "8"}, "limits": {"memory": "64Gi"}},
            "gpus_per_rank": 1,
            "threads": 4,
            "shared_memory_size_limit": "16Gi",
            "state_size_limit": "100Gi",
        },
    },
    "default_pool": "cpu",
    "environment": [
        {"name": "PLUMBLINE_STORE", "value": "s3://bucket/prefix"},
        {"name": "REDIS_PASSWORD", "secret": "valkey", "key": "password"},
        {"name": "REDIS_URL", "value": "redis://:$(REDIS_PASSWORD)@valkey:6379/0"},
    ],
    "volumes": [{"name": "ca", "secret": {"secretName": "ca"}}],
    "volume_mounts": [{"name": "ca", "mountPath": "/etc/plumbline/ca", "readOnly": True}],
    "pod_annotations": {"example.com/scrape": "no"},
    "image_pull_secrets": ["registry"],
}


def config(**changes: Any) -> LauncherConfig:
    return LauncherConfig.model_validate({**CONFIG, **changes})


def job(**execution: Any) -> Job:
    spec: dict[str, Any] = {"stage": "trainer.sft", "config": {}, "inputs": {}}
    if execution:
        spec["execution"] = execution
    return Job(
        id=JOB_ID,
        request_id="",
        kind="trainer.sft",
        spec=spec,
        queue="training",
        state=JobState.RUNNING,
        why="",
        code="",
        progress=Progress(),
        attempts=3,
        created_at=0.0,
        started_at=None,
        finished_at=None,
        result=None,
        labels={},
        metrics={},
        fencing_token=3,
        lease_owner=None,
        lease_expires_at=None,
        cancel_requested=False,
    )


def manifest(made: Job | None = None, **changes: Any) -> dict[str, Any]:
    return attempt_manifest(made or job(), 3, config(**changes), "training")


def pod_of(item: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = item["spec"]["template"]["spec"]
    return spec


def container_of(item: Mapping[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(item)["containers"]
    return dict(container)


def environment_of(item: Mapping[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in container_of(item)["env"]}


def test_a_job_of_one_rank_is_one_plain_process() -> None:
    made = manifest()

    assert made["metadata"]["name"] == attempt_name(JOB_ID, 3) == NAME
    assert (made["kind"], made["metadata"]["namespace"]) == ("Job", "training")
    spec = made["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 1, 1)
    assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (0, 3600)
    assert "activeDeadlineSeconds" not in spec and "suspend" not in spec
    assert container_of(made)["command"] == [
        "/opt/plumbline/bin/python",
        "-m",
        "plumbline.stage_process",
        JOB_ID,
        f"--follow={NAME}",
    ]
    assert not needs_service(job(), config())


def test_several_nodes_meet_at_the_first_ones_name() -> None:
    made = manifest(job(nodes=4, ranks_per_node=8, pool="gpu"))

    spec = made["spec"]
    assert (spec["completions"], spec["parallelism"]) == (4, 4)
    command = container_of(made)["command"]
    host = f"{NAME}-0.{NAME}.training.svc"
    for expected in (
        "--nnodes=4",
        "--nproc-per-node=8",
        "--node-rank=$(JOB_COMPLETION_INDEX)",
        f"--master-addr={host}",
        "--master-port=29500",
    ):
        assert expected in command
    assert command[-2:] == [JOB_ID, f"--follow={NAME}"]
    assert pod_of(made)["subdomain"] == NAME


def test_the_service_resolves_names_before_pods_are_ready_and_ends_with_its_job() -> None:
    multi = job(nodes=2)
    owner = manifest(multi)
    owner["metadata"]["uid"] = "u-1"

    service = service_manifest(multi, 3, config(), owner)

    assert needs_service(multi, config())
    assert service["metadata"]["name"] == NAME
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    pod_labels = owner["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pod_labels.items()
    assert service["spec"]["selector"]["plumbline.dev/job-id"] == JOB_ID
    (reference,) = service["metadata"]["ownerReferences"]
    assert (reference["kind"], reference["name"], reference["uid"]) == ("Job", NAME, "u-1")


@pytest.mark.parametrize("execution", [{}, {"nodes": 2, "ranks_per_node": 2, "pool": "gpu"}])
def test_pods_pass_the_restricted_level(execution: Mapping[str, Any]) -> None:
    """Kubernetes documentation, Pod Security Standards, "Restricted"."""
    made = manifest(job(**execution))
    pod, container = pod_of(made), container_of(made)

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"emptyDir", "secret", "configMap"}


def test_a_cluster_that_assigns_users_is_left_to_it() -> None:
    assigned = manifest(run_as_user=None)

    assert pod_of(assigned)["securityContext"] == {
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_what_is_written_to_is_a_volume_and_every_mount_has_one() -> None:
    made = manifest(job(pool="gpu"))

    volumes = {volume["name"]: volume for volume in pod_of(made)["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container_of(made)["volumeMounts"]}
    assert mounts == {
        "/var/lib/plumbline": "state",
        "/tmp": "tmp",
        "/dev/shm": "shm",
        "/etc/plumbline/ca": "ca",
    }
    assert set(mounts.values()) == set(volumes)
    assert volumes["state"]["emptyDir"] == {"sizeLimit": "100Gi"}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}


def test_a_pool_says_which_machines_and_how_much_of_them() -> None:
    made = manifest(job(ranks_per_node=4, nodes=2, pool="gpu"))
    pod, container = pod_of(made), container_of(made)

    assert pod["nodeSelector"] == {"gpu": "h200"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in pod["tolerations"]
    assert (pod["runtimeClassName"], pod["priorityClassName"]) == ("nvidia", "training")
    # Four ranks on each node, an accelerator for each; an extended resource has request = limit.
    assert container["resources"] == {
        "requests": {"cpu": "8", "nvidia.com/gpu": 4},
        "limits": {"memory": "64Gi", "nvidia.com/gpu": 4},
    }
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"]["plumbline.dev/job-id"] == JOB_ID
    assert environment_of(made)["OMP_NUM_THREADS"]["value"] == "4"


def test_a_job_without_a_pool_takes_the_default_and_no_accelerator() -> None:
    made = manifest()

    assert container_of(made)["resources"] == {
        "requests": {"cpu": "2", "memory": "4Gi"},
        "limits": {"memory": "8Gi"},
    }
    assert "nodeSelector" not in pod_of(made) and "runtimeClassName" not in pod_of(made)


def test_nodes_of_a_job_prefer_machines_of_their_own() -> None:
    anti = pod_of(manifest(job(nodes=2)))["affinity"]["podAntiAffinity"]

    (term,) = anti["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert term["podAffinityTerm"]["labelSelector"]["matchLabels"]["plumbline.dev/job-id"] == JOB_ID
    assert "affinity" not in pod_of(manifest())
    pools = {"cpu": {"affinity": {"podAntiAffinity": {}, "nodeAffinity": {"a": 1}}}}
    given = pod_of(manifest(job(nodes=2), pools=pools))["affinity"]
    assert given == pools["cpu"]["affinity"], "the pool's own rule wins"


def test_a_lost_machines_pods_are_given_up_soon() -> None:
    tolerations = pod_of(manifest(node_lost_s=20))["tolerations"]

    assert {(t["key"], t["effect"], t["tolerationSeconds"]) for t in tolerations} == {
        ("node.kubernetes.io/not-ready", "NoExecute", 20),
        ("node.kubernetes.io/unreachable", "NoExecute", 20),
    }


def test_secrets_are_references_and_come_before_what_uses_them() -> None:
    made = manifest()

    names = [entry["name"] for entry in container_of(made)["env"]]
    assert names.index("REDIS_PASSWORD") < names.index("REDIS_URL")
    assert environment_of(made)["REDIS_PASSWORD"] == {
        "name": "REDIS_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "valkey", "key": "password"}},
    }
    assert len(names) == len(set(names))


def test_the_configurations_variables_win() -> None:
    made = manifest(environment=[{"name": "OMP_NUM_THREADS", "value": "7"}])

    values = [e["value"] for e in container_of(made)["env"] if e["name"] == "OMP_NUM_THREADS"]
    assert values == ["7"]


def test_kueue_admits_a_job_that_is_created_suspended() -> None:
    made = manifest(kueue_queue="team-a")

    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert made["spec"]["suspend"] is True


def test_volcano_schedules_all_pods_or_none() -> None:
    made = manifest(job(nodes=4), scheduler="volcano", volcano_queue="research")

    assert pod_of(made)["schedulerName"] == "volcano"
    for noted in (
        made["metadata"]["annotations"],
        made["spec"]["template"]["metadata"]["annotations"],
    ):
        assert noted["scheduling.volcano.sh/group-min-member"] == "4"
        assert noted["scheduling.volcano.sh/queue-name"] == "research"


def test_a_job_set_wraps_the_same_job() -> None:
    multi = job(nodes=2)
    plain, made = manifest(multi), manifest(multi, job_set=True)

    assert made["kind"] == "JobSet" and made["metadata"]["name"] == NAME
    (replicated,) = made["spec"]["replicatedJobs"]
    inner = replicated["template"]["spec"]
    assert (inner["completions"], inner["backoffLimit"]) == (2, 0)
    assert made["spec"]["failurePolicy"] == {"maxRestarts": 0}
    assert made["spec"]["ttlSecondsAfterFinished"] == 3600
    labels = replicated["template"]["metadata"]["labels"]
    assert labels == plain["metadata"]["labels"], "the list of Jobs finds it by these"
    # JobSet names a pod <set>-<replicated job>-<number of the job>-<index>, in its own Service.
    host = f"{NAME}-nodes-0-0.{NAME}.training.svc"
    assert f"--master-addr={host}" in inner["template"]["spec"]["containers"][0]["command"]
    assert "subdomain" not in inner["template"]["spec"]
    assert not needs_service(multi, config(job_set=True))


def test_labels_find_what_this_instance_created() -> None:
    made = manifest()

    wanted = dict(pair.split("=") for pair in selector(config()).split(","))
    for labels in (made["metadata"]["labels"], made["spec"]["template"]["metadata"]["labels"]):
        assert wanted.items() <= labels.items()
        assert labels["plumbline.dev/attempt"] == "3"


def test_no_label_of_the_configuration_replaces_the_platforms_own() -> None:
    made = manifest(pod_labels={"app.kubernetes.io/instance": "other", "team": "a"})

    labels = made["spec"]["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/instance"], labels["team"]) == ("team", "a")


def test_the_longest_pod_name_fits_a_host_name() -> None:
    # Kubernetes appends the index and five random characters to the Job's name.
    assert len(f"{attempt_name('f' * 32, 999_999)}-4095-abcde") <= 63


def test_an_unknown_pool_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"pool='gpus' is not known \(did you mean 'gpu'\?\)"):
        manifest(job(pool="gpus"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": ""}, "image"),
        ({"default_pool": "tpu"}, "default_pool='tpu' is none of pools cpu, gpu"),
        ({"volcano_queue": "q"}, "needs scheduler='volcano'"),
        ({"kueue_queue": "q", "scheduler": "volcano"}, "are both gates"),
        ({"environment": [{"name": "A", "secret": "s"}]}, "must be set together"),
        ({"environment": [{"name": "A", "value": "1", "secret": "s", "key": "k"}]}, "one of them"),
        ({"pools": {"cpu": {"gpus": 1}}}, "unknown key"),
    ],
)
def test_a_wrong_configuration_is_refused(
    changes: Mapping[str, Any], message: str, tmp_path: Any
) -> None:
    import yaml

    path = tmp_path / "launcher.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))

    with pytest.raises(ConfigError, match=message):
        LauncherConfig.from_environment({CONFIG_VARIABLE: str(path)})


def test_a_launcher_without_a_configuration_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match=CONFIG_VARIABLE):
        LauncherConfig.from_environment({})
