"""Values that contradict each other: the schema cannot tell, so a template refuses them.

Each message says what is wrong, with the value, and what is accepted.
"""

from __future__ import annotations

from typing import Any

import pytest
from charts.rendering import Object, dotted, helm, override, render

EXTERNAL_STORE = {
    "objectStore": {"enabled": False},
    "externalObjectStore": {
        "endpoint": "https://s3.example.com",
        "bucket": "plumbline",
        "existingSecret": "store-keys",
    },
}
GRANT = {"name": "team", "tokenSha256": "0" * 64, "scopes": ["*"]}
MODELS = ["sampling", "scoring", "evaluation"]
TWO_MODELS = [{"reference": "a@latest", "head": "safety"}, {"reference": "b@latest", "head": ""}]


def launching(**launcher: Any) -> Object:
    return {"launcher": {"executor": "kubernetes", **launcher}}


def external_store(**changes: str) -> Object:
    return override(EXTERNAL_STORE, {"externalObjectStore": changes})


CONTRADICTIONS: list[tuple[str, Object]] = [
    # broker and store
    ("there is no broker", {"valkey": {"enabled": False}}),
    ("accepted: one broker", dotted("externalRedis.existingSecret", "broker")),
    (
        "externalRedis.tls.caSecret",
        {
            "valkey": {"enabled": False},
            "externalRedis": {"host": "redis", "tls": {"caSecret": "ca"}},
        },
    ),
    ("externalObjectStore.endpoint", dotted("objectStore.enabled", False)),
    ("externalObjectStore.bucket", external_store(bucket="")),
    ("externalObjectStore.existingSecret", external_store(existingSecret="")),
    ("an image with weed", dotted("objectStore.server", "seaweedfs")),
    ("accepted: one store", dotted("externalObjectStore.endpoint", "https://s3.example.com")),
    # workers and the launcher
    ('serves the queue "training"', dotted("workers.training.enabled", False)),
    ('serves the queue "curation"', dotted("workers.curation.queues", ["sampling"])),
    (
        "keda.kind=ScaledObject",
        {
            "workers": {
                "curation": {"autoscaling": {"enabled": True}, "keda": {"kind": "ScaledObject"}}
            }
        },
    ),
    (
        "externalRedis.username",
        {
            "valkey": {"enabled": False},
            "externalRedis": {"host": "redis", "username": "someone"},
            "workers": {"curation": {"keda": {"kind": "ScaledObject"}}},
        },
    ),
    (
        "KEDA takes no URL",
        {
            "valkey": {"enabled": False},
            "externalRedis": {"existingSecret": "url"},
            "workers": {"curation": {"keda": {"kind": "ScaledObject"}}},
        },
    ),
    ("workerGroup", launching(workerGroup="models")),
    (
        'workers.training and workers.models both serve the queue "training"',
        override(launching(), dotted("workers.models.queues", [*MODELS, "training"])),
    ),
    ("defaultPool", launching(defaultPool="nowhere")),
    ("launcher.image", launching(image={"name": ""})),
    ("both gates", launching(kueue={"queueName": "q"}, volcano={"enabled": True})),
    ("launcher.volcano.queue", launching(volcano={"queue": "q"})),
    # pools
    ('pool "nowhere"', dotted("services.reward.pool", "nowhere")),
    ("gpuResourceKey", dotted("services.reward.gpus", 1)),
    ("gpusPerRank=1", launching(pools={"default": {"gpusPerRank": 1}})),
    # services
    ("services.sampler.openai.baseUrl", dotted("services.sampler.backend", "openai")),
    ("openaiFront.enabled=true", dotted("services.sampler.enabled", False)),
    ("openaiFront.ingress.host", dotted("openaiFront.ingress.enabled", True)),
    # safety
    ("tls.existingSecret", dotted("tls.mode", "existingSecret")),
    ("tls.mode=none", dotted("tls.existingSecret", "certificate")),
    ("auth.enabled=true", {"auth": {"enabled": False, "grants": [GRANT]}}),
    ("accepted: one of them", {"auth": {"existingSecret": "t", "grants": [GRANT]}}),
    # Triton and monitoring
    ("triton.rewardModels", {"triton": {"enabled": True, "rewardModels": []}}),
    ("triton.gpus", {"triton": {"enabled": True, "gpus": 0, "pool": "cpu"}}),
    ("triton.externalTarget", {"triton": {"enabled": True, "externalTarget": "triton:8001"}}),
    ("heads of all", {"triton": {"enabled": True, "rewardModels": TWO_MODELS}}),
    ("metrics.enabled=false", {"metrics": {"enabled": False, "rules": {"enabled": True}}}),
]


@pytest.mark.parametrize(("words", "values"), CONTRADICTIONS, ids=[w for w, _ in CONTRADICTIONS])
def test_a_contradiction_is_refused_and_the_message_says_which(words: str, values: Object) -> None:
    with pytest.raises(helm().HelmRenderError) as refusal:
        render(changes=values)

    assert words in str(refusal.value)


def test_an_external_store_alone_is_accepted() -> None:
    assert render(changes=EXTERNAL_STORE).find("StatefulSet", "store") is None
