"""Every method finds the policy that is known to be the best.

For one-token responses with reward r, the policy that maximises E[r] minus beta times its KL from
the reference is proportional to reference * exp(r / beta) (Rafailov et al. 2023, arXiv:2305.18290,
equation 4). A small transformer over thirteen tokens learns it from its own samples, or from
preferences that were drawn by Bradley-Terry from the same rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from plumbline.data.records import Prompt, user
from plumbline.models.chat import BEGIN, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS, ChatFormat
from plumbline.models.packing import PromptGroup
from plumbline.trainer.config import (
    DPOConfig,
    GRPOConfig,
    OnPolicyConfig,
    PolicyGradientConfig,
    PPOConfig,
    ReinforceConfig,
    RLOOConfig,
)
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.recipes.dpo import train_dpo
from plumbline.trainer.recipes.on_policy import Learner, OnPolicyRun
from plumbline.trainer.recipes.policy_gradient import PolicyGradient
from plumbline.trainer.recipes.ppo import PPO
from plumbline.trainer.rollout import ColocatedSampler

WORDS = ("go", "red", "blue", "green", "grey", "pink", "gold")
REWARDS = dict(zip(WORDS, (0.0, 2.0, -2.0, 1.0, 1.5, -1.0, 0.5), strict=True))
"""Control tokens decode to nothing, which is worth 0."""
TOKENS = (*SPECIAL_TOKENS, *WORDS)
PROMPT = Prompt("p", (user("go"),))
BETAS = (0.5, 1.0, 1.5)
NEAR = 0.02
"""Nats."""


class WordScorer:
    """The reward of the word that a response consists of."""

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        return {"word": torch.tensor([REWARDS.get(text.strip(), 0.0) for text in responses])}


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(TOKENS)}, END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return ChatFormat(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=BEGIN,
            eos_token=END,
            pad_token=PAD,
            additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (BEGIN, END, PAD)],
            chat_template=CHAT_TEMPLATE,
            clean_up_tokenization_spaces=False,
        )
    )


def new_policy() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def log_probabilities(model: LlamaForCausalLM, chat: ChatFormat) -> Tensor:
    """Of every token as the response."""
    ids = torch.tensor([chat.encode_prompt(PROMPT.messages)])
    return model(input_ids=ids).logits[0, -1].double().log_softmax(dim=0)


def distance(found: Tensor, reference: Tensor, beta: float) -> float:
    """KL, nats, of the policy from the best one."""
    rewards = torch.tensor([REWARDS.get(token, 0.0) for token in TOKENS], dtype=torch.float64)
    best = (reference + rewards / beta).log_softmax(dim=0)
    return float((found.exp() * (found - best)).sum())


def on_policy(kind: type[OnPolicyConfig], beta: float, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "learning_rate": 0.03,
        "schedule": "cosine",
        "minimum_learning_rate_share": 0.0,
        "warmup_share": 0.0,
        "weight_decay": 0.0,
        "iterations": 60,
        "prompts_per_iteration": 1,
        "responses_per_prompt": 512,
        "minibatch_size": 512,
        "rows_per_batch": 512,
        "max_response_tokens": 1,
        "kl_coef": beta,
        "log_every": 1000,
    }
    return kind(**(values | changes))


METHODS: dict[str, Callable[[float], Any]] = {
    "reinforce": lambda beta: on_policy(ReinforceConfig, beta),
    "reinforce-running": lambda beta: on_policy(ReinforceConfig, beta, baseline="running"),
    "rloo": lambda beta: on_policy(RLOOConfig, beta),
    "rloo-k2-in-the-loss": lambda beta: on_policy(
        RLOOConfig, beta, kl_placement="loss", kl_estimator="k2"
    ),
    # Dividing by the deviation of the rewards would change what the coefficient means.
    "grpo": lambda beta: on_policy(
        GRPOConfig, beta, scale_by_std=False, kl_placement="reward", kl_estimator="k1"
    ),
    "ppo": lambda beta: on_policy(PPOConfig, beta, whiten_scores=False, epochs=2),
}


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("method", METHODS)
def test_own_samples_lead_to_the_best_policy(
    chat: ChatFormat, make_context: Callable[..., Any], method: str, beta: float
) -> None:
    model = new_policy()
    reference = log_probabilities(model, chat)
    config = METHODS[method](beta)
    learner: Learner = (
        PolicyGradient(model, chat, config)
        if isinstance(config, PolicyGradientConfig)
        else PPO(model, chat, config)
    )
    sampler = ColocatedSampler(model, chat, policy_id="base")
    loop = OnPolicyRun(model, chat, sampler, WordScorer(), learner, config, make_context())
    loop.train([PROMPT])

    assert distance(reference, reference, beta) > 3 * NEAR
    assert distance(log_probabilities(model, chat), reference, beta) < NEAR


@pytest.mark.parametrize("beta", BETAS)
def test_preferences_lead_to_the_best_policy(
    chat: ChatFormat, make_context: Callable[..., Any], beta: float
) -> None:
    """Of ten judgements on each pair, as many go either way as Bradley-Terry says."""
    model = new_policy()
    reference = log_probabilities(model, chat)
    prompt = chat.encode_prompt(PROMPT.messages)
    rewards = torch.tensor([REWARDS.get(token, 0.0) for token in TOKENS])
    pairs = []
    for one in range(len(TOKENS)):
        for other in range(one):
            wins = round(10 * float(torch.sigmoid(rewards[one] - rewards[other])))
            pairs += [PromptGroup(prompt, ([one], [other]))] * wins
            pairs += [PromptGroup(prompt, ([other], [one]))] * (10 - wins)
    config = DPOConfig(
        learning_rate=0.03,
        minimum_learning_rate_share=0.0,
        weight_decay=0.0,
        beta=beta,
        batch_size=len(pairs),
        log_every=1000,
        tokens_per_microbatch=2**20,
    )
    plan = [list(range(len(pairs)))] * 40
    run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=make_context())
    train_dpo(model, pairs, run, config, plan, pad_id=chat.pad_id)

    assert distance(log_probabilities(model, chat), reference, beta) < NEAR
