"""Which documents go: as the greedy walk from the best-ranked on would have it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.core.errors import InvalidInputError
from plumbline.curation.dedup.resolve import Resolution, resolve

Pairs = list[tuple[int, int, float]]


def decide(rank: list[int], groups: list[int], pairs: Pairs) -> Resolution:
    digests = np.array([[group % 2, group] for group in groups], dtype=np.uint64).reshape(-1, 2)
    return resolve(
        np.array(rank, dtype=np.int64),
        digests,
        np.array([pair[:2] for pair in pairs], dtype=np.int64).reshape(-1, 2),
        np.array([pair[2] for pair in pairs], dtype=np.float64),
    )


def outcome(resolution: Resolution) -> dict[int, tuple[int, float, bool]]:
    return {
        row: (of, similarity, exact)
        for row, of, similarity, exact in zip(
            resolution.dropped.tolist(),
            resolution.copies.tolist(),
            resolution.similarity.tolist(),
            resolution.exact.tolist(),
            strict=True,
        )
    }


def walked(rank: list[int], groups: list[int], pairs: Pairs) -> dict[int, tuple[int, float, bool]]:
    """The definition, one document at a time."""
    best = {
        g: min((r, i) for i, (r, h) in enumerate(zip(rank, groups, strict=True)) if h == g)[1]
        for g in groups
    }
    original = [best[group] for group in groups]
    dropped = {i: (of, 1.0, True) for i, of in enumerate(original) if of != i}
    kept: set[int] = set()
    for row in sorted(set(original), key=lambda i: rank[i]):
        partners = [
            (-similarity, rank[other], other)
            for i, j, similarity in pairs
            for one, other in (
                (original[i], original[j]),
                (original[j], original[i]),
            )
            if one == row and other in kept
        ]
        if partners:
            closeness, _, other = min(partners)
            dropped[row] = (other, -closeness, False)
        else:
            kept.add(row)
    return dropped


def test_the_best_ranked_of_equal_documents_stays() -> None:
    assert outcome(decide([2, 0, 1], [5, 5, 5], [])) == {0: (1, 1.0, True), 2: (1, 1.0, True)}


def test_chains_do_not_collapse() -> None:
    """1 goes for 0; 2 copies only 1, which is gone, and stays; 3 goes for 2."""
    chain: Pairs = [(0, 1, 0.85), (1, 2, 0.85), (2, 3, 0.85)]

    assert outcome(decide([0, 1, 2, 3], [0, 1, 2, 3], chain)) == {
        1: (0, 0.85, False),
        3: (2, 0.85, False),
    }


def test_the_most_similar_kept_one_is_named() -> None:
    """3 is like all others; 1 is closest, but it goes for 0; of 0 and 2 the rank decides."""
    pairs: Pairs = [(0, 3, 0.8), (1, 3, 0.99), (2, 3, 0.8), (0, 1, 0.9)]

    assert outcome(decide([0, 1, 2, 3], [0, 1, 2, 3], pairs)) == {
        1: (0, 0.9, False),
        3: (0, 0.8, False),
    }


def test_pairs_of_an_exact_copy_are_those_of_its_original() -> None:
    """0 and 1 are equal; 2 was compared with 1 alone."""
    assert outcome(decide([0, 1, 2], [7, 7, 8], [(1, 2, 0.9)])) == {
        1: (0, 1.0, True),
        2: (0, 0.9, False),
    }


def test_nothing_given() -> None:
    assert outcome(decide([], [], [])) == {}


def test_sixteen_byte_digests() -> None:
    digests = np.array([b"a" * 15 + b"b", b"a" * 16, b"a" * 15 + b"b"], dtype="V16")
    nothing = np.empty((0, 2), dtype=np.int64), np.empty(0)

    assert outcome(resolve(np.arange(3), digests, *nothing)) == {2: (0, 1.0, True)}


def test_a_shared_half_of_a_digest_is_no_copy() -> None:
    digests = np.array([[1, 1], [1, 2], [1, 1]], dtype=np.uint64)
    nothing = np.empty((0, 2), dtype=np.int64), np.empty(0)

    assert outcome(resolve(np.arange(3), digests, *nothing)) == {2: (0, 1.0, True)}


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[int], list[int], Pairs]:
    size = draw(st.integers(1, 14))
    rows = st.integers(0, size - 1)
    rank = draw(st.permutations(range(size)))
    groups = draw(st.lists(st.integers(0, size), min_size=size, max_size=size))
    pair = st.tuples(rows, rows, st.sampled_from([0.8, 0.85, 0.9, 1.0]))
    pairs = draw(st.lists(pair.filter(lambda p: p[0] < p[1]), max_size=30)) if size > 1 else []
    return list(rank), groups, pairs


@settings(max_examples=400, deadline=None)
@given(corpora())
def test_as_a_walk_over_the_documents(corpus: tuple[list[int], list[int], Pairs]) -> None:
    assert outcome(decide(*corpus)) == walked(*corpus)


@settings(max_examples=100, deadline=None)
@given(corpora(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    corpus: tuple[list[int], list[int], Pairs], random
) -> None:  # type: ignore[no-untyped-def]
    rank, groups, pairs = corpus
    order = list(range(len(rank)))
    random.shuffle(order)
    place = {row: i for i, row in enumerate(order)}
    moved = decide(
        [rank[row] for row in order],
        [groups[row] for row in order],
        [(place[i], place[j], similarity) for i, j, similarity in reversed(pairs)],
    )

    back = {order[row]: (order[of], *rest) for row, (of, *rest) in outcome(moved).items()}
    assert back == outcome(decide(rank, groups, pairs))


def test_long_chains_take_linear_time() -> None:
    """Every other one of 20 000 goes; rounds over all pairs would take minutes."""
    pairs = np.stack([np.arange(19_999), np.arange(1, 20_000)], axis=1)
    digests = np.arange(40_000, dtype=np.uint64).reshape(-1, 2)

    found = resolve(np.arange(20_000), digests, pairs, np.full(19_999, 0.9))
    assert found.dropped.tolist() == list(range(1, 20_000, 2))


def test_what_does_not_fit_together_is_refused() -> None:
    rank, digests = np.arange(2), np.arange(4, dtype=np.uint64).reshape(2, 2)
    pair, one = np.array([[0, 1]]), np.ones(1)

    with pytest.raises(InvalidInputError, match="2 digests of 3 documents"):
        resolve(np.arange(3), digests, pair, one)
    with pytest.raises(InvalidInputError, match=r"shape \(1, 2\) with 2 similarities"):
        resolve(rank, digests, pair, np.ones(2))
    with pytest.raises(InvalidInputError, match="rows 0 to 5; there are rows 0 to 1"):
        resolve(rank, digests, np.array([[0, 5]]), one)
