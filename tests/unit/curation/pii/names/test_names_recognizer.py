"""Both recognizers over any text, and over identity terms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import ConfigError
from plumbline.core.validation import parse_config
from plumbline.curation.pii.names.config import NamesConfig
from plumbline.curation.pii.names.gazetteer import sections, words
from plumbline.curation.pii.names.recognizer import AddressRecognizer, NameRecognizer

NAMES, ADDRESSES = NameRecognizer(NamesConfig()), AddressRecognizer(NamesConfig())
PIECES = st.sampled_from(
    [
        "Mr. ",
        "Tamara",
        " Olsen",
        "12 ",
        "Elm Street",
        ", ",
        "\n",
        "张",
        "伟",
        "医生",
        "路8号",
        "名:",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=25).map("".join))
def test_any_text_gets_spans_within_it(text: str) -> None:
    for recognizer in (NAMES, ADDRESSES):
        for span in recognizer.find([text])[0]:
            assert 0 <= span.start < span.end <= len(text)
            assert span.type in recognizer.types


def test_texts_of_a_batch_do_not_mix() -> None:
    texts = ["Tamara Olsen left.", "Then Olsen spoke.", ""]
    alone = [NAMES.find([text])[0] for text in texts]
    assert NAMES.find(texts) == alone


def test_identity_terms_are_no_names(public_data: Callable[[str], Path]) -> None:
    """Terms of HolisticBias as people say them of themselves."""

    def strings(value: object) -> list[str]:
        if isinstance(value, str):
            return [value]
        parts = value.values() if isinstance(value, dict) else value
        return [text for part in parts for text in strings(part)]  # type: ignore[union-attr]

    folder = public_data("holistic_bias")
    terms = set(strings(json.loads((folder / "descriptors.json").read_text())))
    terms.update(strings(json.loads((folder / "nouns.json").read_text())))
    sentences = [
        sentence
        for term in sorted(terms)
        for sentence in (f"I'm {term}.", f"{term.title()} people met us.", f"We met a {term}.")
    ]
    hits = [s for s, spans in zip(sentences, NAMES.find(sentences), strict=True) if spans]
    assert len(sentences) > 1000
    assert hits == []


def test_gazetteers_hold_no_blank_or_doubtful_entries() -> None:
    assert len(words("given_names")) > 10_000
    assert "Faker" not in words("given_names")
    surnames = sections("han_surnames")
    assert "王" in surnames["common"][0]
    assert all(len(name) >= 2 for name in surnames["compound"])
    assert all(len(word) == 2 for word in sections("han_context")["before"])


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="languages"):
        parse_config(NamesConfig, {"languages": []})
    with pytest.raises(ConfigError, match="langauges"):
        parse_config(NamesConfig, {"langauges": ["en"]})
