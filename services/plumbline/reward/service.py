"""RewardService: translates messages; `RewardEngine` decides. Errors map in core.rpc."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.core.rpc import remaining_s, run_blocking
from plumbline.data.judging import JudgeAgreement
from plumbline.data.wire import messages_from_wire
from plumbline.reward.convert import judge_from_wire, verdict_to_wire
from plumbline.reward.encoding import ScoredItem
from plumbline.reward.engine import (
    COMBINED,
    HEADS,
    HELPFULNESS,
    SAFETY,
    RewardEngine,
    Scores,
)
from plumbline.reward.judge import JudgedPair, questions_for, verdicts_from
from plumbline.reward.remote import ask_judge
from plumbline.v1 import reward_pb2 as pb
from plumbline.v1 import reward_pb2_grpc as pb_grpc

_HEADS: Mapping[int, str] = {
    pb.HEAD_HELPFULNESS: HELPFULNESS,
    pb.HEAD_SAFETY: SAFETY,
    pb.HEAD_COMBINED: COMBINED,
}
_WIRE_HEADS = {head: wire for wire, head in _HEADS.items()}


class RewardService(pb_grpc.RewardServiceServicer):
    """Serves one engine.

    Args:
        sampler: gives a grpc.aio SamplerServiceStub; called when a policy first judges. None
            leaves judges out.
    """

    def __init__(self, engine: RewardEngine, sampler: Callable[[], Any] | None = None) -> None:
        self._engine = engine
        self._sampler = sampler

    async def ScoreResponses(
        self, request: pb.ScoreResponsesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ScoreResponsesResponse:
        items = [
            ScoredItem(messages_from_wire(item.pair.prompt), item.pair.response, item.risky)
            for item in request.items
        ]
        heads = [_head_from_wire(head, "heads") for head in request.heads]
        scores = await self._score(items, heads, request.models)
        return pb.ScoreResponsesResponse(
            results=[
                pb.ResponseScores(
                    scores={head: values[index] for head, values in scores.by_head.items()}
                )
                for index in range(len(items))
            ],
            reward_model_ids=scores.model_ids,
            temperatures=scores.temperatures,
        )

    async def ComparePairs(
        self, request: pb.ComparePairsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ComparePairsResponse:
        if request.HasField("judge"):
            return await self._judge(request)
        head = _head_from_wire(request.head, "head")
        items = []
        for pair in request.pairs:
            prompt = messages_from_wire(pair.prompt)
            items.append(ScoredItem(prompt, pair.response_a, pair.risky))
            items.append(ScoredItem(prompt, pair.response_b, pair.risky))
        scores = await self._score(items, [head], request.models)
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
        scores = await self._score(items, [head], request.models)
        values = scores.by_head[head]
        chances = _softmax([value / scores.temperatures[head] for value in values])
        # The sort is stable: equal scores keep the request's order.
        order = sorted(range(len(values)), key=lambda index: -values[index])
        return pb.RankResponsesResponse(
            ranking=[
                pb.RankedResponse(index=i, score=values[i], probability_best=chances[i])
                for i in order
            ],
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

    async def _judge(self, request: pb.ComparePairsRequest) -> pb.ComparePairsResponse:
        """Ask a policy about every pair in both orders."""
        if self._sampler is None:
            raise FailedPreconditionError(
                "this reward service knows no sampler to ask a judge; set "
                "PLUMBLINE_SAMPLER_TARGET, or leave judge out to compare by a reward model",
                reason="NO_SAMPLER",
            )
        if not request.pairs:
            raise InvalidInputError("no pairs came; accepted: 1 or more", field="pairs")
        config = judge_from_wire(request.judge)
        pairs = [
            JudgedPair(messages_from_wire(pair.prompt), pair.response_a, pair.response_b)
            for pair in request.pairs
        ]
        answers, policy_id = await ask_judge(
            self._sampler(), questions_for(pairs, config), config, timeout_s=remaining_s()
        )
        verdicts = verdicts_from(answers, len(pairs))
        agreement = JudgeAgreement.of(verdicts, tie_margin=config.tie_margin)
        return pb.ComparePairsResponse(
            comparisons=[verdict_to_wire(verdict, config.tie_margin) for verdict in verdicts],
            judge_policy_id=policy_id,
            agreement=pb.JudgeAgreement(
                orders_agree=agreement.orders_agree,
                place_bias=agreement.place_bias,
                ties=agreement.ties,
            ),
        )

    async def _score(
        self, items: Sequence[ScoredItem], heads: Sequence[str], models: pb.RewardModels
    ) -> Scores:
        """No thread waits meanwhile, so that as many calls as come share batches."""
        pending = await run_blocking(
            self._engine.submit, items, heads, _models_from_wire(models), timeout_s=remaining_s()
        )
        try:
            await asyncio.gather(*map(asyncio.wrap_future, pending.futures.values()))
        finally:
            # For a caller that went away, or a head that failed; done futures stay as they are.
            pending.cancel()
        return pending.result()


def _head_from_wire(head: int, field: str) -> str:
    if head not in _HEADS:
        raise InvalidInputError(
            f"{field}={head} is not a head; accepted: {', '.join(HEADS)}", field=field
        )
    return _HEADS[head]


def _models_from_wire(models: pb.RewardModels) -> dict[str, str]:
    return {HELPFULNESS: models.helpfulness, SAFETY: models.safety}


def _softmax(values: Sequence[float]) -> list[float]:
    """Without overflow for any finite values."""
    highest = max(values)
    weights = [math.exp(value - highest) for value in values]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _sigmoid(x: float) -> float:
    """Without overflow for any finite x."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))
