"""A simulated panel of annotators who compare two replies and sometimes disagree.

Annotators see what the oracle sees, each errs independently at a set rate, and the grade says how
far apart the replies are, one step less when the panel is split. Source of the grades and of the
two heads: Llama 2, arXiv:2307.09288, section 3.2.1.
"""

from __future__ import annotations

import random
from typing import Literal

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Grade, Preference, Prompt, content_id
from plumbline.world.config import PanelConfig
from plumbline.world.grammar import HARMFUL
from plumbline.world.oracle import Verdict, judge

Head = Literal["helpfulness", "safety"]
HEADS: tuple[Head, ...] = ("helpfulness", "safety")

_GRADES = (
    Grade.NEGLIGIBLY_BETTER,
    Grade.SLIGHTLY_BETTER,
    Grade.BETTER,
    Grade.SIGNIFICANTLY_BETTER,
)
_THRESHOLDS = (0.5, 1.0, 2.0)
"""Least quality difference of each grade above the lowest."""


def grade_pair(
    prompt: Prompt,
    response_a: str,
    response_b: str,
    *,
    head: Head,
    seed: int,
    panel: PanelConfig,
) -> Preference | None:
    """The panel's preference between two responses under one head.

    Returns:
        None where there is nothing to choose: equal quality; or, for helpfulness, a harmful
        prompt, which is not asked for help with (the safety head has those).

    Raises:
        InvalidInputError: an unknown head.
    """
    if head not in HEADS:
        raise InvalidInputError(
            f"head {head!r} is unknown; accepted: {', '.join(HEADS)}", field="head"
        )
    if head == "helpfulness" and prompt.kind == HARMFUL:
        return None
    verdict_a, verdict_b = judge(prompt, response_a), judge(prompt, response_b)
    difference = quality(prompt, verdict_a, head) - quality(prompt, verdict_b, head)
    if difference == 0:
        return None
    rng = random.Random(f"{seed}|{prompt.id}|{head}|{response_a}|{response_b}")
    right = sum(rng.random() >= panel.disagreement_rate for _ in range(panel.size))
    majority_is_right = right * 2 > panel.size
    a_wins = (difference > 0) == majority_is_right
    agreement = max(right, panel.size - right) / panel.size
    chosen, rejected = (response_a, response_b) if a_wins else (response_b, response_a)
    best, worst = (verdict_a, verdict_b) if a_wins else (verdict_b, verdict_a)
    return Preference(
        id=content_id("preference", head, prompt.id, chosen, rejected, seed),
        prompt=prompt.messages,
        chosen=chosen,
        rejected=rejected,
        grade=_grade(abs(difference), unanimous=agreement == 1.0),
        head=head,
        agreement=agreement,
        chosen_is_safe=not best.violates,
        rejected_is_safe=not worst.violates,
        source="world",
        metadata={
            "kind": prompt.kind,
            "prompt_id": prompt.id,
            "risk_category": prompt.risk_category,
        },
    )


def quality(prompt: Prompt, verdict: Verdict, head: Head) -> float:
    """How good annotators hold a reply to be; only differences matter."""
    if head == "safety":
        return _safety(prompt, verdict)
    return _helpfulness(verdict)


def _helpfulness(verdict: Verdict) -> float:
    """Right 2.5, wrong 0.5, refusing 0.25, broken 0; following a governing rule adds 1.5."""
    if not verdict.coherent:
        return 0.0
    score = 2.5 if verdict.helpful else 0.25 if verdict.refuses else 0.5
    if verdict.follows_rule:
        score += 1.5
    return score


def _safety(prompt: Prompt, verdict: Verdict) -> float:
    """Harmful prompts: refusing beats evading beats violating. Others: engaging beats refusing.

    Pairs on harmless prompts teach the safety model that frightening words alone are no
    violation, as Llama 2 mixes helpfulness data into its safety data (section 3.2.2). Whether a
    harmless answer is right is the helpfulness head's business.
    """
    if verdict.violates:
        return 0.0
    if not verdict.coherent:
        return 1.0
    if prompt.kind == HARMFUL:
        return 2.5 if verdict.refuses else 1.5
    return 1.5 if verdict.refuses else 2.5


def _grade(difference: float, *, unanimous: bool) -> Grade:
    step = sum(difference >= threshold for threshold in _THRESHOLDS)
    return _GRADES[step if unanimous else max(0, step - 1)]
