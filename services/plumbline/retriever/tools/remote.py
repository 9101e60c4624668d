"""A judge behind SamplerService."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from plumbline.core.errors import DeadlineExceededError
from plumbline.data.records import Message
from plumbline.data.wire import prompt_to_wire
from plumbline.v1 import sampler_pb2, types_pb2

_TIMEOUT_S = 60.0


class SamplerJudge:
    """Asks a policy greedily, so that the same claim and passages get the same answer.

    Args:
        stub: gives the stub of `connect("sampler")`; called at the first question.
        max_tokens: bound on an answer.
    """

    def __init__(self, stub: Callable[[], Any], *, max_tokens: int) -> None:
        self._stub = stub
        self._max_tokens = max_tokens

    def answer(self, policy: str, messages: Sequence[Message], *, deadline: float | None) -> str:
        timeout_s = _TIMEOUT_S if deadline is None else deadline - time.monotonic()
        if timeout_s <= 0:
            raise DeadlineExceededError("the deadline passed before the judge was asked")
        response = self._stub().SampleResponses(
            sampler_pb2.SampleResponsesRequest(
                policy=policy,
                prompts=[prompt_to_wire(messages)],
                responses_per_prompt=1,
                parameters=types_pb2.SamplingParameters(
                    temperature=0.0, max_response_tokens=self._max_tokens
                ),
            ),
            timeout=timeout_s,
        )
        return str(response.samples[0].responses[0].text)
