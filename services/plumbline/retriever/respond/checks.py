"""Checks of drawn replies: checkers of the values, reward models, a judge, tools.

Each check has a deadline of its own. One that cannot be made is reported with the reply, whose
caller then withholds it: no failure of a check lets a reply through.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

from plumbline.retriever.checking.checkers import Verdict
from plumbline.retriever.respond.assessment import (
    Assessment,
    Obligations,
    check_draws,
    check_values,
    with_system_message,
)
from plumbline.retriever.respond.config import RespondConfig
from plumbline.retriever.respond.decisions import Citation, cite
from plumbline.retriever.respond.guarding import guarded
from plumbline.retriever.respond.interfaces import (
    ClaimChecker,
    Draw,
    InThread,
    Scorer,
    Scores,
)
from plumbline.retriever.respond.judge import RuleJudge
from plumbline.retriever.respond.prefixes import Passage, PrefixFinding, check_prefix
from plumbline.retriever.tools.records import ClaimCheck, ClaimVerdict


class ReplyChecks:
    """Every check that the configuration and a request ask for."""

    def __init__(
        self,
        config: RespondConfig,
        in_thread: InThread,
        *,
        scorer: Scorer | None = None,
        judge: RuleJudge | None = None,
        claim_checker: ClaimChecker | None = None,
    ) -> None:
        self._config = config
        self._in_thread = in_thread
        self._scorer = scorer
        self._judge = judge
        self._claim_checker = claim_checker

    async def best(
        self, draws: Sequence[Draw], obligations: Obligations, *, rank: bool = False
    ) -> Assessment:
        """The reply to give, or the one that came nearest to it.

        Judge and tools look at one draw after the other, until one passes.

        Args:
            draws: at least one.
            rank: in order of their combined reward, and not as they were drawn.
        """
        assessments = await self._assessed(draws, obligations, rank=rank)
        nearest: Assessment | None = None
        for assessment in sorted(assessments, key=_merit, reverse=True):
            if assessment.kept:
                assessment = await self._looked_into(assessment, obligations)
            if assessment.kept:
                return assessment
            nearest = nearest or assessment
        if nearest is None:
            raise ValueError("no draw was given")
        return nearest

    async def prefix(self, text: str, obligations: Obligations) -> PrefixFinding:
        """May the beginning of a reply be sent?"""
        values = with_system_message(obligations)
        found, why = await guarded(
            "rules", self._config.rules.timeout_s, self._in_thread(check_prefix, values, text)
        )
        if found is None:
            return PrefixFinding(Passage.STOP, unchecked=why)
        if found.passage is not Passage.RELEASE or self._minimum_safety is None:
            return found
        scores, why = await self._scored([text], obligations, rank=False)
        if scores is None:
            held_up = self._config.rewards.required
            return PrefixFinding(Passage.STOP, unchecked=why) if held_up else found
        unsafe = _unsafe(scores.by_reply[0], self._minimum_safety)
        return PrefixFinding(Passage.STOP) if unsafe else found

    async def against_values(self, text: str, obligations: Obligations) -> tuple[Citation, ...]:
        """Citations of the values for a text that nobody has drawn, such as a template."""
        found, why = await guarded(
            "rules",
            self._config.rules.timeout_s,
            self._in_thread(check_values, obligations, text),
        )
        return found or tuple(cite(value, why=why) for value in obligations.values)

    @property
    def _minimum_safety(self) -> float | None:
        return self._config.rewards.minimum_safety

    async def _assessed(
        self, draws: Sequence[Draw], obligations: Obligations, *, rank: bool
    ) -> list[Assessment]:
        """Rules and scores of every draw."""
        by_rules, why = await guarded(
            "rules",
            self._config.rules.timeout_s,
            self._in_thread(check_draws, obligations, draws),
        )
        if by_rules is None:
            return [Assessment(draw).unmade(why) for draw in draws]
        if self._minimum_safety is None and not rank:
            return by_rules
        texts = [draw.text for draw in draws]
        scores, why = await self._scored(texts, obligations, rank=rank)
        if scores is None:
            required = self._config.rewards.required
            return [one.unmade(why) for one in by_rules] if required else by_rules
        return [
            self._with_scores(one, by_head, scores.reward_model_ids, obligations)
            for one, by_head in zip(by_rules, scores.by_reply, strict=True)
        ]

    def _with_scores(
        self,
        assessment: Assessment,
        by_head: Mapping[str, float],
        model_ids: Mapping[str, str],
        obligations: Obligations,
    ) -> Assessment:
        problems = assessment.problems
        if self._minimum_safety is not None and _unsafe(by_head, self._minimum_safety):
            problems = (*problems, obligations.score_too_low)
        return dataclasses.replace(
            assessment, scores=by_head, reward_model_ids=model_ids, problems=problems
        )

    async def _scored(
        self, texts: Sequence[str], obligations: Obligations, *, rank: bool
    ) -> tuple[Scores | None, str]:
        if self._scorer is None:
            return None, "rewards: no reward service is configured"
        heads = ("helpfulness", "safety", "combined") if rank else ("safety",)
        return await guarded(
            "rewards",
            self._config.rewards.timeout_s,
            self._scorer.score(obligations.messages, texts, heads=heads, risky=obligations.risky),
        )

    async def _looked_into(self, assessment: Assessment, obligations: Obligations) -> Assessment:
        """Judge and tools, for a reply that has passed everything else."""
        if self._judge is not None:
            assessment = await self._judged(self._judge, assessment, obligations)
        if obligations.claim_kinds and assessment.kept and assessment.draw.text.strip():
            assessment = await self._with_claims(assessment, obligations)
        return assessment

    async def _judged(
        self, judge: RuleJudge, assessment: Assessment, obligations: Obligations
    ) -> Assessment:
        """Values on which no checker could tell, by the judge's word."""
        citations = list(assessment.citations)
        problems = list(assessment.problems)
        for place, value in enumerate(obligations.values):
            if citations[place].verdict != Verdict.NOT_CHECKABLE:
                continue
            finding, why = await guarded(
                "judge",
                self._config.judge.timeout_s,
                judge.ask(value.text, obligations.request, assessment.draw.text),
            )
            if finding is None:
                if self._config.judge.required:
                    return assessment.unmade(why)
                continue
            citations[place] = cite(value, finding.verdict, finding.why)
            if finding.verdict is Verdict.BROKEN:
                problems.append(f"{value.text} ({finding.why})")
        return dataclasses.replace(assessment, citations=tuple(citations), problems=tuple(problems))

    async def _with_claims(self, assessment: Assessment, obligations: Obligations) -> Assessment:
        config = self._config.claims
        if self._claim_checker is None:
            claims, why = None, "claims: no tools are configured"
        else:
            claims, why = await guarded(
                "claims",
                config.timeout_s,
                self._in_thread(
                    _check_claims,
                    self._claim_checker,
                    assessment.draw.text,
                    obligations,
                    time.monotonic() + config.timeout_s,
                ),
            )
        if claims is None:
            return assessment.unmade(why) if config.required else assessment
        refuted = [
            f"{claim.claim} ({claim.why})"
            for claim in claims
            if claim.verdict is ClaimVerdict.REFUTED
        ]
        return dataclasses.replace(
            assessment, claims=claims, problems=(*assessment.problems, *refuted)
        )


def _check_claims(
    checker: ClaimChecker, text: str, obligations: Obligations, deadline: float
) -> tuple[ClaimCheck, ...]:
    return checker.check(
        text,
        prompt=obligations.request,
        kinds=obligations.claim_kinds,
        documents=obligations.documents,
        corpus=obligations.corpus,
        deadline=deadline,
    )


def _unsafe(by_head: Mapping[str, float], minimum: float) -> bool:
    """Is the probability of being safe, the sigmoid of the safety score, below the minimum?"""
    # Asked this way round, a score that is no number is unsafe.
    return not by_head["safety"] >= math.log(minimum / (1 - minimum))


def _merit(assessment: Assessment) -> tuple[bool, float, int]:
    """Kept above broken, then by reward, then by how little is broken."""
    reward = assessment.scores.get("combined", 0.0)
    known = -math.inf if math.isnan(reward) else reward
    return (assessment.kept, known, -len(assessment.problems))
