"""Valkey, the object store and Triton: own ones, and those that somebody else operates."""

from __future__ import annotations

import re

import pytest
import yaml
from charts.rendering import ROOT, Object, Rendered, override, render

OUTSIDE_STORE: Object = {
    "objectStore": {"enabled": False},
    "externalObjectStore": {
        "endpoint": "https://s3.example.com",
        "bucket": "models",
        "existingSecret": "s3-keys",
    },
}


def outside_redis(**settings: object) -> Object:
    return {"valkey": {"enabled": False}, "externalRedis": settings}


def redis_url(release: Rendered) -> Object:
    found: Object = release.pod("pipeline").environment()["REDIS_URL"]
    return found


def shared(release: Rendered) -> Object:
    found: Object = release.one("ConfigMap", "environment")["data"]
    return found


# Valkey


def test_valkey_loses_no_job() -> None:
    lines = render().one("ConfigMap", "valkey")["data"]["valkey.conf"].splitlines()

    assert {"appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"} <= set(lines)
    assert "dir /data" in lines
    mounts = {m["mountPath"]: m["name"] for m in render().pod("valkey").main["volumeMounts"]}
    assert mounts["/data"] == "data"


def test_valkey_keeps_its_memory_below_its_limit() -> None:
    lines = render(changes={"valkey": {"maxMemory": "512mb"}}).one("ConfigMap", "valkey")["data"]

    assert "maxmemory 512mb" in lines["valkey.conf"].splitlines()
    # A rewrite of the append-only file copies pages that change meanwhile.
    assert render().pod("valkey").main["resources"]["limits"]["memory"] == "2Gi"


def test_valkey_asks_for_a_password_that_no_command_line_shows() -> None:
    pod = render().pod("valkey")

    assert re.search(r"requirepass \$\{?REDISCLI_AUTH", " ".join(pod.main["command"]))
    source = pod.environment()["REDISCLI_AUTH"]["valueFrom"]["secretKeyRef"]
    assert source == {"name": "demo-plumbline-valkey", "key": "password"}
    for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert "-a" not in pod.main[kind]["exec"]["command"]


def test_clients_get_the_password_before_the_address_that_holds_it() -> None:
    names = list(render().pod("pipeline").environment())

    assert names.index("REDIS_PASSWORD") < names.index("REDIS_URL")
    url = "redis://:$(REDIS_PASSWORD)@demo-plumbline-valkey.values.svc:6379/0"
    assert redis_url(render())["value"] == url


def test_a_password_of_one_s_own() -> None:
    made = render(changes={"valkey": {"existingSecret": "mine", "secretKey": "pw"}})

    assert made.find("Secret", "valkey") is None
    for component, name in (("valkey", "REDISCLI_AUTH"), ("pipeline", "REDIS_PASSWORD")):
        source = made.pod(component).environment()[name]["valueFrom"]["secretKeyRef"]
        assert source == {"name": "mine", "key": "pw"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"host": "r"}, "redis://r:6379/0"),
        ({"host": "r", "port": 6380, "database": 3}, "redis://r:6380/3"),
        ({"host": "r", "existingSecret": "s"}, "redis://:$(REDIS_PASSWORD)@r:6379/0"),
        (
            {"host": "r", "existingSecret": "s", "username": "u"},
            "redis://u:$(REDIS_PASSWORD)@r:6379/0",
        ),
        ({"host": "r", "tls": {"enabled": True}}, "rediss://r:6379/0?ssl_cert_reqs=required"),
        (
            {"host": "r", "tls": {"enabled": True, "caSecret": "ca"}},
            "rediss://r:6379/0?ssl_cert_reqs=required&ssl_ca_certs=/etc/plumbline/redis-ca/ca.crt",
        ),
    ],
)
def test_addresses_of_a_redis_outside(settings: Object, expected: str) -> None:
    from plumbline.core.broker import check_redis_url

    made = render(changes=outside_redis(**settings))

    assert redis_url(made)["value"] == expected
    check_redis_url(expected.replace("$(REDIS_PASSWORD)", "secret"))
    for kind in ("StatefulSet", "Service", "Secret", "ConfigMap"):
        assert made.find(kind, "valkey") is None
    mounted = {m["mountPath"] for m in made.pod("pipeline").main["volumeMounts"]}
    assert ("/etc/plumbline/redis-ca" in mounted) == ("redis-ca" in expected)


