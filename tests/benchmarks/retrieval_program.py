"""The side of a retrieval engine: builds its index, then answers in its process and over gRPC.

Started with {"do": "build"} a program makes its index on disk and ends. Started with
{"do": "serve"} it loads that index, serves RetrieveValues beside it, and measures searches in its
own process whenever it is told to.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from measured_run import Measured, arguments
from retrieval_data import Data, Filter, filter_of, load_data

SERVICES = Path(__file__).resolve().parents[2] / "services"
SERVER_THREADS = 4
"""As many as answer in our server."""

Found = Sequence[tuple[int, float]]
"""Rows and cosines, nearest first."""


class Engine(Protocol):
    """An index in memory."""

    version: str

    def search(self, query: int, where: Filter, k: int) -> Found:
        """The k nearest rules that match the filter, or those that the engine finds.

        Args:
            query: its number in the data.
        """
        ...


class EngineType(Protocol):
    """How an engine's index is made, and loaded."""

    def build(self, data: Data, index: Path) -> None: ...

    def load(self, data: Data, index: Path) -> Engine: ...


def run_program(engine_type: EngineType) -> None:
    """The body of a program: what its one argument says."""
    given = arguments()
    data, index = load_data(Path(given["data"])), Path(given["index"])
    measured = Measured()
    if given["do"] == "build":
        index.mkdir(parents=True, exist_ok=True)
        with measured.block():
            engine_type.build(data, index)
        measured.report(documents=len(data.rules), size_bytes=size_of(index))
        return
    with measured.block():
        engine = engine_type.load(data, index)
        engine.search(0, filter_of(1.0), 1)
    with served(engine, data) as address:
        facts = {"version": engine.version, "address": address, "resident": resident_bytes()}
        measured.report(documents=len(data.rules), size_bytes=0, **facts)
        answer_commands(engine, data)


def answer_commands(
    engine: Engine, data: Data, others: Mapping[str, Callable[[], Mapping[str, Any]]] = {}
) -> None:
    """Run commands until there are no more.

    Args:
        others: what an engine can do beside searching, by the command's name; gives facts.
    """
    for line in sys.stdin:
        command = json.loads(line)
        do = command["do"]
        if do in others:
            measured = Measured()
            with measured.block():
                facts = others[do]()
            measured.report(documents=1, size_bytes=0, **facts)
        elif do == "find":
            where, k = filter_of(command["share"]), command["k"]
            found = [engine.search(query, where, k) for query in command["queries"]]
            rows = [[row for row, _ in hits] for hits in found]
            Measured().report(documents=len(found), size_bytes=0, rows=rows)
        else:
            where, k = filter_of(command["share"]), command["k"]
            time_searches(engine, data, where, k, command["seconds"])


def time_searches(engine: Engine, data: Data, where: Filter, k: int, seconds: float) -> None:
    """One search after the other, for so long; reports the milliseconds of each."""
    measured, times = Measured(), []
    with measured.block():
        began = now = time.perf_counter()
        while now - began < seconds:
            engine.search(len(times) % len(data.queries), where, k)
            after = time.perf_counter()
            times.append(1e3 * (after - now))
            now = after
    measured.report(documents=len(times), size_bytes=0, ms=times)


@contextmanager
def served(engine: Engine, data: Data) -> Iterator[str]:
    """The engine behind RetrieveValues, on a free port; gives its address.

    The same messages go over the wire as with our server; a query's vector is looked up by its
    text, so that embedding costs the engine nothing.
    """
    # After the peers' own packages on the path, and only for the stubs.
    sys.path.append(str(SERVICES))
    import grpc

    from plumbline.v1 import retriever_pb2 as pb
    from plumbline.v1 import retriever_pb2_grpc as pb_grpc

    numbers = {text: number for number, text in enumerate(data.queries)}

    class Service(pb_grpc.RetrieverServiceServicer):
        def RetrieveValues(self, request: Any, context: Any) -> Any:
            where = Filter(request.filter.as_of, tuple(request.filter.categories))
            found = engine.search(numbers[request.query], where, request.k)
            reply = pb.RetrieveValuesResponse(artifact=engine.version)
            for row, cosine in found:
                rule = data.rules[row]
                hit = reply.values.add(dense_score=cosine, score=cosine)
                hit.value.id, hit.value.title, hit.value.text = rule.id, rule.title, rule.text
                hit.value.category, hit.value.version = rule.category, 1
                hit.value.effective_from = rule.effective_from
            return reply

    server = grpc.server(ThreadPoolExecutor(SERVER_THREADS))
    pb_grpc.add_RetrieverServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def resident_bytes() -> int:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
