"""`python -m plumbline.sampler.server`: settings -> engine -> service -> serve."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from plumbline.core.artifacts import open_configured_store
from plumbline.core.rpc import DeferredServicer, serve
from plumbline.core.settings import Settings
from plumbline.models.references import ModelReferences
from plumbline.v1 import sampler_pb2, sampler_pb2_grpc

MAX_CONCURRENT_RPCS = 1024
BLOCKING_THREADS = 64


def main() -> None:
    settings = Settings.from_environment()
    store = open_configured_store(settings)

    def make() -> sampler_pb2_grpc.SamplerServiceServicer:
        # Imported here, because torch takes seconds and the server should answer before.
        from plumbline.sampler.backends.choice import configured_backend
        from plumbline.sampler.service import SamplerService

        if settings.sampler_backend == "native":
            import torch

            torch.set_num_threads(settings.threads)
        references = ModelReferences(store, import_roots=settings.import_roots)
        return SamplerService(configured_backend(settings, references))

    def register(server: grpc.aio.Server) -> Sequence[str]:
        service = sampler_pb2.DESCRIPTOR.services_by_name["SamplerService"]
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(
            DeferredServicer(service, make),
            server,  # type: ignore[arg-type]
        )
        return [service.full_name]

    # The threads of calls that draw only wait, so that many of them can be drawn together.
    serve(
        "sampler",
        register,
        settings=settings,
        max_concurrent_rpcs=MAX_CONCURRENT_RPCS,
        blocking_threads=BLOCKING_THREADS,
    )


if __name__ == "__main__":
    main()
