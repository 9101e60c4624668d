"""Plumbline's RLOO and PPO, rollouts included, over given weights and prompts."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from measured_run import Measured, arguments
from torch import Tensor
from train import Context

from plumbline.data.records import Prompt, user
from plumbline.models.chat import ChatFormat
from plumbline.models.checkpoint import load_causal_lm, load_encoder_or_decoder
from plumbline.models.programmatic import WordShareReward
from plumbline.models.reward import RewardModel, RewardModelCard
from plumbline.trainer.config import OnPolicyConfig, PPOConfig, RLOOConfig
from plumbline.trainer.recipes.on_policy import Learner, OnPolicyRun
from plumbline.trainer.recipes.policy_gradient import PolicyGradient
from plumbline.trainer.recipes.ppo import PPO
from plumbline.trainer.rollout import ColocatedSampler, RewardModelScorer, Scorer

torch.set_num_threads(2)


class EvenShare:
    """Share of the words whose number is even."""

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        return {"even": torch.tensor([even_share(text) for text in responses])}


def even_share(text: str) -> float:
    words = text.split()
    return sum(int(word[1:]) % 2 == 0 for word in words) / max(len(words), 1)


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "template": "plain",
        "learning_rate": given["learning_rate"],
        "warmup_share": 0.0,
        "weight_decay": 0.0,
        "iterations": given["iterations"],
        "prompts_per_iteration": given["rollouts"] // given["k"],
        "responses_per_prompt": given["k"],
        "minibatch_size": given["rollouts"],
        "max_response_tokens": given["response_tokens"],
        "kl_coef": 0.05,
        "log_every": 1,
        # Configs name a reward; here the scorer is given.
        "reward": WordShareReward(words=("unused",)),
    }


def main() -> None:
    given = arguments()
    texts = json.loads(Path(given["data"]).read_text(encoding="utf-8"))
    prompts = [Prompt(str(index), (user(text),)) for index, text in enumerate(texts)]
    base = Path(given["model"])
    model, tokenizer = load_causal_lm(base)
    chat = ChatFormat(tokenizer, template="plain")
    config: OnPolicyConfig
    learner: Learner
    scorer: Scorer
    if given["method"] == "ppo":
        config = PPOConfig(
            **settings(given),
            epochs=2,
            value_model="separate",
            whiten_scores=False,
        )
        learner = PPO(model, chat, config)
        backbone, _ = load_encoder_or_decoder(base)
        card = RewardModelCard(template="plain", max_length=1024)
        scorer = RewardModelScorer(
            {"preference": RewardModel.create(backbone, tokenizer, card, seed=0)}
        )
    else:
        config = RLOOConfig(**settings(given), epochs=1)
        learner = PolicyGradient(model, chat, config)
        scorer = EvenShare()
    sampler = ColocatedSampler(model, chat, policy_id="base")
    loop = OnPolicyRun(model, chat, sampler, scorer, learner, config, Context())
    measured = Measured()
    with measured.block():
        outcome = loop.train(prompts)
    drawn = sum(len(rollout.response_token_ids) for rollout in outcome.rollouts)
    measured.report(
        documents=given["tokens"],
        size_bytes=0,
        losses=[],
        optimizer_steps=loop.run.optimizer_steps,
        drawn=drawn / len(outcome.rollouts),
    )


if __name__ == "__main__":
    main()
