"""Over every RPC of the contract, found by reflection: who gets in, and what garbage does.

Each service is mounted as a servicer that answers every method with an empty message, so what is
tested is the bootstrap that all servers share.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, struct_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from plumbline.core.rpc import SERVICES, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.v1 import jobs_pb2

TOKENS = {
    "all": {"scopes": ["*"]},
    "reward-only": {"scopes": ["reward.*"]},
    "expired": {"scopes": ["*"], "expires_at": "2020-01-01T00:00:00Z"},
}
SEED = 11
FUZZ_PER_METHOD = 25


@dataclass(frozen=True)
class Method:
    path: str
    client_streaming: bool
    server_streaming: bool

    @property
    def scope_service(self) -> str:
        full_name = self.path.split("/")[1]
        return next(name for name, entry in SERVICES.items() if entry.full_name == full_name)

    def call(self, channel: grpc.Channel, data: bytes, **options: Any) -> None:
        """Sends bytes as they are and reads to the end; raises grpc.RpcError."""
        before = "stream" if self.client_streaming else "unary"
        after = "stream" if self.server_streaming else "unary"
        call = getattr(channel, f"{before}_{after}")(self.path)
        answer = call(iter([data]) if self.client_streaming else data, **options)
        if self.server_streaming:
            list(answer)


def empty_servicer(full_name: str) -> grpc.GenericRpcHandler:
    """Answers each method of the service with one empty message."""
    module = __import__(f"plumbline.v1.{_proto_of(full_name)}_pb2", fromlist=["DESCRIPTOR"])
    service = module.DESCRIPTOR.services_by_name[full_name.rpartition(".")[2]]
    handlers = {}
    for method in service.methods:
        request, response = method.input_type._concrete_class, method.output_type._concrete_class
        handlers[method.name] = _handler(
            method.client_streaming, method.server_streaming, request, response
        )
    return grpc.method_handlers_generic_handler(full_name, handlers)


def _handler(client_streaming: bool, server_streaming: bool, request: Any, response: Any) -> Any:
    async def drain(received: Any) -> None:
        if client_streaming:
            async for _ in received:
                pass

    async def once(received: Any, context: Any) -> Any:
        await drain(received)
        return response()

    async def many(received: Any, context: Any) -> AsyncIterator[Any]:
        await drain(received)
        yield response()

    before = "stream" if client_streaming else "unary"
    after = "stream" if server_streaming else "unary"
    make = getattr(grpc, f"{before}_{after}_rpc_method_handler")
    return make(
        many if server_streaming else once,
        request_deserializer=request.FromString,
        response_serializer=response.SerializeToString,
    )


def _proto_of(full_name: str) -> str:
    entry = next(entry for entry in SERVICES.values() if entry.full_name == full_name)
    return entry.module.removeprefix("plumbline.v1.").removesuffix("_pb2_grpc")


def register(server: grpc.aio.Server) -> list[str]:
    names = [entry.full_name for entry in SERVICES.values()]
    server.add_generic_rpc_handlers([empty_servicer(name) for name in names])
    return names


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    path = tmp_path_factory.mktemp("tokens") / "tokens.json"
    table = {
        hashlib.sha256(token.encode()).hexdigest(): {"name": token, **grant}
        for token, grant in TOKENS.items()
    }
    path.write_text(json.dumps(table))
    with (
        serve_in_thread("pipeline", register, settings=Settings(tokens_file=path)) as address,
        grpc.insecure_channel(address) as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def methods(channel: grpc.Channel) -> list[Method]:
    found = list(reflected_methods(channel))
    assert len(found) >= 30
    return found


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def reflected_methods(channel: grpc.Channel) -> Iterator[Method]:
    for service in reflect(channel, list_services=""):
        if not service.startswith("plumbline."):
            continue
        for file in reflect_files(channel, service):
            for described in file.service:
                if f"{file.package}.{described.name}" == service:
                    for method in described.method:
                        yield Method(
                            f"/{service}/{method.name}",
                            method.client_streaming,
                            method.server_streaming,
                        )


def reflect(channel: grpc.Channel, **request: Any) -> list[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(**request)
    (answer,) = stub.ServerReflectionInfo(iter([asked]), metadata=bearer("all"))
    return [service.name for service in answer.list_services_response.service]


def reflect_files(
    channel: grpc.Channel, symbol: str
) -> Iterator[descriptor_pb2.FileDescriptorProto]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    (answer,) = stub.ServerReflectionInfo(iter([asked]), metadata=bearer("all"))
    for data in answer.file_descriptor_response.file_descriptor_proto:
        yield descriptor_pb2.FileDescriptorProto.FromString(data)


def code_of(method: Method, channel: grpc.Channel, data: bytes = b"", **options: Any) -> str:
    try:
        method.call(channel, data, **options)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_reflection_lists_every_service_of_the_contract(channel: grpc.Channel) -> None:
    listed = reflect(channel, list_services="")
    assert {entry.full_name for entry in SERVICES.values()} <= set(listed)
    assert "grpc.health.v1.Health" in listed


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ([], "UNAUTHENTICATED"),
        (bearer("nobody"), "UNAUTHENTICATED"),
        (bearer("expired"), "UNAUTHENTICATED"),
        ([("authorization", "Basic all")], "UNAUTHENTICATED"),
        ([("authorization", "Bearer ")], "UNAUTHENTICATED"),
        (bearer("all"), "OK"),
    ],
    ids=["none", "unknown", "expired", "basic", "empty", "valid"],
)
def test_every_rpc_asks_for_a_valid_token(
    channel: grpc.Channel, methods: list[Method], metadata: list[tuple[str, str]], expected: str
) -> None:
    codes = {m.path: code_of(m, channel, timeout=10, metadata=metadata) for m in methods}
    assert codes == dict.fromkeys(codes, expected)


def test_scope_of_one_service_opens_no_other(channel: grpc.Channel, methods: list[Method]) -> None:
    codes = {m: code_of(m, channel, timeout=10, metadata=bearer("reward-only")) for m in methods}
    for method, code in codes.items():
        assert code == ("OK" if method.scope_service == "reward" else "PERMISSION_DENIED"), method


def test_every_rpc_asks_for_a_deadline(channel: grpc.Channel, methods: list[Method]) -> None:
    codes = {m.path: code_of(m, channel, metadata=bearer("all")) for m in methods}
    assert codes == dict.fromkeys(codes, "INVALID_ARGUMENT")


def test_reflection_needs_a_token_and_health_does_not(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.ServerReflectionInfo(iter([asked])))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", *(entry.full_name for entry in SERVICES.values())):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_random_bytes_get_a_typed_answer_and_the_server_lives(
    channel: grpc.Channel, methods: list[Method]
) -> None:
    """Random bytes are at times a valid message; any other answer than these two is a fault."""
    generator = random.Random(SEED)
    codes = [
        code_of(method, channel, generator.randbytes(length), timeout=10, metadata=bearer("all"))
        for method in methods
        for length in (generator.randrange(1, 200) for _ in range(FUZZ_PER_METHOD))
    ]
    assert set(codes) == {"OK", "INVALID_ARGUMENT"}
    assert codes.count("INVALID_ARGUMENT") > len(codes) / 2
    assert code_of(methods[0], channel, timeout=10, metadata=bearer("all")) == "OK"


@pytest.mark.parametrize(("depth", "expected"), [(20, "OK"), (2000, "INVALID_ARGUMENT")])
def test_nesting_is_bounded(channel: grpc.Channel, depth: int, expected: str) -> None:
    create = Method("/plumbline.v1.JobService/CreateJob", False, False)
    data = _nested_config(depth)
    assert code_of(create, channel, data, timeout=10, metadata=bearer("all")) == expected


def _nested_config(depth: int) -> bytes:
    """A CreateJobRequest whose Struct holds `depth` lists in lists, built from the inside out."""
    value = struct_pb2.Value(null_value=0).SerializeToString()
    for _ in range(depth):
        inner = _field(1, value)  # ListValue.values
        value = _field(6, inner)  # Value.list_value
    entry = _field(1, b"key") + _field(2, value)
    config = _field(1, entry)  # Struct.fields
    spec = _field(jobs_pb2.StageSpec.CONFIG_FIELD_NUMBER, config)
    return _field(jobs_pb2.CreateJobRequest.SPEC_FIELD_NUMBER, spec)


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field on the wire."""
    length, rest = b"", len(data)
    while True:
        length += bytes([rest & 127 | (128 if rest > 127 else 0)])
        rest >>= 7
        if not rest:
            return bytes([number << 3 | 2]) + length + data
