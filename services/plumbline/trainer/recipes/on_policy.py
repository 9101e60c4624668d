"""Learning from one's own responses: draw, score, measure, learn, again.

What PPO, REINFORCE, RLOO and GRPO share. A method is a `Learner`, which turns an iteration's
rollouts into gradient steps; everything else, resuming and the KL bound included, happens here.

Legend: B rollouts of an iteration, prompt-major; R tokens of its longest response; N response
tokens in all; H hidden size. Masks are True at response tokens.
"""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plumbline.core.statistics import Estimate, mean
from plumbline.data.records import Prompt, Rollout
from plumbline.data.tables import read_records, write_records
from plumbline.models.batching import packed_batches
from plumbline.models.chat import ChatFormat
from plumbline.models.packing import PromptGroup
from plumbline.trainer.adapters import base_weights, has_adapters
from plumbline.trainer.batches import cyclic_indices
from plumbline.trainer.config.on_policy import OnPolicyConfig
from plumbline.trainer.drawn_logprobs import sampler_gap, trusted_logprobs
from plumbline.trainer.engine import RunContext, TrainingRun
from plumbline.trainer.forward import response_logprobs, response_mask, response_states
from plumbline.trainer.held_out import EarlyStop, HeldOutFigure
from plumbline.trainer.losses.advantages import whiten
from plumbline.trainer.losses.kl import kl_estimate
from plumbline.trainer.rollout import (
    FINISHED,
    Sampler,
    Scorer,
    collect_rollouts,
    rollout_scores,
)

_ROLLOUTS = "rollouts.parquet"
_WITHIN = "within_bound/"

logger = logging.getLogger(__name__)


class AdaptiveKL:
    """Moves the penalty's weight so that the measured KL approaches a target.

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2.
    """

    def __init__(self, kl_coef: float, *, target: float, horizon: int) -> None:
        self.kl_coef, self._target, self._horizon = kl_coef, target, horizon

    def update(self, kl: float, rollouts: int) -> None:
        """Take in the mean KL, nats per response, of this many rollouts."""
        error = min(max(kl / self._target - 1, -0.2), 0.2)
        self.kl_coef *= 1 + error * rollouts / self._horizon


@dataclass(frozen=True, slots=True)
class Experience:
    """An iteration's rollouts, with what the policy that drew them and the reference say."""

    prompts: Sequence[Sequence[int]]
    """Token ids of each rollout's prompt."""
    responses: Sequence[Sequence[int]]
    mask: Tensor
    """[B, R]"""
    logprobs: Tensor
    """[B, R], nats, of the policy that drew the rollouts."""
    ref_logprobs: Tensor
    """[B, R]"""
    kl: Tensor
    """[B, R], nats, by the configured estimator."""
    scores: Tensor
    """[B], shaped: whitened, clipped and penalised as configured."""
    values: Tensor | None
    """[B, R] of the learner's value model before its update; None where it has none."""

    def groups(self, rows: Sequence[int]) -> list[PromptGroup]:
        """The rollouts of some rows; neighbours with one prompt make one group."""
        return [
            PromptGroup(prompt, [self.responses[row] for row in members])
            for prompt, members in itertools.groupby(rows, key=lambda row: self.prompts[row])
        ]

    def microbatches(self, rows: Sequence[int], tokens: int, *, k: int = 1) -> list[list[int]]:
        """Rows in parts of at most so many tokens; K neighbours at a time stay together."""
        blocks = [list(rows[start : start + k]) for start in range(0, len(rows), k)]
        lengths = [sum(group.tokens for group in self.groups(block)) for block in blocks]
        parts = packed_batches(lengths, tokens_per_batch=tokens)
        return [[row for index in part for row in blocks[index]] for part in parts]

    def width(self, rows: Sequence[int]) -> int:
        """Tokens of the longest response among some rows."""
        return max(len(self.responses[row]) for row in rows)


