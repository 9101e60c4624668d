"""An AI judge: both orders, probabilities as labels, ties, points, and one that can judge."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Conversation, Grade, Prompt, Rollout, assistant, user
from plumbline.models.chat import ChatFormat
from plumbline.trainer.config import JudgeConfig, SFTConfig
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.recipes.judge import (
    Judgement,
    LanguageModelJudge,
    grade_of,
    judge_rollouts,
)
from plumbline.trainer.recipes.sft import encode_conversations, plan_steps, train_sft
from plumbline.trainer.rollout import new_rollout

PROMPT = Prompt("p", (user("the cat?"),), kind="helpful")


def responses(*texts: str, prompt: Prompt = PROMPT) -> list[Rollout]:
    return [
        new_rollout(
            prompt,
            response=text,
            prompt_token_ids=(),
            response_token_ids=(seed,),
            logprobs=(0.0,),
            finish_reason="stop",
            temperature=1.0,
            seed=seed,
            policy_id="policy",
        )
        for seed, text in enumerate(texts)
    ]


class ScriptedJudge:
    """Answers from a function of the question; keeps the questions."""

    def __init__(self, answer: Callable[[str], Sequence[float]]) -> None:
        self._answer = answer
        self.questions: list[str] = []

    def can_read(self, text: str) -> bool:
        return "<|" not in text

    def probabilities(self, questions: Sequence[str], progress: Any) -> Tensor:
        self.questions += questions
        return torch.tensor([self._answer(question) for question in questions])


def judged(
    rollouts: Sequence[Rollout], judge: Any, **changes: Any
) -> tuple[Judgement, dict[str, float]]:
    config = JudgeConfig(
        **{"question": "{principle}|{first}|{second}", "principles": ("p",), **changes}
    )
    made = judge_rollouts(rollouts, judge, config, progress=lambda *_: None)
    return made, made.metrics()


def first_of(question: str) -> str:
    return question.split("|")[1]


def test_both_orders_are_asked_and_averaged() -> None:
    """P(A) is 0.9 when "good" stands first, 0.3 when it stands second: (0.9 + 1 - 0.3) / 2 = 0.8.

    Standing first is worth (0.9 + 0.3) / 2 - 0.5 = 0.1.
    """
    judge = ScriptedJudge(lambda q: (0.9, 0.1) if first_of(q) == "good" else (0.3, 0.7))

    made, metrics = judged(responses("good", "bad"), judge)

    assert judge.questions == ["p|good|bad", "p|bad|good"]
    (preference,) = made.preferences
    assert (preference.chosen, preference.rejected) == ("good", "bad")
    assert preference.agreement == pytest.approx(0.8)
    assert preference.grade == Grade.BETTER
    assert preference.prompt == PROMPT.messages
    assert metrics["orders_agree"] == 1
    assert metrics["place_bias"] == pytest.approx(0.1)


def test_a_judge_that_only_looks_at_the_place_has_no_preference() -> None:
    made, metrics = judged(responses("a", "b", "c"), ScriptedJudge(lambda _: (0.9, 0.1)))

    assert made.preferences == []
    assert metrics["ties"] == metrics["pairs"] == 3
    assert metrics["orders_agree"] == 0
    assert metrics["place_bias"] == pytest.approx(0.4)


def test_pairs_that_the_orders_disagree_on_may_be_left_out() -> None:
    """P(A) is 0.9 and 0.6: standing first wins both times, and the mean still leans to one."""
    judge = ScriptedJudge(lambda q: (0.9, 0.1) if first_of(q) == "a" else (0.6, 0.4))

    assert len(judged(responses("a", "b"), judge)[0].preferences) == 1
    assert judged(responses("a", "b"), judge, require_agreement=True)[0].preferences == []


def test_equal_and_unreadable_responses_are_not_judged() -> None:
    judge = ScriptedJudge(lambda _: (0.6, 0.4))
    rollouts = responses("same", "same", " ", "<|user|>x", "other")

    made, _ = judged(rollouts, judge)

    assert len(made.verdicts) == 1
    with pytest.raises(InvalidInputError, match="two different responses"):
        judged(responses("same", "same"), judge)


def test_principles_are_drawn_and_averaged() -> None:
    judge = ScriptedJudge(lambda q: (1.0, 0.0) if q.startswith("x") else (0.0, 1.0))

    made, _ = judged(responses("a", "b"), judge, principles=("x", "y"), principles_per_question=2)

    assert sorted({q[0] for q in judge.questions}) == ["x", "y"]
    assert len(judge.questions) == 4
    assert made.verdicts[0].probability == pytest.approx(0.5)


def test_points_pair_the_best_with_the_worst() -> None:
    """Of 0 to 2 points: "good" is expected to have 0.2 + 2 * 0.7 = 1.6, "bad" 0.3, "fair" 1.

    The lead is 1.3 of 2, so the probability is 0.5 + 0.65 / 2 = 0.825.
    """
    tables = {"good": (0.1, 0.2, 0.7), "bad": (0.8, 0.1, 0.1), "fair": (0.0, 1.0, 0.0)}
    judge = ScriptedJudge(lambda q: tables[q])

    made, metrics = judged(
        responses("fair", "bad", "good"),
        judge,
        method="points",
        question="{reply}",
        answers=("0", "1", "2"),
    )

    (preference,) = made.preferences
    assert (preference.chosen, preference.rejected) == ("good", "bad")
    assert preference.agreement == pytest.approx(0.825)
    assert metrics["pairs"] == 1
    assert "orders_agree" not in metrics


def test_braces_within_a_text_are_not_places() -> None:
    judge = ScriptedJudge(lambda _: (0.6, 0.4))
    judged(responses("{second}", "{x}"), judge)

    assert judge.questions[0] == "p|{second}|{x}"


def test_grades_follow_the_bounds() -> None:
    bounds = (0.6, 0.75, 0.9)
    assert [grade_of(p, bounds) for p in (0.55, 0.6, 0.75, 0.9, 1.0)] == [
        Grade.NEGLIGIBLY_BETTER,
        Grade.SLIGHTLY_BETTER,
        Grade.BETTER,
        Grade.SIGNIFICANTLY_BETTER,
        Grade.SIGNIFICANTLY_BETTER,
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": "{first}"}, "no place for {second}"),
        ({"answers": ("A", "B", "C")}, "accepted for pairwise: two"),
        ({"method": "points", "answers": ("1", "1")}, "all different"),
        ({"grade_bounds": (0.9, 0.7, 0.8)}, "rising"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JudgeConfig(**changes)


def test_policy_that_was_taught_to_judge_prefers_the_right_response(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, make_context: Callable[..., Any]
) -> None:
    """Taught that the reply with the sea is the better one; asked about pairs it never saw."""
    torch.set_num_threads(1)
    chat = ChatFormat(tiny_tokenizer)
    wording = "{first} or {second}"
    words = ("cat", "dog", "mat", "house", "old house")
    better = [f"the {word} by the sea" for word in words]
    worse = [f"the {word} and the mat" for word in words]
    pairs = list(itertools.product(better, worse))
    random.Random(0).shuffle(pairs)
    taught, unseen = pairs[:19], pairs[19:]
    lessons = [
        Conversation(f"{i}{answer}", (user(f"{first} or {second}"), assistant(answer)))
        for i, (good, bad) in enumerate(taught)
        for first, second, answer in ((good, bad, "A"), (bad, good, "B"))
    ]
    model = tiny_llama()
    settings = SFTConfig(learning_rate=5e-3, log_every=50)
    examples = encode_conversations(lessons, chat, max_length=128).examples
    plan = plan_steps(examples, batch_size=8, epochs=40, seed=0)
    run = TrainingRun({"policy": model}, settings, total_steps=len(plan), context=make_context())
    train_sft(model, examples, run, plan, pad_id=chat.pad_id)
    config = JudgeConfig(question=wording, principles=("none",))
    rollouts = [
        rollout
        for index, pair in enumerate(unseen)
        for rollout in responses(*pair[:: 1 if index % 2 else -1], prompt=Prompt(str(index), ()))
    ]

    judge = LanguageModelJudge(model, chat, config)
    made = judge_rollouts(rollouts, judge, config, progress=lambda *_: None)

    right = sum("sea" in preference.chosen for preference in made.preferences)
    assert len(made.verdicts) == len(unseen) == 6
    assert right == len(made.preferences) >= 5
    assert made.metrics()["orders_agree"] >= 5 / 6


def test_answers_that_begin_alike_and_questions_too_long_are_refused(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    model, chat = tiny_llama(), ChatFormat(tiny_tokenizer)
    with pytest.raises(InvalidInputError, match="first token"):
        LanguageModelJudge(model, chat, JudgeConfig(answers=("the cat", "the dog")))
    judge = LanguageModelJudge(model, chat, JudgeConfig())
    with pytest.raises(InvalidInputError, match="its context holds 127"):
        judge.probabilities(["the cat " * 100], lambda *_: None)
