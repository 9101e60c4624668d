"""`python -m plumbline.retriever.server`: settings -> engine -> service -> serve."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import grpc

from plumbline.core.artifacts import open_configured_store
from plumbline.core.rpc import aconnect, serve
from plumbline.core.settings import Settings
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.service import RetrieverService
from plumbline.v1 import retriever_pb2, retriever_pb2_grpc


def main() -> None:
    settings = Settings.from_environment()
    engine = RetrieverEngine(open_configured_store(settings), RetrieverConfig())

    @functools.cache
    def sampler() -> Any:
        # Connected on first use: the retriever answers searches without a sampler.
        return aconnect("sampler", settings=settings)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(
            RetrieverService(engine, sampler), server
        )
        return [retriever_pb2.DESCRIPTOR.services_by_name["RetrieverService"].full_name]

    serve("retriever", register, settings=settings)


if __name__ == "__main__":
    main()
