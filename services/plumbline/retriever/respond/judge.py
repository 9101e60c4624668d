"""A policy as judge: asked by a fixed question, its answer taken only where it is one.

What it judges stands in the question as quoted text. A judge that says anything but one of the
accepted answers has not answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.core.errors import FailedPreconditionError
from plumbline.data.judging import fill_question
from plumbline.data.records import user
from plumbline.retriever.checking.checkers import Finding, Verdict
from plumbline.retriever.composing.quoting import neutralise
from plumbline.retriever.respond.classify import NO_RISK, Risk
from plumbline.retriever.respond.config import ClassifyConfig, JudgeConfig
from plumbline.retriever.respond.interfaces import Sampler
from plumbline.retriever.respond.templates import NO_CATEGORY

_CATEGORY_TOKENS = 24
_MARKS = " \t\n.。!！\"'“”‘’*`"


@dataclass(frozen=True, slots=True)
class RuleJudge:
    """Asks whether a reply follows a rule."""

    sampler: Sampler
    config: JudgeConfig

    async def ask(self, rule: str, request: str, reply: str) -> Finding:
        """The judge's verdict on one rule.

        Raises:
            FailedPreconditionError: what the judge said is no answer.
            PlumblineError: it could not be asked.
        """
        yes, no = self.config.answers
        question = fill_question(
            self.config.question,
            rule=_unfenced(rule),
            request=_unfenced(request),
            reply=_unfenced(reply),
            yes=yes,
            no=no,
        )
        answer, policy_id = await _answer(
            self.sampler,
            self.config.policy,
            question,
            self.config.answers,
            max_response_tokens=self.config.max_response_tokens,
        )
        verdict = Verdict.FOLLOWED if answer == yes else Verdict.BROKEN
        return Finding(verdict, f"judge {policy_id[:16]} says {answer!r}", "judge")


async def judge_risk(
    sampler: Sampler, config: ClassifyConfig, request: str, categories: Sequence[str]
) -> Risk:
    """The risk category that a judge names; errors as `RuleJudge.ask`."""
    question = fill_question(
        config.question, request=_unfenced(request), categories=", ".join(categories)
    )
    answer, policy_id = await _answer(
        sampler,
        config.judge,
        question,
        (*categories, NO_CATEGORY),
        max_response_tokens=_CATEGORY_TOKENS,
    )
    if answer == NO_CATEGORY:
        return Risk(NO_RISK)
    return Risk(answer, f"judge {policy_id[:16]} says {answer!r}")


async def _answer(
    sampler: Sampler,
    policy: str,
    question: str,
    accepted: Sequence[str],
    *,
    max_response_tokens: int,
) -> tuple[str, str]:
    """Which of the accepted answers the policy's likeliest reply is, and the policy's id."""
    options = {"temperature": 0.0, "max_response_tokens": max_response_tokens}
    draws = await sampler.sample(policy, [user(question)], options, 0, k=1)
    said = draws.replies[0].text.strip(_MARKS)
    for answer in accepted:
        if said.casefold() == answer.casefold():
            return answer, draws.policy_id
    raise FailedPreconditionError(
        f"the judge said {said[:40]!r}; accepted: {', '.join(accepted)}", reason="NO_VERDICT"
    )


def _unfenced(text: str) -> str:
    """The text without control tokens, and without the marks that close a quotation."""
    return neutralise(text).replace("<<<", "‹‹‹").replace(">>>", "›››")
