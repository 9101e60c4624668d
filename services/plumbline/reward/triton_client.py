"""Calls to Triton Inference Server through tritonclient."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.core.triton import (
    CHANNEL_OPTIONS,
    TritonError,
    import_tritonclient,
    triton_error,
)
from plumbline.reward.config import TritonClientConfig

logger = logging.getLogger(__name__)

_KINDS = {"int32": "INT32", "uint8": "UINT8", "float32": "FP32"}


@dataclass(slots=True)
class _Region:
    """Memory that this process writes and Triton reads."""

    name: str
    handle: Any


class TritonClient:
    """One connection, safe to use from many threads.

    Raises:
        FailedPreconditionError: the package tritonclient is not installed.
    """

    def __init__(self, config: TritonClientConfig) -> None:
        self._grpc, self._memory = _modules()
        self._config = config
        self._client = self._grpc.InferenceServerClient(
            config.target,
            channel_args=list(CHANNEL_OPTIONS),
        )
        self._sharing = config.shared_memory
        self._regions: list[_Region] = []
        self._of_thread = threading.local()

    def ready_models(self, *, timeout_s: float) -> list[str]:
        """Names of models that answer."""
        index = self._call(self._client.get_model_repository_index, client_timeout=timeout_s)
        return [model.name for model in index.models if model.state == "READY"]

    def model_config(self, name: str, *, timeout_s: float) -> Any:
        """The `inference.ModelConfig` of a model."""
        found = self._call(self._client.get_model_config, name, client_timeout=timeout_s)
        return found.config

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str],
        *,
        timeout_s: float,
    ) -> dict[str, Any]:
        """One request.

        Args:
            inputs: numpy arrays by name.
            outputs: names of what is wanted.
            timeout_s: after which nobody waits; Triton drops the request then.
        Returns:
            Numpy arrays by name.
        Raises:
            TritonError: there was no answer.
        """
        result = self._call(
            self._client.infer,
            model,
            self._as_inputs(inputs, timeout_s),
            outputs=[self._grpc.InferRequestedOutput(name) for name in outputs],
            timeout=max(int(timeout_s * 1e6), 1),
            client_timeout=timeout_s,
        )
        return {name: result.as_numpy(name) for name in outputs}

    def close(self) -> None:
        """Close the connection and free the memory; Triton lets go of it by itself."""
        self._client.close()
        for region in self._regions:
            self._memory.destroy_shared_memory_region(region.handle)
        self._regions.clear()

    def _as_inputs(self, arrays: Mapping[str, Any], timeout_s: float) -> list[Any]:
        inputs = []
        for name, array in arrays.items():
            kind = _KINDS[str(array.dtype)]
            inputs.append(self._grpc.InferInput(name, list(array.shape), kind))
        size = sum(array.nbytes for array in arrays.values())
        fits = size <= self._config.shared_memory_bytes
        region = self._region(timeout_s) if self._sharing and fits else None
        if region is None:
            for one, array in zip(inputs, arrays.values(), strict=True):
                one.set_data_from_numpy(array)
        else:
            self._share(region, inputs, list(arrays.values()))
        return inputs

    def _share(self, region: _Region, inputs: Sequence[Any], arrays: Sequence[Any]) -> None:
        self._memory.set_shared_memory_region(region.handle, list(arrays))
        offset = 0
        for one, array in zip(inputs, arrays, strict=True):
            one.set_shared_memory(region.name, array.nbytes, offset=offset)
            offset += array.nbytes

    def _region(self, timeout_s: float) -> _Region | None:
        """This thread's region, which Triton knows; a thread has one request at a time."""
        region: _Region | None = getattr(self._of_thread, "region", None)
        if region is None:
            region = self._of_thread.region = self._make_region()
        if getattr(self._of_thread, "registered", False):
            return region
        try:
            self._register(region, timeout_s)
        except TritonError as error:
            if error.is_passing:
                raise
            # Where the connection alone was lost, Triton still knows the region.
            if "already in manager" not in str(error):
                logger.warning("Triton cannot share memory, messages carry the input: %s", error)
                self._sharing = False
                return None
        self._of_thread.registered = True
        return region

    def _make_region(self) -> _Region:
        name = f"plumbline-{uuid.uuid4().hex[:16]}"
        size = self._config.shared_memory_bytes
        region = _Region(name, self._memory.create_shared_memory_region(name, name, size, True))
        self._regions.append(region)
        return region

    def _register(self, region: _Region, timeout_s: float) -> None:
        self._call(
            self._client.register_system_shared_memory,
            region.name,
            f"/{region.name}",
            self._config.shared_memory_bytes,
            client_timeout=timeout_s,
        )

    def _call(self, method: Any, *args: Any, **options: Any) -> Any:
        try:
            return method(*args, **options)
        except self._grpc.InferenceServerException as error:
            # Another Triton may answer next time, which knows no region of ours.
            self._of_thread.registered = False
            raise triton_error(error) from error


def _modules() -> tuple[Any, Any]:
    purpose, instead = "scores from Triton", "PLUMBLINE_REWARD_BACKEND=in_process"
    return (
        import_tritonclient("grpc", purpose=purpose, instead=instead),
        import_tritonclient("utils.shared_memory", purpose=purpose, instead=instead),
    )
