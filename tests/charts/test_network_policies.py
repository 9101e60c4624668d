"""NetworkPolicies admit the flows of the design, and not one more.

Each connection between two parties that could be made is worked out from the policies and looked
up in a table that is written down apart from the chart. That a network plugin enforces them is not
shown here: that needs a cluster with one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import pytest
from charts import expected_flows as expected
from charts.launched import launched_pods
from charts.network import Peer, Policies, selects
from charts.options import EVERYTHING, TRITON_BACKENDS
from charts.rendering import (
    DEFAULTS,
    NAMESPACE,
    VALUE_FILES,
    Object,
    Pod,
    Rendered,
    dotted,
    override,
    render,
)

LAUNCHING: Object = {"launcher": {"executor": "kubernetes"}}
CASES: dict[str, tuple[str, Object]] = {
    **{name: (name, {}) for name in VALUE_FILES},
    "launching": (DEFAULTS, LAUNCHING),
    "launching everything": ("laptop", override(LAUNCHING, dotted("launcher.workerGroup", "all"))),
    "everything": (DEFAULTS, EVERYTHING),
    "triton backends": (DEFAULTS, TRITON_BACKENDS),
    "triton elsewhere": (
        DEFAULTS,
        {
            "services": {"sampler": {"backend": "triton"}},
            "triton": {"externalTarget": "triton.example.com:8001"},
        },
    ),
}

DNS = Peer("DNS", {"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"})
CLIENT = Peer("a client", {"plumbline.dev/client": "true"}, {"kubernetes.io/metadata.name": "team"})
STRANGER = Peer("a stranger", {"app": "else"}, {"kubernetes.io/metadata.name": "team"})
MONITORING = Peer("Prometheus", {"app": "any"}, {"kubernetes.io/metadata.name": "monitoring"})
KEDA = Peer("KEDA", {"app": "keda-operator"}, {"kubernetes.io/metadata.name": "keda"})
OUTSIDE = Peer("an address outside", address="203.0.113.7")
DATA_CENTRE = Peer("an address of the data centre", address="10.20.0.11")
CONTROL_PLANE = Peer("an API server", address="10.10.0.5")
DATA = Peer("a pod with data", {"app": "redis"}, {"kubernetes.io/metadata.name": "data"})
PARTIES = (DNS, CLIENT, STRANGER, MONITORING, KEDA, OUTSIDE, DATA_CENTRE, CONTROL_PLANE, DATA)


def queues_of(pod: Pod) -> list[str]:
    words = pod.main.get("command") or []
    listed = [word.partition("=")[2] for word in words if word.startswith("--queues=")]
    return listed[0].split(",") if listed else []


def peers_of(release: Rendered) -> dict[str, tuple[Peer, list[str]]]:
    """(peer, queues) by component; pods of tests and of pools are alike."""
    found: dict[str, tuple[Peer, list[str]]] = {}
    launcher = f"worker-{release.values['launcher']['workerGroup']}"
    for pod in [*release.pods(), *launched_pods(release)]:
        home = {"kubernetes.io/metadata.name": NAMESPACE}
        peer = Peer(pod.component, pod.labels, home, ports=pod.ports(), governed=True)
        launched = pod.component == "training"
        found[pod.component] = (peer, queues_of(release.pod(launcher) if launched else pod))
    return found


def policies_of(release: Rendered) -> Policies:
    return Policies(release.of_kind("NetworkPolicy"))


def admitted(release: Rendered) -> set[tuple[str, str, int]]:
    """(from, to, TCP port) of every connection that the policies let through."""
    policies = policies_of(release)
    peers = [peer for peer, _ in peers_of(release).values()]
    return {
        (source.name, to.name, port)
        for source in (*peers, *PARTIES)
        for to in (*peers, *PARTIES)
        if source.governed or to.governed
        for port in expected.PORTS
        if policies.admits(source, to, port)
    }


def allowed(release: Rendered) -> set[tuple[str, str, int]]:
    """As `admitted`, from the table."""
    peers = peers_of(release)
    services = release.values["services"]
    found: set[tuple[str, str, int]] = set()
    for name, (_, queues) in peers.items():
        in_triton = services.get(name, {}).get("backend") == "triton"
        to_others = expected.destinations(name, queues, triton=in_triton)
        found |= {(name, to, port) for to, port in to_others if to in peers}
        found |= {(name, *there) for there in beyond(release, name, to_others, peers)}
        if name not in ("valkey", "store"):
            found.add((name, DNS.name, 53))
        if name in expected.SERVICES:
            found.add((CLIENT.name, name, expected.GRPC))
        # A process of a job serves no metrics: its worker, or its launcher, counts for it.
        unscraped = ("valkey", "store", "helm-test", "training")
        if release.values["metrics"]["enabled"] and name not in unscraped:
            scraped = 8002 if name == "triton" else expected.METRICS
            found.add((MONITORING.name, name, scraped))
    if "openai-front" in peers:
        found.add((CLIENT.name, "openai-front", expected.HTTP))
    if "valkey" in peers and release.of_kind("ScaledObject", "ScaledJob"):
        found.add((KEDA.name, "valkey", expected.VALKEY))
    return {(source, to, port) for source, to, port in found if port in expected.PORTS}


def beyond(
    release: Rendered, name: str, to_others: Collection[tuple[str, int]], peers: Collection[str]
) -> set[tuple[str, int]]:
    """(party, port) of what a component may open outside of the release."""
    values, policy = release.values, release.values["networkPolicy"]
    ports: set[int] = set()
    if ("valkey", expected.VALKEY) in to_others and "valkey" not in peers:
        ports.add(values["externalRedis"]["port"])
    if ("store", expected.STORE) in to_others and "store" not in peers:
        ports.add(urlsplit(values["externalObjectStore"]["endpoint"]).port or 443)
    traced = name in (*expected.SERVICES, "openai-front", "training") or name.startswith("worker-")
    if traced and values["tracing"]["otlpEndpoint"]:
        ports.add(4317)
    services = values["services"]
    if name == "sampler" and services[name]["backend"] == "openai":
        ports.add(443)
    if name == "retriever" and services[name]["qdrant"]["url"]:
        ports.add(6333)
    if ("triton", expected.TRITON_GRPC) in to_others and "triton" not in peers:
        ports.add(8001)
    found = {(party, port) for port in ports for party in named_by(policy["external"])}
    launches = name == f"worker-{values['launcher']['workerGroup']}"
    if launches and values["launcher"]["executor"] == "kubernetes":
        servers = named_by(policy["apiServer"]["to"])
        found |= {(party, port) for port in (443, 6443) for party in servers}
    return found


def named_by(listed: Sequence[Object]) -> list[str]:
    """Names of the parties that a list of the values covers: addresses, or whole namespaces."""
    return [
        party.name
        for party in PARTIES
        for entry in listed
        if (party.address and party.address in addresses(entry))
        or (not party.address and entry.get("namespaceSelector") == home_of(party))
    ]


def addresses(entry: Object) -> Collection[str]:
    network = ip_network(entry["ipBlock"]["cidr"]) if "ipBlock" in entry else ip_network("::/128")
    return [p.address for p in PARTIES if p.address and ip_address(p.address) in network]


def home_of(party: Peer) -> Object:
    return {"matchLabels": dict(party.namespace_labels)}


@pytest.mark.parametrize("case", CASES)
def test_exactly_the_flows_of_the_design_are_admitted(case: str) -> None:
    release = render(*CASES[case])

    found, table = admitted(release), allowed(release)

    assert sorted(found - table) == [], "admitted, and not in the table"
    assert sorted(table - found) == [], "in the table, and not admitted"


def test_names_are_resolved_over_udp_too(release: Rendered) -> None:
    policies = policies_of(release)
    for name, (peer, _) in peers_of(release).items():
        assert policies.admits(peer, DNS, 53, "UDP") is (name not in ("valkey", "store")), name


def test_one_policy_closes_every_pod_whatever_others_open(release: Rendered) -> None:
    (closing,) = [
        entry["spec"]
        for entry in release.of_kind("NetworkPolicy")
        if not entry["spec"].get("ingress") and not entry["spec"].get("egress")
    ]

    assert sorted(closing["policyTypes"]) == ["Egress", "Ingress"]
    for name, (peer, _) in peers_of(release).items():
        assert selects(closing["podSelector"], peer.labels), name


def test_nothing_is_open_by_chance(release: Rendered) -> None:
    policies = policies_of(release)
    for name, (peer, _) in peers_of(release).items():
        for other in (STRANGER, OUTSIDE):
            assert not policies.admits(other, peer, 12345), name
            assert not policies.admits(peer, other, 12345), name


def test_every_service_is_reached_by_its_callers(release: Rendered) -> None:
    found = {(to, port) for _, to, port in admitted(release)}
    for entry in release.of_kind("Service"):
        component = entry["metadata"]["labels"]["app.kubernetes.io/component"]
        for port in entry["spec"]["ports"]:
            assert (component, port["port"]) in found, entry["metadata"]["name"]


def test_addresses_inside_the_cluster_are_let_through_by_namespace(release: Rendered) -> None:
    # Plugins apply ranges of addresses to what is outside of the cluster alone.
    values = release.values
    external = values["externalRedis"], values["externalObjectStore"], values["tracing"]
    addresses = [
        f"//{external[0]['host']}:{external[0]['port']}",
        external[1]["endpoint"],
        external[2]["otlpEndpoint"],
    ]
    for url in map(urlsplit, addresses):
        name, *rest = (url.hostname or "").split(".")
        if rest[1:2] != ["svc"]:
            continue
        there = Peer(name, {"app": name}, {"kubernetes.io/metadata.name": rest[0]})
        policies, (pipeline, _) = policies_of(release), peers_of(release)["pipeline"]
        assert policies.admits(pipeline, there, url.port or 443), url.netloc


def test_ranks_of_training_meet_and_nobody_joins_them() -> None:
    release = render(changes=LAUNCHING)
    found = {source for source, to, _ in admitted(release) if to == "training"}

    assert found == {"training"}


def test_pods_of_another_release_are_strangers() -> None:
    one, other = render(changes=LAUNCHING), render(changes=LAUNCHING, release="other")
    policies = Policies([*one.of_kind("NetworkPolicy"), *other.of_kind("NetworkPolicy")])
    sampler = peers_of(one)["sampler"][0]

    for peer, _ in peers_of(other).values():
        assert not policies.admits(peer, sampler, expected.GRPC), peer.name
        for entry in one.of_kind("NetworkPolicy"):
            assert not selects(entry["spec"]["podSelector"], peer.labels), peer.name


def test_policies_can_be_left_out() -> None:
    assert render(changes={"networkPolicy": {"enabled": False}}).of_kind("NetworkPolicy") == []


def test_what_one_adds_is_added() -> None:
    rule = {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 443}]}
    changes = override(LAUNCHING, {"networkPolicy": {"extraEgress": {"training": [rule]}}})
    release = render(changes=changes)
    tracker = Peer("tracker", address="198.51.100.9")
    policies = policies_of(release)

    assert policies.admits(peers_of(release)["training"][0], tracker, 443)
    assert not policies.admits(peers_of(release)["sampler"][0], tracker, 443)
