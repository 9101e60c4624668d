"""The tools of one call: which of them takes a claim, and what it is held against."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from plumbline.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
)
from plumbline.retriever.tools.arithmetic import arithmetic_claims, check_calculation
from plumbline.retriever.tools.citations import Libraries, check_reference, references
from plumbline.retriever.tools.claims import knowledge_claims
from plumbline.retriever.tools.code_claims import (
    Assertion,
    Program,
    check_program,
    fenced_blocks,
    programs,
)
from plumbline.retriever.tools.config import ToolsConfig
from plumbline.retriever.tools.equations import equations
from plumbline.retriever.tools.evidence import EvidenceSource, passages
from plumbline.retriever.tools.judging import Judge, judging_messages, parse_judgement
from plumbline.retriever.tools.knowledge import check_statement
from plumbline.retriever.tools.queries import queries_for
from plumbline.retriever.tools.records import (
    Claim,
    ClaimCheck,
    ClaimKind,
    ClaimVerdict,
    Evidence,
    checked,
)
from plumbline.retriever.tools.sandbox.runner import Sandbox
from plumbline.retriever.tools.wording import content_tokens


class ClaimTools:
    """The tools of one call, with the evidence that came with it."""

    def __init__(
        self,
        config: ToolsConfig,
        *,
        judge: Judge | None,
        policy: str,
        sandbox: Sandbox,
        sources: Sequence[EvidenceSource],
        libraries: Libraries,
        assertions: Sequence[Assertion],
        insist_on_code: bool,
        deadline: float | None,
    ) -> None:
        self._config = config
        self._judge = judge
        self._policy = policy
        self._sandbox = sandbox
        self._sources = sources
        self._libraries = libraries
        self._assertions = assertions
        self._insist_on_code = insist_on_code
        self._deadline = deadline

    def found(self, text: str, prompt: str, kinds: Sequence[ClaimKind]) -> list[ClaimCheck]:
        """Checks of the claims that a text makes."""
        prose = _without(text, fenced_blocks(text))
        calculations = arithmetic_claims(prose)[: self._config.max_claims]
        checks: list[ClaimCheck] = []
        if ClaimKind.CODE in kinds:
            checks += [self._program(program) for program in programs(text)]
        if ClaimKind.ARITHMETIC in kinds:
            checks += [self._calculation(claim) for claim in calculations]
        cited = references(prose)[: self._config.max_claims]
        if ClaimKind.CITATION in kinds:
            checks += [check_reference(reference, self._libraries) for reference in cited]
        if ClaimKind.KNOWLEDGE in kinds:
            statements = knowledge_claims(prose, prompt=prompt, limit=self._config.max_claims)
            checks += [
                self._statement(claim)
                for claim in statements
                if not any(_overlap(claim, calculation) for calculation in calculations)
                and not _only_cites(prose, claim, [reference.claim for reference in cited])
            ]
        return checks

    def given(self, claims: Sequence[str], kinds: Sequence[ClaimKind]) -> list[ClaimCheck]:
        """Checks of claims that the caller has found; each by the first tool that fits it."""
        return [self._given(text, kinds) for text in claims]

    def _given(self, text: str, kinds: Sequence[ClaimKind]) -> ClaimCheck:
        blocks = programs(text)
        if ClaimKind.CODE in kinds and (blocks or len(kinds) == 1):
            bare = Program(Claim(ClaimKind.CODE, text), text, "python")
            return self._program(_placeless(blocks[0]) if blocks else bare)
        calculates = bool(equations(text))
        if ClaimKind.ARITHMETIC in kinds and (calculates or len(kinds) == 1):
            return self._calculation(Claim(ClaimKind.ARITHMETIC, text))
        cited = references(text) if ClaimKind.CITATION in kinds else []
        if cited and (ClaimKind.KNOWLEDGE not in kinds or cited[0].claim.text == text.strip()):
            check = check_reference(cited[0], self._libraries)
            return replace(check, claim=text, start=0, end=0)
        if ClaimKind.KNOWLEDGE in kinds:
            return self._statement(Claim(ClaimKind.KNOWLEDGE, text))
        why = "it has nothing that the chosen tools could check"
        return checked(Claim(kinds[0], text), ClaimVerdict.NOT_ENOUGH_EVIDENCE, why)

    def _program(self, program: Program) -> ClaimCheck:
        self._still_waited_for()
        try:
            return check_program(
                program, self._sandbox, assertions=self._assertions, deadline=self._deadline
            )
        except FailedPreconditionError as error:
            if self._insist_on_code:
                raise
            return checked(program.claim, ClaimVerdict.NOT_ENOUGH_EVIDENCE, error.message)

    def _calculation(self, claim: Claim) -> ClaimCheck:
        self._still_waited_for()
        return check_calculation(claim, approximate_relative=self._config.approximate_relative)

    def _statement(self, claim: Claim) -> ClaimCheck:
        self._still_waited_for()
        queries = queries_for(claim.text)
        if not self._sources:
            why = "no documents were given to check it against"
            return checked(claim, ClaimVerdict.NOT_ENOUGH_EVIDENCE, why, queries=queries)
        knowledge = self._config.knowledge
        documents = {
            (document.id, document.text): document
            for source in self._sources
            for query in queries
            for document in source.find(query, knowledge.documents)
        }
        found = passages(queries, list(documents.values()), limit=knowledge.passages)
        if self._judge is not None and found:
            judged = self._judged(claim, [evidence for evidence, _ in found], queries)
            if judged is not None:
                return judged
        return check_statement(claim, found, queries, knowledge)

    def _judged(
        self, claim: Claim, evidence: Sequence[Evidence], queries: tuple[str, ...]
    ) -> ClaimCheck | None:
        """The judge's verdict; None where it gave none and the rules are to decide."""
        assert self._judge is not None
        messages = judging_messages(claim.text, evidence)
        answer = self._judge.answer(self._policy, messages, deadline=self._deadline)
        judgement = parse_judgement(answer)
        if judgement is None and self._config.judge_failure == "rules":
            return None
        shown = tuple(evidence[: self._config.knowledge.shown_passages])
        if judgement is None:
            why = "the judge did not answer in the form that it was asked for"
            verdict = ClaimVerdict.NOT_ENOUGH_EVIDENCE
            return checked(claim, verdict, why, queries=queries, evidence=shown)
        return checked(
            claim,
            judgement.verdict,
            judgement.why,
            queries=queries,
            evidence=shown,
            correction=judgement.correction,
        )

    def _still_waited_for(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise DeadlineExceededError("the deadline passed before every claim was checked")


def _without(text: str, places: Sequence[tuple[int, int]]) -> str:
    """The text with pieces blanked out, so that offsets stay."""
    for start, end in places:
        blank = "".join("\n" if character == "\n" else " " for character in text[start:end])
        text = text[:start] + blank + text[end:]
    return text


def _overlap(one: Claim, other: Claim) -> bool:
    return one.start < other.end and other.start < one.end


def _only_cites(text: str, claim: Claim, citations: Sequence[Claim]) -> bool:
    """Whether a statement is little more than its references, as in `See [1].`"""
    places = [(one.start, one.end) for one in citations if _overlap(claim, one)]
    rest = _without(text, places)[claim.start : claim.end]
    little = 2 * len(rest.replace(" ", "")) < claim.end - claim.start
    return bool(places) and (little or len(content_tokens(rest)) < 2)


def _placeless(program: Program) -> Program:
    return replace(program, claim=replace(program.claim, start=0, end=0))
