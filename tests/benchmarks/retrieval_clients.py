"""Clients that ask RetrieverService for rules, one request after the other each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from retrieval_data import Data, Filter

from plumbline.core.rpc import connect
from plumbline.v1 import retriever_pb2 as pb


@dataclass(frozen=True, slots=True)
class Load:
    """What clients saw together."""

    seconds: float
    ms: tuple[float, ...]
    """Of every reply."""

    @property
    def rate(self) -> float:
        return len(self.ms) / self.seconds


class Clients:
    """Connections of their own to one server."""

    def __init__(self, address: str, stubs: Sequence[Any], data: Data, mode: int) -> None:
        self.address = address
        self._stubs, self._data, self._mode = stubs, data, mode

    def ask(self, client: int, query: int, where: Filter, k: int) -> Any:
        request = pb.RetrieveValuesRequest(
            knowledge_base="rules",
            query=self._data.queries[query],
            filter=pb.ValueFilter(as_of=where.as_of, categories=where.categories),
            k=k,
            mode=self._mode,
        )
        return self._stubs[client].RetrieveValues(request)

    def load(self, clients: int, where: Filter, k: int, seconds: float) -> Load:
        """So many clients ask for so long, each beginning with another query."""
        began = time.perf_counter()

        def run(client: int) -> list[float]:
            query, times, now = client * 61, [], time.perf_counter()
            while now - began < seconds:
                self.ask(client, query % len(self._data.queries), where, k)
                after = time.perf_counter()
                times.append(1e3 * (after - now))
                query, now = query + 1, after
            return times

        with ThreadPoolExecutor(clients) as pool:
            times = [ms for part in pool.map(run, range(clients)) for ms in part]
        return Load(time.perf_counter() - began, tuple(times))


@contextmanager
def connected(address: str, clients: int, data: Data, mode: int) -> Iterator[Clients]:
    with ExitStack() as stack:
        stubs = [stack.enter_context(connect("retriever", target=address)) for _ in range(clients)]
        yield Clients(address, stubs, data, mode)
