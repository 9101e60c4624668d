"""The reading of NetworkPolicies that the other tests rely on, held to Kubernetes' own examples.

Source: kubernetes.io/docs/concepts/services-networking/network-policies.
"""

from __future__ import annotations

import pytest
import yaml
from charts.network import Peer, Policies, selects

POLICY = yaml.safe_load(
    """
spec:
  podSelector: {matchLabels: {role: db}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
        - namespaceSelector: {matchLabels: {project: myproject}}
        - podSelector: {matchLabels: {role: frontend}}
      ports: [{protocol: TCP, port: 6379}]
  egress:
    - to: [{ipBlock: {cidr: 10.0.0.0/24}}]
      ports: [{protocol: TCP, port: 32000, endPort: 32768}]
"""
)
DENY_ALL = {"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}

DB = Peer("db", labels={"role": "db"}, ports={"redis": 6379}, governed=True)
FRONTEND = Peer("frontend", labels={"role": "frontend"}, governed=True)
OTHER = Peer("other", labels={"role": "other"}, governed=True)
PROJECT = Peer("project", labels={"role": "any"}, namespace_labels={"project": "myproject"})
STRANGER = Peer("stranger", labels={"role": "frontend"}, namespace_labels={"project": "no"})


@pytest.mark.parametrize(
    ("source", "port", "expected"),
    [
        (FRONTEND, 6379, True),
        (FRONTEND, 6380, False),
        (OTHER, 6379, False),
        (PROJECT, 6379, True),
        # A podSelector without a namespaceSelector means pods of the policy's namespace.
        (STRANGER, 6379, False),
        (Peer("inside the range", address="172.17.2.5"), 6379, True),
        (Peer("excepted", address="172.17.1.5"), 6379, False),
        (Peer("outside", address="172.18.0.1"), 6379, False),
    ],
)
def test_ingress_of_the_documented_example(source: Peer, port: int, expected: bool) -> None:
    assert Policies([POLICY]).admits(source, DB, port) is expected


@pytest.mark.parametrize(("port", "expected"), [(31999, False), (32000, True), (32768, True)])
def test_egress_within_a_range_of_ports(port: int, expected: bool) -> None:
    assert Policies([POLICY]).admits(DB, Peer("there", address="10.0.0.9"), port) is expected


def test_a_policy_binds_only_the_pods_that_it_selects() -> None:
    assert Policies([POLICY]).admits(OTHER, FRONTEND, 80)
    assert not Policies([DENY_ALL]).admits(OTHER, FRONTEND, 80)


def test_rules_of_policies_add_up_and_both_ends_must_agree() -> None:
    # DENY_ALL alone closes the frontend's egress, so the database's open door does not help.
    assert not Policies([DENY_ALL, POLICY]).admits(FRONTEND, DB, 6379)
    egress = {
        "spec": {
            "podSelector": {"matchLabels": {"role": "frontend"}},
            "policyTypes": ["Egress"],
            "egress": [{"ports": [{"port": "redis"}]}],
        }
    }
    assert Policies([DENY_ALL, POLICY, egress]).admits(FRONTEND, DB, 6379)


def test_the_protocol_counts() -> None:
    policy = {
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}
    }

    assert Policies([policy]).admits(OTHER, DB, 53, "UDP")
    assert not Policies([policy]).admits(OTHER, DB, 53, "TCP")


@pytest.mark.parametrize(
    ("operator", "values", "expected"),
    [
        ("In", ["a", "b"], True),
        ("In", ["b"], False),
        ("NotIn", ["b"], True),
        ("NotIn", ["a"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_expressions_of_selectors(operator: str, values: list[str], expected: bool) -> None:
    selector = {"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]}

    assert selects(selector, {"tier": "a"}) is expected
