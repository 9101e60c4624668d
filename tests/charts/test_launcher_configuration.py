"""The launcher reads what the chart writes for it, and its pods keep the chart's rules."""

from __future__ import annotations

import re

import pytest
from charts.kubernetes_types import faults
from charts.launched import launched_job, launched_pods, launcher_config
from charts.network import selects
from charts.pod_security import hardening, violations
from charts.references import keys_of, secret_references, strings_in
from charts.rendering import DEFAULTS, Object, Rendered, override, render

LAUNCHING: Object = {"launcher": {"executor": "kubernetes"}}


def launching(changes: Object | None = None) -> Rendered:
    return render(changes=override(LAUNCHING, changes or {}))


def test_the_configuration_is_one_that_the_launcher_accepts(release: Rendered) -> None:
    launches = release.values["launcher"]["executor"] == "kubernetes"

    assert (launcher_config(release) is not None) == launches
    assert bool(release.find("Role", "launcher")) == launches


def test_every_option_reaches_the_launcher() -> None:
    options = {
        "defaultPool": "big",
        "ttlSeconds": 60,
        "patience": {"unschedulableSeconds": 5, "imagePullSeconds": 6, "creationSeconds": 7},
        "podLabels": {"team": "values"},
        "podAnnotations": {"note": "hello"},
        "extraEnvironment": [{"name": "WANDB_API_KEY", "secret": "wandb", "key": "key"}],
        "kueue": {"queueName": "research"},
        "pools": {
            "big": {
                "nodePool": "gpu",
                "gpusPerRank": 2,
                "stateSizeLimit": "1Ti",
                "sharedMemorySizeLimit": "8Gi",
                "priorityClassName": "urgent",
            }
        },
    }
    config = launcher_config(launching({"launcher": options}))
    assert config is not None

    pool = config.pool("")
    assert (config.default_pool, config.ttl_s, config.kueue_queue) == ("big", 60, "research")
    patience = config.patience
    assert (patience.unschedulable_s, patience.image_pull_s, patience.creation_s) == (5, 6, 7)
    assert config.pod_labels["team"] == "values"
    assert config.pod_annotations["note"] == "hello"
    assert config.environment[-1].secret == "wandb"
    assert (pool.gpu_resource, pool.gpus_per_rank) == ("nvidia.com/gpu", 2)
    assert pool.node_selector == {"nvidia.com/gpu.present": "true"}
    assert (pool.state_size_limit, pool.shared_memory_size_limit) == ("1Ti", "8Gi")
    assert pool.priority_class == "urgent"


def test_volcano_and_jobsets_are_switches() -> None:
    volcano = launcher_config(launching({"launcher": {"volcano": {"enabled": True, "queue": "q"}}}))
    sets = launcher_config(launching({"launcher": {"jobSet": {"enabled": True}}}))

    assert volcano is not None and (volcano.scheduler, volcano.volcano_queue) == ("volcano", "q")
    assert sets is not None and sets.job_set


def test_a_cluster_that_assigns_users_assigns_them_to_launched_pods_too() -> None:
    assigned = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    release = launching({"podSecurityContext": assigned})
    pods = [*launched_pods(release), release.pod("worker-training")]

    for pod in pods:
        assert violations(pod.spec) == []
        assert not set(assigned) & set(pod.spec["securityContext"]), pod.owner


def test_a_user_of_one_s_own_is_that_of_launched_pods_too() -> None:
    release = launching({"podSecurityContext": {"runAsUser": 1000660000}})
    for pod in launched_pods(release):
        assert pod.spec["securityContext"]["runAsUser"] == 1000660000


