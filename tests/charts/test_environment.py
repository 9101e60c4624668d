"""The environment that pods get is the one that the product reads."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from charts.launched import launched_pods
from charts.options import value_files_and_more
from charts.product_environment import variables_read
from charts.rendering import SERVICES, Object, Pod, Rendered, render

from plumbline.core.settings import Settings

UNRENDERED = Path(__file__).parent / "unrendered_variables.yaml"
_FROM_OUTSIDE = {"HOME", "POD_NAME", "REDIS_PASSWORD", "OMP_WAIT_POLICY"}
"""Variables of pods that other programs read, or that later values refer to."""


def config_map(release: Rendered, name: str) -> Mapping[str, str]:
    (found,) = [e for e in release.of_kind("ConfigMap") if e["metadata"]["name"] == name]
    data: Mapping[str, str] = found["data"]
    return data


def variables_of(release: Rendered, pod: Pod) -> dict[str, str]:
    """Variables of the main container; those from Secrets and fields have the value `...`."""
    found: dict[str, str] = {}
    for source in pod.main.get("envFrom") or []:
        found |= config_map(release, source["configMapRef"]["name"])
    found |= {name: entry.get("value", "...") for name, entry in pod.environment().items()}
    return found


def is_product(pod: Pod) -> bool:
    return "plumbline-" in pod.main["image"]


def launched_variables(release: Rendered) -> Iterator[str]:
    """Variables of the pods that the launcher will make."""
    if release.find("ConfigMap", "launcher"):
        text = config_map(release, f"{release.fullname}-launcher")["launcher.yaml"]
        yield from (entry["name"] for entry in yaml.safe_load(text)["environment"])


@functools.cache
def rendered_variables() -> frozenset[str]:
    """Names of all variables that pods of the product get in some file of values."""
    found: set[str] = set()
    for release in value_files_and_more():
        found |= set(launched_variables(release))
        for pod in filter(is_product, release.pods()):
            found |= set(variables_of(release, pod))
    return frozenset(found)


def listed() -> dict[str, str]:
    entries: dict[str, str] = yaml.safe_load(UNRENDERED.read_text())
    return {
        name.replace("{SERVICE}", service.upper()): reason
        for name, reason in entries.items()
        for service in (SERVICES if "{SERVICE}" in name else ("",))
    }


def test_every_variable_that_the_code_reads_is_rendered_or_listed_with_a_reason() -> None:
    assert sorted(variables_read() - rendered_variables() - set(listed())) == []


def test_no_variable_is_listed_that_is_rendered_or_that_nothing_reads() -> None:
    assert sorted(set(listed()) & (rendered_variables() - _FROM_OUTSIDE)) == []
    assert sorted(set(listed()) - variables_read()) == []


def test_nothing_is_rendered_that_the_code_does_not_read() -> None:
    assert sorted(rendered_variables() - variables_read() - _FROM_OUTSIDE) == []


def test_every_reason_says_something() -> None:
    assert [name for name, reason in listed().items() if len(reason.split()) < 4] == []


def test_settings_accept_the_environment_of_every_pod(release: Rendered, tmp_path: Path) -> None:
    # The product's own reading: wrong numbers, half pairs and unknown names are refused there.
    for pod in filter(is_product, release.pods()):
        variables = variables_of(release, pod)
        variables["PLUMBLINE_STATE_DIR"] = str(tmp_path)  # only looked into, for endpoints
        settings = Settings.from_environment(variables)

        assert settings.store.startswith("s3://"), pod.owner
        assert settings.metrics_listen == "0.0.0.0:9464", pod.owner


def test_targets_are_the_services_of_the_release(release: Rendered) -> None:
    shared = config_map(release, "demo-plumbline-environment")
    services = {
        e["metadata"]["name"]: e["metadata"]["namespace"] for e in release.of_kind("Service")
    }
    for name, values in release.values["services"].items():
        target = shared.get(f"PLUMBLINE_{name.upper()}_TARGET")
        assert (target is not None) == values["enabled"], name
        if target:
            host = f"demo-plumbline-{name}"
            assert target == f"dns:///{host}.{services[host]}.svc:50051"


@pytest.mark.parametrize("name", SERVICES)
def test_a_server_listens_where_its_service_and_probes_look(name: str) -> None:
    variables = variables_of(render(), render().pod(name))

    assert variables[f"PLUMBLINE_{name.upper()}_LISTEN"] == "0.0.0.0:50051"
    assert variables["PLUMBLINE_HEALTH_LISTEN"] == "0.0.0.0:50052"


@pytest.mark.parametrize(
    ("component", "broker", "store"),
    [
        ("curation", True, False),
        ("sampler", False, True),
        ("reward", False, True),
        ("trainer", True, False),
        ("retriever", False, True),
        ("evaluation", True, False),
        ("pipeline", True, True),
        ("openai-front", False, False),
        ("worker-control", True, True),
        ("worker-training", True, True),
    ],
)
def test_only_those_that_need_it_know_the_broker_s_and_the_store_s_secret(
    component: str, broker: bool, store: bool
) -> None:
    variables = variables_of(render(), render().pod(component))

    assert ("REDIS_URL" in variables) is broker
    assert ("PLUMBLINE_S3_SECRET_KEY" in variables) is store


def test_one_s_own_variables_come_last_and_reach_where_they_should() -> None:
    extra = [{"name": "EVERYWHERE", "value": "1"}]
    own = [{"name": "HERE", "value": "2"}]
    made = render(changes={"extraEnv": extra, "services": {"reward": {"extraEnv": own}}})

    assert list(made.pod("reward").environment())[-2:] == ["EVERYWHERE", "HERE"]
    assert list(made.pod("sampler").environment())[-1] == "EVERYWHERE"


def test_variables_of_all_pods_reach_launched_ones_and_the_export_of_reward_models() -> None:
    key = {"name": "wandb", "key": "api-key"}
    extra: list[Object] = [
        {"name": "WANDB_MODE", "value": "offline"},
        {"name": "WANDB_API_KEY", "valueFrom": {"secretKeyRef": key}},
        {"name": "MAYBE", "valueFrom": {"secretKeyRef": {**key, "optional": True}}},
        {"name": "WITH.DOT", "value": "1"},
    ]
    field: Object = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    made = render(
        changes={
            "extraEnv": [*extra, field],
            "launcher": {"executor": "kubernetes"},
            "triton": {"enabled": True},
        }
    )

    (launched,) = launched_pods(made)
    assert launched.main["env"][-4:] == extra
    (export,) = made.pod("triton").spec["initContainers"]
    assert export["env"][-5:] == [*extra, field]
