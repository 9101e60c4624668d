"""CurationService: text is handled at once, corpora become jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc

from plumbline.core.errors import InvalidInputError
from plumbline.core.job_service import config_from_wire, job_to_wire
from plumbline.core.jobs import Job
from plumbline.core.rpc import run_blocking
from plumbline.curation.config import Action
from plumbline.curation.engine import CurationEngine, Decision
from plumbline.curation.pii import Anonymized
from plumbline.v1 import curation_pb2 as pb
from plumbline.v1 import curation_pb2_grpc as pb_grpc

CreateJob = Callable[[str, Mapping[str, Any], Mapping[str, Sequence[str]], str], Job]
"""(stage, config, inputs, request_id) -> the queued job."""

_ACTIONS: Mapping[int, Action] = {
    pb.ANONYMIZE_ACTION_UNSPECIFIED: "redact",
    pb.ANONYMIZE_ACTION_REDACT: "redact",
    pb.ANONYMIZE_ACTION_MASK: "mask",
}


class CurationService(pb_grpc.CurationServiceServicer):
    """Translates messages; `CurationEngine` decides. Errors map in core.rpc."""

    def __init__(self, engine: CurationEngine, create_job: CreateJob) -> None:
        self._engine = engine
        self._create_job = create_job

    async def FilterDocuments(
        self,
        request_iterator: AsyncIterator[pb.FilterDocumentsRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[pb.FilterDocumentsResponse]:
        # One filter for each stream: what it remembers goes with the stream.
        documents = self._engine.open_filter(capacity=self._engine.config.max_stream_documents)
        async for request in request_iterator:
            decision = await run_blocking(documents.decide, request.document_id, request.text)
            yield _decision_to_wire(decision)

    async def AnonymizeText(
        self, request: pb.AnonymizeTextRequest, context: grpc.aio.ServicerContext
    ) -> pb.AnonymizeTextResponse:
        found = await run_blocking(
            self._engine.anonymize, request.text, _action_from_wire(request.action)
        )
        return pb.AnonymizeTextResponse(text=found.text, spans=_spans_to_wire(found))

    async def StreamAnonymizeText(
        self,
        request_iterator: AsyncIterator[pb.StreamAnonymizeTextRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[pb.StreamAnonymizeTextResponse]:
        async for request in request_iterator:
            found = await run_blocking(
                self._engine.anonymize, request.text, _action_from_wire(request.action)
            )
            yield pb.StreamAnonymizeTextResponse(
                document_id=request.document_id, text=found.text, spans=_spans_to_wire(found)
            )

    async def AnalyzeCorpus(
        self, request: pb.AnalyzeCorpusRequest, context: grpc.aio.ServicerContext
    ) -> pb.AnalyzeCorpusResponse:
        job = await self._queue("curation.analyze", {}, request.corpus, request.request_id)
        return pb.AnalyzeCorpusResponse(job=job_to_wire(job))

    async def CurateCorpus(
        self, request: pb.CurateCorpusRequest, context: grpc.aio.ServicerContext
    ) -> pb.CurateCorpusResponse:
        config = config_from_wire(request.config)
        job = await self._queue("curation.curate", config, request.corpus, request.request_id)
        return pb.CurateCorpusResponse(job=job_to_wire(job))

    async def _queue(
        self, stage: str, config: Mapping[str, Any], corpus: str, request_id: str
    ) -> Job:
        if not corpus:
            raise InvalidInputError(
                "corpus is empty; an artifact id or tag of kind corpus is needed", field="corpus"
            )
        return await run_blocking(self._create_job, stage, config, {"corpus": [corpus]}, request_id)


def _action_from_wire(action: int) -> Action:
    if action not in _ACTIONS:
        raise InvalidInputError(
            f"action={action} is unknown; accepted: {', '.join(pb.AnonymizeAction.keys())}",
            field="action",
        )
    return _ACTIONS[action]


def _decision_to_wire(decision: Decision) -> pb.FilterDocumentsResponse:
    return pb.FilterDocumentsResponse(
        document_id=decision.document_id,
        kept=decision.kept,
        reason=decision.rule,
        detail=decision.detail,
        language=decision.language,
    )


def _spans_to_wire(found: Anonymized) -> list[pb.PiiSpan]:
    return [
        pb.PiiSpan(
            start=span.start,
            end=span.end,
            type=span.type,
            confidence=span.confidence,
            replacement=replacement,
        )
        for span, replacement in zip(found.spans, found.replacements, strict=True)
    ]
