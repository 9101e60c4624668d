"""The Qdrant store answers as the exact store does, on the client's local mode and on a server.

PLUMBLINE_TEST_QDRANT names a server by its URL, for example http://localhost:6333; without it only
the local mode runs, which is the client's own reading of the server's behaviour.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.core.artifacts import open_configured_store
from plumbline.core.errors import ConfigError, NotFoundError, UnavailableError
from plumbline.core.settings import Settings
from plumbline.data.records import ValueKind, ValueSpec
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.search.config import EmbedderConfig, SearchConfig
from plumbline.retriever.search.dense import exact_scores
from plumbline.retriever.search.filters import FilterColumns, ValueQuery
from plumbline.retriever.search.fusion import best_first
from plumbline.retriever.search.qdrant import QdrantStore, configured_store
from plumbline.retriever.search.stores import ExactStore, VectorStore

qdrant_client = pytest.importorskip("qdrant_client", reason="the extra `qdrant` is not installed")

pytestmark = pytest.mark.integration

DAYS = ("", "2019-01-01", "2020-06-01", "2021-01-01", "2022-12-31")
PLACES = ("", "CN", "CN-11", "CN-11-01", "US", "C")
TENANTS, AUDIENCES = ("", "acme", "银行"), ("", "minors")
WORDS = ("bread", "oven", "salt", "data", "child", "报告", "食品", "安全", "law", "of")
CATEGORIES = ("", "privacy", 'it\'s "quoted"', "食品")


@pytest.fixture(params=["local", "server"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "local":
        with warnings.catch_warnings():
            # The local mode says what it has no use for: it compares every point.
            warnings.filterwarnings("ignore", message="Payload indexes have no effect")
            warnings.filterwarnings("ignore", message="Local mode performs exact")
            yield qdrant_client.QdrantClient(":memory:")
        return
    url = os.environ.get("PLUMBLINE_TEST_QDRANT")
    if not url:
        pytest.skip("PLUMBLINE_TEST_QDRANT names no Qdrant server")
    yield qdrant_client.QdrantClient(url=url)


@pytest.fixture
def snapshot(client: Any) -> Iterator[str]:
    """An artifact id of the test's own, forgotten at the end."""
    name = uuid.uuid4().hex * 2
    yield name
    QdrantStore(client).drop(name)


def random_values(count: int, rng: random.Random) -> list[ValueSpec]:
    values = []
    for number in range(count):
        first, end = sorted(rng.choices(DAYS, k=2))
        values.append(
            ValueSpec(
                id=f"v{number:04d}",
                text="text",
                kind=rng.choice(tuple(ValueKind)).value,
                jurisdiction=rng.choice(PLACES),
                tenant=rng.choice(TENANTS),
                audience=rng.choice(AUDIENCES),
                category=rng.choice(CATEGORIES),
                effective_from=first if first != end else "",
                effective_to=end if first != end else "",
            )
        )
    return values


def random_query(rng: random.Random) -> ValueQuery:
    return ValueQuery(
        as_of=rng.choice(DAYS[1:]),
        jurisdiction=rng.choice(PLACES),
        tenant=rng.choice(TENANTS),
        audience=rng.choice(AUDIENCES),
        categories=tuple(rng.sample(CATEGORIES, rng.randint(0, 3))),
        kinds=tuple(kind.value for kind in rng.sample(list(ValueKind), rng.randint(0, 2))),
    )


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    rows: np.ndarray = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return rows.astype(np.float32)


def ranking(
    store: VectorStore, snapshot: str, vectors: np.ndarray, query: np.ndarray, *asked: Any
) -> list[int]:
    """The nearest rows as an index ranks them: by exact scores, equal ones by row."""
    where, limit = asked
    rows = store.nearest(snapshot, query, where, limit)
    found, _ = best_first(rows, exact_scores(vectors, query, rows), limit)
    return [int(row) for row in found]


def test_rankings_are_those_of_the_exact_store(client: Any, snapshot: str) -> None:
    """Coarse vectors make many cosines equal, so that what is equal must not be cut off either."""
    rng, numbers = random.Random(1), np.random.default_rng(1)
    values = random_values(400, rng)
    columns = FilterColumns.of(values)
    vectors = unit_rows(numbers.integers(-1, 2, size=(400, 6)) + 1e-3)
    stores = (QdrantStore(client), ExactStore())
    for store in stores:
        store.upsert(snapshot, vectors, columns)

    matched = 0
    for limit in itertools.islice(itertools.cycle((1, 3, 20, 500)), 200):
        where, query = random_query(rng), vectors[rng.randrange(400)]
        theirs, ours = (ranking(store, snapshot, vectors, query, where, limit) for store in stores)
        assert theirs == ours, (where, limit)
        assert len(ours) == min(limit, len(columns.rows(where)))
        matched += len(ours)

    assert matched > 500


