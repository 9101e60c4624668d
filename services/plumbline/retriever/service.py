"""RetrieverService: translates messages; `RetrieverEngine` decides. Errors map in core.rpc."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from plumbline.core.paging import page_bounds, page_token
from plumbline.core.rpc import run_blocking
from plumbline.data.records import ValueSpec
from plumbline.data.wire import messages_from_wire, messages_to_wire
from plumbline.retriever.checkers import check_reply
from plumbline.retriever.convert import (
    hit_to_wire,
    query_from_wire,
    value_from_wire,
    value_to_wire,
)
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.values import content_digest
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import retriever_pb2_grpc as pb_grpc
from plumbline.v1 import sampler_pb2, types_pb2


class RetrieverService(pb_grpc.RetrieverServiceServicer):
    """Serves one engine.

    Args:
        sampler: gives a grpc.aio SamplerServiceStub; called on the first Respond.
    """

    def __init__(self, engine: RetrieverEngine, sampler: Callable[[], Any]) -> None:
        self._engine = engine
        self._sampler = sampler

    async def ImportValues(
        self, request: pb.ImportValuesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ImportValuesResponse:
        plan, artifact = await run_blocking(
            self._engine.import_values,
            request.knowledge_base,
            [value_from_wire(value) for value in request.values],
            replace_all=request.replace_all,
            dry_run=request.dry_run,
        )
        return pb.ImportValuesResponse(
            artifact=artifact,
            added=plan.added,
            changed=plan.changed,
            unchanged=plan.unchanged,
            removed=plan.removed,
        )

    async def ListValues(
        self, request: pb.ListValuesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListValuesResponse:
        start, size = page_bounds(request.page_size, request.page_token)
        values = await run_blocking(self._engine.list_values, request.knowledge_base)
        return pb.ListValuesResponse(
            values=[value_to_wire(value) for value in values[start : start + size]],
            next_page_token=page_token(start + size, len(values)),
        )

    async def GetValue(
        self, request: pb.GetValueRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetValueResponse:
        value = await run_blocking(self._engine.get_value, request.knowledge_base, request.value_id)
        return pb.GetValueResponse(value=value_to_wire(value))

    async def RetrieveValues(
        self, request: pb.RetrieveValuesRequest, context: grpc.aio.ServicerContext
    ) -> pb.RetrieveValuesResponse:
        hits, artifact = await run_blocking(
            self._engine.retrieve,
            request.knowledge_base,
            request.query,
            query_from_wire(request.filter),
            k=request.k,
        )
        return pb.RetrieveValuesResponse(
            values=[hit_to_wire(hit) for hit in hits], artifact=artifact
        )

    async def Respond(
        self, request: pb.RespondRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.RespondResponse]:
        messages, values, artifact = await run_blocking(
            self._engine.compose,
            request.knowledge_base,
            messages_from_wire(request.prompt),
            query_from_wire(request.filter),
        )
        stream = self._sampler().Generate(
            sampler_pb2.GenerateRequest(
                policy=request.policy,
                prompt=types_pb2.Prompt(messages=messages_to_wire(messages)),
                parameters=request.parameters,
            ),
            timeout=context.time_remaining(),
        )
        reply = ""
        async for piece in stream:
            reply += piece.delta
            last = piece.finish_reason != types_pb2.FINISH_REASON_UNSPECIFIED
            response = pb.RespondResponse(sequence=piece.sequence, delta=piece.delta)
            if last:
                response.finish_reason = piece.finish_reason
                response.policy_id = piece.policy_id
                response.knowledge_base_artifact = artifact
                response.usage.CopyFrom(piece.usage)
                response.citations.extend(_citations(values, reply))
            yield response


def _citations(values: Sequence[ValueSpec], reply: str) -> list[pb.Citation]:
    return [
        pb.Citation(
            value_id=value.id,
            version=value.version,
            content_digest=content_digest(value),
            verdict=check_reply(value.text, reply),
        )
        for value in values
    ]
