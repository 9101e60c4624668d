"""Calls to RetrieverService in terms of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plumbline.data.records import Message
from plumbline.data.wire import prompt_to_wire
from plumbline.v1 import retriever_pb2, types_pb2


def respond(
    stub: Any,
    *,
    knowledge_base: str,
    policy: str,
    messages: Sequence[Message],
    as_of: str = "",
    temperature: float = 0.0,
    seed: int = 0,
    max_response_tokens: int = 0,
) -> str:
    """The whole reply to a prompt, made to follow the values in force on a day."""
    request = retriever_pb2.RespondRequest(
        knowledge_base=knowledge_base,
        policy=policy,
        prompt=prompt_to_wire(messages),
        filter=retriever_pb2.ValueFilter(as_of=as_of),
        parameters=types_pb2.SamplingParameters(
            temperature=temperature, seed=seed, max_response_tokens=max_response_tokens
        ),
    )
    return "".join(piece.delta for piece in stub.Respond(request))