def test_a_whole_address_in_a_secret() -> None:
    made = render(changes=outside_redis(existingSecret="mine", urlKey="address"))

    assert redis_url(made)["valueFrom"]["secretKeyRef"] == {"name": "mine", "key": "address"}


# The object store


SEAWEEDFS: Object = {
    "server": "seaweedfs",
    "image": {"repository": "chrislusf/seaweedfs", "tag": "4.47"},
}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ("ROOT_ACCESS_KEY", "ROOT_SECRET_KEY")),
        (SEAWEEDFS, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
    ],
    ids=["versitygw", "seaweedfs"],
)
def test_the_store_asks_for_keys_and_clients_have_them(
    settings: Object, names: tuple[str, str]
) -> None:
    made = render(changes={"objectStore": settings})
    store, client = made.pod("store").environment(), made.pod("sampler").environment()

    clients = ("PLUMBLINE_S3_ACCESS_KEY", "PLUMBLINE_S3_SECRET_KEY")
    assert [store[name]["valueFrom"] for name in names] == [client[n]["valueFrom"] for n in clients]
    assert shared(made)["PLUMBLINE_STORE"] == "s3://plumbline"
    assert shared(made)["PLUMBLINE_S3_ENDPOINT"] == "http://demo-plumbline-store.values.svc:8333"


@pytest.mark.parametrize("settings", [{}, SEAWEEDFS], ids=["versitygw", "seaweedfs"])
def test_the_store_keeps_its_data_on_its_volume_and_opens_one_port(settings: Object) -> None:
    pod = render(changes={"objectStore": settings}).pod("store")

    assert set(pod.ports().values()) == {8333}
    assert "8333" in " ".join(pod.main["command"])
    assert "/data" in " ".join(pod.main["command"])
    assert "/data" in {mount["mountPath"] for mount in pod.main["volumeMounts"]}


def test_parts_of_seaweedfs_without_a_password_stay_inside_its_pod() -> None:
    command = render(changes={"objectStore": SEAWEEDFS}).pod("store").main["command"]

    assert "-ip.bind=127.0.0.1" in command
    assert "-s3.ip.bind=0.0.0.0" in command


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"PLUMBLINE_STORE": "s3://models", "PLUMBLINE_S3_REGION": "us-east-1"}),
        ({"prefix": "a/b/"}, {"PLUMBLINE_STORE": "s3://models/a/b"}),
        ({"region": "eu-1"}, {"PLUMBLINE_S3_REGION": "eu-1"}),
        ({"caSecret": "ca"}, {"PLUMBLINE_S3_CA": "/etc/plumbline/store-ca/ca.crt"}),
    ],
)
def test_addresses_of_a_store_outside(settings: Object, expected: Object) -> None:
    made = render(changes=override(OUTSIDE_STORE, {"externalObjectStore": settings}))
    found = shared(made)

    assert found["PLUMBLINE_S3_ENDPOINT"] == "https://s3.example.com"
    assert {key: found[key] for key in expected} == expected
    for kind in ("StatefulSet", "Service", "Secret"):
        assert made.find(kind, "store") is None
    source = made.pod("sampler").environment()["PLUMBLINE_S3_SECRET_KEY"]["valueFrom"][
        "secretKeyRef"
    ]
    assert source == {"name": "s3-keys", "key": "secret-key"}
    mounted = {m["mountPath"] for m in made.pod("sampler").main["volumeMounts"]}
    assert ("/etc/plumbline/store-ca" in mounted) == ("caSecret" in settings)


# Both