class Learner(Protocol):
    """Turns an iteration's rollouts into gradient steps."""

    modules: Mapping[str, nn.Module]
    """What it trains beside the policy."""
    reads_states: bool
    """Whether its values come from the policy's states."""

    def values(self, groups: Sequence[PromptGroup], states: Tensor | None) -> Tensor | None:
        """Values [B, R] before the update; None without any.

        Args:
            states: [N, H] of the policy, where the learner reads them.
        """
        ...

    def learn(
        self, experience: Experience, run: TrainingRun, iteration: int, kl_coef: float
    ) -> dict[str, float]:
        """All gradient steps of an iteration; returns their mean figures."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    initial_scores: Estimate
    initial_score_std: float
    final_scores: Estimate
    final_kl: Estimate
    """Nats per response, of the policy that is handed on."""
    iterations: int
    """Iterations whose updates the policy holds."""
    rolled_back: bool
    """Whether the KL bound ended the run."""
    rollouts: list[Rollout]

    def metrics(self) -> dict[str, float]:
        """As the artifact states them."""
        return {
            "score.initial": self.initial_scores.value,
            "score.initial_std": self.initial_score_std,
            "score.final": self.final_scores.value,
            "kl": self.final_kl.value,
            "kl.upper": self.final_kl.high,
            "iterations": float(self.iterations),
            "rolled_back": float(self.rolled_back),
        }


@dataclass(frozen=True, slots=True)
class _Measured:
    """What an iteration's rollouts say of the policy that drew them."""

    scores: Estimate
    score_std: float
    kl: Estimate
    figures: Mapping[str, float]


