"""Llama 2's combined score behind Triton's Python backend.

Inputs: `helpfulness` and `safety` [N, 1] FP32 with the ids of their models; `risky` [N, 1] UINT8, 1
where the prompt is known to be risky. Outputs: `combined` [N, 1] FP32, and the heads' scores and
ids as they came. The rule is that of `combine_scores` in `plumbline.reward.combine`.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

_HANDED_ON = ("helpfulness", "safety", "helpfulness_reward_model_id", "safety_reward_model_id")


class TritonPythonModel:
    """What the backend looks for in this file."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        threshold = float(parameters["safety_threshold"]["string_value"])
        self._threshold = math.log(threshold / (1 - threshold))

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._combine(request) for request in requests]

    def _combine(self, request: Any) -> Any:
        # By DLPack for the reason that model.py gives.
        given = {
            name: np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))
            for name in (*_HANDED_ON, "risky")
        }
        safety = given["safety"]
        unsafe = (given["risky"] != 0) | (safety < self._threshold)
        outputs = {"combined": np.where(unsafe, safety, given["helpfulness"])}
        outputs |= {name: given[name].copy() for name in _HANDED_ON}
        return pb_utils.InferenceResponse(
            output_tensors=[
                pb_utils.Tensor.from_dlpack(name, array) for name, array in outputs.items()
            ]
        )
