"""The call that checks claims: translates messages; `FactualityEngine` decides."""

from __future__ import annotations

import time

import grpc

from plumbline.core.rpc import run_blocking
from plumbline.retriever.tools.convert import (
    check_to_wire,
    claim_kind_from_wire,
    document_from_wire,
)
from plumbline.retriever.tools.engine import FactualityEngine
from plumbline.retriever.tools.records import ClaimVerdict
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import retriever_pb2_grpc as pb_grpc


class FactualityCalls(pb_grpc.RetrieverServiceServicer):
    """The calls about claims."""

    _factuality: FactualityEngine

    async def CheckFactuality(
        self, request: pb.CheckFactualityRequest, context: grpc.aio.ServicerContext
    ) -> pb.CheckFactualityResponse:
        remaining_s = context.time_remaining()
        checks = await run_blocking(
            self._factuality.check,
            request.text,
            prompt=request.prompt,
            kinds=[claim_kind_from_wire(kind) for kind in request.kinds],
            documents=[document_from_wire(document) for document in request.documents],
            corpus=request.corpus,
            policy=request.policy,
            claims=list(request.claims),
            assertions=list(request.assertions),
            deadline=None if remaining_s is None else time.monotonic() + remaining_s,
        )
        return pb.CheckFactualityResponse(
            claims=[check_to_wire(check) for check in checks],
            factual=all(check.verdict is not ClaimVerdict.REFUTED for check in checks),
        )
