"""The tensors of Triton's vLLM backend, as models in Triton read and write them.

Source: triton-inference-server/vllm_backend, src/utils/request.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

RETURNED = ("finish_reason", "logprobs", "num_input_tokens")


@dataclass
class Piece:
    """What is added to a response."""

    text: str = ""
    logprobs: list[Any] = field(default_factory=list)
    """For each token an object by id, the drawn one first."""
    finish_reason: str = "None"
    num_input_tokens: int = 0


class TextRequest:
    """One request, and the way back to who sent it."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._sender = request.get_response_sender()
        self.text = self._input("text_input")[0].decode()
        self.parameters: dict[str, Any] = json.loads(self._input("sampling_parameters")[0])
        self.stream = self._flag("stream")
        self._returned = [name for name in RETURNED if self._flag(f"return_{name}")]
        self._prepended = "" if self.stream or self._flag("exclude_input_in_output") else self.text

    def answer(self, pieces: Iterator[Piece]) -> str:
        """Send pieces, at once or together; returns how that ended."""
        whole = Piece(self._prepended)
        for piece in pieces:
            if self._sender.is_cancelled():
                self.refuse("Request was cancelled", "CANCELLED")
                return "cancelled"
            if self.stream:
                self._send(piece)
                continue
            whole.text += piece.text
            whole.logprobs += piece.logprobs
            whole.finish_reason = piece.finish_reason
            whole.num_input_tokens = piece.num_input_tokens
        if not self.stream:
            self._send(whole)
        self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return "finished"

    def refuse(self, message: str, code: str = "INTERNAL") -> None:
        error = pb_utils.TritonError(message, getattr(pb_utils.TritonError, code))
        self._sender.send(
            pb_utils.InferenceResponse(error=error),
            flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL,
        )

    def _send(self, piece: Piece) -> None:
        tensors = {"text_output": np.array([piece.text.encode()], dtype=np.object_)}
        if "finish_reason" in self._returned:
            tensors["finish_reason"] = np.array([piece.finish_reason.encode()], dtype=np.object_)
        if "logprobs" in self._returned:
            told = json.dumps(piece.logprobs) if "logprobs" in self.parameters else "null"
            tensors["logprobs"] = np.array([told.encode()], dtype=np.object_)
        if "num_input_tokens" in self._returned:
            tensors["num_input_tokens"] = np.array([piece.num_input_tokens], dtype=np.uint32)
        outputs = [pb_utils.Tensor(name, array) for name, array in tensors.items()]
        self._sender.send(pb_utils.InferenceResponse(output_tensors=outputs))

    def _flag(self, name: str) -> bool:
        found = self._input(name)
        return found is not None and bool(found[0])

    def _input(self, name: str) -> Any:
        tensor = pb_utils.get_input_tensor_by_name(self._request, name)
        return None if tensor is None else tensor.as_numpy()
