"""`make bench PART=retrieval`: rules under a filter, beside faiss, Qdrant's engine and LanceDB.

100,000 made-up rules of 384 dimensions, and queries that look at all of them, half, a tenth, 2.5 %
and 0.5 %: half by the day, fewer by category. All search the vectors that our importer made:

- ours: exact, `mode` dense; in the retriever's engine, and over gRPC its server with the store;
- ours, fused: the same with BM25, which the peers' indexes here do not hold;
- faiss HNSW: its filter drops what the walk through the graph finds;
- Qdrant Edge: the shard of Qdrant's server as a library; by its graph, with the walk that it has
  for filters (ACORN), and comparing every rule that matches, as our store for its server asks it
  to. The server itself is not run: no package registry was found to carry it;
- LanceDB: by IVF_HNSW_SQ, and comparing every rule that matches; with indexes of the fields.

Indexes are made with both cores; then each engine is a process on one core, with the clients on
the other. In the process a peer is handed the query's vector, while ours embeds the text. Over gRPC
all answer the same RetrieveValues messages with the same texts; a peer's server is grpc's own with
four threads and looks a query's vector up, ours embeds it, checks limits and deadlines, and counts.

The gate, before any time is taken: our ten nearest are those of exact search in float64, at every
share, in the process and over gRPC. Of the peers, the share of those ten that they find is a row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from framework import NO_PEERS, BenchmarkError, Row, has_peers, show_rows, write_rows
from retrieval_data import SHARES, Truth, filter_of, load_data, truth
from retrieval_engines import (
    CLIENT_CORE,
    FUSED,
    MANY,
    OURS,
    PEERS,
    Engine,
    K,
    Place,
    build,
    start,
)
from retrieval_rounds import Table, Turn, take_turns
from retrieval_tables import BM25, MATCH, tables

from plumbline.core.rpc import connect
from plumbline.v1 import retriever_pb2 as pb

GATE_QUERIES, WIRE_QUERIES = 100, 20
SWAPS = 2
RECALL = f"share of the {K} nearest that is found"


def check_ours(ours: Engine, truths: Mapping[float, Truth], queries: int) -> str:
    """The gate.

    Raises:
        BenchmarkError: a query's ten nearest are not those of exact search.
    """
    for share, exact in truths.items():
        for query, rows in enumerate(ours.find(share, range(queries))):
            _check(exact, query, share, rows)
        for query in range(min(queries, WIRE_QUERIES)):
            reply = ours.clients.ask(0, query, filter_of(share), K)
            rows = [int(hit.value.id.removeprefix("rule-")) for hit in reply.values]
            _check(exact, query, share, rows)
    return f"our {K} nearest are those of exact search in float64, {queries} queries a share"


def _check(exact: Truth, query: int, share: float, rows: Sequence[int]) -> None:
    if len(rows) != exact.count or exact.recall(query, rows) < 1.0:
        raise BenchmarkError(f"query {query} at {share:.1%}: {rows} are not the {K} nearest")


def measure_recall(engine: Engine, truths: Mapping[float, Truth], queries: int) -> None:
    for share, exact in truths.items():
        found = enumerate(engine.find(share, range(queries)))
        engine.recall[share] = statistics.mean(exact.recall(query, rows) for query, rows in found)


def measure(
    engines: Mapping[str, Engine], by_share: Mapping[float, Table], rounds: int, seconds: float
) -> Iterator[Row]:
    """In the process, then over gRPC by one client and by many."""
    ways = {"in the process": 0, "gRPC, 1 client": 1, f"gRPC, {MANY} clients": MANY}
    for (way, clients), (share, table) in product(ways.items(), by_share.items()):

        def turn(name: str, clients: int = clients, share: float = share) -> Turn:
            if clients:
                return engines[name].over_grpc(clients, share, seconds)
            return engines[name].in_process(share, seconds)

        turns = dict(take_turns(list(engines), rounds, turn))
        fused = turns.pop(FUSED)
        yield from table.beside(way, turns, OURS)
        yield from table.alone(way + BM25, fused, "the peers search no words here")


def recall_rows(engines: Mapping[str, Engine], by_share: Mapping[float, Table]) -> Iterator[Row]:
    for share, table in by_share.items():
        for name, engine in engines.items():
            if share in engine.recall:
                pair = (1.0, engine.recall[share])
                yield table.row(RECALL, RECALL, [pair], name, more_is_better=True)


def index_rows(engines: Mapping[str, Engine], table: Table) -> Iterator[Row]:
    """Building, loading, disk and memory; each once."""
    own, note = engines[OURS], "ours is an import: it validates, embeds and indexes words too"
    for name, peer in engines.items():
        if name in (OURS, FUSED):
            continue
        figures = {
            "s to build": (own.build_s, peer.build_s),
            "s to load": (own.program.ready.wall_s, peer.program.ready.wall_s),
            "MiB on disk": (own.disk_bytes / 2**20, peer.disk_bytes / 2**20),
            "MiB resident, server": (own.resident_mib, peer.resident_mib),
        }
        if not peer.build_s:
            figures = {unit: figures[unit] for unit in ("s to load", "MiB resident, server")}
        for unit, pair in figures.items():
            yield table.row("index", unit, [pair], name, note)


def swap_rows(engine: Engine, table: Table) -> Iterator[Row]:
    """Another process imports a changed rule and so moves the tag; then the tag is put back."""
    imports, firsts, backs = [], [], []
    everything = filter_of(1.0)
    for _ in range(SWAPS):
        before = engine.clients.ask(0, 0, everything, K).artifact
        change = engine.program.ask({"do": "change"})
        imports.append(change.wall_s)
        began = time.perf_counter()
        found = engine.clients.ask(0, 1, everything, K).artifact
        firsts.append(time.perf_counter() - began)
        _check_state(found, change.facts["artifact"])
        with connect("retriever", target=engine.clients.address) as stub:
            back = pb.TagKnowledgeBaseRequest(knowledge_base="rules", target=before)
            began = time.perf_counter()
            stub.TagKnowledgeBase(back)
        _check_state(engine.clients.ask(0, 2, everything, K).artifact, before)
        backs.append(time.perf_counter() - began)
    note = "the server loads the new state when the first query asks for it"
    yield table.figure("swap", "s, import of one changed rule by another process", imports)
    yield table.figure("swap", "s, first answer from that state", firsts, note)
    yield table.figure("swap", "s, roll-back and the answer after it", backs)


def _check_state(found: str, wanted: str) -> None:
    if found != wanted:
        raise BenchmarkError(f"a query was answered from {found[:12]}; the tag is on {wanted[:12]}")


def run(arguments: argparse.Namespace, peers: Sequence[str]) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as directory, ExitStack() as stack:
        place = Place(Path(directory), arguments.rules, arguments.dimensions, arguments.queries)
        built = build(place, peers)
        os.sched_setaffinity(0, {CLIENT_CORE})
        data = load_data(place.data)
        engines = start(place, data, peers, stack)
        for name, (seconds, size) in built.items():
            engines[name].build_s, engines[name].disk_bytes = seconds, size
        queries = min(arguments.gate_queries, len(data.queries))
        truths = {share: truth(data, filter_of(share), queries, K) for share in SHARES}
        gate = check_ours(engines[OURS], truths, queries)
        for name in peers:
            measure_recall(engines[name], truths, queries)
        shape = f"{len(data.rules):,} x {data.vectors.shape[1]}"
        by_share = {share: Table(f"{shape}, {100 * share:g} %{MATCH}", gate) for share in SHARES}
        return [
            *recall_rows(engines, by_share),
            *measure(engines, by_share, arguments.repeats, arguments.seconds),
            *index_rows(engines, Table(shape, gate)),
            *swap_rows(engines[OURS], Table(shape, gate)),
        ]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rules", type=int, default=100_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--gate-queries", type=int, default=GATE_QUERIES)
    parser.add_argument("--seconds", type=float, default=0.7, help="of one turn")
    parser.add_argument("--repeats", type=int, default=2, help="rounds")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    arguments = parser.parse_args(argv)
    peers = arguments.peers
    if not has_peers():
        print(NO_PEERS)
        peers = []
    rows = run(arguments, peers)
    show_rows("retrieval", rows)
    print("\nqueries a second (milliseconds, p50 and p99):")
    for text in tables(rows):
        print(f"\n{text}")
    print(f"written to {write_rows('retrieval', rows)}")
    return int(len(peers) < len(arguments.peers))


if __name__ == "__main__":
    raise SystemExit(main())
