"""`python -m plumbline.retriever.server`: settings -> engine -> service -> serve."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from plumbline.core.artifacts import open_configured_store
from plumbline.core.rpc import aconnect, connect, serve
from plumbline.core.settings import Settings
from plumbline.retriever.config import configured_retriever
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.search.qdrant import configured_store
from plumbline.retriever.service import RetrieverService
from plumbline.retriever.tools.corpora import StoredCorpora
from plumbline.retriever.tools.engine import FactualityEngine
from plumbline.retriever.tools.remote import SamplerJudge
from plumbline.v1 import retriever_pb2, retriever_pb2_grpc

SEARCH_THREADS = 16
"""Searches in progress at once: those that wait for the same vectors read them together."""


def make_service(settings: Settings) -> RetrieverService:
    """The service of a process, configured by its environment.

    Other services are connected to on first use: searches need neither sampler nor reward.
    """
    config = configured_retriever(os.environ)
    engine = RetrieverEngine(
        open_configured_store(settings), config, vectors=configured_store(config.search, settings)
    )
    judge = SamplerJudge(
        functools.cache(lambda: connect("sampler", settings=settings)),
        max_tokens=config.tools.judge_max_tokens,
    )
    return RetrieverService(
        engine,
        _connecting("sampler", settings),
        reward=_connecting("reward", settings),
        factuality=FactualityEngine(
            config.tools, corpora=StoredCorpora(engine.store, engine, config.tools), judge=judge
        ),
    )


def _connecting(service: str, settings: Settings) -> Callable[[], Any]:
    """Gives a stub for asyncio, connected when it is first asked for."""
    return functools.cache(lambda: aconnect(service, settings=settings))


def main() -> None:
    settings = Settings.from_environment()
    service = make_service(settings)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(service, server)
        return [retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"].full_name]

    serve("retriever", register, settings=settings, blocking_threads=SEARCH_THREADS)


if __name__ == "__main__":
    main()
