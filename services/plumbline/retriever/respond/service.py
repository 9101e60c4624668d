"""The calls about replies: convert, ask the responder, convert."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc

from plumbline.core.errors import FailedPreconditionError
from plumbline.core.paging import page_bounds, page_token
from plumbline.core.rpc import run_blocking
from plumbline.retriever.convert import value_to_wire, within_a_message
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.respond.convert import piece_to_wire, record_to_wire, request_from_wire
from plumbline.retriever.respond.records import ReplyRecords
from plumbline.retriever.respond.responder import Responder
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import retriever_pb2_grpc as pb_grpc


class RespondCalls(pb_grpc.RetrieverServiceServicer):
    """Replies and their records."""

    _engine: RetrieverEngine
    _responder: Responder
    _records: ReplyRecords | None

    async def Respond(
        self, request: pb.RespondRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.RespondResponse]:
        sequence = 0
        # Closed here and not when it is collected, so that sampling ends with the call.
        async with aclosing(self._responder.respond(request_from_wire(request))) as pieces:
            async for piece in pieces:
                yield piece_to_wire(piece, sequence)
                sequence += 1

    async def GetReplyRecord(
        self, request: pb.GetReplyRecordRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetReplyRecordResponse:
        return await run_blocking(self._record, request)

    def _record(self, request: pb.GetReplyRecordRequest) -> pb.GetReplyRecordResponse:
        if self._records is None:
            raise FailedPreconditionError(
                "this service keeps no records of replies; set respond.records"
            )
        start, size = page_bounds(request.page_size, request.page_token)
        record = self._records.read(request.reply_id)
        response = record_to_wire(record)
        # The artifact never changes, so these are the values of that day and no others.
        where = dataclasses.replace(record.request.where, kinds=(), categories=())
        values, _ = self._engine.values_in_force(record.decision.knowledge_base_artifact, where)
        page = within_a_message(value_to_wire(value) for value in values[start : start + size])
        response.values_in_force.extend(page)
        response.values_in_force_count = len(values)
        response.next_page_token = page_token(start + len(page), len(values))
        return response