def test_pods_of_curation_have_the_keys_of_pseudonyms_where_that_is_launched() -> None:
    def with_keys(base: str, group: str) -> list[bool]:
        launcher = {"executor": "kubernetes", "workerGroup": group}
        keys = {"pseudonyms": {"existingSecret": "keys", "secretKey": "k.json"}}
        made = render(base, {"launcher": launcher, **keys})
        path = {
            "name": "PLUMBLINE_PSEUDONYM_KEYS_FILE",
            "value": "/etc/plumbline/pseudonyms/k.json",
        }
        mount = {"name": "pseudonyms", "mountPath": "/etc/plumbline/pseudonyms", "readOnly": True}
        (pod,) = launched_pods(made)
        return [
            path in pod.main["env"],
            mount in pod.main["volumeMounts"],
            "keys" in [v.get("secret", {}).get("secretName") for v in pod.spec["volumes"]],
        ]

    assert with_keys("laptop", "all") == [True, True, True]
    assert with_keys(DEFAULTS, "training") == [False, False, False]


def test_launched_objects_have_the_shape_of_their_kind() -> None:
    config = launcher_config(launching())
    assert config is not None

    assert faults(launched_job(config, nodes=4)) == []


def test_launched_pods_are_restricted(release: Rendered) -> None:
    for pod in launched_pods(release):
        assert violations(pod.spec) == []
        assert hardening(pod.spec) == []


def test_launched_pods_use_secrets_and_an_account_that_exist(release: Rendered) -> None:
    secrets = keys_of(release, "Secret")
    certificates = {e["spec"]["secretName"] for e in release.of_kind("Certificate")}
    given = {*strings_in(release.values), *certificates}
    accounts = {entry["metadata"]["name"] for entry in release.of_kind("ServiceAccount")}
    for pod in launched_pods(release):
        assert pod.spec["serviceAccountName"] in accounts
        for name, key in secret_references(pod):
            assert name in given or key in secrets[name], f"{name}/{key}"


def test_no_secret_is_written_into_the_configuration(release: Rendered) -> None:
    config = launcher_config(release)
    for variable in config.environment if config else ():
        if re.search(r"PASSWORD|SECRET|TOKEN$|_KEY$", variable.name) and "TLS" not in variable.name:
            assert variable.secret, variable.name


def test_launched_pods_know_the_same_platform_as_workers(release: Rendered) -> None:
    # What a stage reads is the same, wherever it runs.
    wanted = {"PLUMBLINE_STORE", "PLUMBLINE_S3_ENDPOINT", "REDIS_URL", "PLUMBLINE_SAMPLER_TARGET"}
    for pod in launched_pods(release):
        assert wanted <= set(pod.environment()), pod.owner
        assert "PLUMBLINE_LAUNCHER_CONFIG" not in pod.environment()


def test_policies_and_monitors_find_launched_pods() -> None:
    release = launching()
    pods = launched_pods(release)

    assert pods
    for pod in pods:
        found = {
            entry["metadata"]["name"].removeprefix("demo-plumbline-")
            for entry in release.of_kind("NetworkPolicy")
            if selects(entry["spec"]["podSelector"], pod.labels)
        }
        assert found == {"default-deny", "training"}


def test_no_workload_of_the_chart_takes_launched_pods_for_its_own() -> None:
    release = launching()
    for pod in launched_pods(release):
        for entry in release.of_kind("Deployment", "StatefulSet", "Service"):
            selector = entry["spec"]["selector"]
            form = selector if "matchLabels" in selector else {"matchLabels": selector}
            assert not selects(form, pod.labels), entry["metadata"]["name"]


@pytest.mark.parametrize("executor", ["local", "kubernetes"])
def test_one_group_of_workers_launches(executor: str) -> None:
    made = render(changes={"launcher": {"executor": executor}})

    launching = [
        pod.component
        for pod in made.pods()
        if pod.environment().get("PLUMBLINE_EXECUTOR", {}).get("value") == "kubernetes"
    ]
    assert launching == (["worker-training"] if executor == "kubernetes" else [])


def test_a_change_of_its_configuration_restarts_the_launcher() -> None:
    key = "checksum/configuration"
    before = launching().pod("worker-training").metadata["annotations"][key]
    after = launching({"launcher": {"ttlSeconds": 61}}).pod("worker-training")

    assert after.metadata["annotations"][key] != before
