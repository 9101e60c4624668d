"""`make bench PART=curves`: reward against KL of five methods at equal sampled tokens.

Each method starts from the same real checkpoint (a story model of 260 thousand parameters, given
by `--base`) and may draw as many responses as the others, all of one length at most. The reward is
the share of a response's words that VADER counts as positive, less a penalty for missing a length.
Along the way each policy is measured on prompts that nobody trains on: mean reward, and mean KL
from the base per response (the unbiased estimator). Writes a table and a plot.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from framework import REPOSITORY
from torch import Tensor
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from plumbline.core.statistics import mean
from plumbline.data.records import Prompt, Rollout, user
from plumbline.evaluation.plots import lines
from plumbline.models.chat import ChatFormat
from plumbline.models.checkpoint import load_causal_lm
from plumbline.models.packing import PromptGroup
from plumbline.models.programmatic import WordShareReward
from plumbline.trainer.config import (
    DPOConfig,
    GRPOConfig,
    OnPolicyConfig,
    PPOConfig,
    RejectionSamplingConfig,
    RLOOConfig,
)
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.execution import deterministic
from plumbline.trainer.forward import response_logprobs
from plumbline.trainer.recipes.dpo import plan_steps, train_dpo
from plumbline.trainer.recipes.on_policy import OnPolicyRun
from plumbline.trainer.recipes.policy_gradient import PolicyGradient
from plumbline.trainer.recipes.ppo import PPO
from plumbline.trainer.recipes.rejection_sampling import train_rejection_sampling
from plumbline.trainer.rollout import ColocatedSampler, collect_rollouts

STORIES = REPOSITORY / "pipelines" / "stories"
BASE = REPOSITORY.parent / "shared" / "models" / "stories260K"
ROLLOUTS, RESPONSE_TOKENS, K = 2048, 64, 8
TARGET_WORDS, LENGTH_COEF = 40, 0.005
HELD_OUT = 128
NAMED_REWARD = WordShareReward(words=("unused",))
"""Configs name a reward; here the scorer is given."""


def beginnings(path: Path) -> list[Prompt]:
    """Story beginnings, one JSON object to a line."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Prompt(str(i), (user(row["prompt"]),)) for i, row in enumerate(rows)]


class PositiveShare:
    """Share of the words that VADER counts as positive, less 0.005 for each word off 40."""

    def __init__(self) -> None:
        self._analyzer = SentimentIntensityAnalyzer()

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        return {"positive_share": torch.tensor([self._score(text) for text in responses])}

    def _score(self, text: str) -> float:
        words = len(text.split())
        share = float(self._analyzer.polarity_scores(text)["pos"]) if words else 0.0
        return share - LENGTH_COEF * abs(words - TARGET_WORDS)


class Experiment:
    """One base checkpoint, its prompts and the reward."""

    def __init__(self, base: Path, work: Path, seed: int) -> None:
        self.base, self.work, self.seed = base, work, seed
        self.train = beginnings(STORIES / "train.jsonl")
        self.held_out = beginnings(STORIES / "heldout.jsonl")[:HELD_OUT]
        self.reference, self.chat = self.policy()
        self.scorer = PositiveShare()

    def policy(self) -> tuple[Any, ChatFormat]:
        model, tokenizer = load_causal_lm(self.base)
        return model.eval(), ChatFormat(tokenizer, template="plain")

    def draw(
        self, model: Any, prompts: Sequence[Prompt], *, k: int, iteration: int
    ) -> list[Rollout]:
        return collect_rollouts(
            ColocatedSampler(model, self.chat, policy_id="policy"),
            self.scorer,
            prompts,
            chat=self.chat,
            k=k,
            temperatures=(1.0,),
            top_p=1.0,
            max_response_tokens=RESPONSE_TOKENS,
            rows_per_batch=256,
            seed=self.seed,
            iteration=iteration,
        )

    @torch.no_grad()
    def measure(self, model: Any) -> dict[str, float]:
        """Mean reward and KL on held-out prompts, with the ends of their 95 % intervals."""
        was_training = model.training
        model.eval()
        rollouts = self.draw(model, self.held_out, k=2, iteration=999)
        groups = [PromptGroup(r.prompt_token_ids, [r.response_token_ids]) for r in rollouts]
        own, other = (
            response_logprobs(m, groups, pad_id=self.chat.pad_id) for m in (model, self.reference)
        )
        model.train(was_training)
        reward = mean([next(iter(r.scores.values())) for r in rollouts])
        kl = mean((own - other).sum(dim=1).tolist())
        return {
            "reward": reward.value,
            "reward.low": reward.low,
            "reward.high": reward.high,
            "kl": kl.value,
            "kl.high": kl.high,
        }


class CurveContext:
    """A stage's context that measures the policy some times along the way."""

    def __init__(self, experiment: Experiment, model: Any, *, points: int) -> None:
        self.work_dir = experiment.work
        self._experiment, self._model, self._points = experiment, model, points
        self.curve = [experiment.measure(model)]

    def progress(self, done: int, total: int, message: str = "") -> None:
        if done == total or done * self._points // total > (done - 1) * self._points // total:
            self.curve.append(self._experiment.measure(self._model))

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        return None

    def save_checkpoint(self, directory: Path, step: int, *, keep: int = 2) -> None:
        return None

    def newest_checkpoint(self) -> None:
        return None


