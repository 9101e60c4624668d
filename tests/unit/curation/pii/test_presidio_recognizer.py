"""Presidio behind the recognizer interface."""

from __future__ import annotations

import importlib.util

import pytest

from plumbline.core.errors import FailedPreconditionError
from plumbline.curation.pii.names.config import PresidioConfig
from plumbline.curation.pii.presidio import PresidioRecognizer

INSTALLED = importlib.util.find_spec("presidio_analyzer") is not None
needs_presidio = pytest.mark.skipif(
    not INSTALLED, reason="presidio-analyzer is not installed; the extra `presidio` holds it"
)


@pytest.mark.skipif(INSTALLED, reason="presidio-analyzer is installed")
def test_without_the_package_the_extra_is_named() -> None:
    with pytest.raises(FailedPreconditionError, match=r"plumbline\[presidio\]") as raised:
        PresidioRecognizer(PresidioConfig())
    assert raised.value.reason == "MISSING_EXTRA"


@needs_presidio
def test_entities_are_found_under_our_names() -> None:
    recognizer = PresidioRecognizer(PresidioConfig(model="no_such_pipeline"))
    text = "Mail ann@example.com, card 4111 1111 1111 1111"
    spans = recognizer.find([text, ""])
    found = {span.type: text[span.start : span.end] for span in spans[0]}
    assert found["EMAIL"] == "ann@example.com"
    assert found["BANK_CARD"] == "4111 1111 1111 1111"
    assert spans[1] == []


@needs_presidio
def test_names_are_not_promised_without_a_model() -> None:
    recognizer = PresidioRecognizer(PresidioConfig(model="no_such_pipeline"))
    assert not recognizer.has_model
    assert "PERSON" not in recognizer.types


@needs_presidio
def test_a_missing_model_can_be_an_error() -> None:
    config = PresidioConfig(model="no_such_pipeline", blank_without_model=False)
    with pytest.raises(FailedPreconditionError, match="no_such_pipeline"):
        PresidioRecognizer(config)
