"""The loop from a request to a checked reply: retrieve, compose, sample, check, revise or refuse.

No text reaches the caller before it was checked, and none of a reply that could not be checked or
recorded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from contextlib import aclosing

from plumbline.core.errors import (
    FailedPreconditionError,
    InvalidInputError,
)
from plumbline.retriever.checking.sentences import sentences
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.respond import metrics
from plumbline.retriever.respond.assessment import Obligations
from plumbline.retriever.respond.attempts import Attempts, Settled
from plumbline.retriever.respond.checks import ReplyChecks
from plumbline.retriever.respond.config import MAX_REVISIONS, RespondConfig
from plumbline.retriever.respond.decisions import Piece, ReplyRequest
from plumbline.retriever.respond.guarding import guarded
from plumbline.retriever.respond.interfaces import ClaimChecker, InThread, Sampler, Scorer
from plumbline.retriever.respond.judge import RuleJudge
from plumbline.retriever.respond.preparing import (
    Prepared,
    composed,
    evidence,
    find,
)
from plumbline.retriever.respond.records import ReplyRecords
from plumbline.retriever.respond.risk import RequestRisk
from plumbline.retriever.respond.templates import NO_CATEGORY, Templates, texts_of


class Responder:
    """Answers requests under the values that govern them.

    Args:
        scorer: None where there is no reward service.
        claim_checker: None where no tools are connected.
        records: None keeps no records.
        in_thread: runs blocking work off the event loop.
    """

    def __init__(
        self,
        engine: RetrieverEngine,
        *,
        sampler: Sampler,
        in_thread: InThread,
        scorer: Scorer | None = None,
        claim_checker: ClaimChecker | None = None,
        records: ReplyRecords | None = None,
    ) -> None:
        config = engine.config.respond
        self._engine = engine
        self._config = config
        self._composing = engine.config.composing
        self._sampler = sampler
        self._scorer = scorer
        self._risk = RequestRisk(
            config.classify, _risk_categories(config), sampler=sampler, scorer=scorer
        )
        self._checks = ReplyChecks(
            config,
            in_thread,
            scorer=scorer,
            judge=RuleJudge(sampler, config.judge) if config.judge.policy else None,
            claim_checker=claim_checker,
        )
        self._records = records
        self._in_thread = in_thread
        self._templates = Templates(config.templates)

    async def respond(self, request: ReplyRequest) -> AsyncGenerator[Piece, None]:
        """The reply in pieces; the last one carries the decision.

        Closing the generator ends the sampling.

        Raises:
            InvalidInputError, NotFoundError, FailedPreconditionError: the request is not accepted.
            PlumblineError: what the sampler raised.
        """
        self._check(request)
        prepared = await self._prepare(request)
        attempts, failed = await self._attempts(prepared)
        if failed:
            settled = attempts.withheld(failed)
        elif request.by_sentence:
            streamed: Settled | None = None
            async with aclosing(attempts.by_sentence()) as items:
                async for item in items:
                    if isinstance(item, Settled):
                        streamed = item
                    else:
                        yield item
            if streamed is None:
                raise RuntimeError("the attempts ended without a decision")
            settled = streamed
        else:
            settled = await attempts.whole()
        settled = await self._recorded(attempts, settled)
        metrics.decided(settled.decision)
        if not self._config.show_withheld:
            settled = _without_withheld(settled)
        for piece in _pieces(settled, attempts.sent_text):
            yield piece

    def _check(self, request: ReplyRequest) -> None:
        config = self._config
        if not 0 <= request.best_of <= config.max_best_of:
            raise InvalidInputError(
                f"best_of={request.best_of}; accepted: 0 (one) to {config.max_best_of}",
                field="best_of",
            )
        if request.best_of > 1 and request.by_sentence:
            raise InvalidInputError(
                f"best_of={request.best_of} with CHECK_MODE_SENTENCES; accepted: one of both, as "
                "the best of several replies is known when all are whole",
                field="check_mode",
            )
        if request.best_of > 1 and self._scorer is None:
            raise FailedPreconditionError(
                f"best_of={request.best_of} ranks replies by reward, and this service knows no "
                "reward service; set PLUMBLINE_REWARD_TARGET"
            )
        revisions = request.max_revisions
        if revisions is not None and not 0 <= revisions <= MAX_REVISIONS:
            raise InvalidInputError(
                f"max_revisions={revisions}; accepted: 0 to {MAX_REVISIONS}", field="max_revisions"
            )

    async def _prepare(self, request: ReplyRequest) -> Prepared:
        with metrics.timed("retrieve"):
            found = await self._in_thread(find, self._engine, self._composing, request)
        context_length = 0
        if found.governing and not self._composing.budget_tokens:
            context_length = await self._sampler.context_length(request.policy)
        with metrics.timed("compose"):
            return await self._in_thread(
                composed, found, self._composing, request, context_length=context_length
            )

    async def _attempts(self, prepared: Prepared) -> tuple[Attempts, str]:
        """The attempts at a request; the second part names a check of the request that failed."""
        risk, failed = await self._risk.look_closer(prepared.found.risk, prepared.request.messages)
        found = dataclasses.replace(prepared.found, risk=risk)
        prepared = dataclasses.replace(prepared, found=found)
        request, config = prepared.request, self._config
        message = found.system_message
        claim_kinds = tuple(dict.fromkeys((*config.claims.kinds, *request.claim_kinds)))
        most = self._engine.config.tools.max_documents
        corpus, documents = evidence(found, max_documents=most) if claim_kinds else ("", ())
        obligations = Obligations(
            messages=request.messages,
            values=prepared.composition.applied,
            system_message=message.as_value() if message.text else None,
            risky=bool(risk),
            claim_kinds=claim_kinds,
            corpus=corpus,
            documents=documents,
            score_too_low=self._templates.texts(found.language).score_too_low,
        )
        attempts = Attempts(
            prepared=prepared,
            obligations=obligations,
            sampler=self._sampler,
            checks=self._checks,
            templates=self._templates,
            revise=config.revise,
            max_revisions=(
                config.max_revisions if request.max_revisions is None else request.max_revisions
            ),
        )
        return attempts, failed

    async def _recorded(self, attempts: Attempts, settled: Settled) -> Settled:
        """The same with its record's id; withheld where the record cannot be kept."""
        if self._records is None:
            return settled
        prepared = attempts.prepared
        request = dataclasses.replace(prepared.request, where=prepared.found.where)
        reply_id, why = await guarded(
            "record",
            self._config.record_timeout_s,
            self._in_thread(self._records.write, request, settled.text, settled.decision),
        )
        if reply_id is None:
            return attempts.withheld(why)
        decision = dataclasses.replace(settled.decision, reply_id=reply_id)
        return dataclasses.replace(settled, decision=decision)


def _risk_categories(config: RespondConfig) -> tuple[str, ...]:
    known = texts_of(config.templates.default_language).refusals
    return tuple(name for name in known if name != NO_CATEGORY)


def _without_withheld(settled: Settled) -> Settled:
    """The same, what was not given said only by what it broke."""
    revisions = tuple(
        dataclasses.replace(revision, reply="") for revision in settled.decision.revisions
    )
    decision = dataclasses.replace(settled.decision, revisions=revisions)
    return dataclasses.replace(settled, decision=decision)


def _pieces(settled: Settled, sent: str) -> list[Piece]:
    """What is still to be sent; anew from the beginning where something else was sent before."""
    goes_on = settled.text.startswith(sent)
    rest = settled.text[len(sent) :] if goes_on else settled.text
    pieces = [Piece(part) for part in sentences(rest)]
    if not goes_on:
        first = pieces[0] if pieces else Piece()
        pieces[:1] = [dataclasses.replace(first, restart=True)]
    return [*pieces, Piece(decision=settled.decision)]
