"""What the chart says about a service's configuration is what the service says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from charts.product_schemas import SCHEMA_FILE, with_definitions
from charts.rendering import dotted, helm, render, validate


def test_the_schema_is_that_of_the_models() -> None:
    written = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))

    assert written == with_definitions(written), "run `python tests/charts/product_schemas.py`"


@pytest.mark.parametrize(
    ("path", "value", "blamed"),
    [
        ("services.retriever.config.search.kk", 3, "/services/retriever/config/search"),
        ("services.retriever.config.search.k", 0, "/services/retriever/config/search/k"),
        ("services.retriever.config.search.vector_store", "redis", "vector_store"),
        ("services.curation.config.on_error", "ignore", "/services/curation/config/on_error"),
        ("services.curation.config.length.max_characters", -1, "max_characters"),
        ("openaiFront.config.max_requests", "many", "/openaiFront/config/max_requests"),
        ("openaiFront.config.grace_s", 5, "/openaiFront/config"),
    ],
)
def test_a_fault_deep_in_a_configuration_is_refused_with_its_path(
    path: str, value: Any, blamed: str
) -> None:
    with pytest.raises(helm().HelmValuesError) as refusal:
        validate(dotted(path, value))

    assert blamed in str(refusal.value)


def test_a_good_configuration_reaches_the_service() -> None:
    given = {"search": {"k": 5, "embedder": {"model": "minilm"}}, "tools": {"judge_max_tokens": 64}}
    made = render(changes=dotted("services.retriever.config", given))

    text = made.one("ConfigMap", "retriever")["data"]["retriever.yaml"]
    assert "k: 5" in text
    assert "model: minilm" in text
