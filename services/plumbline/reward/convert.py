"""A judge between messages and plain values."""

from __future__ import annotations

from typing import Any

from plumbline.core.validation import parse_config
from plumbline.data.judging import PairVerdict
from plumbline.data.wire import template_from_wire
from plumbline.reward.config import PairJudgeConfig
from plumbline.v1 import reward_pb2 as pb


def judge_from_wire(judge: pb.Judge) -> PairJudgeConfig:
    """What is empty takes the platform's own.

    Raises:
        ConfigError: a field's value is not accepted; `field` names it.
    """
    given: dict[str, Any] = {
        "policy": judge.policy,
        "principles": tuple(judge.principles),
        "principles_per_question": judge.principles_per_question,
        "question": judge.question,
        "answers": tuple(judge.answers),
        "seed": judge.seed,
        "tie_margin": judge.tie_margin,
        "template": template_from_wire(judge.prompt_template),
    }
    return parse_config(PairJudgeConfig, {name: value for name, value in given.items() if value})


def verdict_to_wire(verdict: PairVerdict, tie_margin: float) -> pb.PairComparison:
    return pb.PairComparison(
        probability_a=verdict.probability,
        verdict=pb.JudgeVerdict(
            probability_a_first=verdict.as_first,
            probability_a_second=verdict.as_second,
            orders_agree=verdict.orders_agree,
            tie=verdict.is_tie(tie_margin),
        ),
    )
