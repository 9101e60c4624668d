"""The text of Triton's config.pbtxt for reward models, their combination and the ensemble.

Source: Triton Inference Server, docs/user_guide/model_configuration.md and architecture.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from plumbline.reward.config import TritonExportConfig

_TEXT_INPUTS = (
    # Texts differ in length, and requests of different lengths may share an execution all the
    # same: model.py puts them into rows itself.
    ("input_ids", "TYPE_INT32", -1),
    ("length", "TYPE_INT32", 1),
    ("response_length", "TYPE_INT32", 1),
)
_HEAD_OUTPUTS = (("score", "TYPE_FP32", 1), ("reward_model_id", "TYPE_UINT8", -1))


def head_config(name: str, parameters: Mapping[str, str], config: TritonExportConfig) -> str:
    """Of a reward model that serves one head."""
    return "\n".join(
        [
            *_opening(name, "python", config),
            *_tensors("input", _TEXT_INPUTS, ragged=("input_ids",)),
            *_tensors("output", _HEAD_OUTPUTS),
            *_dynamic_batching(config),
            *_instances(config),
            *_parameters(parameters),
            "",
        ]
    )


def combine_config(name: str, heads: Sequence[str], config: TritonExportConfig) -> str:
    """Of the rule that joins two heads; arithmetic on a few numbers, so on a CPU."""
    scores = _joined_scores(heads)
    return "\n".join(
        [
            *_opening(name, "python", config),
            *_tensors("input", [*scores, ("risky", "TYPE_UINT8", 1)]),
            *_tensors("output", [("combined", "TYPE_FP32", 1), *scores]),
            "instance_group [ { count: 1 kind: KIND_CPU } ]",
            *_parameters({"safety_threshold": repr(config.safety_threshold)}),
            "",
        ]
    )


def ensemble_config(
    name: str, heads: Sequence[str], combine: str, config: TritonExportConfig
) -> str:
    """Of the ensemble: the heads side by side, then the rule.

    Each head has token ids of its own, `HEAD_input_ids` and so on, since its tokenizer may be its
    own as well. Every output comes from the last step, which hands on what the heads said: Triton
    leaves a step out whose output is the ensemble's own and was not asked for, even where a later
    step needs it.
    """
    inputs = [
        (f"{head}_{tensor}", kind, size) for head in heads for tensor, kind, size in _TEXT_INPUTS
    ]
    scores = _joined_scores(heads)
    outputs = [("combined", "TYPE_FP32", 1), *scores]
    steps = [_step(head, _head_maps(head)) for head in heads]
    joined = {tensor: f"of_{tensor}" for tensor, *_ in scores} | {"risky": "risky"}
    steps.append(_step(combine, (joined, {tensor: tensor for tensor, *_ in outputs})))
    return "\n".join(
        [
            f"name: {json.dumps(name)}",
            'platform: "ensemble"',
            f"max_batch_size: {config.max_batch_size}",
            *_tensors("input", [*inputs, ("risky", "TYPE_UINT8", 1)]),
            *_tensors("output", outputs),
            "ensemble_scheduling {",
            "  step [",
            ",\n".join(steps),
            "  ]",
            "}",
            "",
        ]
    )


def _joined_scores(heads: Sequence[str]) -> list[tuple[str, str, int]]:
    """What the heads say, as tensors of the rule and of the ensemble: HEAD and HEAD_..._id."""
    return [
        (name, kind, size)
        for head in heads
        for name, (_, kind, size) in zip(
            (head, f"{head}_reward_model_id"), _HEAD_OUTPUTS, strict=True
        )
    ]


def _head_maps(head: str) -> tuple[dict[str, str], dict[str, str]]:
    inputs = {tensor: f"{head}_{tensor}" for tensor, _, _ in _TEXT_INPUTS}
    names = [f"of_{name}" for name, *_ in _joined_scores([head])]
    outputs = [tensor for tensor, *_ in _HEAD_OUTPUTS]
    return inputs, dict(zip(outputs, names, strict=True))


def _step(model: str, maps: tuple[Mapping[str, str], Mapping[str, str]]) -> str:
    lines = ["    {", f"      model_name: {json.dumps(model)}", "      model_version: -1"]
    for kind, entries in zip(("input_map", "output_map"), maps, strict=True):
        for key, value in entries.items():
            lines.append(f"      {kind} {{ key: {json.dumps(key)} value: {json.dumps(value)} }}")
    return "\n".join([*lines, "    }"])


def _opening(name: str, backend: str, config: TritonExportConfig) -> list[str]:
    return [
        f"name: {json.dumps(name)}",
        f"backend: {json.dumps(backend)}",
        f"max_batch_size: {config.max_batch_size}",
    ]


def _tensors(
    kind: str, tensors: Iterable[tuple[str, str, int]], ragged: Sequence[str] = ()
) -> list[str]:
    entries = []
    for name, data_type, size in tensors:
        more = " allow_ragged_batch: true" * (name in ragged)
        entries.append(
            f"  {{ name: {json.dumps(name)} data_type: {data_type} dims: [ {size} ]{more} }}"
        )
    return [f"{kind} [", ",\n".join(entries), "]"]


def _dynamic_batching(config: TritonExportConfig) -> list[str]:
    sizes = ", ".join(map(str, config.preferred_batch_sizes))
    return [
        "dynamic_batching {",
        *([f"  preferred_batch_size: [ {sizes} ]"] if sizes else []),
        f"  max_queue_delay_microseconds: {config.max_queue_delay_us}",
        # A caller sends how long it will wait; what nobody waits for any more is not scored.
        "  default_queue_policy {",
        "    timeout_action: REJECT",
        "    allow_timeout_override: true",
        f"    max_queue_size: {config.max_queue_size}",
        "  }",
        "}",
    ]


def _instances(config: TritonExportConfig) -> list[str]:
    kind = {"cpu": "KIND_CPU", "gpu": "KIND_GPU"}[config.device]
    return [f"instance_group [ {{ count: {config.instances} kind: {kind} }} ]"]


def _parameters(parameters: Mapping[str, str]) -> list[str]:
    return [
        f"parameters {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(value)} }} }}"
        for key, value in sorted(parameters.items())
    ]
