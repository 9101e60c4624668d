"""The rules hold for any combination of options, not only for those of the files under ci/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from charts import (
    test_names,
    test_network_policies,
    test_placement,
    test_pod_security,
    test_pods,
    test_rbac,
    test_secrets,
    test_selectors,
    test_shapes,
)
from charts.rendering import DEFAULTS, Object, Rendered, override, render
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

RULES: tuple[Callable[[Rendered], None], ...] = (
    test_names.test_labels_are_valid_and_common,
    test_names.test_names_are_valid,
    test_names.test_objects_are_named_once_and_stand_in_the_release_s_namespace,
    test_placement.test_pods_with_accelerators_are_on_their_nodes_and_no_others_are,
    test_pod_security.test_every_pod_has_a_read_only_root_and_no_token,
    test_pod_security.test_every_pod_is_restricted,
    test_pods.test_every_container_says_what_it_needs,
    test_pods.test_every_probe_asks_a_port_of_its_container,
    test_pods.test_mounts_have_volumes_and_volumes_are_mounted,
    test_pods.test_variables_are_named_once_and_refer_to_earlier_ones,
    test_rbac.test_no_right_reaches_beyond_the_namespace,
    test_secrets.test_every_account_that_pods_name_is_made,
    test_secrets.test_every_config_map_that_pods_name_is_made,
    test_secrets.test_every_secret_is_used,
    test_secrets.test_every_secret_that_pods_name_is_made_or_given,
    test_secrets.test_no_secret_stands_anywhere_else,
    test_selectors.test_every_service_has_pods_that_listen_on_its_ports,
    test_selectors.test_workloads_select_their_own_pods_and_no_others,
    test_shapes.test_every_object_has_the_shape_of_its_kind,
    test_shapes.test_objects_of_other_projects_have_known_kinds_and_fields,
)

OUTSIDE_REDIS = {"host": "redis.example.com", "existingSecret": "redis"}
OUTSIDE_STORE = {"endpoint": "https://s3.example.com", "bucket": "models", "existingSecret": "s3"}
CHOICES: dict[str, list[Object]] = {
    "broker": [
        {},
        {"valkey": {"existingSecret": "mine", "persistence": {"enabled": False}}},
        {"valkey": {"enabled": False}, "externalRedis": OUTSIDE_REDIS},
        {
            "valkey": {"enabled": False},
            "externalRedis": {**OUTSIDE_REDIS, "tls": {"enabled": True, "caSecret": "redis-ca"}},
        },
    ],
    "store": [
        {},
        {"objectStore": {"existingSecret": "mine"}},
        {
            "objectStore": {"enabled": False},
            "externalObjectStore": {**OUTSIDE_STORE, "caSecret": "s3-ca", "prefix": "a/b"},
        },
    ],
    "tls": [
        {},
        {"tls": {"mode": "certManager"}},
        {"tls": {"mode": "certManager", "certManager": {"issuerRef": {"name": "own"}}}},
        {"tls": {"mode": "existingSecret", "existingSecret": "certificate"}},
    ],
    "auth": [{}, {"auth": {"enabled": False}}, {"auth": {"existingSecret": "tokens"}}],
    "executor": [
        {},
        {"launcher": {"executor": "kubernetes"}},
        {"launcher": {"executor": "kubernetes", "jobSet": {"enabled": True}}},
    ],
    "sampler": [
        {},
        {"services": {"sampler": {"pool": "gpu", "gpus": 2}}},
        {"services": {"sampler": {"backend": "triton"}}, "triton": {"enabled": True}},
        {
            "services": {
                "sampler": {"backend": "openai", "openai": {"baseUrl": "https://m.example.com/v1"}}
            }
        },
        {"services": {"sampler": {"enabled": False}}, "openaiFront": {"enabled": False}},
    ],
    "others": [
        {},
        {"services": {name: {"enabled": False} for name in ("curation", "retriever", "pipeline")}},
        {"services": {"reward": {"autoscaling": {"enabled": True}}}},
    ],
    "workers": [
        {},
        {"workers": {"curation": {"keda": {"kind": "ScaledJob"}}}},
        {"workers": {"models": {"keda": {"kind": "ScaledObject"}, "pool": "gpu", "gpus": 1}}},
    ],
    "everything": [
        {},
        {
            "podDefaults": {"podDisruptionBudget": {"enabled": True}},
            "priorityClass": {"create": True},
        },
        {"metrics": {"enabled": False}},
        {"metrics": {"monitors": {"enabled": True}, "rules": {"enabled": True}}},
        {"tracing": {"otlpEndpoint": "http://collector.example.com:4317"}},
        {"tests": {"enabled": False}, "commonLabels": {"team": "values"}},
        {"pseudonyms": {"existingSecret": "keys"}, "extraEnv": [{"name": "A", "value": "1"}]},
    ],
}
"""Options of each kind, of which a release takes one."""

chosen = st.fixed_dictionaries(
    {kind: st.sampled_from(options) for kind, options in CHOICES.items()}
)


def combined(parts: dict[str, Any]) -> Rendered:
    values: Object = {}
    for part in parts.values():
        values = override(values, part)
    return render(DEFAULTS, values)


@given(chosen)
@settings(
    max_examples=16,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@example({kind: options[-1] for kind, options in CHOICES.items()})
def test_every_rule_holds_for_any_combination(parts: dict[str, Any]) -> None:
    release = combined(parts)

    for rule in RULES:
        rule(release)
    found = test_network_policies.admitted(release)
    assert found == test_network_policies.allowed(release)


@pytest.mark.parametrize("kind", CHOICES)
def test_each_option_is_accepted_on_its_own(kind: str) -> None:
    for option in CHOICES[kind]:
        assert render(DEFAULTS, option).objects
