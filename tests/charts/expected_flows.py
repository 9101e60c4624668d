"""Who talks to whom, written down from the design and the code, apart from the chart.

    gRPC servers that make or read jobs    broker
    servers that read artifacts            store
    stages, by the queue that they are in  the services that they ask (`context.connect`)
    every pod                              DNS

Source: `main()` of each server, the calls of `connect` and `aconnect`, `queue=` of each stage.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

GRPC, HEALTH, METRICS, HTTP = 50051, 50052, 9464, 8000
VALKEY, STORE, TRITON_GRPC, RENDEZVOUS = 6379, 8333, 8001, 29500
PORTS = (
    *(22, 80, 443, 1024, 4317, 6333, VALKEY, 6443, HTTP, TRITON_GRPC, 8002, STORE, 9000, METRICS),
    *(RENDEZVOUS, 40_000, GRPC, HEALTH, 65_535),
)
"""Ports that the tests look at: all that anything here listens on, and some others."""

SERVICES = ("curation", "sampler", "reward", "trainer", "retriever", "evaluation", "pipeline")

_JOBS = {"curation", "trainer", "evaluation", "pipeline"}
_ARTIFACTS = {"sampler", "reward", "retriever", "pipeline"}
_ASKS: Mapping[str, set[str]] = {
    "reward": {"sampler"},  # a policy that judges
    "retriever": {"sampler", "reward"},
    "openai-front": {"sampler"},
}
_QUEUE_ASKS: Mapping[str, set[str]] = {
    "pipeline": set(),
    "curation": {"sampler"},  # synthesis
    "training": {"sampler", "reward"},  # disaggregated rollouts
    "sampling": {"sampler"},
    "scoring": {"reward"},
    "evaluation": {"sampler", "reward", "retriever"},
}


def destinations(component: str, queues: Collection[str], *, triton: bool) -> set[tuple[str, int]]:
    """(component, port) of everything in the release that a component may open.

    Args:
        component: value of the label `app.kubernetes.io/component`.
        queues: that it serves, where it is a worker; whose jobs it runs, where it is launched.
        triton: whether it computes in Triton.
    """
    services: set[str] = set(_ASKS.get(component, set()))
    found: set[tuple[str, int]] = set()
    is_worker = component.startswith("worker-")
    if component in _JOBS or is_worker or component == "training":
        found.add(("valkey", VALKEY))
    if component in _ARTIFACTS or is_worker or component in ("training", "triton", "helm-test"):
        found.add(("store", STORE))
    if is_worker or component == "training":
        services |= {service for queue in queues for service in _QUEUE_ASKS[queue]}
    if component == "training":
        # Ranks meet at the rendezvous, and then on whatever ports gloo and NCCL are given.
        found |= {("training", port) for port in PORTS}
    if component == "helm-test":
        services |= set(SERVICES)
        found.add(("openai-front", HTTP))
    if triton:
        found.add(("triton", TRITON_GRPC))
    return found | {(service, GRPC) for service in services}
