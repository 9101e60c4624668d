"""Calls to Triton Inference Server through tritonclient, within one event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from plumbline.core import telemetry
from plumbline.core.triton import CHANNEL_OPTIONS, import_tritonclient, triton_error

T = TypeVar("T")

_KINDS = {"O": "BYTES", "b": "BOOL"}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What Triton tells of a model."""

    name: str
    version: str
    """The newest of those that are ready, unless one was asked for."""
    inputs: frozenset[str]
    outputs: frozenset[str]
    parameters: Mapping[str, str]
    """Of its config.pbtxt."""


@dataclass(frozen=True, slots=True)
class TensorReply:
    """One of the responses to a request."""

    version: str
    """Of the model that wrote it."""
    tensors: Mapping[str, Any]
    """Numpy arrays by name."""

    def texts(self, name: str) -> list[str]:
        """Content of a BYTES tensor; empty where it did not come."""
        found = self.tensors.get(name)
        return [] if found is None else [one.decode(errors="replace") for one in found.flatten()]


class TritonClient:
    """One connection; make it in the event loop that will use it.

    Raises:
        FailedPreconditionError: the package tritonclient is not installed.
        TritonError: from every call that was not answered, or refused.
    """

    def __init__(self, target: str) -> None:
        self._grpc = import_tritonclient(
            "grpc.aio",
            purpose="policies that Triton holds",
            instead="PLUMBLINE_SAMPLER_BACKEND=native",
        )
        self._failure = import_tritonclient(
            "utils",
            purpose="policies that Triton holds",
            instead="PLUMBLINE_SAMPLER_BACKEND=native",
        ).InferenceServerException
        self._client = self._grpc.InferenceServerClient(target, channel_args=list(CHANNEL_OPTIONS))

    async def close(self) -> None:
        """Drops what is in progress and the connection."""
        await self._client.close()

    async def ready_models(self, *, timeout_s: float) -> list[str]:
        """Names of models that answer."""
        index = await self._call(self._client.get_model_repository_index(client_timeout=timeout_s))
        return list(dict.fromkeys(one.name for one in index.models if one.state == "READY"))

    async def facts(self, name: str, version: str, *, timeout_s: float) -> ModelFacts:
        """What is told of a model; an empty version means the newest that is ready."""
        told = await self._call(
            self._client.get_model_metadata(name, version, client_timeout=timeout_s)
        )
        found = await self._call(
            self._client.get_model_config(name, version, client_timeout=timeout_s)
        )
        return ModelFacts(
            name,
            version or max(told.versions, key=int, default=""),
            frozenset(one.name for one in told.inputs),
            frozenset(one.name for one in told.outputs),
            {key: value.string_value for key, value in found.config.parameters.items()},
        )

    async def load_model(self, name: str, *, timeout_s: float) -> None:
        """Have a model loaded, where Triton lets its clients say so."""
        await self._call(self._client.load_model(name, client_timeout=timeout_s))

    async def stream(
        self, model: str, version: str, inputs: Mapping[str, Any], outputs: Sequence[str]
    ) -> AsyncGenerator[TensorReply]:
        """The responses to one request; closing it cancels the request.

        Args:
            version: empty takes the newest.
            inputs: numpy arrays by name.
            outputs: names of what is wanted.
        """
        request = {
            "model_name": model,
            "model_version": version,
            "inputs": [self._as_input(name, array) for name, array in inputs.items()],
            "outputs": [self._grpc.InferRequestedOutput(name) for name in outputs],
        }

        async def once() -> AsyncIterator[dict[str, Any]]:
            yield request

        # With this header errors come with their codes, and end the stream.
        headers = {**telemetry.outgoing_headers(), "triton_grpc_error": "true"}
        replies = self._client.stream_infer(once(), headers=headers)
        try:
            async for result, error in replies:
                if error is not None:
                    raise triton_error(error)
                yield _reply(result, outputs)
        except self._grpc.grpc.RpcError as error:
            raise triton_error(error) from error
        finally:
            replies.cancel()

    def _as_input(self, name: str, array: Any) -> Any:
        made = self._grpc.InferInput(name, list(array.shape), _KINDS[array.dtype.kind])
        made.set_data_from_numpy(array)
        return made

    async def _call(self, answer: Awaitable[T]) -> T:
        try:
            return await answer
        except self._failure as error:
            raise triton_error(error) from error


def text_tensor(text: str) -> Any:
    """[1] BYTES."""
    return np.array([text.encode()], dtype=np.object_)


def flag_tensor(value: bool) -> Any:
    """[1] BOOL."""
    return np.array([value], dtype=np.bool_)


def _reply(result: Any, outputs: Sequence[str]) -> TensorReply:
    tensors = {name: result.as_numpy(name) for name in outputs}
    return TensorReply(
        result.get_response().model_version,
        {name: array for name, array in tensors.items() if array is not None},
    )
