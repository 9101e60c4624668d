"""Queries of many threads are multiplied with the vectors together, and each gets its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from plumbline.retriever.search.joined import JoinedProducts


class Gated:
    """A matrix that waits before the first product, and counts the queries of each.

    `__matmul__` is all that is asked of a matrix.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        self.entered, self.open = threading.Event(), threading.Event()
        self.passes: list[int] = []

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        self.entered.set()
        assert self.open.wait(10)
        self.passes.append(1 if other.ndim == 1 else other.shape[1])
        return self.matrix @ other


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(0)


def waiting_for(joined: JoinedProducts, count: int) -> None:
    while len(joined._queue) < count:
        threading.Event().wait(0.001)


def test_those_that_come_during_a_pass_share_the_next_ones(numbers: np.random.Generator) -> None:
    """One query is being served, 20 come meanwhile: passes of 1, 16 and 4 queries."""
    matrix = numbers.normal(size=(50, 8)).astype(np.float32)
    queries = numbers.normal(size=(21, 8)).astype(np.float32)
    gated = Gated(matrix)
    joined = JoinedProducts(gated)  # type: ignore[arg-type]

    with ThreadPoolExecutor(21) as pool:
        first = pool.submit(joined.multiply, queries[0])
        assert gated.entered.wait(10)
        rest = [pool.submit(joined.multiply, query) for query in queries[1:]]
        waiting_for(joined, 21)
        gated.open.set()
        found = [future.result(timeout=10) for future in (first, *rest)]

    assert gated.passes == [1, 16, 4]
    np.testing.assert_allclose(found, queries @ matrix.T, rtol=1e-5, atol=1e-6)


def test_a_pass_that_fails_leaves_the_others_to_be_served(numbers: np.random.Generator) -> None:
    class FailsOnce(Gated):
        failed = False

        def __matmul__(self, other: np.ndarray) -> np.ndarray:
            if not self.failed:
                self.entered.set()
                assert self.open.wait(10)
                self.failed = True
                raise MemoryError
            return super().__matmul__(other)

    matrix = numbers.normal(size=(10, 4)).astype(np.float32)
    gated = FailsOnce(matrix)
    joined = JoinedProducts(gated)  # type: ignore[arg-type]

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(joined.multiply, matrix[0])
        assert gated.entered.wait(10)
        rest = [pool.submit(joined.multiply, matrix[i]) for i in (1, 2)]
        waiting_for(joined, 3)
        gated.open.set()
        with pytest.raises(MemoryError):
            first.result(timeout=10)
        found = [future.result(timeout=10) for future in rest]

    np.testing.assert_allclose(found, matrix[1:3] @ matrix.T, rtol=1e-5, atol=1e-6)
    assert joined._queue == []
