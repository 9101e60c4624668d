"""The rollout loop's sampler and scorer as services, for disaggregated training.

Every iteration's weights are published as an artifact, which SamplerService loads by its id: of a
policy that learns by adapters the adapters alone, which it adds to the base that it holds. The
stubs are passed in.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from plumbline.data.records import Prompt, Rollout
from plumbline.data.template import Template
from plumbline.models.adapters import save_adapters
from plumbline.models.checkpoint import save_model
from plumbline.reward.client import score_pairs
from plumbline.sampler.client import SamplingRequest, rollouts_from_wire, sampling_to_wire
from plumbline.trainer.adapters import has_adapters
from plumbline.v1 import sampler_pb2

CALL_TIMEOUT_S = 900.0

PublishPolicy = Callable[[Path], str]
"""Publishes a directory of a model or of adapters and returns the artifact's id."""


class RemoteSampler:
    """Samples through SamplerService.

    Args:
        stub: of SamplerService.
        policy_id: artifact that holds the weights before any training.
        template: how prompts are laid out.
        publish: called with the directory of each later iteration's model or adapters.
        work_dir: where that directory is written; removed again after publishing.
    """

    def __init__(
        self,
        stub: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        policy_id: str,
        template: Template,
        publish: PublishPolicy,
        work_dir: Path,
    ) -> None:
        self._stub, self._tokenizer = stub, tokenizer
        self.policy_id = policy_id
        self._base, self._reference = policy_id, policy_id
        self._template, self._publish = template, publish
        self._directory = work_dir / "policy"

    def use_policy(self, model: PreTrainedModel, iteration: int) -> None:
        if iteration == 0:
            return
        base = self._base if has_adapters(model) else ""
        if base:
            save_adapters(model, self._directory, base=base)
        else:
            save_model(model, self._tokenizer, self._directory)
        self._reference = self._publish(self._directory)
        shutil.rmtree(self._directory)
        request = sampler_pb2.LoadPolicyRequest(policy=self._reference, base=base)
        self.policy_id = self._stub.LoadPolicy(request, timeout=CALL_TIMEOUT_S).policy.id

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        k: int,
        temperatures: Sequence[float],
        top_p: float,
        max_response_tokens: int,
        seeds: Sequence[int],
    ) -> list[Rollout]:
        request = SamplingRequest(
            k=k,
            temperatures=tuple(temperatures),
            top_p=top_p,
            max_response_tokens=max_response_tokens,
            template=self._template,
        )
        response = self._stub.SampleResponses(
            sampling_to_wire(self._reference, prompts, request, seeds), timeout=CALL_TIMEOUT_S
        )
        return rollouts_from_wire(response, prompts, request)


class RemoteScorer:
    """Scores through RewardService.

    Args:
        stub: of RewardService.
        models: reward-model artifact ids by head.
    """

    def __init__(self, stub: Any, models: Mapping[str, str]) -> None:
        self._stub, self._models = stub, dict(models)

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        pairs = [(p.messages, r) for p, r in zip(prompts, responses, strict=True)]
        heads = sorted(self._models)
        results = score_pairs(
            self._stub,
            pairs,
            heads=heads,
            helpfulness=self._models.get("helpfulness", ""),
            safety=self._models.get("safety", ""),
            timeout_s=CALL_TIMEOUT_S,
        )
        return {head: torch.tensor([result[head] for result in results]) for head in heads}