def test_all_that_lie_as_near_as_the_last_one_come_back(client: Any, snapshot: str) -> None:
    vectors = unit_rows(np.array([[1.0, 0.0]] * 50 + [[0.0, 1.0]] * 50))
    store = QdrantStore(client)
    store.upsert(snapshot, vectors, FilterColumns.of([ValueSpec(str(i), "t") for i in range(100)]))

    rows = store.nearest(snapshot, vectors[0], ValueQuery(), 3)

    assert rows.tolist() == list(range(50))


def test_an_upload_that_was_broken_off_is_finished_by_the_next_replica(
    client: Any, snapshot: str
) -> None:
    values = random_values(300, random.Random(2))
    vectors = unit_rows(np.random.default_rng(2).normal(size=(300, 8)))
    columns = FilterColumns.of(values)
    QdrantStore(client).upsert(snapshot, vectors, columns)
    client.delete(f"plumbline-{snapshot}", points_selector=list(range(120, 300)))

    replica = QdrantStore(client)
    replica.upsert(snapshot, vectors, columns)
    replica.upsert(snapshot, vectors, columns)

    assert client.count(f"plumbline-{snapshot}").count == 300
    where = ValueQuery(as_of="2020-06-01")
    rows = replica.nearest(snapshot, vectors[0], where, 500)
    assert rows.tolist() == columns.rows(where).tolist()


def test_a_base_without_values_finds_nothing(client: Any, snapshot: str) -> None:
    store = QdrantStore(client)
    store.upsert(snapshot, np.zeros((0, 8), np.float32), FilterColumns.of([]))

    assert store.nearest(snapshot, np.ones(8, np.float32), ValueQuery(), 3).tolist() == []


def test_a_snapshot_that_was_not_given_or_was_dropped_is_an_error(
    client: Any, snapshot: str
) -> None:
    store, vector = QdrantStore(client), np.ones(2, np.float32)
    with pytest.raises(NotFoundError, match="was not given"):
        store.nearest(snapshot, vector, ValueQuery(), 1)

    store.upsert(
        snapshot, unit_rows(np.eye(2)), FilterColumns.of(random_values(2, random.Random()))
    )
    store.drop(snapshot)
    with pytest.raises(NotFoundError, match="was not given"):
        store.nearest(snapshot, vector, ValueQuery(), 1)


@pytest.mark.parametrize("mode", ["fused", "dense"])
def test_an_engine_ranks_as_without_a_server(client: Any, tmp_path: Path, mode: str) -> None:
    artifacts = open_configured_store(Settings(state_dir=tmp_path))
    # Narrow, so that unlike texts collide and are equally near.
    embedder = EmbedderConfig(dimensions=32)
    here = RetrieverEngine(artifacts, RetrieverConfig(), embedder=embedder)
    there = RetrieverEngine(
        artifacts, RetrieverConfig(), embedder=embedder, vectors=QdrantStore(client)
    )
    rng = random.Random(3)
    values = [
        replace(value, text=" ".join(rng.choices(WORDS, k=6))) for value in random_values(150, rng)
    ]
    _, artifact = here.import_values("house", values)

    for _ in range(20):
        where, query = random_query(rng), " ".join(rng.choices(WORDS, k=3))
        asked = {"k": rng.choice((1, 5, 40)), "mode": mode}
        assert there.retrieve("house", query, where, **asked) == here.retrieve(
            "house", query, where, **asked
        )
    assert client.count(f"plumbline-{artifact}").count == 150
    QdrantStore(client).drop(artifact)


def test_a_store_needs_a_url() -> None:
    assert configured_store(SearchConfig(), Settings()) is None
    with pytest.raises(ConfigError, match="PLUMBLINE_QDRANT_URL is not set"):
        configured_store(SearchConfig(vector_store="qdrant"), Settings())


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = Settings(qdrant_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        store = QdrantStore.connect(settings)

        with pytest.raises(UnavailableError, match="Qdrant does not answer"):
            store.upsert("a" * 64, unit_rows(np.eye(2)), FilterColumns.of([]))


@pytest.fixture(params=[404, 429, 500])
def faulty(request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
    """A server that answers everything with one status; and its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.send_header("Content-Length", "2")
            self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield request.param, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_faults_of_the_server_are_typed(faulty: tuple[int, str]) -> None:
    status, url = faulty
    store = QdrantStore.connect(Settings(qdrant_url=url))
    expected = NotFoundError if status == 404 else UnavailableError

    with pytest.raises(expected):
        store.upsert("a" * 64, unit_rows(np.eye(2)), FilterColumns.of([]))
