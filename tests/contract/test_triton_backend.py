"""The backend that asks Triton, against a server of Triton's protocol that fails as told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from plumbline.core.errors import (
    ConfigError,
    DeadlineExceededError,
    FailedPreconditionError,
    ResourceExhaustedError,
    ServiceUnavailableError,
)
from plumbline.core.settings import Settings
from plumbline.reward.backends import EncodedText, ModelFiles, configured_backend
from plumbline.reward.config import TritonClientConfig
from plumbline.reward.triton_backend import TritonBackend

service_pb2 = pytest.importorskip("tritonclient.grpc.service_pb2")
service_pb2_grpc = pytest.importorskip("tritonclient.grpc.service_pb2_grpc")

MODEL = ModelFiles("the-id", Path("unused"))
TEXTS = [EncodedText([n] * (n % 5 + 1), 1) for n in range(1, 12)]
EXPECTED = [float(sum(text.token_ids)) for text in TEXTS]


class ScriptedTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[name-defined,misc]
    """Scores a text with the sum of its ids; calls take their failures from `failures` first."""

    def __init__(self) -> None:
        self.failures: list[tuple[grpc.StatusCode, str]] = []
        self.model_id = "the-id"
        self.rows: list[int] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        response = service_pb2.RepositoryIndexResponse()
        response.models.add(name="scorer", version="1", state="READY")
        response.models.add(name="broken", version="1", state="UNAVAILABLE")
        return response

    def ModelConfig(self, request: Any, context: Any) -> Any:
        response = service_pb2.ModelConfigResponse()
        response.config.max_batch_size = 4
        response.config.parameters["reward_model_id"].string_value = "the-id"
        return response

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.INTERNAL, "Unable to open shared memory region: '/x'")

    def ModelInfer(self, request: Any, context: Any) -> Any:
        if self.failures:
            context.abort(*self.failures.pop(0))
        self.may_answer.wait(timeout=20)
        rows, width = request.inputs[0].shape
        self.rows.append(rows)
        ids, lengths, _ = (np.frombuffer(raw, np.int32) for raw in request.raw_input_contents)
        ids = ids.reshape(rows, width)
        scores = [float(row[:n].sum()) for row, n in zip(ids, lengths, strict=True)]
        response = service_pb2.ModelInferResponse(model_name="scorer")
        named = np.tile(np.frombuffer(self.model_id.encode(), np.uint8), (rows, 1))
        for name, kind, array in (
            ("score", "FP32", np.asarray(scores, np.float32).reshape(-1, 1)),
            ("reward_model_id", "UINT8", named),
        ):
            response.outputs.add(name=name, datatype=kind, shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response


@pytest.fixture
def triton() -> Iterator[tuple[ScriptedTriton, str]]:
    servicer = ScriptedTriton()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    servicer.may_answer.set()
    server.stop(grace=0).wait()


@pytest.fixture
def backend(triton: tuple[ScriptedTriton, str]) -> Iterator[TritonBackend]:
    made = TritonBackend(TritonClientConfig(target=triton[1], max_queued_items=20))
    yield made
    made.close()


def score(backend: TritonBackend, texts: Sequence[EncodedText] = TEXTS) -> list[float]:
    return backend.submit(MODEL, texts).result(timeout=30)


def test_scores_come_in_order_in_requests_of_the_models_batch_size(
    triton: tuple[ScriptedTriton, str], backend: TritonBackend
) -> None:
    assert score(backend) == EXPECTED
    assert sorted(triton[0].rows) == [3, 4, 4]


def test_requests_are_repeated_while_triton_is_away(
    triton: tuple[ScriptedTriton, str], backend: TritonBackend
) -> None:
    triton[0].failures = [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed"),
        (grpc.StatusCode.INTERNAL, "Stub process is unhealthy and it will be restarted"),
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"),
    ]
    assert score(backend) == EXPECTED
    assert sum(triton[0].rows) == len(TEXTS)


def test_a_refusal_is_not_repeated_and_fails_the_call(
    triton: tuple[ScriptedTriton, str], backend: TritonBackend
) -> None:
    triton[0].failures = [(grpc.StatusCode.INVALID_ARGUMENT, "length is 0 to 3")]
    with pytest.raises(FailedPreconditionError, match="length is 0 to 3") as caught:
        score(backend, TEXTS[:1])
    assert caught.value.reason == "TRITON_REFUSED"
    assert triton[0].rows == []


def test_scores_of_another_model_are_refused(
    triton: tuple[ScriptedTriton, str], backend: TritonBackend
) -> None:
    triton[0].model_id = "new-id"
    with pytest.raises(FailedPreconditionError, match="scored with new-id where the-id was asked"):
        score(backend)


def test_a_model_that_is_not_served_is_named_with_those_that_are(backend: TritonBackend) -> None:
    with pytest.raises(FailedPreconditionError, match="serves the-id; write it with") as caught:
        backend.prepare(ModelFiles("another", Path("unused")))
    assert caught.value.reason == "REWARD_MODEL_NOT_SERVED"


def test_deadlines_end_the_wait(triton: tuple[ScriptedTriton, str], backend: TritonBackend) -> None:
    backend.prepare(MODEL)
    triton[0].may_answer.clear()
    with pytest.raises(DeadlineExceededError):
        backend.submit(MODEL, TEXTS[:1], deadline=time.monotonic() + 0.3).result(timeout=20)

    nowhere = TritonBackend(TritonClientConfig(target="127.0.0.1:9"))
    with pytest.raises(ServiceUnavailableError, match=r"127.0.0.1:9 was away until the deadline"):
        nowhere.submit(MODEL, TEXTS, deadline=time.monotonic() + 0.5)
    nowhere.close()


def test_a_full_queue_refuses(triton: tuple[ScriptedTriton, str], backend: TritonBackend) -> None:
    triton[0].may_answer.clear()
    first = backend.submit(MODEL, TEXTS)
    with pytest.raises(ResourceExhaustedError, match="11 texts are being scored and 11 more came"):
        backend.submit(MODEL, TEXTS)

    triton[0].may_answer.set()

    assert first.result(timeout=20) == EXPECTED
    assert score(backend) == EXPECTED


def test_input_travels_in_messages_where_triton_cannot_share_memory(
    triton: tuple[ScriptedTriton, str], caplog: pytest.LogCaptureFixture
) -> None:
    made = TritonBackend(TritonClientConfig(target=triton[1], shared_memory=True))
    assert score(made) == EXPECTED
    made.close()
    assert "cannot share memory, messages carry the input: Unable to open" in caplog.text


def test_the_environment_chooses_the_backend() -> None:
    assert configured_backend(Settings()) is None
    chosen = Settings.from_environment(
        {"PLUMBLINE_REWARD_BACKEND": "triton", "PLUMBLINE_TRITON_TARGET": "127.0.0.1:8001"}
    )
    backend = configured_backend(chosen)
    assert isinstance(backend, TritonBackend)
    backend.close()
    with pytest.raises(ConfigError, match="needs PLUMBLINE_TRITON_TARGET"):
        Settings.from_environment({"PLUMBLINE_REWARD_BACKEND": "triton"})
