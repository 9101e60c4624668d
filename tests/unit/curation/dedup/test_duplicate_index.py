"""Duplicates in a stream: short texts never collapse, chains neither, and little is missed."""

from __future__ import annotations

import random

import pytest

from plumbline.core.errors import ResourceExhaustedError
from plumbline.curation.dedup.config import NearDuplicateConfig
from plumbline.curation.dedup.index import ExactIndex, NearIndex
from plumbline.curation.dedup.sketch import Sketcher, digest
from plumbline.curation.normalize import tokens

CONFIG = NearDuplicateConfig(threshold=0.8, shingle_size=1, min_shingles=8)
SKETCHER = Sketcher(CONFIG)


def words(count: int, *, start: int = 0) -> list[str]:
    return [f"w{i}" for i in range(start, start + count)]


def decide(index: NearIndex, name: str, document: list[str]) -> tuple[str, float] | None:
    sketch = SKETCHER.sketch(document)
    found = index.find(sketch) if sketch else None
    if sketch and not found:
        index.add(name, sketch)
    return (found.of, found.similarity) if found else None


def test_the_threshold_is_on_the_true_similarity() -> None:
    """90 shared of 110 in all is 0.818; 88 shared of 112 is 0.786."""
    index = NearIndex(CONFIG)
    assert decide(index, "a", words(100)) is None

    assert decide(index, "near", words(100, start=10)) == ("a", pytest.approx(90 / 110))
    assert decide(index, "far", words(100, start=12)) is None


def test_short_documents_are_not_near_anything() -> None:
    index = NearIndex(CONFIG)

    assert [decide(index, str(i), tokens(text)) for i, text in enumerate(["猫", "狗", "猫"])] == [
        None,
        None,
        None,
    ]


def test_exact_copies_up_to_case_and_spacing() -> None:
    index = ExactIndex()
    for name, text in (("a", "猫"), ("b", "狗")):
        assert index.find(digest(text)) is None
        index.add(name, digest(text))

    assert [found and found.of for found in map(index.find, map(digest, ("猫", "狗 ", "鼠")))] == [
        "a",
        "b",
        None,
    ]


def test_chains_do_not_collapse() -> None:
    """Each document is near the one before, but only those near a kept one go."""
    index = NearIndex(CONFIG)
    chain = [words(100, start=8 * i) for i in range(5)]

    outcome = [decide(index, str(i), document) for i, document in enumerate(chain)]
    # 92/108 = 0.85 to the neighbour, 84/116 = 0.72 to the one after.
    assert [found and found[0] for found in outcome] == [None, "0", None, "2", None]


def test_candidates_are_hardly_ever_missed() -> None:
    """At Jaccard 0.8 and 32 bands of 4 rows a pair is missed with (1 - 0.8^4)^32 = 5e-8."""
    rng = random.Random(3)
    index = NearIndex(CONFIG)
    missed = 0
    for i in range(200):
        base = [f"{i}-{rng.random()}" for _ in range(90)]
        extra = [[f"{i}{side}{n}" for n in range(10)] for side in "ab"]
        assert decide(index, str(i), base + extra[0]) is None
        missed += decide(index, f"{i}'", base + extra[1]) is None
    assert missed == 0


def test_a_full_index_refuses() -> None:
    index = NearIndex(CONFIG, capacity=1)
    decide(index, "a", words(20))

    with pytest.raises(ResourceExhaustedError, match="more than 1 different documents"):
        decide(index, "b", words(20, start=100))


def test_bands_must_divide_permutations() -> None:
    with pytest.raises(ValueError, match="bands=30 must divide permutations=128"):
        NearDuplicateConfig(bands=30)
