"""Every object has the shape that Kubernetes' own types ask for, with no field that they lack.

This stands in for `kubeconform -strict`, whose schemas have to be fetched: the models come with
the `kubernetes` client. What admission and defaulting add is seen by the server-side dry run of
tests/cluster. Kinds of other projects have no model here; their fields are listed below.
"""

from __future__ import annotations

import pytest
from charts.kubernetes_types import faults, is_built_in
from charts.rendering import Object, Rendered

FOREIGN = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {
        "selector",
        "endpoints",
        "namespaceSelector",
        "jobLabel",
        "targetLabels",
        "podTargetLabels",
    },
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "selector",
        "podMetricsEndpoints",
        "namespaceSelector",
        "jobLabel",
        "podTargetLabels",
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups"},
    ("cert-manager.io/v1", "Certificate"): {
        "secretName",
        "secretTemplate",
        "issuerRef",
        "dnsNames",
        "commonName",
        "usages",
        "duration",
        "renewBefore",
        "privateKey",
        "isCA",
        "subject",
        "revisionHistoryLimit",
    },
    ("cert-manager.io/v1", "Issuer"): {"selfSigned", "ca"},
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "cooldownPeriod",
        "triggers",
        "advanced",
        "fallback",
        "idleReplicaCount",
    },
    ("keda.sh/v1alpha1", "ScaledJob"): {
        "jobTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
        "scalingStrategy",
        "rollout",
        "triggers",
    },
    ("keda.sh/v1alpha1", "TriggerAuthentication"): {"secretTargetRef", "env", "podIdentity"},
}
"""Fields of `spec` that the chart may use, by kind; from the documentation of each project."""


def test_every_object_has_the_shape_of_its_kind(release: Rendered) -> None:
    found = {
        f"{entry['kind']}/{entry['metadata']['name']}": faults(entry)
        for entry in release.objects
        if is_built_in(entry)
    }

    assert len(found) > 20
    assert {where: what for where, what in found.items() if what} == {}


def test_objects_of_other_projects_have_known_kinds_and_fields(release: Rendered) -> None:
    for entry in release.objects:
        if not is_built_in(entry):
            known = FOREIGN[entry["apiVersion"], entry["kind"]]
            assert set(entry["spec"]) <= known, f"{entry['kind']}/{entry['metadata']['name']}"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"replica": 1}, "spec.replica"),
        ({"replicas": "1"}, "spec.replicas"),
        ({"selector": None}, "spec.selector"),
        ({"revision_history_limit": 1}, "spec.revision_history_limit"),
    ],
)
def test_a_wrong_field_is_found(change: Object, fault: str) -> None:
    spec = {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"spec": {"containers": [{"name": "main"}]}},
    }
    entry = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}

    assert faults({**entry, "spec": spec}) == []
    assert [what.split(":")[0] for what in faults({**entry, "spec": {**spec, **change}})] == [fault]