class OnPolicyRun:
    """One run: policy, frozen reference, learner and the loop over iterations.

    Args:
        reference: what KL is measured from and pulled back to; None takes the policy as it comes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        chat: ChatFormat,
        sampler: Sampler,
        scorer: Scorer,
        learner: Learner,
        config: OnPolicyConfig,
        context: RunContext,
        *,
        reference: PreTrainedModel | None = None,
    ) -> None:
        self._model, self._chat, self._config, self._context = model, chat, config, context
        self._sampler, self._scorer, self._learner = sampler, scorer, learner
        # A policy that learns by adapters is its own reference, without them.
        self._is_own_reference = reference is None and has_adapters(model)
        if reference is None:
            reference = model if self._is_own_reference else copy.deepcopy(model)
        if not self._is_own_reference:
            reference.eval().requires_grad_(False)
        self._reference = reference
        steps = -(-config.rollouts_per_iteration // config.minibatch_size)
        self.run = TrainingRun(
            {"policy": model, **learner.modules},
            config,
            total_steps=config.iterations * config.epochs * steps,
            context=context,
        )
        self._kl = AdaptiveKL(config.kl_coef, target=config.target_kl, horizon=config.kl_horizon)
        # Dropout would make the ratio of an unchanged policy differ from 1.
        model.eval()

    def train(self, prompts: Sequence[Prompt], held_out: Sequence[Prompt] = ()) -> Outcome:
        """Run all iterations, or stop where the KL bound is passed or nothing is gained.

        Args:
            held_out: prompts never trained on; an early stop watches the mean score of the
                replies to them, and goes back to the weights that had the best.
        Returns:
            the outcome; the model holds the final policy.
        Raises:
            FailedPreconditionError: the loss is not finite.
        """
        config, run = self._config, self.run
        start = run.resume()
        self._kl.kl_coef = run.state.get("kl_coef", self._kl.kl_coef)
        kept = read_records(run.files[_ROLLOUTS], Rollout) if _ROLLOUTS in run.files else []
        measured: list[_Measured] = [_from_state(item) for item in run.state.get("measured", [])]
        figure = HeldOutFigure(
            "test.score", lambda: self._score_of(held_out), higher_is_better=True
        )
        early_stop = EarlyStop(run, figure if held_out else None)
        done, rolled_back = start, False
        for iteration in range(start, config.iterations + 1):
            rollouts = self.collect(prompts, iteration)
            experience, now = self.prepare(rollouts)
            if self._beyond_bound(now.kl) and measured:
                within = (name for name in run.tensors if name.startswith(_WITHIN))
                run.restore({name.removeprefix(_WITHIN): run.tensors[name] for name in within})
                done, rolled_back = len(measured) - 1, True
                break
            kept = rollouts if config.keep_rollouts == "last" else kept + rollouts
            measured.append(now)
            done = iteration
            if iteration == config.iterations or early_stop.stops:
                break
            if config.max_kl is not None:
                run.tensors |= {_WITHIN + name: w for name, w in run.snapshot().items()}
            figures = self._learner.learn(experience, run, iteration, self._kl.kl_coef)
            if config.kl_controller == "adaptive":
                self._kl.update(now.kl.value, len(rollouts))
            tested = early_stop.check(iteration + 1)
            self._keep_state(iteration + 1, measured, kept)
            curves = {**now.figures, **figures, **tested}
            run.end_unit(iteration + 1, config.iterations, curves, keep=bool(tested))
        best = None if rolled_back else early_stop.restore_best()
        done = done if best is None else best
        first, last = measured[0], measured[done]
        return Outcome(
            initial_scores=first.scores,
            initial_score_std=first.score_std,
            final_scores=last.scores,
            final_kl=last.kl,
            iterations=done,
            rolled_back=rolled_back,
            rollouts=kept,
        )

    def collect(self, prompts: Sequence[Prompt], iteration: int) -> list[Rollout]:
        """An iteration's scored rollouts, from the policy as it is now."""
        config = self._config
        chosen = cyclic_indices(
            len(prompts),
            start=iteration * config.prompts_per_iteration,
            size=config.prompts_per_iteration,
            seed=config.seed,
        )
        return self._draw([prompts[index] for index in chosen], iteration)

    def _score_of(self, prompts: Sequence[Prompt]) -> float:
        """Mean score of replies to held-out prompts; the draws are the same at each call."""
        rollouts = self._draw(prompts, iteration=self._config.iterations + 1)
        return mean(rollout_scores(rollouts, self._config.reward).tolist()).value

    def _draw(self, prompts: Sequence[Prompt], iteration: int) -> list[Rollout]:
        """Scored replies to the prompts, in order."""
        config = self._config
        self._sampler.use_policy(self._model, iteration)
        return collect_rollouts(
            self._sampler,
            self._scorer,
            prompts,
            chat=self._chat,
            k=config.responses_per_prompt,
            temperatures=(config.temperature,),
            top_p=1.0,
            max_response_tokens=config.max_response_tokens,
            rows_per_batch=config.rows_per_batch,
            seed=config.seed,
            iteration=iteration,
        )

    @torch.no_grad()
    def prepare(self, rollouts: Sequence[Rollout]) -> tuple[Experience, _Measured]:
        """What policy, reference and learner say of an iteration's rollouts."""
        config = self._config
        prompts = [rollout.prompt_token_ids for rollout in rollouts]
        responses = [rollout.response_token_ids for rollout in rollouts]
        mask = response_mask([PromptGroup((), responses)], self._model.device)
        blank = torch.zeros(mask.shape, device=mask.device)
        scores = rollout_scores(rollouts, config.reward)
        empty = Experience(prompts, responses, mask, blank, blank, blank, scores, None)
        drawn, gap = trusted_logprobs(
            self._model,
            rollouts,
            mask,
            policy_id=self._sampler.policy_id,
            pad_id=self._chat.pad_id,
            temperature=config.temperature,
        )
        logprobs, ref_logprobs, values = self._frozen_view(empty, drawn)
        if drawn is None:
            gap = sampler_gap(rollouts, logprobs, mask)
        estimate = kl_estimate(logprobs, ref_logprobs, estimator=config.kl_estimator)
        shaped = shape_scores(scores, rollouts, config).to(mask.device)
        experience = Experience(
            prompts, responses, mask, logprobs, ref_logprobs, estimate * mask, shaped, values
        )
        # The bound and the curves hold the unbiased estimator whatever the penalty uses.
        drift = (kl_estimate(logprobs, ref_logprobs, estimator="k1") * mask).sum(dim=1)
        return experience, self._measure(rollouts, scores, drift, gap)

    def _beyond_bound(self, kl: Estimate) -> bool:
        return self._config.max_kl is not None and kl.high > self._config.max_kl

    def _keep_state(
        self, done: int, measured: Sequence[_Measured], kept: Sequence[Rollout]
    ) -> None:
        """Note what a resumed run needs besides weights and optimizer."""
        self.run.state |= {
            "kl_coef": self._kl.kl_coef,
            "measured": [_to_state(item) for item in measured],
        }
        every = self._config.checkpoint_every
        if every and done % every == 0:
            path = self._context.work_dir / _ROLLOUTS
            path.parent.mkdir(parents=True, exist_ok=True)
            write_records(path, kept)
            self.run.files = {_ROLLOUTS: path}

    def _frozen_view(
        self, experience: Experience, drawn: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logprobs of policy and reference, and values, all [B, R].

        Args:
            drawn: [B, R], what the sampler says of the policy; None has it computed.
        """
        config, pad_id = self._config, self._chat.pad_id
        options: Any = {"pad_id": pad_id, "temperature": config.temperature}
        computed, ref_logprobs, values = (torch.zeros_like(experience.logprobs) for _ in range(3))
        logprobs, has_values = computed if drawn is None else drawn, False
        rows = range(len(experience.responses))
        k = config.responses_per_prompt
        for part in experience.microbatches(rows, config.tokens_per_microbatch, k=k):
            groups, width = experience.groups(part), experience.width(part)
            states = None
            if self._learner.reads_states:
                states = response_states(self._model, groups, pad_id=pad_id)
            if drawn is None:
                found = response_logprobs(self._model, groups, states=states, **options)
                logprobs[part, :width] = found
            with base_weights(self._model) if self._is_own_reference else nullcontext():
                ref_logprobs[part, :width] = response_logprobs(self._reference, groups, **options)
            own_values = self._learner.values(groups, states)
            if own_values is not None:
                values[part, :width], has_values = own_values, True
        return logprobs, ref_logprobs, values if has_values else None

    def _measure(
        self,
        rollouts: Sequence[Rollout],
        scores: Tensor,
        kl: Tensor,
        gap: float | None,
    ) -> _Measured:
        """Figures of an iteration's rollouts: scores [B], kl [B]; gap None leaves it out."""
        score_estimate, kl_interval = mean(scores.tolist()), mean(kl.tolist())
        std = float(scores.std(unbiased=False))
        if std == 0:
            logger.warning("all %d scores are %g: no gradient", len(scores), scores[0])
        lengths = [len(r.response_token_ids) for r in rollouts]
        figures = {
            "score.mean": score_estimate.value,
            "score.std": std,
            "kl": kl_interval.value,
            "kl.upper": kl_interval.high,
            "kl_coef": self._kl.kl_coef,
            "response_tokens": sum(lengths) / len(lengths),
            "finished_share": sum(r.finish_reason == FINISHED for r in rollouts) / len(rollouts),
        } | ({} if gap is None else {"sampler_gap": gap})
        for head in sorted(rollouts[0].scores):
            figures[f"score.{head}"] = sum(r.scores[head] for r in rollouts) / len(rollouts)
        return _Measured(score_estimate, std, kl_interval, figures)


def shape_scores(scores: Tensor, rollouts: Sequence[Rollout], config: OnPolicyConfig) -> Tensor:
    """Scores [B] as rewards: whitened, clipped, unfinished responses penalised."""
    if config.whiten_scores:
        scores = whiten(scores, torch.ones_like(scores, dtype=torch.bool))
    if config.score_clip is not None:
        scores = scores.clamp(-config.score_clip, config.score_clip)
    unfinished = torch.tensor([r.finish_reason != FINISHED for r in rollouts])
    scores = scores - config.missing_eos_penalty * unfinished
    if config.missing_eos_score is not None:
        scores = scores.masked_fill(unfinished, config.missing_eos_score)
    return scores


def minibatches(
    rollouts: int, *, size: int, k: int, epochs: int, seed: int, iteration: int
) -> list[list[int]]:
    """Rows of every gradient step of an iteration, all epochs in order.

    Args:
        k: neighbouring rows that stay together.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + iteration)
    steps: list[list[int]] = []
    for _ in range(epochs):
        blocks = torch.randperm(rollouts // k, generator=generator).tolist()
        rows = [block * k + offset for block in blocks for offset in range(k)]
        steps += [rows[start : start + size] for start in range(0, len(rows), size)]
    return steps


def mean_figures(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over gradient steps; none of no steps."""
    names = steps[0] if steps else ()
    return {name: sum(step[name] for step in steps) / len(steps) for name in names}


def _to_state(measured: _Measured) -> dict[str, object]:
    return {
        "scores": measured.scores.to_dict(),
        "score_std": measured.score_std,
        "kl": measured.kl.to_dict(),
    }


def _from_state(state: Mapping[str, Any]) -> _Measured:
    return _Measured(
        scores=Estimate(**state["scores"]),
        score_std=float(state["score_std"]),
        kl=Estimate(**state["kl"]),
        figures={},
    )
