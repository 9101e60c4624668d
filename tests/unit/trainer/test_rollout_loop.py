"""The rollout loop, rejection sampling and PPO, with the real sampler and a scorer of letters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.data.records import Prompt, Rollout, assistant, user
from plumbline.models.chat import ChatFormat
from plumbline.trainer.adapters import choose_parameters
from plumbline.trainer.config import (
    CombinedReward,
    GRPOConfig,
    LoRAConfig,
    OnPolicyConfig,
    PolicyGradientConfig,
    PPOConfig,
    ReinforceConfig,
    RejectionSamplingConfig,
    RLOOConfig,
)
from plumbline.trainer.recipes.on_policy import AdaptiveKL, Learner, OnPolicyRun, Outcome
from plumbline.trainer.recipes.policy_gradient import PolicyGradient
from plumbline.trainer.recipes.ppo import PPO
from plumbline.trainer.recipes.rejection_sampling import select_best, train_rejection_sampling
from plumbline.trainer.rollout import (
    ColocatedSampler,
    collect_rollouts,
    prompt_seeds,
    rollout_scores,
)

PROMPTS = [Prompt(str(i), (user("the cat" + " sat" * i),), kind="helpful") for i in range(6)]


class LetterScorer:
    """Share of lower-case letters: a reward that a random policy can raise quickly."""

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        shares = [sum("a" <= c <= "z" for c in text) / max(len(text), 1) for text in responses]
        return {"letters": torch.tensor(shares)}


@pytest.fixture
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


def ppo_config(**changes: Any) -> PPOConfig:
    values: dict[str, Any] = {
        "learning_rate": 3e-3,
        "iterations": 4,
        "prompts_per_iteration": 12,
        "responses_per_prompt": 2,
        "minibatch_size": 12,
        "max_response_tokens": 8,
        "kl_coef": 0.01,
        "log_every": 1,
        "warmup_share": 0.0,
    }
    return PPOConfig(**(values | changes))


def run_ppo(
    model: Any, chat: ChatFormat, config: PPOConfig, context: Any
) -> tuple[Outcome, list[dict[str, float]]]:
    loop = new_loop(model, chat, PPO(model, chat, config), config, context)
    return loop.train(PROMPTS), loop.run.curves


def new_loop(
    model: Any, chat: ChatFormat, learner: Learner, config: OnPolicyConfig, context: Any
) -> OnPolicyRun:
    sampler = ColocatedSampler(model, chat, policy_id="base")
    return OnPolicyRun(model, chat, sampler, LetterScorer(), learner, config, context)


def collect(model: Any, chat: ChatFormat, **changes: Any) -> list[Rollout]:
    arguments: dict[str, Any] = {
        "k": 3,
        "temperatures": (1.0,),
        "top_p": 1.0,
        "max_response_tokens": 6,
        "rows_per_batch": 256,
        "seed": 0,
        "iteration": 0,
    }
    sampler = ColocatedSampler(model, chat, policy_id="base")
    return collect_rollouts(sampler, LetterScorer(), PROMPTS, chat=chat, **(arguments | changes))


def test_rollouts_are_prompt_major_scored_and_repeatable(
    tiny_llama: Callable[..., Any], chat: ChatFormat
) -> None:
    rollouts = collect(tiny_llama(), chat)

    assert [r.prompt_id for r in rollouts] == [p.id for p in PROMPTS for _ in range(3)]
    assert rollouts == collect(tiny_llama(), chat)
    for rollout in rollouts:
        assert rollout.prompt_token_ids == tuple(chat.encode_prompt(rollout.prompt))
        assert len(rollout.logprobs) == len(rollout.response_token_ids)
        assert rollout.response == chat.decode(rollout.response_token_ids)
        assert set(rollout.scores) == {"letters"}


def test_rollouts_differ_by_seed_and_iteration_not_by_batch(
    tiny_llama: Callable[..., Any], chat: ChatFormat
) -> None:
    def responses(**changes: Any) -> list[tuple[int, ...]]:
        return [r.response_token_ids for r in collect(tiny_llama(), chat, **changes)]

    assert responses() == responses(rows_per_batch=3)
    assert responses() != responses(seed=1)
    assert responses() != responses(iteration=1)


def test_no_two_iterations_share_a_seed() -> None:
    seeds = [s for i in range(3) for run in (0, 1) for s in prompt_seeds(5, seed=run, iteration=i)]

    assert len(set(seeds)) == len(seeds)


def scored(index: int, prompt: str = "p", kind: str = "helpful", **scores: float) -> Rollout:
    return Rollout(
        id=str(index),
        prompt_id=prompt,
        prompt=(user("hi"),),
        response="yes",
        prompt_token_ids=(1, 40),
        response_token_ids=(50 + index, 2),
        logprobs=(0.0, 0.0),
        finish_reason="stop",
        temperature=1.0,
        seed=index,
        policy_id="x",
        scores=scores,
        metadata={"kind": kind},
    )


def test_both_heads_combine_as_in_llama_2() -> None:
    # sigmoid(-2) = 0.12 lies under 0.15, sigmoid(-1.7) = 0.154 above.
    rollouts = [
        scored(0, helpfulness=5.0, safety=1.0),
        scored(1, helpfulness=5.0, safety=-2.0),
        scored(2, helpfulness=5.0, safety=-1.7),
        scored(3, helpfulness=5.0, safety=3.0, kind="harmful"),
    ]

    assert rollout_scores(rollouts, CombinedReward()).tolist() == pytest.approx(
        [5.0, -2.0, 5.0, 3.0]
    )
    assert rollout_scores([scored(0, safety=2.0)], CombinedReward()).tolist() == [2.0]
    with pytest.raises(InvalidInputError, match="letters, safety"):
        rollout_scores([scored(0, letters=1.0, safety=2.0)], CombinedReward())


def test_best_finished_response_is_kept_first_on_ties() -> None:
    config = RejectionSamplingConfig(responses_per_prompt=3)
    group = [scored(0, letters=1.0), scored(1, letters=3.0), scored(2, letters=3.0)]
    unfinished = [dataclasses.replace(scored(3, "q", letters=9.0), finish_reason="length")]
    others = [scored(4, "q", letters=0.5), scored(5, "q", letters=0.1)]

    selection = select_best(group + unfinished + others, config)

    assert [example.token_ids[2] for example in selection.examples] == [51, 54]
    assert selection.examples[0].response_mask == [False, False, True, True]
    assert selection.best_score == pytest.approx((3.0 + 0.5) / 2)
    assert selection.mean_score == pytest.approx((1 + 3 + 3 + 9 + 0.5 + 0.1) / 6)
    with pytest.raises(FailedPreconditionError, match="minimum_score=100"):
        select_best(group, config.model_copy(update={"minimum_score": 100.0}))


def test_rejection_sampling_raises_the_score_and_resumes_within_a_round(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    interrupted: type[Exception],
) -> None:
    config = RejectionSamplingConfig(
        learning_rate=5e-3,
        responses_per_prompt=8,
        rounds=2,
        epochs=20,
        batch_size=3,
        max_response_tokens=8,
        keep_unfinished=True,
        keep_rollouts="all",
        checkpoint_every=9,
        log_every=1,
    )

    def train(context: Any) -> tuple[list[dict[str, float]], list[float], list[Rollout]]:
        model = tiny_llama()
        sampler = ColocatedSampler(model, chat, policy_id="base")
        run, selections, rollouts = train_rejection_sampling(
            model, PROMPTS, sampler, LetterScorer(), config, context, chat=chat
        )
        return run.curves, [s.mean_score for s in selections], rollouts

    whole = train(make_context("whole"))
    broken = make_context("broken", interrupt_at=50)
    with pytest.raises(interrupted):
        train(broken)
    broken.interrupt_at = None
    resumed = train(broken)

    assert whole[1][1] > whole[1][0] + 0.1
    assert len(whole[2]) == 2 * 6 * 8
    assert resumed[0] == whole[0]
    assert resumed[1] == whole[1]
    assert [r.response_token_ids for r in resumed[2]] == [r.response_token_ids for r in whole[2]]


def test_unchanged_policy_has_no_kl_and_no_clipped_ratio(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    config = ppo_config(iterations=1, learning_rate=1e-12, temperature=1.3)

    outcome, curves = run_ppo(tiny_llama(), chat, config, make_context())

    # The sampler's logprobs are the trainer's up to rounding.
    assert curves[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert curves[0]["clip_share"] == 0
    # The trainer's logprobs are the sampler's, temperature included.
    assert curves[0]["sampler_gap"] < 1e-4
    assert outcome.final_kl.value == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("value_model", ["shared", "separate"])
def test_ppo_raises_the_score(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    value_model: Any,
) -> None:
    config = ppo_config(iterations=8, value_model=value_model)

    outcome, curves = run_ppo(tiny_llama(), chat, config, make_context())

    assert outcome.final_scores.value > outcome.initial_scores.value + 0.15
    assert outcome.iterations == len(curves) == 8
    assert not outcome.rolled_back
    assert len(outcome.rollouts) == 24


def test_microbatches_change_no_ppo_gradient(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    found = []
    for name, budget in (("whole", 4096), ("parts", 40)):
        model = tiny_llama()
        config = ppo_config(tokens_per_microbatch=budget)
        ppo = PPO(model, chat, config)
        loop = new_loop(model, chat, ppo, config, make_context(name))
        experience, _ = loop.prepare(loop.collect(PROMPTS, 0))
        ppo.step(experience, ppo.targets(experience, 0.01), range(24), 0)
        found.append({n: p.grad.clone() for n, p in model.named_parameters()})

    for name, gradient in found[0].items():
        assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-3)


def policy_gradient_config(kind: type[PolicyGradientConfig], **changes: Any) -> Any:
    values: dict[str, Any] = {
        "learning_rate": 5e-3,
        "iterations": 10,
        "prompts_per_iteration": 6,
        "responses_per_prompt": 8,
        "minibatch_size": 24,
        "max_response_tokens": 8,
        "kl_coef": 0.01,
        "log_every": 1,
        "warmup_share": 0.0,
    }
    return kind(**(values | changes))


def run_policy_gradient(
    model: Any, chat: ChatFormat, config: PolicyGradientConfig, context: Any
) -> tuple[Outcome, list[dict[str, float]]]:
    loop = new_loop(model, chat, PolicyGradient(model, chat, config), config, context)
    return loop.train(PROMPTS), loop.run.curves


@pytest.mark.parametrize(
    "config",
    [
        policy_gradient_config(ReinforceConfig),
        policy_gradient_config(ReinforceConfig, baseline="running"),
        policy_gradient_config(RLOOConfig),
        policy_gradient_config(RLOOConfig, kl_placement="loss", kl_estimator="k2"),
        policy_gradient_config(GRPOConfig),
        policy_gradient_config(GRPOConfig, normalisation="token", scale_by_std=False),
        policy_gradient_config(GRPOConfig, normalisation="length", kl_coef=0.0, epochs=2),
    ],
    ids=lambda config: type(config).__name__,
)
def test_policy_gradients_raise_the_score_and_resume_exactly(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    interrupted: type[Exception],
    config: PolicyGradientConfig,
) -> None:
    config = config.model_copy(update={"checkpoint_every": 3})
    model, resumed = tiny_llama(), tiny_llama()
    outcome, curves = run_policy_gradient(model, chat, config, make_context("whole"))
    broken = make_context("broken", interrupt_at=4)
    with pytest.raises(interrupted):
        run_policy_gradient(tiny_llama(), chat, config, broken)
    broken.interrupt_at = None

    assert run_policy_gradient(resumed, chat, config, broken)[1] == curves
    assert outcome.final_scores.value > outcome.initial_scores.value + 0.1
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name))


@pytest.mark.parametrize("kind", [ReinforceConfig, RLOOConfig, GRPOConfig])
def test_microbatches_change_no_policy_gradient(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    kind: type[PolicyGradientConfig],
) -> None:
    found = []
    for name, budget in (("whole", 4096), ("parts", 40)):
        model = tiny_llama()
        config = policy_gradient_config(kind, tokens_per_microbatch=budget)
        learner = PolicyGradient(model, chat, config)
        loop = new_loop(model, chat, learner, config, make_context(name))
        experience, _ = loop.prepare(loop.collect(PROMPTS, 0))
        advantages = torch.linspace(-1, 1, 48)
        learner.step(experience, advantages, range(48), 0, 0.01)
        found.append({n: p.grad.clone() for n, p in model.named_parameters()})

    for name, gradient in found[0].items():
        assert_close(found[1][name], gradient, atol=1e-6, rtol=1e-3)


def test_a_policy_with_adapters_is_its_own_reference(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    """The same KL as from a copy that was taken before."""
    found = []
    for reference in (None, tiny_llama()):
        torch.manual_seed(0)
        model = tiny_llama()
        config = ppo_config(lora=LoRAConfig(rank=4), learning_rate=2e-2, iterations=3)
        choose_parameters(model, config)
        sampler, learner = ColocatedSampler(model, chat, policy_id="b"), PPO(model, chat, config)
        loop = OnPolicyRun(
            model,
            chat,
            sampler,
            LetterScorer(),
            learner,
            config,
            make_context(str(reference is None)),
            reference=reference,
        )
        loop.train(PROMPTS)
        found.append([curve["kl"] for curve in loop.run.curves])

    assert found[0][0] == pytest.approx(0, abs=1e-5)
    assert found[0][-1] > 0.01
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_equal_scores_teach_nothing_and_warn(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def equal(self: LetterScorer, prompts: Any, responses: Sequence[str]) -> Mapping[str, Tensor]:
        return {"letters": torch.full((len(responses),), 0.5)}

    monkeypatch.setattr(LetterScorer, "score", equal)
    model = tiny_llama()
    config = policy_gradient_config(RLOOConfig, iterations=1, kl_coef=0.0)
    _, curves = run_policy_gradient(model, chat, config, make_context())

    assert curves[0]["idle_share"] == 1.0
    assert "all 48 scores are 0.5: no gradient" in caplog.text
    for name, parameter in tiny_llama().named_parameters():
        assert torch.equal(parameter, model.get_parameter(name))


def test_pretraining_texts_are_mixed_in(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    """The loss of the mixed-in text falls, and a run without it leaves it where it was."""
    losses = {}
    text = chat.encode_conversation([user("the dog"), assistant("ran to the sea")])[0].token_ids
    for coefficient in (0.0, 5.0):
        model = tiny_llama()
        config = ppo_config(iterations=6, pretraining_coef=coefficient, pretraining_batch_size=2)
        learner = PPO(model, chat, config, pretraining=[text])
        new_loop(model, chat, learner, config, make_context(str(coefficient))).train(PROMPTS)
        ids = torch.tensor([text])
        losses[coefficient] = model(input_ids=ids, labels=ids).loss.item()

    assert losses[5.0] < losses[0.0] - 0.5


def test_policy_within_the_kl_bound_is_handed_on(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    free, free_curves = run_ppo(tiny_llama(), chat, ppo_config(iterations=6), make_context("free"))
    bound = free_curves[3]["kl.upper"]
    assert free.final_kl.high > bound
    model = tiny_llama()

    outcome, curves = run_ppo(
        model, chat, ppo_config(iterations=6, max_kl=bound * 1.001), make_context("bound")
    )

    assert outcome.rolled_back
    assert outcome.final_kl.high <= bound * 1.001
    # The same policy as a run that stops there by itself.
    again = tiny_llama()
    run_ppo(again, chat, ppo_config(iterations=outcome.iterations), make_context("again"))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name))
    assert outcome.iterations < 6
    assert curves[-1]["step"] == outcome.iterations + 1


def test_resumed_ppo_repeats_the_uninterrupted_run(
    tiny_llama: Callable[..., Any],
    chat: ChatFormat,
    make_context: Callable[..., Any],
    interrupted: type[Exception],
) -> None:
    config = ppo_config(
        iterations=5,
        checkpoint_every=2,
        kl_controller="adaptive",
        target_kl=0.1,
        kl_horizon=50,
        max_kl=50.0,
        keep_rollouts="all",
    )
    model = tiny_llama()
    whole, curves = run_ppo(model, chat, config, make_context("whole"))
    broken = make_context("broken", interrupt_at=3)
    with pytest.raises(interrupted):
        run_ppo(tiny_llama(), chat, config, broken)
    broken.interrupt_at = None

    resumed_model = tiny_llama()
    resumed, resumed_curves = run_ppo(resumed_model, chat, config, broken)

    assert broken.saved == [2, 4]
    assert resumed_curves == curves
    assert resumed.final_kl == whole.final_kl
    assert len({curve["kl_coef"] for curve in curves}) > 1
    assert [r.id for r in resumed.rollouts] == [r.id for r in whole.rollouts]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, resumed_model.get_parameter(name))


def test_adaptive_coefficient_follows_the_paper() -> None:
    # KL at twice the target: the error is cut to 0.2, so 0.1 * (1 + 0.2 * 100 / 1000) = 0.102.
    controller = AdaptiveKL(0.1, target=5.0, horizon=1000)
    controller.update(10.0, rollouts=100)
    assert controller.kl_coef == pytest.approx(0.102)

    # 10 % under: 0.102 * (1 - 0.1 * 100 / 1000).
    controller.update(4.5, rollouts=100)
    assert controller.kl_coef == pytest.approx(0.102 * 0.99)
