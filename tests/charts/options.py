"""Options that the files under ci/ may leave off, turned on for tests of all there is."""

from __future__ import annotations

from collections.abc import Iterator

from charts.rendering import DEFAULTS, VALUE_FILES, Object, Rendered, render

EVERYTHING: Object = {
    "launcher": {"executor": "kubernetes"},
    "services": {
        "curation": {"config": {"length": {"min_units": 9}}},
        "retriever": {
            "config": {"search": {"k": 5}},
            "qdrant": {"url": "http://qdrant.search.svc:6333", "existingSecret": "qdrant-key"},
        },
        "sampler": {
            "backend": "openai",
            "openai": {"baseUrl": "https://models.example.com/v1", "existingSecret": "openai-key"},
        },
    },
    "triton": {"enabled": True},
    "tls": {"mode": "certManager"},
    "tracing": {"otlpEndpoint": "http://collector.tracing.svc:4317"},
    "trackers": {"names": ["tensorboard"]},
    "pseudonyms": {"existingSecret": "pseudonym-keys"},
    "workers": {"curation": {"keda": {"kind": "ScaledJob"}}},
    "metrics": {"monitors": {"enabled": True}, "rules": {"enabled": True}},
}

TRITON_BACKENDS: Object = {
    "services": {
        "sampler": {"backend": "triton", "triton": {"tokenizer": "policy/served@latest"}},
        "reward": {"backend": "triton"},
    },
    "triton": {"enabled": True},
    "valkey": {"enabled": False},
    "externalRedis": {
        "host": "redis.example.com",
        "tls": {"enabled": True, "caSecret": "redis-ca"},
    },
    "objectStore": {"enabled": False},
    "externalObjectStore": {
        "endpoint": "https://s3.example.com",
        "bucket": "plumbline",
        "existingSecret": "store-keys",
        "caSecret": "store-ca",
    },
}


def value_files_and_more() -> Iterator[Rendered]:
    """Releases that between them turn on every option there is."""
    yield from (render(name) for name in VALUE_FILES)
    yield render(DEFAULTS, EVERYTHING)
    yield render(DEFAULTS, TRITON_BACKENDS)