def shared_settings(seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "template": "plain",
        "max_response_tokens": RESPONSE_TOKENS,
        "reward": NAMED_REWARD,
        "log_every": 1,
    }


def on_policy(experiment: Experiment, config: OnPolicyConfig, points: int) -> CurveContext:
    model, chat = experiment.policy()
    context = CurveContext(experiment, model, points=points)
    learner = (
        PPO(model, chat, config)
        if isinstance(config, PPOConfig)
        else PolicyGradient(model, chat, config)  # type: ignore[arg-type]
    )
    sampler = ColocatedSampler(model, chat, policy_id="base")
    OnPolicyRun(model, chat, sampler, experiment.scorer, learner, config, context).train(
        experiment.train
    )
    return context


def rejection_sampling(experiment: Experiment, points: int) -> CurveContext:
    """Two rounds of the best of K."""
    model, chat = experiment.policy()
    context = CurveContext(experiment, model, points=points)
    prompts = experiment.train[: ROLLOUTS // K // 2]
    config = RejectionSamplingConfig(
        **shared_settings(experiment.seed),
        rounds=2,
        responses_per_prompt=K,
        learning_rate=3e-4,
        keep_unfinished=True,
        epochs=4,
        batch_size=32,
    )
    sampler = ColocatedSampler(model, chat, policy_id="base")
    train_rejection_sampling(model, prompts, sampler, experiment.scorer, config, context, chat=chat)
    return context


def dpo(experiment: Experiment, points: int) -> CurveContext:
    """Pairs of the base's own responses, the reward's order taken for a preference."""
    model, chat = experiment.policy()
    context = CurveContext(experiment, model, points=points)
    rollouts = experiment.draw(model, experiment.train[: ROLLOUTS // K], k=K, iteration=0)
    pairs = []
    for start in range(0, len(rollouts), K):
        group = sorted(rollouts[start : start + K], key=lambda r: next(iter(r.scores.values())))
        # The worst with the best, the second worst with the second best.
        for worse, better in zip(group[: K // 2], group[::-1], strict=False):
            responses = (better.response_token_ids, worse.response_token_ids)
            pairs.append(PromptGroup(better.prompt_token_ids, responses))
    config = DPOConfig(
        seed=experiment.seed, learning_rate=2e-4, beta=0.1, batch_size=64, epochs=4, log_every=1
    )
    plan = plan_steps(pairs, config)
    run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
    train_dpo(model, pairs, run, config, plan, pad_id=chat.pad_id)
    return context


def methods(experiment: Experiment, points: int) -> dict[str, Callable[[], CurveContext]]:
    """Each method, with as many sampled responses as any other."""
    per_iteration = 128
    loop: dict[str, Any] = {
        **shared_settings(experiment.seed),
        "iterations": ROLLOUTS // per_iteration,
        "learning_rate": 2e-4,
        "kl_coef": 0.01,
        "minibatch_size": 64,
        "epochs": 2,
    }
    group = {"prompts_per_iteration": per_iteration // K, "responses_per_prompt": K}
    single = {"prompts_per_iteration": per_iteration, "lam": 1.0}
    return {
        "rejection sampling": lambda: rejection_sampling(experiment, points),
        "RLOO": lambda: on_policy(experiment, RLOOConfig(**loop, **group), points),
        "GRPO": lambda: on_policy(experiment, GRPOConfig(**loop, **group), points),
        "PPO": lambda: on_policy(experiment, PPOConfig(**loop, **single), points),
        "DPO": lambda: dpo(experiment, points),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--base", type=Path, default=BASE, help="Directory of a story model.")
    parser.add_argument("--points", type=int, default=8, help="Measurements along each run.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", help="Names of methods; all unless given.")
    arguments = parser.parse_args(argv)
    if not arguments.base.is_dir():
        print(f"there is no model at {arguments.base}; give one with --base")
        return 1
    output = REPOSITORY / ".plumbline" / "bench"
    output.mkdir(parents=True, exist_ok=True)
    curves: dict[str, list[dict[str, float]]] = {}
    with deterministic(seed=arguments.seed, threads=torch.get_num_threads()):
        experiment = Experiment(arguments.base, output / "curves", arguments.seed)
        for name, train in methods(experiment, arguments.points).items():
            if arguments.methods and name not in arguments.methods:
                continue
            start = time.perf_counter()
            torch.manual_seed(arguments.seed)
            curves[name] = train().curve
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
            for point in curves[name]:
                print(
                    f"  KL {point['kl']:7.2f} (to {point['kl.high']:.2f})  reward "
                    f"{point['reward']:.3f} [{point['reward.low']:.3f}, {point['reward.high']:.3f}]"
                )
    (output / "curves.json").write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    plotted = {
        name: [(point["kl"], point["reward"]) for point in curve] for name, curve in curves.items()
    }
    title = f"Reward against KL, {ROLLOUTS} sampled responses each"
    svg = lines(title, plotted, x_label="KL from the base, nats per response")
    (output / "curves.svg").write_text(svg, encoding="utf-8")
    print(f"written to {output / 'curves.json'} and {output / 'curves.svg'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
