"""`python -m plumbline.reward.server`: settings -> engine -> service -> serve."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import grpc

from plumbline.core.artifacts import open_configured_store
from plumbline.core.rpc import DeferredServicer, aconnect, serve
from plumbline.core.settings import Settings
from plumbline.models.references import ModelReferences
from plumbline.v1 import reward_pb2, reward_pb2_grpc


def main() -> None:
    settings = Settings.from_environment()
    store = open_configured_store(settings)

    @functools.cache
    def sampler() -> Any:
        # Connected when a policy first judges: scoring needs no sampler.
        return aconnect("sampler", settings=settings)

    def make() -> reward_pb2_grpc.RewardServiceServicer:
        # Imported here, because torch takes seconds and the server should answer before.
        import torch

        from plumbline.reward.backends import configured_backend
        from plumbline.reward.engine import RewardEngine
        from plumbline.reward.service import RewardService

        torch.set_num_threads(settings.threads)
        references = ModelReferences(store, import_roots=settings.import_roots)
        engine = RewardEngine(references, backend=configured_backend(settings))
        return RewardService(engine, sampler)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        service = reward_pb2.DESCRIPTOR.services_by_name["RewardService"]
        reward_pb2_grpc.add_RewardServiceServicer_to_server(
            DeferredServicer(service, make),
            server,  # type: ignore[arg-type]
        )
        return [service.full_name]

    serve("reward", register, settings=settings)


if __name__ == "__main__":
    main()
