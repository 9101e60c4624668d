"""A reward model behind Triton's Python backend: token ids in, scores out.

Inputs, a row for each text: `input_ids` [N, T] INT32, padded on the right; `length` [N, 1] INT32,
how many of them are the text's; `response_length` [N, 1] INT32, how many of its last tokens are
the response. Outputs: `score` [N, 1] FP32 and `reward_model_id` [N, L] UINT8, the
UTF-8 of the id.

Requests of different T come together (their input is ragged): what Triton joined is sorted by
length here, so that the padding that a request arrives with costs nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.utils.dlpack
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]
from reward_scoring import RewardScorer  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the backend looks for in this file."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        settings = {name: entry["string_value"] for name, entry in parameters.items()}
        torch.set_num_threads(int(settings["threads"]))
        gpu = args["model_instance_kind"] == "GPU"
        directory = Path(args["model_repository"]) / args["model_version"] / "weights"
        self._model_id = torch.tensor(list(settings["reward_model_id"].encode()), dtype=torch.uint8)
        self._scorer = RewardScorer(
            directory,
            dtype=settings["dtype"],
            pad_id=int(settings["pad_id"]),
            device=f"cuda:{args['model_instance_device_id']}" if gpu else "cpu",
            length_multiple=int(settings["length_multiple"]),
            tokens_per_batch=int(settings["tokens_per_batch"]),
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        texts: list[torch.Tensor] = []
        response_lengths: list[int] = []
        rows: list[int] = []
        errors: list[str] = []
        for request in requests:
            ids, length, response_length = (
                _tensor(request, name) for name in ("input_ids", "length", "response_length")
            )
            error = _complaint(ids, length)
            errors.append(error)
            rows.append(0 if error else len(ids))
            if not error:
                counts = length.view(-1).tolist()
                texts.extend(row[:count] for row, count in zip(ids, counts, strict=True))
                response_lengths.extend(response_length.view(-1).tolist())
        scores = self._scorer.score(texts, response_lengths).split(rows)
        return [self._response(own, error) for own, error in zip(scores, errors, strict=True)]

    def _response(self, scores: torch.Tensor, error: str) -> Any:
        if error:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(error, pb_utils.TritonError.INVALID_ARG)
            )
        outputs = {
            "score": scores.reshape(-1, 1),
            "reward_model_id": self._model_id.expand(len(scores), -1),
        }
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor.from_dlpack(name, tensor.contiguous())
                for name, tensor in outputs.items()
            ]
        )


def _tensor(request: Any, name: str) -> torch.Tensor:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    # Tensors pass by DLPack, because some builds of the backend know numpy arrays by the layout
    # that they had before numpy 2: they would read equal rows and send empty outputs.
    return torch.utils.dlpack.from_dlpack(tensor.to_dlpack())


def _complaint(ids: torch.Tensor, length: torch.Tensor) -> str:
    """What is wrong with a request; one bad request must not fail those that it came with."""
    least, most, width = int(length.min()), int(length.max()), ids.shape[1]
    if least >= 1 and most <= width:
        return ""
    return f"length is {least} to {most}; accepted: 1 to {width}, the width of input_ids"
