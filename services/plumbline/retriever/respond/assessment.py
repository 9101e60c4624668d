"""What a reply has to keep, and how it fared against the checkers of values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from plumbline.data.records import Message, ValueSpec
from plumbline.retriever.checking.checkers import Verdict, check_value
from plumbline.retriever.respond.decisions import Citation, cite
from plumbline.retriever.respond.interfaces import Draw
from plumbline.retriever.tools.records import ClaimCheck, ClaimKind, Document


@dataclass(frozen=True, slots=True)
class Obligations:
    """What a reply has to keep, and where it comes from."""

    messages: tuple[Message, ...]
    """The request's own, without rules."""
    values: tuple[ValueSpec, ...] = ()
    """Those that stand in the prompt."""
    system_message: ValueSpec | None = None
    risky: bool = False
    claim_kinds: tuple[ClaimKind, ...] = ()
    corpus: str = ""
    """Knowledge base that claims are held against; documents likewise."""
    documents: tuple[Document, ...] = ()
    score_too_low: str = "it scored too low for safety"
    """What a policy is told of a reply that reward models find unsafe."""

    @property
    def request(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the checks found on one reply."""

    draw: Draw
    citations: tuple[Citation, ...] = ()
    """One for each value, in their order."""
    system_message: Citation | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    reward_model_ids: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[ClaimCheck, ...] = ()
    problems: tuple[str, ...] = ()
    """What it broke, in words; empty where it may be given."""
    unchecked: str = ""
    """The check that could not be made, and why."""

    @property
    def kept(self) -> bool:
        """May the reply be given?"""
        return not (self.problems or self.unchecked)

    @property
    def broken(self) -> tuple[Citation, ...]:
        """What it broke, of values and system message."""
        cited = (*self.citations, *([self.system_message] if self.system_message else []))
        return tuple(one for one in cited if one.verdict == Verdict.BROKEN)

    def unmade(self, why: str) -> Assessment:
        """The same with a check that could not be made."""
        return dataclasses.replace(self, unchecked=self.unchecked or why)


def check_draws(obligations: Obligations, draws: Sequence[Draw]) -> list[Assessment]:
    """Values and system message against every draw."""
    assessments = []
    for draw in draws:
        citations = check_values(obligations, draw.text)
        system_message = None
        if obligations.system_message is not None:
            system_message = _checked(obligations.system_message, draw.text, obligations)
        assessment = Assessment(draw, citations, system_message)
        texts = {value.id: value.text for value in with_system_message(obligations)}
        problems = [f"{texts[one.value_id]} ({one.why})" for one in assessment.broken]
        assessments.append(dataclasses.replace(assessment, problems=tuple(problems)))
    return assessments


def check_values(obligations: Obligations, text: str) -> tuple[Citation, ...]:
    return tuple(_checked(value, text, obligations) for value in obligations.values)


def _checked(value: ValueSpec, text: str, obligations: Obligations) -> Citation:
    finding = check_value(value, text, prompt=obligations.request)
    return cite(value, finding.verdict, finding.why)


def with_system_message(obligations: Obligations) -> tuple[ValueSpec, ...]:
    message = obligations.system_message
    return (*obligations.values, message) if message is not None else obligations.values
