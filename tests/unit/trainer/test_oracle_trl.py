"""Losses and gradients beside TRL's own trainers, in float64, from the same weights and tokens.

TRL lives in an environment of its own, which `make setup-bench` makes. `tests/oracles` holds what
runs there.
"""

from __future__ import annotations

import json
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from plumbline.models.packing import PromptGroup, group_pair
from plumbline.models.reward import RewardModel, RewardModelCard
from plumbline.trainer.forward import (
    counted_loss,
    response_logprobs,
    response_mask,
    response_states,
    scatter_responses,
)
from plumbline.trainer.losses.advantages import gae, whiten
from plumbline.trainer.losses.bradley_terry import bradley_terry_loss
from plumbline.trainer.losses.dpo import dpo_loss, ipo_loss, preference_logits
from plumbline.trainer.losses.kl import kl_estimate
from plumbline.trainer.losses.kto import kto_loss, reference_point
from plumbline.trainer.losses.policy_gradient import (
    group_advantages,
    leave_one_out_advantages,
    sequence_policy_loss,
    token_weights,
    weighted_policy_loss,
)
from plumbline.trainer.losses.ppo import ppo_policy_loss, ppo_value_loss, token_rewards

REPOSITORY = Path(__file__).resolve().parents[3]
TRL, TRL_WITH_PPO = ".venv-trl", ".venv-trl-ppo"

PAD, EOS, VOCABULARY = 0, 2, 40
BETA, SMOOTHING, CLIP_RANGE = 0.3, 0.1, 0.2
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Found:
    """What TRL says of the case."""

    losses: dict[str, float]
    values: dict[str, list[float]]
    gradients: dict[str, Tensor]

    def advantages(self, name: str) -> Tensor:
        """[B], which TRL rounds to 32 bits; its losses are of these."""
        return torch.tensor(self.values[f"{name}_advantages"], dtype=torch.float64)

    def check(self, name: str, loss: Tensor, model: Any, *, rename: str = "") -> None:
        """Compare a loss of ours, and the gradients that it gives the model."""
        assert loss.dtype == torch.float64
        model.zero_grad()
        loss.backward()
        assert loss.item() == pytest.approx(self.losses[name], abs=TOLERANCE)
        expected = {
            key.removeprefix(f"{name}/").removeprefix(rename): value
            for key, value in self.gradients.items()
            if key.startswith(f"{name}/")
        }
        own = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        shared = own.keys() & expected.keys()
        assert len(shared) >= len(own) - 1
        for key in shared:
            assert_close(own[key], expected[key], atol=TOLERANCE, rtol=TOLERANCE)


def random_model(seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).double()


def random_classifier(seed: int) -> Any:
    from transformers import LlamaForSequenceClassification

    config = random_model(seed).config
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForSequenceClassification(config).double()


def old_logprobs(model: Any, groups: list[PromptGroup]) -> Tensor:
    """[B, R] of a policy a little away, so that ratios fall within the range and beyond it."""
    with torch.no_grad():
        found = response_logprobs(model, groups, pad_id=PAD)
    noise = torch.randn(found.shape, generator=torch.Generator().manual_seed(5)).double()
    return (found + 0.3 * noise) * response_mask(groups)


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    rng = random.Random(7)

    def text(least: int, most: int) -> list[int]:
        return [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(least, most))]

    # The two replies of a pair begin with other tokens, and every reply ends.
    pairs = [
        {"prompt": text(2, 6), "chosen": [3, *text(1, 6), EOS], "rejected": [4, *text(1, 6), EOS]}
        for _ in range(4)
    ]
    # Prompts of one length: TRL pads shorter ones on the left, which moves every position, and
    # angles of positions are rounded to 32 bits.
    prompts = [text(4, 4) for _ in range(2)]
    k = 3
    rollouts = {
        "k": k,
        "length": 9,
        "prompts": [prompt for prompt in prompts for _ in range(k)],
        "responses": [[*text(1, 7), EOS] for _ in range(2 * k)],
        "rewards": [0.5, -1.0, 2.0, 0.25, 0.75, -0.5],
    }
    groups = [
        PromptGroup(p, [r]) for p, r in zip(rollouts["prompts"], rollouts["responses"], strict=True)
    ]
    old = old_logprobs(random_model(0), groups)
    rollouts |= {"old": old.tolist(), "old_sums": old.sum(dim=1).tolist()}
    return {
        "beta": BETA,
        "label_smoothing": SMOOTHING,
        "clip_range": CLIP_RANGE,
        "desirable_weight": 1.5,
        "undesirable_weight": 0.75,
        "margins": [0.0, 1 / 3, 2 / 3, 1.0],
        "pairs": pairs,
        "rollouts": rollouts,
    }


