"""What NetworkPolicies admit: the rules of `networking.k8s.io/v1`, worked out over pods' labels.

Source: kubernetes.io/docs/concepts/services-networking/network-policies. A pod that no policy
selects for a direction is open in it; otherwise the union of the selecting policies' rules counts.
A connection needs its source's egress and its destination's ingress.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Peer:
    """One end of a connection: a pod, or an address outside the cluster."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """Of what is no pod; such a peer is matched by address ranges alone."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """Container ports by name."""
    governed: bool = False
    """Whether it is a pod of the namespace that the policies are in."""


class Policies:
    """The NetworkPolicies of one namespace."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self._specs = [entry["spec"] for entry in objects]
        self._found: dict[tuple[Peer, Peer, str], Sequence[Object] | None] = {}

    def admits(self, source: Peer, to: Peer, port: int, protocol: str = "TCP") -> bool:
        """Whether a connection from one peer to a port of another one is let through."""
        return all(
            self._opens(mine, other, direction, port, protocol, to)
            for mine, other, direction in ((source, to, "Egress"), (to, source, "Ingress"))
            if mine.governed
        )

    def _opens(
        self, mine: Peer, other: Peer, direction: str, port: int, protocol: str, to: Peer
    ) -> bool:
        key = mine, other, direction
        if key not in self._found:
            self._found[key] = self._rules(mine, other, direction)
        rules = self._found[key]
        return rules is None or any(_port_matches(rule, port, protocol, to) for rule in rules)

    def _rules(self, mine: Peer, other: Peer, direction: str) -> Sequence[Object] | None:
        """Rules of one direction of a pod that name the other peer; None where it is open."""
        selecting = [
            spec
            for spec in self._specs
            if direction in _types(spec) and selects(spec["podSelector"], mine.labels)
        ]
        if not selecting:
            return None
        peers, key = ("from", "ingress") if direction == "Ingress" else ("to", "egress")
        rules = [rule for spec in selecting for rule in spec.get(key) or []]
        return [rule for rule in rules if _peer_matches(rule.get(peers), mine, other)]


def _types(spec: Object) -> Sequence[str]:
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def _peer_matches(allowed: Sequence[Object] | None, mine: Peer, other: Peer) -> bool:
    return not allowed or any(_is(entry, mine, other) for entry in allowed)


def _is(entry: Object, mine: Peer, other: Peer) -> bool:
    if block := entry.get("ipBlock"):
        return bool(other.address) and _within(block, other.address)
    if other.address:
        return False
    namespaces = entry.get("namespaceSelector")
    if namespaces is None and not other.governed:
        return False
    if namespaces is not None and not selects(namespaces, other.namespace_labels):
        return False
    return selects(entry.get("podSelector") or {}, other.labels)


def _within(block: Object, address: str) -> bool:
    given = ipaddress.ip_address(address)
    inside = given in ipaddress.ip_network(block["cidr"])
    return inside and not any(
        given in ipaddress.ip_network(cidr) for cidr in block.get("except") or []
    )


def _port_matches(rule: Object, port: int, protocol: str, to: Peer) -> bool:
    listed = rule.get("ports")
    return not listed or any(_is_port(entry, port, protocol, to) for entry in listed)


def _is_port(entry: Object, port: int, protocol: str, to: Peer) -> bool:
    if entry.get("protocol", "TCP") != protocol:
        return False
    named = entry.get("port")
    if named is None:
        return True
    first = to.ports.get(named) if isinstance(named, str) else named
    return first is not None and first <= port <= entry.get("endPort", first)


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything."""
    exact = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or []
    )


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    raise ValueError(f"operator {expression['operator']!r}; In, NotIn, Exists, DoesNotExist")
