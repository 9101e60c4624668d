"""Sketches: the same in every batch, close to the true similarity, refused when out of date."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st
from rensa import RMinHash

from plumbline.core.errors import FailedPreconditionError
from plumbline.curation.dedup.candidates import candidate_pairs, unique_pairs
from plumbline.curation.dedup.config import NearDuplicateConfig
from plumbline.curation.dedup.sketch import (
    SKETCH_VERSION,
    Sketch,
    Sketcher,
    check_sketch_version,
    digest,
    shingle_digests,
    similarity,
)
from plumbline.curation.normalize import tokens

WORDS = NearDuplicateConfig(shingle_size=1)
DATATROVE = NearDuplicateConfig(shingle_size=1, permutations=112, bands=14)


def set_pair(name: str, shared: int, own: int) -> tuple[list[str], list[str]]:
    """Two sets of words with `shared` in common and `own` each to themselves."""
    common = [f"{name}-{i}" for i in range(shared)]
    return tuple([*common, *(f"{name}{side}{i}" for i in range(own))] for side in "ab")  # type: ignore[return-value]


def sketched(pairs: list[tuple[list[str], list[str]]], config: NearDuplicateConfig) -> list[Sketch]:
    made = Sketcher(config).sketch_all([document for pair in pairs for document in pair])
    return [sketch for sketch in made if sketch is not None]


def candidate_rate(sketches: list[Sketch]) -> float:
    """Share of neighbours (0, 1), (2, 3), ... that `candidate_pairs` brings together."""
    bands = np.stack([sketch.bands for sketch in sketches], axis=1)
    found = unique_pairs([candidate_pairs(band) for band in bands], len(sketches))
    together = (found[:, 0] % 2 == 0) & (found[:, 1] == found[:, 0] + 1)
    return float(together.sum()) / (len(sketches) / 2)


def test_shingles_by_hand() -> None:
    """Runs of 2 in a b c d are ab bc cd, in a b c e ab bc ce: 2 shared of 4; one word has none."""
    digests, offsets = shingle_digests(["abcd", "a", "abce", "", "ababab"], 2)
    sets = [digests[a:b] for a, b in itertools.pairwise(offsets)]

    assert [len(found) for found in sets] == [3, 0, 3, 0, 2]
    assert similarity(sets[0], sets[2]) == 0.5
    assert similarity(sets[1], sets[3]) == 0.0


def test_a_shingle_is_its_words_in_their_order() -> None:
    digests, _ = shingle_digests(["ab", "ba", "aa", "bb"], 2)

    assert len(set(digests.tolist())) == 4


def test_chinese_has_shingles() -> None:
    _, offsets = shingle_digests([tokens("今天天气很好我们去公园")], 3)

    assert offsets.tolist() == [0, 9]


def test_cat_dog_cat_keeps_two() -> None:
    """Too short to sketch, so only exact copies count."""
    texts = ["猫", "狗", "猫"]

    assert (
        Sketcher(NearDuplicateConfig()).sketch_all([tokens(text) for text in texts]) == [None] * 3
    )
    assert len({digest(text) for text in texts}) == 2


def test_min_shingles_counts_different_ones() -> None:
    config = NearDuplicateConfig(shingle_size=1, min_shingles=3)
    few, enough = Sketcher(config).sketch_all([list("abababab"), list("abc")])

    assert few is None
    assert enough is not None and len(enough.shingles) == 3


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(st.lists(st.sampled_from("甲乙丙abc"), max_size=12), min_size=1, max_size=8),
    size=st.integers(1, 4),
)
def test_sketches_do_not_depend_on_the_batch(documents: list[list[str]], size: int) -> None:
    sketcher = Sketcher(NearDuplicateConfig(shingle_size=size, min_shingles=2))
    for alone, together in zip(
        map(sketcher.sketch, documents), sketcher.sketch_all(documents), strict=True
    ):
        assert (alone is None) == (together is None)
        if alone is not None and together is not None:
            assert np.array_equal(alone.bands, together.bands)
            assert np.array_equal(alone.shingles, together.shingles)


@settings(max_examples=100, deadline=None)
@given(
    left=st.lists(st.sampled_from("甲乙丙丁戊abcde"), max_size=30),
    right=st.lists(st.sampled_from("甲乙丙丁戊abcde"), max_size=30),
    size=st.integers(1, 3),
)
def test_similarity_is_that_of_the_shingles(left: list[str], right: list[str], size: int) -> None:
    sets = [
        {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}
        for words in (left, right)
    ]
    digests, offsets = shingle_digests([left, right], size)
    union = len(sets[0] | sets[1])

    assert similarity(digests[: offsets[1]], digests[offsets[1] :]) == pytest.approx(
        len(sets[0] & sets[1]) / union if union else 0.0
    )


def test_equal_documents_have_equal_sketches() -> None:
    left, right = sketched([(list("abcdefghij"), list("abcdefghij"))], WORDS)

    assert np.array_equal(left.bands, right.bands)


@pytest.mark.parametrize(
    ("config", "shared", "own"),
    [
        (DATATROVE, 160, 20),
        (DATATROVE, 120, 40),
        (WORDS, 120, 40),
        (WORDS, 80, 60),
        (WORDS, 60, 70),
    ],
)
def test_banding_keeps_to_its_theory(config: NearDuplicateConfig, shared: int, own: int) -> None:
    """A pair of Jaccard similarity s shares one of b bands of r rows with 1 - (1 - s^r)^b.

    160 of 200 shared is 0.8; 14 bands of 8 rows then bring together 92.4 %. 120 of 200 is 0.6,
    80 of 200 is 0.4, 60 of 200 is 0.3. Of 3000 pairs the rate is within 1.5 points at 3 sigma.
    """
    s, rows = shared / (shared + 2 * own), config.permutations // config.bands
    expected = 1 - (1 - s**rows) ** config.bands
    sketches = sketched([set_pair(f"{i}", shared, own) for i in range(3000)], config)

    assert candidate_rate(sketches) == pytest.approx(expected, abs=0.03)


def test_the_datatrove_banding_finds_924_in_a_thousand() -> None:
    assert pytest.approx(0.924, abs=0.0005) == 1 - (1 - 0.8**8) ** 14


def test_estimates_err_like_those_of_datasketch() -> None:
    """128 permutations at similarity 2/3: a standard error of sqrt(2/9/128) = 0.0417.

    Over 200 pairs the mean error is within 0.009 (3 sigma), and its spread at most a fifth above;
    permutations that are not wholly independent may do better.
    """
    pairs = [set_pair(f"p{i}", 120, 30) for i in range(200)]
    config = NearDuplicateConfig(shingle_size=1, bands=128)
    sketches = sketched(pairs, config)
    ours = [float((a.bands == b.bands).mean()) for a, b in zip(*[iter(sketches)] * 2, strict=True)]
    theirs = [_datasketch(a).jaccard(_datasketch(b)) for a, b in pairs]

    for estimates in (ours, theirs):
        errors = np.array(estimates) - 2 / 3
        assert abs(errors.mean()) < 0.009
        assert 0.0417 / 2 < errors.std() < 0.0417 * 1.2


def test_candidates_agree_with_datasketch() -> None:
    """Both find every pair at 0.95 (missed with 1e-18) and none at 0.05 (found with 2e-4)."""
    near = [set_pair(f"near{i}", 190, 5) for i in range(60)]
    far = [set_pair(f"far{i}", 10, 95) for i in range(60)]
    lsh = MinHashLSH(num_perm=128, params=(32, 4))
    for i, (left, _) in enumerate(near + far):
        lsh.insert(str(i), _datasketch(left))
    theirs = [str(i) in lsh.query(_datasketch(right)) for i, (_, right) in enumerate(near + far)]

    assert theirs == [True] * 60 + [False] * 60
    assert candidate_rate(sketched(near, WORDS)) == 1.0
    assert candidate_rate(sketched(far, WORDS)) == 0.0


def test_the_version_names_the_values() -> None:
    """Changes to rensa or to the mixing change these numbers, and must change the version."""
    assert SKETCH_VERSION.startswith(f"rensa-{RMinHash.ALGORITHM_VERSION}-")
    assert SKETCH_VERSION == "rensa-2-25ffdfdc"


def test_old_sketches_are_refused() -> None:
    check_sketch_version(SKETCH_VERSION, where="shard 3")

    with pytest.raises(
        FailedPreconditionError, match="shard 3 holds sketches of version 'rensa-1'"
    ):
        check_sketch_version("rensa-1", where="shard 3")


def _datasketch(words: list[str]) -> MinHash:
    made = MinHash(num_perm=128)
    made.update_batch([word.encode() for word in words])
    return made
