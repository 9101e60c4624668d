"""RetrieverService: translates messages; `RetrieverEngine` decides. Errors map in core.rpc."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from plumbline.core.errors import InvalidInputError
from plumbline.core.paging import page_bounds, page_token
from plumbline.core.rpc import run_blocking
from plumbline.retriever.convert import (
    change_to_wire,
    hit_to_wire,
    mode_from_wire,
    plan_to_wire,
    query_from_wire,
    state_to_wire,
    value_from_wire,
    value_to_wire,
    within_a_message,
)
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.respond.records import ReplyRecords
from plumbline.retriever.respond.remote import RemoteSampler, RemoteScorer
from plumbline.retriever.respond.responder import Responder
from plumbline.retriever.respond.service import RespondCalls
from plumbline.retriever.tools.corpora import StoredCorpora
from plumbline.retriever.tools.engine import FactualityEngine
from plumbline.retriever.tools.service import FactualityCalls
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import retriever_pb2_grpc as pb_grpc


class ValueCalls(pb_grpc.RetrieverServiceServicer):
    """The calls about values and knowledge bases."""

    _engine: RetrieverEngine

    async def ImportValues(
        self, request: pb.ImportValuesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ImportValuesResponse:
        return await run_blocking(self._import, request)

    def _import(self, request: pb.ImportValuesRequest) -> pb.ImportValuesResponse:
        if request.values and request.values_artifact:
            raise InvalidInputError(
                f"{len(request.values)} values and values_artifact are given; accepted: one of "
                "both",
                field="values_artifact",
            )
        if request.values_artifact:
            values = self._engine.read_artifact(request.values_artifact)
        else:
            values = tuple(value_from_wire(value) for value in request.values)
        plan, artifact = self._engine.import_values(
            request.knowledge_base,
            values,
            replace_all=request.replace_all,
            dry_run=request.dry_run,
            complete_sources=tuple(request.complete_sources),
            revoked=tuple(request.revoked),
            expected_artifact=request.expected_artifact,
        )
        return plan_to_wire(plan, artifact, request.max_changes)

    async def ListValues(
        self, request: pb.ListValuesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListValuesResponse:
        return await run_blocking(self._list, request)

    def _list(self, request: pb.ListValuesRequest) -> pb.ListValuesResponse:
        start, size = page_bounds(request.page_size, request.page_token)
        values = self._engine.list_values(
            request.knowledge_base,
            where=query_from_wire(request.filter) if request.HasField("filter") else None,
            source=request.source,
        )
        page = within_a_message(value_to_wire(value) for value in values[start : start + size])
        return pb.ListValuesResponse(
            values=page, next_page_token=page_token(start + len(page), len(values))
        )

    async def GetValue(
        self, request: pb.GetValueRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetValueResponse:
        value = await run_blocking(
            self._engine.get_value, request.knowledge_base, request.value_id, request.version
        )
        return pb.GetValueResponse(value=value_to_wire(value))

    async def DiffKnowledgeBases(
        self, request: pb.DiffKnowledgeBasesRequest, context: grpc.aio.ServicerContext
    ) -> pb.DiffKnowledgeBasesResponse:
        return await run_blocking(self._diff, request)

    def _diff(self, request: pb.DiffKnowledgeBasesRequest) -> pb.DiffKnowledgeBasesResponse:
        start, size = page_bounds(request.page_size, request.page_token)
        changes, before, after = self._engine.diff(request.before, request.after)
        page = within_a_message(change_to_wire(each) for each in changes[start : start + size])
        return pb.DiffKnowledgeBasesResponse(
            changes=page,
            before_artifact=before,
            after_artifact=after,
            next_page_token=page_token(start + len(page), len(changes)),
        )

    async def TagKnowledgeBase(
        self, request: pb.TagKnowledgeBaseRequest, context: grpc.aio.ServicerContext
    ) -> pb.TagKnowledgeBaseResponse:
        artifact, previous = await run_blocking(
            self._engine.bases.move_tag,
            request.knowledge_base,
            request.tag,
            request.target,
            expected=request.expected_artifact,
        )
        return pb.TagKnowledgeBaseResponse(artifact=artifact, previous_artifact=previous)

    async def ListKnowledgeBaseStates(
        self, request: pb.ListKnowledgeBaseStatesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListKnowledgeBaseStatesResponse:
        start, size = page_bounds(request.page_size, request.page_token)
        # One more than the page says whether there is another; the chain may be long.
        states = await run_blocking(
            self._engine.bases.states, request.knowledge_base, start, size + 1
        )
        return pb.ListKnowledgeBaseStatesResponse(
            states=[state_to_wire(state) for state in states[:size]],
            next_page_token=page_token(start + size, start + len(states)),
        )

    async def RetrieveValues(
        self, request: pb.RetrieveValuesRequest, context: grpc.aio.ServicerContext
    ) -> pb.RetrieveValuesResponse:
        hits, artifact = await run_blocking(
            self._engine.retrieve,
            request.knowledge_base,
            request.query,
            query_from_wire(request.filter),
            k=request.k,
            mode=mode_from_wire(request.mode),
            rerank=request.rerank,
            diversity=request.diversity,
        )
        return pb.RetrieveValuesResponse(
            values=[hit_to_wire(hit) for hit in hits], artifact=artifact
        )


class RetrieverService(ValueCalls, RespondCalls, FactualityCalls):
    """Serves one engine.

    Args:
        sampler: gives a grpc.aio SamplerServiceStub; called when a reply is first drawn.
        reward: gives a grpc.aio RewardServiceStub; None where there is no reward service.
        factuality: checks claims; None makes one without a judge.
    """

    def __init__(
        self,
        engine: RetrieverEngine,
        sampler: Callable[[], Any],
        *,
        reward: Callable[[], Any] | None = None,
        factuality: FactualityEngine | None = None,
    ) -> None:
        config = engine.config
        self._engine = engine
        self._factuality = factuality or FactualityEngine(
            config.tools, corpora=StoredCorpora(engine.store, engine, config.tools)
        )
        self._records = ReplyRecords(engine.store) if config.respond.records else None
        self._responder = Responder(
            engine,
            sampler=RemoteSampler(sampler),
            scorer=RemoteScorer(reward, config.respond.rewards) if reward else None,
            claim_checker=self._factuality,
            records=self._records,
            in_thread=run_blocking,
        )
