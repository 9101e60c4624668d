"""Services inside this process, for verbs that are used where no platform runs.

The same servicers that the servers mount answer on loopback, so that a verb has one code path: a
client of a service, running or brought up for the length of one command.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from plumbline.core.errors import ServiceUnavailableError

if TYPE_CHECKING:
    import grpc

    from plumbline.core.settings import Settings


Register = Callable[["grpc.aio.Server"], Sequence[str]]


@contextlib.contextmanager
def service_client(service: str, settings: Settings, *, needs: Sequence[str] = ()) -> Iterator[Any]:
    """A stub of a running service, else of one inside this process.

    Args:
        needs: what the service itself calls.
    """
    from plumbline.core.rpc import connect

    local = () if settings.target(service) else (*needs, service)
    with (
        with_local_services(settings, local) as equipped,
        contextlib.closing(connect(service, settings=equipped)) as client,
    ):
        yield client


@contextlib.contextmanager
def with_local_services(settings: Settings, services: Sequence[str]) -> Iterator[Settings]:
    """Settings under which each service has a target; those without one run in this process."""
    from plumbline.core.rpc import serve_in_thread

    with contextlib.ExitStack() as stack:
        equipped = settings
        for service in services:
            if equipped.target(service) is not None:
                continue
            register = _REGISTERS[service](equipped)
            address = stack.enter_context(serve_in_thread(service, register, settings=equipped))
            targets = {**equipped.targets, service: address}
            equipped = equipped.model_copy(update={"targets": targets})
        yield equipped


def _curation(settings: Settings) -> Register:
    from plumbline.curation.config import configured_curation
    from plumbline.curation.engine import CurationEngine
    from plumbline.curation.service import CurationService
    from plumbline.v1 import curation_pb2, curation_pb2_grpc

    service = CurationService(CurationEngine(configured_curation(os.environ)), _no_queue)
    return _registering(curation_pb2, "CurationService", curation_pb2_grpc, service)


def _sampler(settings: Settings) -> Register:
    from plumbline.sampler.backends.choice import configured_backend
    from plumbline.sampler.service import SamplerService
    from plumbline.v1 import sampler_pb2, sampler_pb2_grpc

    service = SamplerService(configured_backend(settings, _model_references(settings)))
    return _registering(sampler_pb2, "SamplerService", sampler_pb2_grpc, service)


def _reward(settings: Settings) -> Register:
    from plumbline.reward.backends import configured_backend
    from plumbline.reward.engine import RewardEngine
    from plumbline.reward.service import RewardService
    from plumbline.v1 import reward_pb2, reward_pb2_grpc

    references = _model_references(settings)
    engine = RewardEngine(references, backend=configured_backend(settings))
    service = RewardService(engine, _connecting("sampler", settings))
    return _registering(reward_pb2, "RewardService", reward_pb2_grpc, service)


def _retriever(settings: Settings) -> Register:
    from plumbline.retriever.server import make_service
    from plumbline.v1 import retriever_pb2, retriever_pb2_grpc

    service = make_service(settings)
    return _registering(retriever_pb2, "RetrieverService", retriever_pb2_grpc, service)


_REGISTERS: Mapping[str, Callable[[Settings], Register]] = {
    "curation": _curation,
    "sampler": _sampler,
    "reward": _reward,
    "retriever": _retriever,
}


def _registering(messages: Any, name: str, stubs: Any, servicer: Any) -> Register:
    def register(server: grpc.aio.Server) -> Sequence[str]:
        getattr(stubs, f"add_{name}Servicer_to_server")(servicer, server)
        return [messages.DESCRIPTOR.services_by_name[name].full_name]

    return register


def _connecting(service: str, settings: Settings) -> Callable[[], Any]:
    """Gives a stub for asyncio, connected when it is first asked for."""
    from plumbline.core.rpc import aconnect

    return functools.cache(lambda: aconnect(service, settings=settings))


def _model_references(settings: Settings) -> Any:
    import torch

    from plumbline.core.artifacts import open_configured_store
    from plumbline.models.references import ModelReferences

    torch.set_num_threads(settings.threads)
    return ModelReferences(open_configured_store(settings), import_roots=settings.import_roots)


def _no_queue(*_: Any) -> NoReturn:
    raise ServiceUnavailableError(
        "a corpus becomes a job, and no platform runs; `plumbline curate` curates in this process"
    )
