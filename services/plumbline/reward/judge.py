"""Pairs of responses compared by a policy: the questions, and what its answers come to."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.core.errors import InvalidInputError
from plumbline.data.judging import PairVerdict, pair_question
from plumbline.data.records import Message
from plumbline.reward.config import PairJudgeConfig


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """Two responses to one prompt."""

    prompt: tuple[Message, ...]
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The first token of an answer, as the policy sees it after a question."""

    token_id: int
    logprob: float
    """Nats."""


def questions_for(pairs: Sequence[JudgedPair], config: PairJudgeConfig) -> list[str]:
    """For each pair and each principle drawn for it, the question in both orders.

    The draw depends on the seed and on the pair's place alone.
    """
    count = min(config.principles_per_question, len(config.principles))
    questions = []
    for place, pair in enumerate(pairs):
        # A string, because it is digested the same way by every process.
        drawn = random.Random(f"{config.seed}/{place}").sample(config.principles, count)
        for principle in drawn:
            for first, second in ((pair.first, pair.second), (pair.second, pair.first)):
                questions.append(
                    pair_question(
                        config.question,
                        principle=principle,
                        prompt=pair.prompt,
                        first=first,
                        second=second,
                    )
                )
    return questions


def verdicts_from(
    answers: Sequence[tuple[FirstToken, FirstToken]], pairs: int
) -> list[PairVerdict]:
    """What the answers to `questions_for` say of each pair.

    Args:
        answers: for each question, the two possible answers. Their first tokens alone count: an
            answer of several tokens must not lose by its length.
        pairs: how many pairs the questions are of.
    Raises:
        InvalidInputError: two answers begin with the same token.
    """
    standing = [_probability_of_first(*answer) for answer in answers]
    per_pair = len(standing) // pairs
    verdicts = []
    for start in range(0, len(standing), per_pair):
        own = standing[start : start + per_pair]
        as_first = math.fsum(own[0::2]) / len(own[0::2])
        other_as_first = math.fsum(own[1::2]) / len(own[1::2])
        verdicts.append(PairVerdict(as_first, 1 - other_as_first))
    return verdicts


def _probability_of_first(first: FirstToken, second: FirstToken) -> float:
    if first.token_id == second.token_id:
        raise InvalidInputError(
            f"both answers begin with token {first.token_id} of the judge's tokenizer; accepted: "
            "answers that differ in their first token",
            field="judge.answers",
        )
    # Of two answers, so the softmax is a sigmoid; the smaller exponent keeps it from overflowing.
    lead = first.logprob - second.logprob
    return 1 / (1 + math.exp(-lead)) if lead >= 0 else math.exp(lead) / (1 + math.exp(lead))
