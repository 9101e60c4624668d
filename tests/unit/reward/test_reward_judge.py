"""A judge's questions in both orders, and what its answers come to, by hand."""

from __future__ import annotations

import math

import pytest

from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.data.judging import JudgeAgreement, PairVerdict
from plumbline.data.records import user
from plumbline.reward.config import PairJudgeConfig
from plumbline.reward.convert import judge_from_wire
from plumbline.reward.judge import FirstToken, JudgedPair, questions_for, verdicts_from
from plumbline.v1 import reward_pb2 as pb

PAIR = JudgedPair((user("Is {first} a word?"),), "Yes.", "No.")


def answer(probability: float) -> tuple[FirstToken, FirstToken]:
    """Of the first answer; the third possible token takes half of the mass."""
    return (
        FirstToken(1, math.log(probability / 2)),
        FirstToken(2, math.log((1 - probability) / 2)),
    )


def test_each_pair_is_asked_about_in_both_orders() -> None:
    config = PairJudgeConfig(
        question="{principle}|{conversation}|{first}|{second}", principles=("Be brief.",)
    )
    assert questions_for([PAIR], config) == [
        "Be brief.|user: Is {first} a word?|Yes.|No.",
        "Be brief.|user: Is {first} a word?|No.|Yes.",
    ]


def test_principles_are_drawn_by_seed_and_place_alone() -> None:
    config = PairJudgeConfig(
        principles=tuple("abcdefgh"),
        principles_per_question=3,
        question="{principle}{first}{second}",
    )
    questions = questions_for([PAIR] * 4, config)

    assert len(questions) == 4 * 3 * 2
    assert questions_for([PAIR] * 2, config) == questions[:12]
    assert len({question[0] for question in questions[:6]}) == 3
    other = config.model_copy(update={"seed": 1})
    assert questions_for([PAIR] * 4, other) != questions


def test_the_mean_of_both_orders_takes_the_bias_of_place_out() -> None:
    """The first response wins with 0.9 where it stands first; where it stands second, the other,
    which stands first, wins with 0.7, so the first with 0.3: mean 0.6, bias (0.9 - 0.3) / 2 = 0.3,
    and the orders disagree."""
    verdict = verdicts_from([answer(0.9), answer(0.7)], 1)[0]

    assert verdict.as_first == pytest.approx(0.9)
    assert verdict.as_second == pytest.approx(0.3)
    assert verdict.probability == pytest.approx(0.6)
    assert verdict.place_bias == pytest.approx(0.3)
    assert not verdict.orders_agree
    assert verdict.is_tie(0.11) and not verdict.is_tie(0.09)


def test_answers_of_several_principles_are_averaged() -> None:
    answers = [answer(0.9), answer(0.2), answer(0.5), answer(0.4)]
    verdict = verdicts_from(answers, 1)[0]
    assert (verdict.as_first, verdict.as_second) == pytest.approx((0.7, 0.7))
    assert verdict.orders_agree


def test_agreement_over_pairs() -> None:
    verdicts = [PairVerdict(0.9, 0.7), PairVerdict(0.9, 0.3), PairVerdict(0.5, 0.5)]
    agreement = JudgeAgreement.of(verdicts, tie_margin=0.0)
    # Biases 0.1, 0.3 and 0.
    assert agreement.orders_agree == pytest.approx(2 / 3)
    assert agreement.place_bias == pytest.approx(0.4 / 3)
    assert agreement.ties == 1


def test_answers_that_begin_alike_are_refused() -> None:
    same = (FirstToken(5, -1.0), FirstToken(5, -1.0))
    with pytest.raises(InvalidInputError, match="both answers begin with token 5"):
        verdicts_from([same, same], 1)


def test_a_judge_from_the_wire_is_checked() -> None:
    assert judge_from_wire(pb.Judge()) == PairJudgeConfig()
    with pytest.raises(ConfigError, match="tie_margin"):
        judge_from_wire(pb.Judge(tie_margin=0.6))
    with pytest.raises(ConfigError, match="two that differ"):
        judge_from_wire(pb.Judge(answers=["A", "A"]))
    with pytest.raises(ConfigError, match=r"no place for \{second\}"):
        judge_from_wire(pb.Judge(question="{first}"))
