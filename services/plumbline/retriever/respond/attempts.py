"""One request on its way: attempts are drawn, checked and mended, until one may be given.

Deterministic for a seed: attempt n draws with the seed plus n, from a prompt that is made of the
request and the replies before it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Message, ValueSpec
from plumbline.retriever.checking.sentences import sentence_borders
from plumbline.retriever.respond import metrics
from plumbline.retriever.respond.assessment import Assessment, Obligations
from plumbline.retriever.respond.checks import ReplyChecks
from plumbline.retriever.respond.config import ReviseConfig
from plumbline.retriever.respond.decisions import (
    Citation,
    Decision,
    Outcome,
    Piece,
    Revision,
    cite,
)
from plumbline.retriever.respond.interfaces import Delta, Draw, Sampler
from plumbline.retriever.respond.prefixes import Passage, PrefixFinding
from plumbline.retriever.respond.preparing import (
    Prepared,
    cite_system_message,
    conflicts_of,
    left_out_of,
)
from plumbline.retriever.respond.revise import revision_prompt
from plumbline.retriever.respond.templates import Templates

_DEFAULT_TEMPERATURE = 1.0
"""Of sampling parameters that name none."""
_SEEDS = 2**64
_UNSAFE_PREFIX = "the beginning of the reply scored too low for safety"


@dataclass(frozen=True, slots=True)
class Settled:
    """The text to give, and the decision behind it."""

    text: str
    decision: Decision


@dataclass(slots=True)
class Attempts:
    """The attempts at one request.

    Args:
        prepared: the request and its composed prompt.
        max_revisions: attempts after the first.
    """

    prepared: Prepared
    obligations: Obligations
    sampler: Sampler
    checks: ReplyChecks
    templates: Templates
    revise: ReviseConfig
    max_revisions: int
    sent_text: str = ""
    """What the caller has seen of the first reply."""
    _revisions: list[Revision] = field(default_factory=list)
    _room_to_restate: bool = True
    _policy_id: str = ""
    _prompt_tokens: int = 0
    _response_tokens: int = 0

    async def whole(self) -> Settled:
        """Attempts until a reply may be given, else a template."""
        return await self._from(self.prepared.composition.messages)

    async def by_sentence(self) -> AsyncGenerator[Piece | Settled, None]:
        """The first attempt's sentences as they pass; the last item is what was settled.

        Where the settled text does not begin with `sent_text`, that has to be withdrawn.
        """
        text, finish_reason, checked = "", "", 0
        found = PrefixFinding(Passage.HOLD)
        async with aclosing(self._stream(self.prepared.composition.messages)) as deltas:
            async for delta in deltas:
                text += delta.text
                finish_reason = delta.finish_reason
                for border in list(sentence_borders(text, checked)):
                    checked = border
                    found = await self.checks.prefix(text[:border], self.obligations)
                    if found.passage is Passage.STOP:
                        break
                    if found.passage is Passage.RELEASE:
                        released = text[len(self.sent_text) : border]
                        self.sent_text = text[:border]
                        yield Piece(released)
                if found.passage is Passage.STOP:
                    break
        # The stream is closed here, so a reply that cannot be given is not drawn any further.
        if found.unchecked:
            yield self.withheld(found.unchecked)
        elif found.passage is Passage.STOP:
            yield await self._mended(text, found.broken)
        else:
            yield await self._checked([Draw(text, finish_reason)])

    def withheld(self, why: str) -> Settled:
        """No reply, because a check could not be made."""
        text = self.templates.withheld(self.prepared.found.language)
        citations = tuple(cite(value, why="the reply was withheld") for value in self._applied)
        why = f"a check could not be made, so the reply is withheld: {why}"
        return Settled(text, self._decision(Outcome.FAILED_CLOSED, why, citations))

    async def _from(self, messages: Sequence[Message]) -> Settled:
        try:
            draws = await self._draw(messages)
        except InvalidInputError:
            if self._redraws or not self._revisions:
                raise
            # A prompt with the reply and what it broke may not fit, where the request's own did.
            self._room_to_restate = False
            draws = await self._draw(self.prepared.composition.messages)
        return await self._checked(draws)

    async def _draw(self, messages: Sequence[Message]) -> Sequence[Draw]:
        """The replies of one attempt."""
        request = self.prepared.request
        k = max(request.best_of, self.revise.draws if self._redraws else 1)
        if k == 1:
            text, finish_reason = "", ""
            async with aclosing(self._stream(messages)) as deltas:
                async for delta in deltas:
                    text += delta.text
                    finish_reason = delta.finish_reason
            return [Draw(text, finish_reason)]
        with metrics.timed("sample"):
            draws = await self.sampler.sample(
                request.policy, messages, self._options, self._seed, k=k
            )
        self._policy_id = draws.policy_id
        self._prompt_tokens += draws.prompt_tokens
        self._response_tokens += draws.response_tokens
        return draws.replies

    async def _stream(self, messages: Sequence[Message]) -> AsyncGenerator[Delta, None]:
        """One reply as it is drawn, its tokens counted."""
        request = self.prepared.request
        stream = self.sampler.stream(request.policy, messages, self._options, self._seed)
        with metrics.timed("sample"):
            async with aclosing(stream) as deltas:
                async for delta in deltas:
                    self._policy_id = delta.policy_id or self._policy_id
                    self._prompt_tokens += delta.prompt_tokens
                    self._response_tokens += delta.response_tokens
                    yield delta

    @property
    def _redraws(self) -> bool:
        """Is this attempt a revision from the same prompt?"""
        ways, revision = self.revise.ways, len(self._revisions)
        if not revision or not self._room_to_restate:
            return revision > 0
        return ways[min(revision, len(ways)) - 1] == "redraw"

    @property
    def _options(self) -> Mapping[str, Any]:
        """The request's, warm enough where the prompt alone would give the same reply again."""
        options = self.prepared.request.options
        if not self._redraws:
            return options
        asked = options.get("temperature", _DEFAULT_TEMPERATURE)
        return {**options, "temperature": max(asked, self.revise.temperature)}

    @property
    def _seed(self) -> int:
        return (self.prepared.request.seed + len(self._revisions)) % _SEEDS

    async def _checked(self, draws: Sequence[Draw]) -> Settled:
        rank = self.prepared.request.best_of > 1
        best = await self.checks.best(draws, self.obligations, rank=rank)
        if best.unchecked:
            return self.withheld(best.unchecked)
        if best.kept:
            return self._given(best)
        return await self._next(best.draw.text, best.broken, best.problems)

    async def _mended(self, beginning: str, broken: Sequence[Citation]) -> Settled:
        """After a beginning that cannot be part of any reply that keeps the rules."""
        texts = {value.id: value.text for value in self._applied}
        if self.obligations.system_message is not None:
            texts[self.obligations.system_message.id] = self.obligations.system_message.text
        problems = [f"{texts[one.value_id]} ({one.why})" for one in broken]
        return await self._next(beginning, broken, problems or [_UNSAFE_PREFIX])

    async def _next(
        self, reply: str, broken: Sequence[Citation], problems: Sequence[str]
    ) -> Settled:
        """The next attempt, or the refusal where there is none left."""
        self._revisions.append(Revision(reply, tuple(broken), "; ".join(problems)))
        attempts = len(self._revisions)
        if attempts > self.max_revisions:
            return await self._refused(f"no reply of {attempts} kept to what applies")
        composed = self.prepared.composition.messages
        if self._redraws:
            return await self._from(composed)
        wording = self.templates.texts(self.prepared.found.language).revision
        return await self._from(revision_prompt(composed, reply, problems, wording))

    def _given(self, best: Assessment) -> Settled:
        outcome = Outcome.REVISED if self._revisions else Outcome.ANSWERED
        why = f"an earlier reply broke: {self._revisions[-1].why}" if self._revisions else ""
        decision = self._decision(outcome, why, best.citations, best)
        return Settled(best.draw.text, decision)

    async def _refused(self, why: str) -> Settled:
        found = self.prepared.found
        text = self.templates.refusal(found.risk.category, found.language)
        citations = await self.checks.against_values(text, self.obligations)
        why = f"{why}; the last one broke: {self._revisions[-1].why}"
        return Settled(text, self._decision(Outcome.REFUSED, why, citations))

    def _decision(
        self,
        outcome: Outcome,
        why: str,
        citations: tuple[Citation, ...],
        given: Assessment | None = None,
    ) -> Decision:
        found, composition = self.prepared.found, self.prepared.composition
        return Decision(
            outcome=outcome,
            why=why,
            finish_reason=given.draw.finish_reason if given else "stop",
            policy_id=self._policy_id,
            knowledge_base_artifact=found.artifact,
            prompt_tokens=self._prompt_tokens,
            response_tokens=self._response_tokens,
            risk_category=found.risk.category,
            citations=citations,
            conflicts=conflicts_of(composition),
            left_out=left_out_of(composition),
            revisions=tuple(self._revisions),
            system_message=cite_system_message(
                found.system_message, given.system_message if given else None
            ),
            scores=given.scores if given else {},
            reward_model_ids=given.reward_model_ids if given else {},
            claims=given.claims if given else (),
        )

    @property
    def _applied(self) -> tuple[ValueSpec, ...]:
        return self.obligations.values
