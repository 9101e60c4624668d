"""The rollout loop: sample, score, learn. Written once against two small interfaces.

Colocated, both live in the trainer's process and share its weights (`ColocatedSampler`,
`RewardModelScorer`); disaggregated, they are services (`remote.py`).

Legend: N rollouts = P prompts * K responses, prompt-major.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Prompt, Rollout, content_id
from plumbline.models.chat import ChatFormat
from plumbline.models.reward import RewardModel
from plumbline.reward.combine import combine_scores
from plumbline.sampler.generation import sample_batch
from plumbline.trainer.config import CombinedReward, Reward

HELPFULNESS, SAFETY = "helpfulness", "safety"
FINISHED = "stop"

_SEEDS_PER_ITERATION = 2**24


class Sampler(Protocol):
    """Draws responses from the policy that is being trained."""

    policy_id: str
    """What rollouts name that are drawn from the weights last taken over."""

    def use_policy(self, model: PreTrainedModel, iteration: int) -> None:
        """Take over the policy's weights as they are now."""
        ...

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
        """K responses to each prompt, prompt-major; response k uses temperatures[k mod length].

        Args:
            seeds: one per prompt; the same seed, prompt and weights give the same responses.
        """
        ...


class Scorer(Protocol):
    """Scores responses; higher is better."""

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        """Scores [N] by head, of N prompts with one response each."""
        ...


class ColocatedSampler:
    """Samples with the trainer's own weights, in its process.

    Args:
        policy_id: names the policy in the rollouts; `@` and the iteration are added once it has
            been trained.
    """

    def __init__(self, model: PreTrainedModel, chat: ChatFormat, *, policy_id: str) -> None:
        self._model, self._chat, self._base_id = model, chat, policy_id
        self.policy_id = policy_id

    def use_policy(self, model: PreTrainedModel, iteration: int) -> None:
        self._model = model
        self.policy_id = f"{self._base_id}@{iteration}" if iteration else self._base_id

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
        encoded = [self._chat.encode_prompt(prompt.messages) for prompt in prompts]
        drawn = sample_batch(
            self._model,
            encoded,
            k=k,
            temperatures=temperatures,
            top_p=top_p,
            seeds=seeds,
            max_response_tokens=max_response_tokens,
            eos_id=self._chat.eos_id,
        )
        return [
            new_rollout(
                prompt,
                response=self._chat.decode(sampled.token_ids),
                prompt_token_ids=ids,
                response_token_ids=sampled.token_ids,
                logprobs=sampled.logprobs,
                finish_reason=sampled.finish_reason,
                temperature=temperatures[index % len(temperatures)],
                seed=sampled.seed,
                policy_id=self.policy_id,
                untempered_logprobs=sampled.untempered_logprobs,
            )
            for prompt, ids, samples in zip(prompts, encoded, drawn, strict=True)
            for index, sampled in enumerate(samples)
        ]


class RewardModelScorer:
    """Scores with reward models in the trainer's process."""

    def __init__(self, models: Mapping[str, RewardModel], *, tokens_per_batch: int = 16384) -> None:
        self._models, self._tokens_per_batch = dict(models), tokens_per_batch

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        messages = [prompt.messages for prompt in prompts]
        return {
            head: model.score_responses(
                messages, responses, tokens_per_batch=self._tokens_per_batch
            )
            for head, model in self._models.items()
        }


def new_rollout(
    prompt: Prompt,
    *,
    response: str,
    prompt_token_ids: Sequence[int],
    response_token_ids: Sequence[int],
    logprobs: Sequence[float],
    finish_reason: str,
    temperature: float,
    seed: int,
    policy_id: str,
    untempered_logprobs: Sequence[float] = (),
) -> Rollout:
    """One rollout; its id is the digest of what was drawn and from what."""
    tags = {"kind": prompt.kind, "risk_category": prompt.risk_category, "split": prompt.split}
    return Rollout(
        id=content_id("rollout", prompt.id, seed, list(response_token_ids)),
        prompt_id=prompt.id,
        prompt=prompt.messages,
        response=response,
        prompt_token_ids=tuple(prompt_token_ids),
        response_token_ids=tuple(response_token_ids),
        logprobs=tuple(logprobs),
        untempered_logprobs=tuple(untempered_logprobs),
        finish_reason=finish_reason,
        temperature=temperature,
        seed=seed,
        policy_id=policy_id,
        metadata={**prompt.metadata, **{name: value for name, value in tags.items() if value}},
    )


