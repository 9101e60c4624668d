"""Proximal policy optimisation with a per-token KL penalty and a value head.

Legend: B rollouts of an iteration, T tokens (prompt and response, padded on the right), H hidden
size. Masks are True at response tokens. The value of a token is read at the state before it.

Sources: Schulman et al. 2017, arXiv:1707.06347; Stiennon et al. 2020, arXiv:2009.01325; Llama 2,
arXiv:2307.09288, section 3.2.3.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plumbline.core.statistics import Estimate, mean
from plumbline.data.records import Prompt, Rollout
from plumbline.data.tables import read_records, write_records
from plumbline.models.batching import length_sorted_batches, pad_right
from plumbline.models.chat import ChatFormat
from plumbline.models.logprobs import (
    counted_logits,
    counted_logprobs,
    gather_logprobs,
    hidden_states,
    predictive_mask,
    scatter_counted,
)
from plumbline.trainer.batches import cyclic_indices
from plumbline.trainer.config import PPOConfig
from plumbline.trainer.engine import RunContext, TrainingRun, check_finite
from plumbline.trainer.losses.advantages import gae, whiten
from plumbline.trainer.losses.kl import kl_estimate
from plumbline.trainer.losses.ppo import ppo_policy_loss, ppo_value_loss, token_rewards
from plumbline.trainer.rollout import (
    FINISHED,
    Sampler,
    Scorer,
    collect_rollouts,
    rollout_scores,
)

_ROLLOUTS = "rollouts.parquet"
_WITHIN = "within_bound/"


class ValueModel(nn.Module):
    """A linear value head, on the policy's backbone or on one of its own; starts at 0."""

    def __init__(self, policy: PreTrainedModel, *, separate: bool) -> None:
        super().__init__()
        hidden_size = policy.get_input_embeddings().weight.shape[1]
        self.backbone = copy.deepcopy(policy.base_model) if separate else None
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


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
    """An iteration's rollouts as tensors, with what the frozen models say of them."""

    input_ids: Tensor
    """[B, T]"""
    response_mask: Tensor
    """[B, T], True = counts."""
    logprobs: Tensor
    """[B, T], nats, of the policy that drew the rollouts."""
    ref_logprobs: Tensor
    """[B, T]"""
    values: Tensor
    """[B, T]"""
    advantages: Tensor
    """[B, T]"""
    returns: Tensor
    """[B, T]"""

    def select(self, rows: Tensor) -> Experience:
        """Some rows [M], without columns that are padding in all of them."""
        positions = torch.arange(self.response_mask.shape[1], device=rows.device)
        width = int((positions * self.response_mask[rows]).max()) + 1
        return Experience(*(getattr(self, f.name)[rows][:, :width] for f in fields(self)))

    def split(self, tokens_per_microbatch: int) -> list[Experience]:
        """Parts that fit a token budget."""
        rows = max(tokens_per_microbatch // self.input_ids.shape[1], 1)
        parts = torch.arange(len(self.input_ids), device=self.input_ids.device).split(rows)
        return [self.select(part) for part in parts]


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


@dataclass(frozen=True, slots=True)
class _Measured:
    """What an iteration's rollouts say of the policy that drew them."""

    scores: Estimate
    score_std: float
    kl: Estimate
    figures: Mapping[str, float]


class PPO:
    """One run: policy, frozen reference, value model and the loop over iterations.

    Args:
        reference: what KL is measured from and pulled back to; None takes the policy as it comes.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        chat: ChatFormat,
        sampler: Sampler,
        scorer: Scorer,
        config: PPOConfig,
        context: RunContext,
        *,
        reference: PreTrainedModel | None = None,
    ) -> None:
        self._model, self._chat, self._config, self._context = model, chat, config, context
        self._sampler, self._scorer = sampler, scorer
        self._reference = copy.deepcopy(model) if reference is None else reference
        self._reference.eval().requires_grad_(False)
        self._value_model = ValueModel(model, separate=config.value_model == "separate")
        self._value_model.to(model.device)
        modules = {"policy": model, "value": self._value_model}
        steps = config.iterations * config.epochs * -(-self._rollouts // config.minibatch_size)
        self.run = TrainingRun(modules, config, total_steps=steps, context=context)
        self._kl = AdaptiveKL(config.kl_coef, target=config.target_kl, horizon=config.kl_horizon)
        # Dropout would make the ratio of an unchanged policy differ from 1.
        model.eval()

    @property
    def _rollouts(self) -> int:
        return self._config.prompts_per_iteration * self._config.responses_per_prompt

    def train(self, prompts: Sequence[Prompt]) -> Outcome:
        """Run all iterations, or stop where the KL bound is passed.

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
        done, rolled_back = start, False
        for iteration in range(start, config.iterations + 1):
            rollouts = self._collect(prompts, iteration)
            experience, now = self._prepare(rollouts)
            if self._beyond_bound(now.kl) and measured:
                run.restore(
                    {name.removeprefix(_WITHIN): tensor for name, tensor in run.tensors.items()}
                )
                done, rolled_back = len(measured) - 1, True
                break
            kept = rollouts if config.keep_rollouts == "last" else kept + rollouts
            measured.append(now)
            done = iteration
            if iteration == config.iterations:
                break
            if config.max_kl is not None:
                run.tensors = {_WITHIN + name: w for name, w in run.snapshot().items()}
            figures = self._update(experience, iteration)
            if config.kl_controller == "adaptive":
                self._kl.update(now.kl.value, len(rollouts))
            self._keep_state(iteration + 1, measured, kept)
            run.end_unit(iteration + 1, config.iterations, {**now.figures, **figures})
        first, last = measured[0], measured[-1]
        return Outcome(
            initial_scores=first.scores,
            initial_score_std=first.score_std,
            final_scores=last.scores,
            final_kl=last.kl,
            iterations=done,
            rolled_back=rolled_back,
            rollouts=kept,
        )

    def _collect(self, prompts: Sequence[Prompt], iteration: int) -> list[Rollout]:
        config = self._config
        chosen = cyclic_indices(
            len(prompts),
            start=iteration * config.prompts_per_iteration,
            size=config.prompts_per_iteration,
            seed=config.seed,
        )
        self._sampler.use_policy(self._model, iteration)
        return collect_rollouts(
            self._sampler,
            self._scorer,
            [prompts[index] for index in chosen],
            chat=self._chat,
            k=config.responses_per_prompt,
            temperatures=(config.temperature,),
            top_p=1.0,
            max_response_tokens=config.max_response_tokens,
            rows_per_batch=config.rows_per_batch,
            seed=config.seed,
            iteration=iteration,
        )

    def _beyond_bound(self, kl: Estimate) -> bool:
        return self._config.max_kl is not None and kl.high > self._config.max_kl

    def _keep_state(
        self, done: int, measured: Sequence[_Measured], kept: Sequence[Rollout]
    ) -> None:
        """Note what a resumed run needs besides weights and optimizer."""
        self.run.state = {
            "kl_coef": self._kl.kl_coef,
            "measured": [_to_state(item) for item in measured],
        }
        every = self._config.checkpoint_every
        if every and done % every == 0:
            path = self._context.work_dir / _ROLLOUTS
            path.parent.mkdir(parents=True, exist_ok=True)
            write_records(path, kept)
            self.run.files = {_ROLLOUTS: path}

    @torch.no_grad()
    def _prepare(self, rollouts: Sequence[Rollout]) -> tuple[Experience, _Measured]:
        """Logprobs, values, rewards and advantages of an iteration's rollouts."""
        config = self._config
        rows = [[*r.prompt_token_ids, *r.response_token_ids] for r in rollouts]
        ids, _ = pad_right(rows, self._chat.pad_id)
        mask = _response_mask(rollouts, ids.shape[1])
        device = self._model.device
        ids, mask = ids.to(device), mask.to(device)
        logprobs, ref_logprobs, values = self._frozen_view(ids, mask, [len(row) for row in rows])
        kl = kl_estimate(logprobs, ref_logprobs, estimator=config.kl_estimator) * mask
        scores = rollout_scores(rollouts, config.reward)
        rewards = token_rewards(
            self._shaped_scores(scores, rollouts).to(device), kl, mask, kl_coef=self._kl.kl_coef
        )
        advantages, returns = gae(rewards, values, mask, gamma=config.gamma, lam=config.lam)
        if config.whiten_advantages:
            advantages = whiten(advantages, mask)
        experience = Experience(ids, mask, logprobs, ref_logprobs, values, advantages, returns)
        # The bound and the curves hold the unbiased estimator whatever the penalty uses.
        drift = (kl_estimate(logprobs, ref_logprobs, estimator="k1") * mask).sum(dim=1)
        return experience, self._measure(rollouts, scores, drift, logprobs, mask)

    def _frozen_view(
        self, ids: Tensor, mask: Tensor, lengths: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logprobs of policy and reference, and values, all [B, T]."""
        temperature = self._config.temperature
        logprobs, ref_logprobs, values = (
            torch.zeros(mask.shape, device=mask.device) for _ in range(3)
        )
        budget = self._config.tokens_per_microbatch
        for batch in length_sorted_batches(lengths, tokens_per_batch=budget):
            width = max(lengths[index] for index in batch)
            part_ids, part_mask = ids[batch, :width], mask[batch, :width]
            part_logprobs, part_values = policy_and_values(
                self._model, self._value_model, part_ids, part_mask, temperature=temperature
            )
            logprobs[batch, :width], values[batch, :width] = part_logprobs, part_values
            ref_logprobs[batch, :width] = counted_logprobs(
                self._reference, part_ids, part_mask, temperature=temperature
            )
        return logprobs, ref_logprobs, values

    def _shaped_scores(self, scores: Tensor, rollouts: Sequence[Rollout]) -> Tensor:
        """Scores [B] as rewards: whitened, clipped, unfinished responses penalised."""
        config = self._config
        if config.whiten_scores:
            scores = whiten(scores, torch.ones_like(scores, dtype=torch.bool))
        if config.score_clip is not None:
            scores = scores.clamp(-config.score_clip, config.score_clip)
        unfinished = torch.tensor([r.finish_reason != FINISHED for r in rollouts])
        scores = scores - config.missing_eos_penalty * unfinished
        if config.missing_eos_score is not None:
            scores = scores.masked_fill(unfinished, config.missing_eos_score)
        return scores

    def _measure(
        self,
        rollouts: Sequence[Rollout],
        scores: Tensor,
        kl: Tensor,
        logprobs: Tensor,
        mask: Tensor,
    ) -> _Measured:
        """Figures of an iteration's rollouts: scores [B], kl [B], logprobs and mask [B, T]."""
        score_estimate, kl_estimate_ = mean(scores.tolist()), mean(kl.tolist())
        std = float(scores.std(unbiased=False))
        drawn = torch.tensor([value for r in rollouts for value in r.logprobs])
        lengths = [len(r.response_token_ids) for r in rollouts]
        figures = {
            "score.mean": score_estimate.value,
            "score.std": std,
            "kl": kl_estimate_.value,
            "kl.upper": kl_estimate_.high,
            "kl_coef": self._kl.kl_coef,
            "response_tokens": sum(lengths) / len(lengths),
            "finished_share": sum(r.finish_reason == FINISHED for r in rollouts) / len(rollouts),
            "sampler_gap": float((logprobs[mask].cpu() - drawn).abs().max()),
        }
        for head in sorted(rollouts[0].scores):
            figures[f"score.{head}"] = sum(r.scores[head] for r in rollouts) / len(rollouts)
        return _Measured(score_estimate, std, kl_estimate_, figures)

    def _update(self, experience: Experience, iteration: int) -> dict[str, float]:
        """All gradient steps of an iteration; returns their mean figures."""
        config = self._config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + iteration)
        sums: dict[str, float] = {}
        steps = 0
        for _ in range(config.epochs):
            order = torch.randperm(len(experience.input_ids), generator=generator)
            for rows in order.to(experience.input_ids.device).split(config.minibatch_size):
                figures = self._step(experience.select(rows), iteration)
                figures["gradient_norm"] = self.run.apply_gradients()
                steps += 1
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value
        means = {name: value / steps for name, value in sums.items()}
        return {**means, "learning_rate": self.run.learning_rate}

    def _step(self, minibatch: Experience, iteration: int) -> dict[str, float]:
        """Gradients of one minibatch."""
        config = self._config
        denominator = float(minibatch.response_mask.sum())
        policy_sum = value_sum = clip_sum = 0.0
        learns_policy = iteration >= config.value_warmup_iterations
        for part in minibatch.split(config.tokens_per_microbatch):
            logprobs, values = policy_and_values(
                self._model,
                self._value_model,
                part.input_ids,
                part.response_mask,
                temperature=config.temperature,
                detach_values=not learns_policy,
            )
            policy_loss, clip_share = ppo_policy_loss(
                logprobs,
                part.logprobs,
                part.advantages,
                part.response_mask,
                clip_range=config.clip_range,
                denominator=denominator,
            )
            value_loss = ppo_value_loss(
                values,
                part.values,
                part.returns,
                part.response_mask,
                clip_range=config.value_clip_range,
                denominator=denominator,
            )
            loss = config.value_coef * value_loss
            if learns_policy:
                loss = loss + policy_loss
            check_finite(loss.item(), step=iteration, batch=f"rollouts of iteration {iteration}")
            loss.backward()
            policy_sum += policy_loss.item()
            value_sum += value_loss.item()
            clip_sum += clip_share.item()
        return {"policy_loss": policy_sum, "value_loss": value_sum, "clip_share": clip_sum}


def policy_and_values(
    model: PreTrainedModel,
    value_model: ValueModel,
    input_ids: Tensor,
    response_mask: Tensor,
    *,
    temperature: float,
    detach_values: bool = False,
) -> tuple[Tensor, Tensor]:
    """Logprobs [B, T], nats, and values [B, T] of response tokens; 0 elsewhere.

    Args:
        input_ids: [B, T], padded on the right. response_mask: [B, T], True = counts.
        temperature: the one that the responses were drawn at.
        detach_values: keep the value loss from moving a shared backbone.
    """
    hidden = hidden_states(model, input_ids)
    logits, targets = counted_logits(model, input_ids, response_mask, hidden)
    logprobs = scatter_counted(gather_logprobs(logits / temperature, targets), response_mask)
    if value_model.backbone is not None:
        hidden = hidden_states(value_model.backbone, input_ids)
    elif detach_values:
        hidden = hidden.detach()
    states = hidden[:, :-1][predictive_mask(response_mask)]
    values = value_model.head(states).squeeze(-1).float()
    return logprobs, scatter_counted(values, response_mask)


def _response_mask(rollouts: Sequence[Rollout], width: int) -> Tensor:
    starts = torch.tensor([[len(r.prompt_token_ids)] for r in rollouts])
    ends = starts + torch.tensor([[len(r.response_token_ids)] for r in rollouts])
    positions = torch.arange(width)
    return (positions >= starts) & (positions < ends)


def _to_state(measured: _Measured) -> dict[str, object]:
    return {
        "scores": measured.scores.to_dict(),
        "score_std": measured.score_std,
        "kl": measured.kl.to_dict(),
    }


def _from_state(state: Mapping[str, object]) -> _Measured:
    return _Measured(
        scores=Estimate(**state["scores"]),  # type: ignore[arg-type]
        score_std=float(state["score_std"]),  # type: ignore[arg-type]
        kl=Estimate(**state["kl"]),  # type: ignore[arg-type]
        figures={},
    )
