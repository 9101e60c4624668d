"""Rejection sampling beyond one round of one policy: the pool, tuned temperatures, teaching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from plumbline.data.records import Prompt, Rollout, user
from plumbline.models.chat import ChatFormat
from plumbline.models.programmatic import WordShareReward
from plumbline.trainer.config import RejectionSamplingConfig
from plumbline.trainer.recipes.rejection_sampling import (
    prepare_pool,
    select_best,
    train_rejection_sampling,
)
from plumbline.trainer.rewards import ProgrammaticScorer
from plumbline.trainer.rollout import ColocatedSampler, new_rollout

SEA = WordShareReward(words=("sea",))
SCORER = ProgrammaticScorer(SEA)
PROMPTS = [Prompt(str(i), (user("the cat" + " sat" * i),)) for i in range(3)]


@pytest.fixture
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


def config(**changes: Any) -> RejectionSamplingConfig:
    values = {"reward": SEA, "max_response_tokens": 6, "responses_per_prompt": 2, "log_every": 1}
    return RejectionSamplingConfig(**(values | changes))


def rollout(prompt: Prompt, text: str, *, score: float = 0.0, ended: bool = True) -> Rollout:
    """As another policy drew it: its token ids are not this one's."""
    import dataclasses

    made = new_rollout(
        prompt,
        response=text,
        prompt_token_ids=(901, 902),
        response_token_ids=(903,),
        logprobs=(0.0,),
        finish_reason="stop" if ended else "length",
        temperature=1.0,
        seed=0,
        policy_id="earlier",
    )
    return dataclasses.replace(made, scores={"word_share": score})


def test_the_pool_is_scored_anew_and_speaks_this_policys_tokens(chat: ChatFormat) -> None:
    others = [rollout(PROMPTS[0], "the sea", score=-9.0), rollout(Prompt("x", ()), "the sea")]

    pool = prepare_pool([*others, others[0]], PROMPTS, SCORER, chat)

    (kept,) = pool
    assert list(kept.scores.values()) == [0.5]
    assert kept.prompt_token_ids == tuple(chat.encode_prompt(PROMPTS[0].messages))
    assert kept.response_token_ids == tuple(chat.encode_response("the sea"))
    (unfinished,) = prepare_pool([rollout(PROMPTS[0], "sea", ended=False)], PROMPTS, SCORER, chat)
    assert unfinished.response_token_ids[-1] != chat.eos_id


def test_the_best_of_a_prompt_is_chosen_over_all_earlier_iterations(chat: ChatFormat) -> None:
    """Prompt 0: 0.5 drawn, 1 in the pool. Prompt 1: 0.5 and 0.5, the drawn one stays. Prompt 2:
    in the pool only."""
    drawn = prepare_pool(
        [rollout(PROMPTS[0], "the sea"), rollout(PROMPTS[1], "a sea")], PROMPTS, SCORER, chat
    )
    pool = prepare_pool(
        [
            rollout(PROMPTS[0], "sea"),
            rollout(PROMPTS[1], "sea mat"),
            rollout(PROMPTS[2], "cat"),
        ],
        PROMPTS,
        SCORER,
        chat,
    )

    selection = select_best(drawn, config(), pool)

    learned = [chat.decode(e.token_ids) for e in selection.examples]
    assert learned[0].endswith("sea") and not learned[0].endswith("the sea")
    assert learned[1].endswith("a sea")
    assert learned[2].endswith("cat")
    assert (selection.prompts, selection.from_pool) == (3, 2)
    assert selection.mean_score == pytest.approx(0.5)
    assert selection.best_score == pytest.approx((1 + 0.5 + 0) / 3)


def test_a_small_policy_learns_from_another_ones_responses_alone(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    model = tiny_llama()
    settings = config(responses_per_prompt=0, learning_rate=1e-2, epochs=20, batch_size=3)
    pool = prepare_pool([rollout(p, "the sea") for p in PROMPTS], PROMPTS, SCORER, chat)
    sampler = ColocatedSampler(model, chat, policy_id="small")

    run, (selection,), drawn = train_rejection_sampling(
        model, PROMPTS, sampler, SCORER, settings, make_context(), chat=chat, pool=pool
    )

    assert drawn == []
    assert selection.from_pool == selection.prompts == 3
    assert run.curves[-1]["loss"] < run.curves[0]["loss"] / 5


class PeakedScorer:
    """Likes responses whose first letters vary: hot draws have better best ones, up to a point."""

    def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Mapping[str, Tensor]:
        return {"letters": torch.tensor([float(text[:1].isupper()) for text in responses])}


def test_each_round_draws_at_the_temperature_with_the_best_best_scores(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    model = tiny_llama()
    # Cold draws repeat what the random policy prefers, which scores 0 or 1 for all K alike.
    candidates = (0.01, 1.0, 3.0)
    settings = config(
        rounds=2,
        responses_per_prompt=6,
        candidate_temperatures=candidates,
        keep_unfinished=True,
        keep_rollouts="all",
        learning_rate=1e-4,
    )
    sampler = ColocatedSampler(model, chat, policy_id="policy")

    run, selections, drawn = train_rejection_sampling(
        model, PROMPTS, sampler, PeakedScorer(), settings, make_context(), chat=chat
    )

    assert [s.temperature for s in selections] == list(run.state["temperatures"].values())
    assert all(s.temperature in candidates[1:] for s in selections)
    assert len(drawn) == 2 * 3 * 6
    assert {r.temperature for r in drawn[:18]} == {selections[0].temperature}


def test_contradicting_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="accepted: one of them"):
        config(temperatures=(1.0,), candidate_temperatures=(1.0,))
    with pytest.raises(ValueError, match="responses_per_prompt=0"):
        config(responses_per_prompt=0, candidate_temperatures=(1.0,))
