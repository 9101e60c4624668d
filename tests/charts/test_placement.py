"""Accelerators go to the components that ask for them, and only to nodes that have them."""

from __future__ import annotations

from typing import Any

from charts.rendering import Pod, Rendered, render

GPU_POOL = {"pool": "gpu", "gpus": 1}


def accelerators(pod: Pod) -> dict[str, Any]:
    """Extended resources that a pod asks for, by name."""
    return {
        name: amount
        for container in pod.containers
        for name, amount in (container["resources"].get("limits") or {}).items()
        if "/" in name
    }


def gpu_keys(release: Rendered) -> set[str]:
    pools = release.values["nodePools"].values()
    return {pool["gpuResourceKey"] for pool in pools if pool.get("gpuResourceKey")}


def tolerates_gpu(pod: Pod) -> bool:
    """Whether a pod may run on the nodes of a pool with accelerators."""
    return any(
        (entry.get("operator") == "Exists" and "key" not in entry)
        or entry.get("key", "").startswith(("nvidia.com", "amd.com"))
        for entry in pod.spec.get("tolerations") or []
    )


def selects_gpu(pod: Pod) -> bool:
    selector = pod.spec.get("nodeSelector") or {}
    return any(key.startswith(("nvidia.com", "amd.com")) for key in selector)


def test_pods_with_accelerators_are_on_their_nodes_and_no_others_are(release: Rendered) -> None:
    keys = gpu_keys(release)
    for pod in release.pods():
        asked = accelerators(pod)
        assert set(asked) <= keys, pod.owner
        assert tolerates_gpu(pod) == bool(asked), pod.owner
        if selects_gpu(pod):
            assert asked, f"{pod.owner} occupies a node with accelerators and asks for none"
        for amount in asked.values():
            assert isinstance(amount, int) and amount > 0, f"{pod.owner}: {asked}"


def test_a_component_moves_to_the_accelerators_alone() -> None:
    made = render(changes={"services": {"sampler": GPU_POOL}})

    pod = made.pod("sampler")
    assert accelerators(pod) == {"nvidia.com/gpu": 1}
    assert pod.spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert tolerates_gpu(pod)
    assert {p.component for p in made.pods() if accelerators(p)} == {"sampler"}


def test_a_slice_of_an_accelerator_is_asked_for_by_its_own_name() -> None:
    pool = {"gpuResourceKey": "nvidia.com/mig-1g.10gb", "runtimeClassName": "nvidia"}
    made = render(changes={"nodePools": {"gpu": pool}, "services": {"sampler": GPU_POOL}})

    assert accelerators(made.pod("sampler")) == {"nvidia.com/mig-1g.10gb": 1}
    assert made.pod("sampler").spec["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in made.pod("reward").spec


def test_a_component_adds_to_what_its_pool_says() -> None:
    own = {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}
    made = render(
        changes={
            "nodePools": {
                "cpu": {"nodeSelector": {"tier": "cpu"}, "tolerations": [{**own, "value": "all"}]}
            },
            "services": {"reward": {"nodeSelector": {"disk": "fast"}, "tolerations": [own]}},
        }
    )

    spec = made.pod("reward").spec
    assert spec["nodeSelector"] == {"tier": "cpu", "disk": "fast"}
    assert [entry["value"] for entry in spec["tolerations"]] == ["all", "ml"]
    assert made.pod("sampler").spec["nodeSelector"] == {"tier": "cpu"}


def test_priority_classes_are_made_under_the_names_that_pods_use() -> None:
    changes = {
        "priorityClass": {"create": True},
        "podDefaults": {"priorityClassName": "serving"},
        "services": {"reward": {"priorityClassName": "system-of-the-cluster"}},
    }
    made = render(changes=changes)

    classes = {entry["metadata"]["name"] for entry in made.of_kind("PriorityClass")}
    used = {pod.component: pod.spec.get("priorityClassName") for pod in made.pods()}
    assert len(classes) == 2
    assert used["sampler"] in classes
    assert used["reward"] == "system-of-the-cluster"
    assert render().of_kind("PriorityClass") == []


def test_a_spread_of_one_s_own_replaces_the_pool_s() -> None:
    own = {
        "maxSkew": 2,
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "DoNotSchedule",
    }
    made = render(changes={"services": {"reward": {"topologySpreadConstraints": [own]}}})

    (constraint,) = made.pod("reward").spec["topologySpreadConstraints"]
    assert {key: constraint[key] for key in own} == own
    assert constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "reward"