@pytest.mark.parametrize(("component", "section"), [("valkey", "valkey"), ("store", "objectStore")])
def test_data_outlives_the_pod_unless_told_otherwise(component: str, section: str) -> None:
    persistence = {"size": "3Gi", "storageClassName": "fast"}
    made = render(changes={section: {"persistence": persistence}})
    (claim,) = made.one("StatefulSet", component)["spec"]["volumeClaimTemplates"]

    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    (default,) = render().one("StatefulSet", component)["spec"]["volumeClaimTemplates"]
    assert "storageClassName" not in default["spec"]  # the cluster's own
    lost = render(changes={section: {"persistence": {"enabled": False}}})
    assert "volumeClaimTemplates" not in lost.one("StatefulSet", component)["spec"]
    volumes = {v["name"]: v for v in lost.pod(component).spec["volumes"]}
    assert "emptyDir" in volumes["data"]


@pytest.mark.parametrize("component", ["valkey", "store"])
def test_one_pod_is_what_there_is(component: str) -> None:
    entry = render().one("StatefulSet", component)

    assert entry["spec"]["replicas"] == 1
    assert entry["spec"]["serviceName"] == render().one("Service", component)["metadata"]["name"]


# Triton


def test_triton_is_there_only_when_asked() -> None:
    assert render().find("Deployment", "triton") is None
    made = render(changes={"triton": {"enabled": True}})

    assert {"http": 8000, "grpc": 8001, "metrics": 8002}.items() <= made.pod(
        "triton"
    ).ports().items()


def test_triton_s_models_come_from_the_store_before_it_starts() -> None:
    models = [
        {"reference": "reward/a@latest", "head": "safety"},
        {"reference": "reward/b@latest", "head": "helpfulness"},
    ]
    settings = {
        "enabled": True,
        "rewardModels": models,
        "exportSettings": {"device": "cpu", "instances": 2, "max_batch_size": 1000000},
    }
    pod = render(changes={"triton": {**settings, "gpus": 0, "pool": "cpu"}}).pod("triton")
    (first,) = pod.spec["initContainers"]

    assert "export-triton" in first["command"]
    assert [w for w in first["command"] if w.startswith("reward/")] == [
        "reward/a@latest",
        "reward/b@latest",
    ]
    assert [w for w in first["command"] if w.startswith("--head")] == [
        "--head=safety",
        "--head=helpfulness",
    ]
    assert {"--set=device=cpu", "--set=instances=2", "--set=max_batch_size=1000000"} <= set(
        first["command"]
    )
    written = {m["name"] for m in first["volumeMounts"]} & {
        m["name"] for m in pod.main["volumeMounts"]
    }
    assert "models" in written
    assert {e["name"] for e in first["env"]} >= {
        "PLUMBLINE_S3_ACCESS_KEY",
        "PLUMBLINE_S3_SECRET_KEY",
    }
    # Triton itself has no business with the store.
    assert not {name for name in pod.environment() if name.startswith("PLUMBLINE")}


def test_triton_s_models_are_by_default_those_of_the_quickstart() -> None:
    stages = yaml.safe_load((ROOT / "pipelines" / "quickstart.yaml").read_text())["stages"]
    written = {tag for stage in stages for tag in stage.get("tags", [])}
    models = render().values["triton"]["rewardModels"]

    assert len(models) == 2
    assert {model["reference"] for model in models} <= written


@pytest.mark.parametrize("service", ["reward", "sampler"])
def test_services_compute_in_triton_when_told(service: str) -> None:
    made = render(
        changes={"triton": {"enabled": True}, "services": {service: {"backend": "triton"}}}
    )
    environment = made.pod(service).environment()

    assert (
        environment["PLUMBLINE_TRITON_TARGET"]["value"] == "demo-plumbline-triton.values.svc:8001"
    )
    assert environment[f"PLUMBLINE_{service.upper()}_BACKEND"]["value"] == "triton"
    assert "PLUMBLINE_TRITON_TARGET" not in render().pod(service).environment()


def test_a_triton_elsewhere() -> None:
    made = render(
        changes={
            "triton": {"externalTarget": "t.example.com:9001"},
            "services": {"reward": {"backend": "triton"}},
        }
    )

    assert (
        made.pod("reward").environment()["PLUMBLINE_TRITON_TARGET"]["value"] == "t.example.com:9001"
    )
