"""The engines of the retrieval benchmark: built, started on a core of their own, and connected."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from framework import OURS_PYTHON, PEER_PYTHON, BenchmarkError, run_program
from resident import Resident, started
from retrieval_clients import Clients, connected
from retrieval_data import Data, filter_of
from retrieval_rounds import Turn

from plumbline.v1 import retriever_pb2 as pb

OURS, FUSED = "ours", "ours, fused"
OURS_SCRIPT = "ours/retrieval_ours.py"


@dataclass(frozen=True, slots=True)
class Peer:
    """A program, and the index that it searches; those of one index have copies of it."""

    script: str
    index: str
    settings: Mapping[str, Any]


PEERS: Mapping[str, Peer] = {
    "faiss HNSW": Peer("peers/retrieval_faiss.py", "faiss", {}),
    "Qdrant Edge, graph": Peer("peers/retrieval_qdrant.py", "qdrant", {"exact": False}),
    "Qdrant Edge, exact": Peer("peers/retrieval_qdrant.py", "qdrant", {"exact": True}),
    "LanceDB, IVF_HNSW_SQ": Peer("peers/retrieval_lancedb.py", "lancedb", {"exact": False}),
    "LanceDB, exact": Peer("peers/retrieval_lancedb.py", "lancedb", {"exact": True}),
}
K = 10
MANY = 16
"""Clients at once."""
STARTUP_S = 120.0
ENGINE_CORE, CLIENT_CORE = max(os.sched_getaffinity(0)), min(os.sched_getaffinity(0))
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)


@dataclass
class Engine:
    """One engine at work: its program, and its clients."""

    name: str
    program: Resident
    clients: Clients
    server_pid: int
    build_s: float = 0.0
    disk_bytes: int = 0
    recall: dict[float, float] = field(default_factory=dict)
    """By share."""

    @property
    def resident_mib(self) -> float:
        """Of the process that answers over gRPC."""
        return float(psutil.Process(self.server_pid).memory_info().rss) / 2**20

    def find(self, share: float, queries: Sequence[int]) -> list[list[int]]:
        asked = {"do": "find", "share": share, "k": K, "queries": list(queries)}
        rows: list[list[int]] = self.program.ask(asked).facts["rows"]
        return rows

    def in_process(self, share: float, seconds: float) -> Turn:
        run = self.program.ask({"do": "time", "share": share, "k": K, "seconds": seconds})
        return Turn(run.wall_s, tuple(run.facts["ms"]))

    def over_grpc(self, clients: int, share: float, seconds: float) -> Turn:
        load = self.clients.load(clients, filter_of(share), K, seconds)
        return Turn(load.seconds, load.ms)


@dataclass(frozen=True)
class Place:
    """Where the benchmark's files are, and what is asked of programs."""

    scratch: Path
    rules: int
    dimensions: int
    queries: int

    @property
    def data(self) -> Path:
        return self.scratch / "data"

    def arguments(self, do: str, engine: str, **more: Any) -> dict[str, Any]:
        return {"do": do, "data": str(self.data), "index": str(self.scratch / engine), **more}


@contextmanager
def retriever_server(state: Path, errors: Path) -> Iterator[tuple[str, int]]:
    """Our server on the engines' core; gives its address and process id."""
    address = state / f"address-{time.monotonic_ns()}"
    environment = {
        **os.environ,
        **_ONE_THREAD,
        "PLUMBLINE_STATE_DIR": str(state),
        "PLUMBLINE_THREADS": "1",
        "PLUMBLINE_RETRIEVER_ADDRESS_FILE": str(address),
    }
    with errors.open("ab") as log:
        process = subprocess.Popen(
            [OURS_PYTHON, "-m", "plumbline.retriever.server"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    os.sched_setaffinity(process.pid, {ENGINE_CORE})
    try:
        deadline = time.monotonic() + STARTUP_S
        while not address.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(errors.read_text()[-2000:])
            time.sleep(0.1)
        yield address.read_text().strip(), process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def build(place: Place, peers: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Make every index with all cores, ours first: the peers take its vectors.

    Returns:
        Seconds, and bytes on disk, by the first engine that searches the index.
    """
    place.data.mkdir()
    size = {"rules": place.rules, "dimensions": place.dimensions, "queries": place.queries}
    given = place.arguments("build", OURS, **size)
    runs = {OURS: run_program(OURS_PYTHON, OURS_SCRIPT, given, all_cores=True)}
    builders: dict[str, str] = {}
    for name in peers:
        peer = PEERS[name]
        builder = builders.setdefault(peer.index, name)
        if builder == name:
            given = place.arguments("build", name, **peer.settings)
            runs[name] = run_program(PEER_PYTHON, peer.script, given, all_cores=True)
        else:
            # A shard is opened by one process only.
            shutil.copytree(place.scratch / builder, place.scratch / name)
    return {name: (run.wall_s, run.bytes) for name, run in runs.items()}


def start(place: Place, data: Data, peers: Sequence[str], stack: ExitStack) -> dict[str, Engine]:
    """Every engine, loaded from its index and connected."""

    def program(name: str, python: Path, script: str, given: Mapping[str, Any]) -> Resident:
        return stack.enter_context(
            started(name, python, script, given, environment=_ONE_THREAD, core=ENGINE_CORE)
        )

    def clients(address: str, mode: int = pb.SEARCH_MODE_DENSE) -> Clients:
        return stack.enter_context(connected(address, MANY, data, mode))

    address, pid = stack.enter_context(
        retriever_server(place.scratch / OURS, place.scratch / "server.log")
    )
    engines = {}
    modes = {OURS: pb.SEARCH_MODE_DENSE, FUSED: pb.SEARCH_MODE_UNSPECIFIED}
    for name, mode in modes.items():
        given = place.arguments(
            "serve", OURS, mode="dense" if name == OURS else "fused", dimensions=place.dimensions
        )
        own = program(name, OURS_PYTHON, OURS_SCRIPT, given)
        engines[name] = Engine(name, own, clients(address, mode), pid)
    for name in peers:
        peer = PEERS[name]
        given = place.arguments("serve", name, **peer.settings)
        theirs = program(name, PEER_PYTHON, peer.script, given)
        engines[name] = Engine(name, theirs, clients(theirs.ready.facts["address"]), theirs.pid)
    return engines
