"""Deployments and Services of what answers callers: what each option changes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from charts.rendering import SERVICES, Object, Rendered, render

from plumbline.core.validation import parse_config
from plumbline.curation.config import CurationConfig
from plumbline.openai_front.config import FrontConfig
from plumbline.retriever.config import RetrieverConfig

KINDS = ("ServiceAccount", "Service", "Deployment")


def reward(changes: Object, section: str = "services") -> Rendered:
    return render(changes={section: {"reward": changes}})


@pytest.mark.parametrize("component", [*SERVICES, "openai-front"])
def test_each_server_has_its_objects_and_its_image(component: str) -> None:
    made = render()

    for kind in KINDS:
        made.one(kind, component)
    assert made.pod(component).main["image"] == f"plumbline-{component}:0.1.0"
    module = component.replace("-", "_")
    assert made.pod(component).main["command"][-1] == f"plumbline.{module}.server"


@pytest.mark.parametrize("component", [s for s in SERVICES if s != "sampler"])
def test_a_service_that_is_off_is_not_there_at_all(component: str) -> None:
    made = render(changes={"services": {component: {"enabled": False}}})

    for kind in (*KINDS, "NetworkPolicy"):
        assert made.find(kind, component) is None
    assert f"PLUMBLINE_{component.upper()}_TARGET" not in yaml.safe_dump(made.of_kind("ConfigMap"))


def test_the_front_can_be_left_out() -> None:
    made = render(changes={"openaiFront": {"enabled": False}})

    for kind in (*KINDS, "ConfigMap", "NetworkPolicy"):
        assert made.find(kind, "openai-front") is None


@pytest.mark.parametrize(
    ("values", "reference"),
    [
        (
            {"image": {"registry": "reg.example.com/ml"}},
            "reg.example.com/ml/plumbline-reward:0.1.0",
        ),
        ({"image": {"tag": "1.2.3"}}, "plumbline-reward:1.2.3"),
        ({"image": {"prefix": "values-"}}, "values-reward:0.1.0"),
        ({"global": {"imageRegistry": "mirror:5000"}}, "mirror:5000/plumbline-reward:0.1.0"),
        ({"services": {"reward": {"image": {"tag": "x"}}}}, "plumbline-reward:x"),
        ({"services": {"reward": {"image": {"name": "all"}}}}, "plumbline-all:0.1.0"),
        ({"services": {"reward": {"image": {"repository": "a/b"}}}}, "a/b:0.1.0"),
        (
            {"services": {"reward": {"image": {"digest": "sha256:" + "a" * 64}}}},
            "plumbline-reward@sha256:" + "a" * 64,
        ),
    ],
)
def test_references_of_images(values: Object, reference: str) -> None:
    assert render(changes=values).pod("reward").main["image"] == reference


def test_pull_secrets_of_both_kinds_reach_every_pod() -> None:
    made = render(
        changes={"global": {"imagePullSecrets": ["a"]}, "image": {"pullSecrets": ["b", "a"]}}
    )

    for pod in made.pods():
        assert pod.spec["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}], pod.owner


def test_a_mirror_serves_every_image() -> None:
    made = render(changes={"global": {"imageRegistry": "mirror:5000"}, "triton": {"enabled": True}})

    for pod in made.pods():
        for container in pod.containers:
            assert container["image"].startswith("mirror:5000/"), pod.owner


def test_own_settings_win_over_those_of_all_pods() -> None:
    made = render(
        changes={
            "podDefaults": {"replicas": 3, "podLabels": {"a": "1"}, "threads": 5},
            "services": {"reward": {"replicas": 1, "podLabels": {"b": "2"}}},
        }
    )

    assert made.one("Deployment", "sampler")["spec"]["replicas"] == 3
    assert made.one("Deployment", "reward")["spec"]["replicas"] == 1
    labels = made.pod("reward").labels
    assert (labels["a"], labels["b"]) == ("1", "2")
    assert made.pod("reward").environment()["PLUMBLINE_THREADS"]["value"] == "5"


def test_requests_and_limits_are_merged_key_by_key() -> None:
    own = {"resources": {"limits": {"memory": "9Gi"}}}
    resources = reward(own).pod("reward").main["resources"]

    assert resources["limits"] == {"memory": "9Gi", "ephemeral-storage": "10Gi"}
    assert resources["requests"]["cpu"] == "1"


def test_an_account_of_one_s_own_is_used_and_none_is_made() -> None:
    made = reward({"serviceAccount": {"name": "existing"}})

    assert made.find("ServiceAccount", "reward") is None
    assert made.pod("reward").spec["serviceAccountName"] == "existing"


def test_annotations_for_workload_identity_reach_the_account() -> None:
    made = reward({"serviceAccount": {"annotations": {"iam/role": "reader"}}})

    assert made.one("ServiceAccount", "reward")["metadata"]["annotations"] == {"iam/role": "reader"}


def test_containers_volumes_and_annotations_of_one_s_own() -> None:
    container = {"name": "first", "image": "busybox:1", "command": ["true"]}
    made = reward(
        {
            "initContainers": [container],
            "sidecars": [{**container, "name": "beside"}],
            "extraVolumes": [{"name": "models", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "models", "mountPath": "/models"}],
            "extraEnvFrom": [{"secretRef": {"name": "more"}}],
            "podAnnotations": {"note": "hello"},
            "service": {"annotations": {"lb": "internal"}},
        }
    )

    pod = made.pod("reward")
    assert [c["name"] for c in pod.containers] == ["first", "reward", "beside"]
    assert {"name": "models", "emptyDir": {}} in pod.spec["volumes"]
    assert {"name": "models", "mountPath": "/models"} in pod.main["volumeMounts"]
    assert pod.main["envFrom"][-1] == {"secretRef": {"name": "more"}}
    assert pod.metadata["annotations"]["note"] == "hello"
    assert made.one("Service", "reward")["metadata"]["annotations"] == {"lb": "internal"}


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("Headless", {"clusterIP": "None"}),
        ("ClusterIP", {"type": "ClusterIP"}),
        ("LoadBalancer", {"type": "LoadBalancer"}),
    ],
)
def test_types_of_services(type_: str, expected: Object) -> None:
    spec = reward({"service": {"type": type_}}).one("Service", "reward")["spec"]

    assert {key: spec[key] for key in ("clusterIP", "type") if key in spec} == expected


def test_an_update_brings_the_new_pod_first_unless_it_needs_an_accelerator() -> None:
    # The old pod may hold the last accelerator: a surge would wait for it for ever.
    made = render("single-gpu")

    def strategy(component: str) -> tuple[Any, Any]:
        rolling = made.one("Deployment", component)["spec"]["strategy"]["rollingUpdate"]
        return rolling["maxSurge"], rolling["maxUnavailable"]

    assert strategy("reward") == (1, 0)
    assert strategy("sampler") == (0, 1)


def test_volumes_are_bounded_and_shared_memory_comes_on_demand() -> None:
    state = {"sizeLimit": "1Gi", "tmpSizeLimit": "2Gi", "sharedMemorySizeLimit": "3Gi"}
    volumes = {v["name"]: v for v in reward({"state": state}).pod("reward").spec["volumes"]}

    assert volumes["state"]["emptyDir"] == {"sizeLimit": "1Gi"}
    assert volumes["tmp"]["emptyDir"] == {"sizeLimit": "2Gi"}
    assert volumes["shared-memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "3Gi"}
    assert "shared-memory" not in {v["name"] for v in render().pod("reward").spec["volumes"]}


# Configuration files


@pytest.mark.parametrize(
    ("service", "model", "config"),
    [
        ("curation", CurationConfig, {"length": {"min_units": 9}}),
        ("retriever", RetrieverConfig, {"search": {"k": 5}}),
    ],
)
def test_a_service_s_configuration_is_a_file_that_it_accepts(
    service: str, model: Any, config: Object
) -> None:
    made = render(changes={"services": {service: {"config": config}}})
    data = made.one("ConfigMap", service)["data"][f"{service}.yaml"]
    variable = f"PLUMBLINE_{service.upper()}_CONFIG"

    assert yaml.safe_load(data) == config
    parse_config(model, yaml.safe_load(data))
    pod = made.pod(service)
    assert pod.environment()[variable]["value"] == f"/etc/plumbline/config/{service}.yaml"
    assert "/etc/plumbline/config" in {m["mountPath"] for m in pod.main["volumeMounts"]}
    assert variable not in render().pod(service).environment()


def test_the_front_s_configuration_follows_its_shutdown() -> None:
    made = render(
        changes={"openaiFront": {"shutdown": {"graceSeconds": 77}, "config": {"keep_alive_s": 3}}}
    )
    data = yaml.safe_load(made.one("ConfigMap", "openai-front")["data"]["openai-front.yaml"])
    config = parse_config(FrontConfig, data)

    assert (config.grace_s, config.keep_alive_s) == (77, 3)


# The front's Ingress


def test_the_front_is_published_only_when_asked() -> None:
    ingress = {"enabled": True, "host": "ai.example.com", "className": "nginx", "tlsSecret": "cert"}
    made = render(changes={"openaiFront": {"ingress": ingress}})
    spec = made.one("Ingress", "openai-front")["spec"]

    assert render().of_kind("Ingress") == []
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"secretName": "cert", "hosts": ["ai.example.com"]}]
    (rule,) = spec["rules"]
    (path,) = rule["http"]["paths"]
    assert (rule["host"], path["path"]) == ("ai.example.com", "/v1")
    backend = path["backend"]["service"]
    assert backend["name"] == made.one("Service", "openai-front")["metadata"]["name"]
    ports = made.one("Service", "openai-front")["spec"]["ports"]
    assert backend["port"]["name"] in {port["name"] for port in ports}