def collect_rollouts(
    sampler: Sampler,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    *,
    chat: ChatFormat,
    k: int,
    temperatures: Sequence[float],
    top_p: float,
    max_response_tokens: int,
    rows_per_batch: int,
    seed: int,
    iteration: int,
) -> list[Rollout]:
    """Scored rollouts, prompt-major in the order of the prompts; see `draw_rollouts`."""
    rollouts = draw_rollouts(
        sampler,
        prompts,
        chat=chat,
        k=k,
        temperatures=temperatures,
        top_p=top_p,
        max_response_tokens=max_response_tokens,
        rows_per_batch=rows_per_batch,
        seed=seed,
        iteration=iteration,
    )
    return score_rollouts(scorer, rollouts, [prompt for prompt in prompts for _ in range(k)])


def draw_rollouts(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    *,
    chat: ChatFormat,
    k: int,
    temperatures: Sequence[float],
    top_p: float,
    max_response_tokens: int,
    rows_per_batch: int,
    seed: int,
    iteration: int,
) -> list[Rollout]:
    """Rollouts without scores, prompt-major in the order of the prompts.

    Prompts of similar length are drawn together, in batches that do not depend on where the
    sampler runs, so that its arithmetic rounds alike colocated and disaggregated.
    """
    seeds = prompt_seeds(len(prompts), seed=seed, iteration=iteration)
    lengths = [len(chat.encode_prompt(prompt.messages)) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda index: lengths[index])
    by_prompt: list[list[Rollout]] = [[] for _ in prompts]
    step = max(rows_per_batch // k, 1)
    for start in range(0, len(order), step):
        batch = order[start : start + step]
        drawn = sampler.sample(
            [prompts[index] for index in batch],
            k=k,
            temperatures=temperatures,
            top_p=top_p,
            max_response_tokens=max_response_tokens,
            seeds=[seeds[index] for index in batch],
        )
        for position, index in enumerate(batch):
            by_prompt[index] = drawn[position * k : (position + 1) * k]
    return [rollout for group in by_prompt for rollout in group]


def score_rollouts(
    scorer: Scorer, rollouts: Sequence[Rollout], prompts: Sequence[Prompt]
) -> list[Rollout]:
    """Rollouts with their scores; what they had before goes.

    Args:
        prompts: what each rollout is judged as a response to.
    """
    scores = scorer.score(prompts, [rollout.response for rollout in rollouts])
    return [
        dataclasses.replace(
            rollout, scores={head: float(values[i]) for head, values in sorted(scores.items())}
        )
        for i, rollout in enumerate(rollouts)
    ]


def prompt_seeds(count: int, *, seed: int, iteration: int) -> list[int]:
    """A seed for each prompt of an iteration; no two iterations of a run share one."""
    first = (seed * 1_000_003 + iteration) * _SEEDS_PER_ITERATION
    return [(first + index) % 2**63 for index in range(count)]


def rollout_scores(rollouts: Sequence[Rollout], reward: Reward) -> Tensor:
    """The score [N] that each rollout is trained on, before whitening.

    With both heads, Llama 2's combination; else the one score that there is.

    Raises:
        InvalidInputError: rollouts carry several scores that no rule combines.
    """
    heads = sorted(rollouts[0].scores) if rollouts else []
    by_head = {
        head: torch.tensor([rollout.scores[head] for rollout in rollouts], dtype=torch.float32)
        for head in heads
    }
    if isinstance(reward, CombinedReward) and set(heads) == {HELPFULNESS, SAFETY}:
        kinds = [rollout.metadata.get("kind", "") for rollout in rollouts]
        risky = torch.tensor([kind in reward.risky_kinds for kind in kinds], dtype=torch.bool)
        return combine_scores(
            by_head[HELPFULNESS], by_head[SAFETY], risky, threshold=reward.safety_threshold
        )
    if len(heads) != 1:
        raise InvalidInputError(
            f"rollouts carry the scores {', '.join(heads) or 'none'}; accepted: one, or "
            f"{HELPFULNESS} and {SAFETY}"
        )
    return by_head[heads[0]]
