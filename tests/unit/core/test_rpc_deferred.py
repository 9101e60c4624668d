"""Servers that answer health before their servicer is made."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from plumbline.core.errors import DeadlineExceededError, PlumblineError
from plumbline.core.rpc import DeferredServicer, connect, serve_in_thread
from plumbline.v1 import sampler_pb2, sampler_pb2_grpc


class Sampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Answers with what it was asked."""

    async def GetPolicy(
        self, request: sampler_pb2.GetPolicyRequest, context: grpc.aio.ServicerContext
    ) -> sampler_pb2.GetPolicyResponse:
        return sampler_pb2.GetPolicyResponse(policy=sampler_pb2.Policy(id=request.policy))

    async def Generate(
        self, request: sampler_pb2.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[sampler_pb2.GenerateResponse]:
        for sequence in range(3):
            yield sampler_pb2.GenerateResponse(sequence=sequence, policy_id=request.policy)


@contextmanager
def serving(make: Callable[[], Any]) -> Iterator[str]:
    service = sampler_pb2.DESCRIPTOR.services_by_name["SamplerService"]

    def register(server: grpc.aio.Server) -> list[str]:
        servicer: Any = DeferredServicer(service, make)
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(servicer, server)
        return [service.full_name]

    with serve_in_thread("sampler", register) as address:
        yield address


def test_health_is_answered_before_and_early_calls_wait() -> None:
    gate = threading.Event()

    def make() -> Sampler:
        gate.wait(timeout=20)
        return Sampler()

    with (
        serving(make) as address,
        connect("sampler", target=address) as stub,
        grpc.insecure_channel(address) as channel,
        ThreadPoolExecutor() as threads,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        check = health_pb2.HealthCheckRequest(service="plumbline.v1.SamplerService")
        assert health.Check(check, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(DeadlineExceededError):
            stub.GetPolicy(sampler_pb2.GetPolicyRequest(policy="a"), timeout=0.3)
        early = threads.submit(stub.GetPolicy, sampler_pb2.GetPolicyRequest(policy="b"))
        stream = stub.Generate(sampler_pb2.GenerateRequest(policy="c"))
        assert not early.done()

        gate.set()

        assert early.result(timeout=10).policy.id == "b"
        messages = list(stream)
    assert [message.sequence for message in messages] == [0, 1, 2]
    assert {message.policy_id for message in messages} == {"c"}


def test_a_servicer_that_cannot_be_made_fails_every_call_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def make() -> Sampler:
        raise ImportError("no torch here")

    with (
        caplog.at_level(logging.CRITICAL),
        serving(make) as address,
        connect("sampler", target=address) as stub,
    ):
        for _ in range(2):
            with pytest.raises(PlumblineError):
                stub.GetPolicy(sampler_pb2.GetPolicyRequest(), timeout=10)

    assert "the service cannot be made" in caplog.text
    assert "no torch here" in caplog.text
