"""A judge's answers, from a SamplerService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plumbline.data.records import user
from plumbline.data.wire import prompt_to_wire, template_to_wire
from plumbline.reward.config import PairJudgeConfig
from plumbline.reward.judge import FirstToken
from plumbline.v1 import sampler_pb2, types_pb2

_QUESTIONS_PER_CALL = 64
_TIMEOUT_S = 900.0


async def ask_judge(
    stub: Any, questions: Sequence[str], config: PairJudgeConfig, *, timeout_s: float | None
) -> tuple[list[tuple[FirstToken, FirstToken]], str]:
    """Both possible answers to each question, and the id of the policy that judged.

    Args:
        stub: of `aconnect("sampler")`.
        timeout_s: of each call; None takes a quarter of an hour.
    """
    found: list[tuple[FirstToken, FirstToken]] = []
    policy_id = ""
    for start in range(0, len(questions), _QUESTIONS_PER_CALL):
        response = await stub.ComputeLogprobs(
            sampler_pb2.ComputeLogprobsRequest(
                policy=config.policy,
                pairs=[
                    types_pb2.PromptResponse(prompt=prompt_to_wire([user(text)]), response=answer)
                    for text in questions[start : start + _QUESTIONS_PER_CALL]
                    for answer in config.answers
                ],
                prompt_template=template_to_wire(config.template),
            ),
            timeout=timeout_s or _TIMEOUT_S,
        )
        policy_id = response.policy_id
        tokens = [FirstToken(one.token_ids[0], one.logprobs[0]) for one in response.responses]
        found += zip(tokens[0::2], tokens[1::2], strict=True)
    return found, policy_id