def run_oracle(script: str, environment: str, directory: Path) -> None:
    """Run a script of tests/oracles over the models and the case in a directory."""
    python = REPOSITORY / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs TRL's environment {environment}; `make setup-bench` makes it")
    done = subprocess.run(
        [python, REPOSITORY / "tests" / "oracles" / script, directory],
        capture_output=True,
        text=True,
        check=False,
        env={"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, "\n".join(done.stderr.splitlines()[-15:])


def save_case(directory: Path, case: dict[str, Any], models: dict[str, Any]) -> None:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    (directory / "case.json").write_text(json.dumps(case), encoding="utf-8")
    words = {f"t{index}": index for index in range(VOCABULARY)}
    splitter = Tokenizer(WordLevel(words, unk_token="t3"))
    splitter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=splitter, pad_token="t0", bos_token="t1", eos_token="t2"
    )
    for name, model in models.items():
        model.save_pretrained(directory / name)
        tokenizer.save_pretrained(directory / name)


@pytest.fixture(scope="module")
def trl(case: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Found:
    directory = tmp_path_factory.mktemp("trl")
    models = {"policy": random_model(0), "reference": random_model(1)}
    save_case(directory, case, models | {"classifier": random_classifier(2)})
    run_oracle("trl_losses.py", TRL, directory)
    found = json.loads((directory / "losses.json").read_text(encoding="utf-8"))
    gradients = load_file(directory / "gradients.safetensors")
    return Found(found["losses"], found["values"], gradients)


@pytest.fixture
def policy() -> Any:
    return random_model(0)


@pytest.fixture(scope="module")
def reference() -> Any:
    return random_model(1)


def pair_groups(case: dict[str, Any]) -> list[PromptGroup]:
    return [PromptGroup(p["prompt"], (p["chosen"], p["rejected"])) for p in case["pairs"]]


def test_sft(trl: Found, case: dict[str, Any], policy: Any) -> None:
    texts = [pair["prompt"] + pair["chosen"] for pair in case["pairs"]]
    counted = [
        [False] * len(pair["prompt"]) + [True] * len(pair["chosen"]) for pair in case["pairs"]
    ]
    tokens = sum(map(sum, counted))
    trl.check("sft", counted_loss(policy, texts, counted, denominator=tokens, pad_id=PAD), policy)


@pytest.mark.parametrize("variant", ["sigmoid", "ipo", "conservative"])
def test_dpo(trl: Found, case: dict[str, Any], policy: Any, reference: Any, variant: str) -> None:
    groups = pair_groups(case)
    if variant == "conservative":
        groups = groups[:1]
    own, other = (response_logprobs(m, groups, pad_id=PAD) for m in (policy, reference))
    if variant == "ipo":
        # TRL's is of the mean over a response's tokens, as `average_logprobs` makes ours.
        lengths = response_mask(groups).sum(dim=1, keepdim=True)
        own, other = own / lengths, other / lengths
    pairs = [part.sum(dim=1).view(-1, 2) for part in (own, other.detach())]
    logits = preference_logits(*pairs[0].unbind(dim=1), *pairs[1].unbind(dim=1))
    if variant == "ipo":
        losses = ipo_loss(logits, beta=BETA)
    else:
        smoothing = SMOOTHING if variant == "conservative" else 0.0
        losses = dpo_loss(logits, beta=BETA, label_smoothing=smoothing)
    trl.check(f"dpo_{variant}", losses.mean(), policy)


def test_kto(trl: Found, case: dict[str, Any], policy: Any, reference: Any) -> None:
    pairs = case["pairs"]
    groups = pair_groups(case)
    others = [
        PromptGroup(pair["prompt"], (pairs[index - 1]["chosen"], pairs[index - 1]["rejected"]))
        for index, pair in enumerate(pairs)
    ]

    def gained(some: list[PromptGroup]) -> Tensor:
        own, other = (response_logprobs(m, some, pad_id=PAD) for m in (policy, reference))
        return (own - other.detach()).sum(dim=1)

    desirable = torch.tensor([True, False] * len(pairs))
    losses = kto_loss(
        gained(groups),
        desirable,
        reference_point(gained(others)),
        beta=BETA,
        desirable_weight=case["desirable_weight"],
        undesirable_weight=case["undesirable_weight"],
    )
    trl.check("kto", losses.mean(), policy)


@pytest.mark.parametrize("name", ["reward", "reward_margin"])
def test_reward_model(trl: Found, case: dict[str, Any], tiny_tokenizer: Any, name: str) -> None:
    classifier = random_classifier(2)
    model = RewardModel(classifier.model, tiny_tokenizer, RewardModelCard(template="plain"))
    with torch.no_grad():
        model.head.weight.copy_(classifier.score.weight)
        model.head.bias.zero_()
    groups = [
        group_pair(pair["prompt"] + pair["chosen"], pair["prompt"] + pair["rejected"])
        for pair in case["pairs"]
    ]
    scores = model.score_groups(groups).double().view(-1, 2)
    margins = torch.tensor(case["margins"], dtype=torch.float64) if "margin" in name else None
    losses, _ = bradley_terry_loss(*scores.unbind(dim=1), margins)
    trl.check(name, losses.mean(), model.backbone, rename="model.")
    assert_close(
        model.head.weight.grad,
        trl.gradients[f"{name}/score.weight"],
        atol=TOLERANCE,
        rtol=TOLERANCE,
    )


def rollout_groups(case: dict[str, Any]) -> list[PromptGroup]:
    rollouts = case["rollouts"]
    pairs = zip(rollouts["prompts"], rollouts["responses"], strict=True)
    return [PromptGroup(prompt, [response]) for prompt, response in pairs]


def test_rloo(trl: Found, case: dict[str, Any], policy: Any, reference: Any) -> None:
    rollouts, groups = case["rollouts"], rollout_groups(case)
    logprobs = response_logprobs(policy, groups, pad_id=PAD)
    with torch.no_grad():
        kl = kl_estimate(
            logprobs, response_logprobs(reference, groups, pad_id=PAD), estimator="k1"
        ).sum(dim=1)
    rewards = torch.tensor(rollouts["rewards"], dtype=torch.float64) - BETA * kl
    advantages = leave_one_out_advantages(rewards, rollouts["k"])

    given = trl.advantages("rloo")
    assert_close(advantages, given, atol=TOLERANCE, rtol=TOLERANCE)
    loss, clipped = sequence_policy_loss(
        logprobs,
        torch.tensor(rollouts["old"], dtype=torch.float64),
        given,
        response_mask(groups),
        clip_range=CLIP_RANGE,
        denominator=len(groups),
    )
    assert 0 < clipped.item() < 1
    trl.check("rloo", loss, policy)


@pytest.mark.parametrize("normalisation", ["response", "token", "length"])
def test_grpo(
    trl: Found, case: dict[str, Any], policy: Any, reference: Any, normalisation: Any
) -> None:
    rollouts, groups = case["rollouts"], rollout_groups(case)
    name = f"grpo_{normalisation}"
    rewards = torch.tensor(rollouts["rewards"], dtype=torch.float64)
    advantages = group_advantages(rewards, rollouts["k"], scale_by_std=normalisation != "length")
    given = trl.advantages(name)
    assert_close(advantages, given, atol=TOLERANCE, rtol=TOLERANCE)
    logprobs, mask = response_logprobs(policy, groups, pad_id=PAD), response_mask(groups)
    weights = token_weights(
        mask,
        normalisation,
        responses=len(groups),
        tokens=int(mask.sum()),
        length=rollouts["length"],
    ).double()
    loss, clipped = weighted_policy_loss(
        logprobs,
        torch.tensor(rollouts["old"], dtype=torch.float64),
        given,
        weights,
        clip_range=CLIP_RANGE,
    )
    assert 0 < clipped.item() < 1
    with torch.no_grad():
        ref_logprobs = response_logprobs(reference, groups, pad_id=PAD)
    kl = kl_estimate(logprobs, ref_logprobs, estimator="k3")
    trl.check(name, loss + BETA * (kl * weights).sum(), policy)


@dataclass(frozen=True)
class Steps:
    """Gradients and weights of TRL's two steps of PPO, by step and parameter."""

    case: dict[str, Any]
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]

    def load(self, step: int, name: str, model: Any) -> Any:
        prefix = f"{step}/{name}."
        own = {k.removeprefix(prefix): w for k, w in self.weights.items() if k.startswith(prefix)}
        model.load_state_dict(own, strict=False)
        return model

    def check(self, step: int, name: str, model: Any) -> None:
        own = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        assert len(own) > 10
        for key, gradient in own.items():
            expected = self.gradients[f"{step}/{name}.{key}"]
            assert_close(gradient, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.fixture(scope="module", params=["k1", "k3"])
def steps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Steps:
    """All responses fill their length: TRL scores one that ends on the place after its end."""
    rng = random.Random(3)

    def texts(length: int) -> list[list[int]]:
        return [[rng.randrange(3, VOCABULARY) for _ in range(length)] for _ in range(4)]

    settings = {
        "kl_coef": 0.2,
        "kl_estimator": request.param,
        "gamma": 0.95,
        "lam": 0.9,
        "cliprange": CLIP_RANGE,
        "cliprange_value": 0.1,
        "vf_coef": 0.3,
    }
    case = {"prompts": texts(4), "responses": texts(6), "settings": settings, "move": 0.03}
    directory = tmp_path_factory.mktemp("ppo")
    models = {"policy": random_model(0), "reference": random_model(1)}
    models |= {"classifier": random_classifier(2), "value": random_classifier(3)}
    save_case(directory, case, models)
    run_oracle("trl_ppo.py", TRL_WITH_PPO, directory)
    files = [load_file(directory / f"{name}.safetensors") for name in ("gradients", "weights")]
    return Steps(case, *files)


@pytest.mark.parametrize("step", [0, 1])
def test_ppo(steps: Steps, step: int) -> None:
    case, settings = steps.case, steps.case["settings"]
    pairs = zip(case["prompts"], case["responses"], strict=True)
    groups = [PromptGroup(prompt, [response]) for prompt, response in pairs]
    mask = response_mask(groups)

    def logprobs_of(model: Any) -> Tensor:
        return response_logprobs(model, groups, pad_id=PAD)

    def values_of(model: Any) -> Tensor:
        states = response_states(model.model, groups, pad_id=PAD)
        return scatter_responses(model.score(states).squeeze(1), groups)

    with torch.no_grad():
        old_logprobs = logprobs_of(random_model(0))
        old_values = values_of(random_classifier(3))
        kl = kl_estimate(
            old_logprobs, logprobs_of(random_model(1)), estimator=settings["kl_estimator"]
        )
        classifier = random_classifier(2)
        texts = torch.tensor([[*g.prompt, *g.responses[0]] for g in groups])
        scores = classifier.score(classifier.model(texts).last_hidden_state[:, -1]).squeeze(1)
    rewards = token_rewards(scores, kl, mask, kl_coef=settings["kl_coef"])
    advantages, returns = gae(
        rewards, old_values, mask, gamma=settings["gamma"], lam=settings["lam"]
    )
    # TRL's variance divides by one less.
    count = mask.numel()
    advantages = whiten(advantages, mask) * ((count - 1) / count) ** 0.5

    policy = steps.load(step, "policy", random_model(0))
    value = steps.load(step, "value", random_classifier(3))
    policy_loss, clipped = ppo_policy_loss(
        logprobs_of(policy),
        old_logprobs,
        advantages,
        mask,
        clip_range=settings["cliprange"],
        denominator=count,
    )
    value_loss = ppo_value_loss(
        values_of(value),
        old_values,
        returns,
        mask,
        clip_range=settings["cliprange_value"],
        denominator=count,
    )
    (policy_loss + settings["vf_coef"] * value_loss).backward()

    assert clipped.item() == 0 if step == 0 else clipped.item() > 0.1
    steps.check(step, "policy", policy)
    steps.check(step, "value", value)
