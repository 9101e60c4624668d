"""RewardService: translates messages; `RewardEngine` decides. Errors map in core.rpc."""

from __future__ import annotations

import math
from collections.abc import Mapping

import grpc

from plumbline.core.errors import InvalidInputError
from plumbline.core.rpc import run_blocking
from plumbline.data.wire import messages_from_wire
from plumbline.reward.engine import COMBINED, HEADS, HELPFULNESS, SAFETY, RewardEngine, ScoredItem
from plumbline.v1 import reward_pb2 as pb
from plumbline.v1 import reward_pb2_grpc as pb_grpc

_HEADS: Mapping[int, str] = {
    pb.HEAD_HELPFULNESS: HELPFULNESS,
    pb.HEAD_SAFETY: SAFETY,
    pb.HEAD_COMBINED: COMBINED,
}
_WIRE_HEADS = {head: wire for wire, head in _HEADS.items()}


class RewardService(pb_grpc.RewardServiceServicer):
    """Serves one engine."""

    def __init__(self, engine: RewardEngine) -> None:
        self._engine = engine

    async def ScoreResponses(
        self, request: pb.ScoreResponsesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ScoreResponsesResponse:
        items = [
            ScoredItem(messages_from_wire(item.pair.prompt), item.pair.response, item.risky)
            for item in request.items
        ]
        heads = [_head_from_wire(head, "heads") for head in request.heads]
        scores = await run_blocking(
            self._engine.score, items, heads, _models_from_wire(request.models)
        )
        return pb.ScoreResponsesResponse(
            results=[
                pb.ResponseScores(
                    scores={head: values[index] for head, values in scores.by_head.items()}
                )
                for index in range(len(items))
            ],
            reward_model_ids=scores.model_ids,
        )

    async def ComparePairs(
        self, request: pb.ComparePairsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ComparePairsResponse:
        head = _head_from_wire(request.head, "head")
        items = []
        for pair in request.pairs:
            prompt = messages_from_wire(pair.prompt)
            items.append(ScoredItem(prompt, pair.response_a, pair.risky))
            items.append(ScoredItem(prompt, pair.response_b, pair.risky))
        scores = await run_blocking(
            self._engine.score, items, [head], _models_from_wire(request.models)
        )
        values, temperature = scores.by_head[head], scores.temperatures[head]
        return pb.ComparePairsResponse(
            comparisons=[
                pb.PairComparison(
                    score_a=a, score_b=b, probability_a=_sigmoid((a - b) / temperature)
                )
                for a, b in zip(values[::2], values[1::2], strict=True)
            ],
            reward_model_ids=scores.model_ids,
        )

    async def RankResponses(
        self, request: pb.RankResponsesRequest, context: grpc.aio.ServicerContext
    ) -> pb.RankResponsesResponse:
        head = _head_from_wire(request.head, "head")
        prompt = messages_from_wire(request.prompt)
        items = [ScoredItem(prompt, response, request.risky) for response in request.responses]
        scores = await run_blocking(
            self._engine.score, items, [head], _models_from_wire(request.models)
        )
        values = scores.by_head[head]
        # The sort is stable: equal scores keep the request's order.
        order = sorted(range(len(values)), key=lambda index: -values[index])
        return pb.RankResponsesResponse(
            ranking=[pb.RankedResponse(index=index, score=values[index]) for index in order],
            reward_model_ids=scores.model_ids,
        )

    async def LoadRewardModel(
        self, request: pb.LoadRewardModelRequest, context: grpc.aio.ServicerContext
    ) -> pb.LoadRewardModelResponse:
        head = ""
        if request.head != pb.HEAD_UNSPECIFIED:
            head = _head_from_wire(request.head, "head")
        info = await run_blocking(self._engine.load, request.reward_model, head)
        return pb.LoadRewardModelResponse(
            reward_model_id=info.id,
            head=_WIRE_HEADS[info.head],  # type: ignore[arg-type]
            architecture=info.architecture,
        )


def _head_from_wire(head: int, field: str) -> str:
    if head not in _HEADS:
        raise InvalidInputError(
            f"{field}={head} is not a head; accepted: {', '.join(HEADS)}", field=field
        )
    return _HEADS[head]


def _models_from_wire(models: pb.RewardModels) -> dict[str, str]:
    return {HELPFULNESS: models.helpfulness, SAFETY: models.safety}


def _sigmoid(x: float) -> float:
    """Without overflow for any finite x."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
