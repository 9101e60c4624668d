"""CurationService: text is handled at once, corpora become jobs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from plumbline.core.errors import InvalidInputError
from plumbline.core.job_service import config_from_wire, job_to_wire
from plumbline.core.jobs import Job
from plumbline.core.rpc import run_blocking
from plumbline.core.validation import parse_config
from plumbline.curation.batching import batches
from plumbline.curation.config import ServiceConfig
from plumbline.curation.engine import CurationEngine, Decision
from plumbline.curation.pii.config import Action, AnonymizeOptions
from plumbline.curation.pii.detector import Anonymized, PiiDetector
from plumbline.v1 import curation_pb2 as pb
from plumbline.v1 import curation_pb2_grpc as pb_grpc

RequestT = TypeVar("RequestT", bound=Message)

CreateJob = Callable[[str, Mapping[str, Any], Mapping[str, Sequence[str]], str], Job]
"""(stage, config, inputs, request_id) -> the queued job."""

_ACTIONS: Mapping[int, Action | None] = {
    pb.ANONYMIZE_ACTION_UNSPECIFIED: None,
    pb.ANONYMIZE_ACTION_REDACT: "redact",
    pb.ANONYMIZE_ACTION_MASK: "mask",
    pb.ANONYMIZE_ACTION_KEEP: "keep",
    pb.ANONYMIZE_ACTION_PSEUDONYMISE: "pseudonymise",
}
_KNOWN_DETECTORS = 64
"""Different options for which the detector is kept ready."""


class CurationService(pb_grpc.CurationServiceServicer):
    """Translates messages; `CurationEngine` decides. Errors map in core.rpc.

    Streams are handled in batches of what has arrived, so that a caller may wait for each answer
    and a fast one costs a hop to the pool per batch. Each stream's batches are its own: a document
    of many megabytes holds up only the stream that it came in.
    """

    def __init__(
        self,
        engine: CurationEngine,
        create_job: CreateJob,
        config: ServiceConfig | None = None,
    ) -> None:
        self._engine = engine
        self._create_job = create_job
        self._config = config or ServiceConfig()
        self._detector = functools.lru_cache(_KNOWN_DETECTORS)(self._make_detector)

    async def FilterDocuments(
        self,
        request_iterator: AsyncIterator[pb.FilterDocumentsRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[pb.FilterDocumentsResponse]:
        # One filter for each stream: what it remembers goes with the stream.
        documents = self._engine.open_filter(capacity=self._config.max_stream_documents)
        async for batch in self._batches(request_iterator):
            pairs = [(request.document_id, request.text) for request in batch]
            for decision in await run_blocking(documents.decide, pairs):
                yield _decision_to_wire(decision)

    async def AnonymizeText(
        self, request: pb.AnonymizeTextRequest, context: grpc.aio.ServicerContext
    ) -> pb.AnonymizeTextResponse:
        (found,) = await run_blocking(self._anonymize, [request])
        return pb.AnonymizeTextResponse(text=found.text, spans=_spans_to_wire(found))

    async def StreamAnonymizeText(
        self,
        request_iterator: AsyncIterator[pb.StreamAnonymizeTextRequest],
        context: grpc.aio.ServicerContext,
    ) -> AsyncIterator[pb.StreamAnonymizeTextResponse]:
        async for batch in self._batches(request_iterator):
            answers = await run_blocking(self._anonymize, batch)
            for request, found in zip(batch, answers, strict=True):
                yield pb.StreamAnonymizeTextResponse(
                    document_id=request.document_id, text=found.text, spans=_spans_to_wire(found)
                )

    async def AnalyzeCorpus(
        self, request: pb.AnalyzeCorpusRequest, context: grpc.aio.ServicerContext
    ) -> pb.AnalyzeCorpusResponse:
        inputs = {"filters": request.filters, "descriptors": request.descriptors}
        job = await self._queue("curation.analyze", request, inputs)
        return pb.AnalyzeCorpusResponse(job=job_to_wire(job))

    async def CurateCorpus(
        self, request: pb.CurateCorpusRequest, context: grpc.aio.ServicerContext
    ) -> pb.CurateCorpusResponse:
        job = await self._queue("curation.curate", request, {"filters": request.filters})
        return pb.CurateCorpusResponse(job=job_to_wire(job))

    def _batches(self, requests: AsyncIterator[RequestT]) -> AsyncIterator[list[RequestT]]:
        return batches(
            requests,
            lambda request: request.ByteSize(),
            max_bytes=self._config.max_batch_bytes,
            max_messages=self._config.max_batch_messages,
        )

    def _anonymize(
        self, requests: Sequence[pb.AnonymizeTextRequest | pb.StreamAnonymizeTextRequest]
    ) -> list[Anonymized]:
        """The answers in order; neighbours with the same options are handled together."""
        found: list[Anonymized] = []
        for options, group in itertools.groupby(requests, key=_options_from_wire):
            detector = self._detector(options.model_dump_json())
            found += detector.anonymize_all([request.text for request in group])
        return found

    def _make_detector(self, options: str) -> PiiDetector:
        return self._engine.anonymizer(AnonymizeOptions.model_validate_json(options))

    async def _queue(
        self,
        stage: str,
        request: pb.AnalyzeCorpusRequest | pb.CurateCorpusRequest,
        further: Mapping[str, Sequence[str]],
    ) -> Job:
        if not request.corpus:
            raise InvalidInputError(
                "corpus is empty; an artifact id or tag of kind corpus is needed", field="corpus"
            )
        inputs = {"corpus": [request.corpus], **{k: list(v) for k, v in further.items() if v}}
        config = config_from_wire(request.config)
        return await run_blocking(self._create_job, stage, config, inputs, request.request_id)


def _options_from_wire(
    request: pb.AnonymizeTextRequest | pb.StreamAnonymizeTextRequest,
) -> AnonymizeOptions:
    """What the request changes of the configuration.

    Raises:
        ConfigError: an unknown type, or a confidence that is none.
    """
    wire = request.options
    options: dict[str, Any] = {
        "action": _action_from_wire(request.action),
        "actions": {name: _action_from_wire(action) for name, action in wire.actions.items()},
        "types": tuple(wire.types),
        "key": wire.key,
        "tenant": wire.tenant,
        "scope": wire.scope,
    }
    if wire.HasField("min_confidence"):
        options["min_confidence"] = wire.min_confidence
    return parse_config(AnonymizeOptions, options, where="options")


def _action_from_wire(action: int) -> Action | None:
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
        code=decision.code,
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
