"""Selectors find what they are for, and can stay as they are for the life of a release."""

from __future__ import annotations

from charts.network import selects
from charts.rendering import Object, Pod, Rendered, is_hook, render

STABLE = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
WORKLOADS = ("Deployment", "StatefulSet")


def selected(release: Rendered, selector: Object) -> list[Pod]:
    return [pod for pod in release.pods() if selects({"matchLabels": selector}, pod.labels)]


def test_workloads_select_their_own_pods_and_no_others(release: Rendered) -> None:
    for entry in release.of_kind(*WORKLOADS):
        owner = f"{entry['kind']}/{entry['metadata']['name']}"
        found = [pod.owner for pod in selected(release, entry["spec"]["selector"]["matchLabels"])]
        assert found == [owner]


def test_selectors_hold_no_label_that_an_upgrade_changes(release: Rendered) -> None:
    # The selector of a Deployment is immutable: with a version in it no upgrade would succeed.
    for entry in release.of_kind(*WORKLOADS):
        assert set(entry["spec"]["selector"]["matchLabels"]) == STABLE
    for entry in release.of_kind("Service"):
        assert set(entry["spec"]["selector"]) <= STABLE
    # So are the claims of a StatefulSet, with their labels.
    for entry in release.of_kind("StatefulSet"):
        for claim in entry["spec"].get("volumeClaimTemplates") or []:
            assert set(claim["metadata"].get("labels") or {}) <= STABLE, entry["metadata"]["name"]


def test_every_service_has_pods_that_listen_on_its_ports(release: Rendered) -> None:
    for entry in release.of_kind("Service"):
        name = entry["metadata"]["name"]
        pods = [pod for pod in selected(release, entry["spec"]["selector"]) if not is_hook(pod)]
        assert len(pods) == 1, f"{name}: {[pod.owner for pod in pods]}"
        for port in entry["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            listening = pods[0].ports()
            assert target in listening or target in listening.values(), f"{name}: {port}"
            if entry["spec"].get("clusterIP") == "None":
                # Clients of a headless Service meet the pods' own ports.
                assert listening.get(target, target) == port["port"], f"{name}: {port}"


def test_servers_are_behind_headless_services(release: Rendered) -> None:
    # gRPC clients balance over what the name resolves to: one virtual address would pin them.
    grpc = {p.component for p in release.pods() if 50051 in p.ports().values()}

    assert len(grpc) == sum(s["enabled"] for s in release.values["services"].values())
    for component in grpc:
        assert release.one("Service", component)["spec"]["clusterIP"] == "None"


def test_a_disruption_budget_counts_the_pods_of_one_workload() -> None:
    made = render(changes={"podDefaults": {"podDisruptionBudget": {"enabled": True}}})

    budgets = made.of_kind("PodDisruptionBudget")
    deployments = {e["metadata"]["name"] for e in made.of_kind("Deployment")}
    assert {e["metadata"]["name"] for e in budgets} == deployments
    for entry in budgets:
        found = selected(made, entry["spec"]["selector"]["matchLabels"])
        assert [pod.owner for pod in found] == [f"Deployment/{entry['metadata']['name']}"]


def test_budgets_do_not_stop_the_draining_of_a_node(release: Rendered) -> None:
    for entry in release.of_kind("PodDisruptionBudget"):
        assert entry["spec"].get("maxUnavailable") not in (0, "0%", None), entry["metadata"]["name"]


def test_pods_spread_by_their_own_labels(release: Rendered) -> None:
    for pod in release.pods():
        for constraint in pod.spec.get("topologySpreadConstraints") or []:
            assert selects(constraint["labelSelector"], pod.labels), pod.owner
            found = {
                p.component
                for p in release.pods()
                if selects(constraint["labelSelector"], p.labels)
            }
            assert found == {pod.component}
