"""Policies that Triton Inference Server holds, with the methods of `SamplerEngine`.

A policy is a model with the tensors of Triton's vLLM backend, named as Triton names it, with a
version where one is meant (`llama/2`), or by the policy's id in its configuration (parameter
`policy_id`; without it the id is name and version). What Triton does not tell is left empty, not
made up. A response has tokens where the model tells logprobs, which carry their ids, and these are
the ones that tokens were drawn with: at temperature 1 with nothing cut, biased or penalised, or at
temperature 0. Prompts have tokens where the tokenizer is known.
"""

from __future__ import annotations

from plumbline.sampler.backends.config import TritonPolicyConfig
from plumbline.sampler.backends.remote import RemoteBackend
from plumbline.sampler.backends.triton_endpoint import ServedPolicy, TritonEndpoint
from plumbline.sampler.backends.triton_prompts import Prompts, TextPrompts


class TritonBackend(RemoteBackend[ServedPolicy]):
    """Draws responses from the models of one Triton.

    Args:
        prompts: lays prompts out; None knows the layouts that need no tokenizer.
    Raises:
        FailedPreconditionError: the package tritonclient is not installed.
    """

    def __init__(self, config: TritonPolicyConfig, prompts: Prompts | None = None) -> None:
        super().__init__(
            lambda: TritonEndpoint(config, prompts or TextPrompts()),
            name="triton-backend",
            default_model=config.default_model,
            max_responses=config.max_responses_per_request,
        )
