"""Calls to RetrieverService in terms of records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    max_revisions: int | None = None,
) -> str:
    """The whole reply to a prompt, made to follow the values in force on a day.

    Args:
        max_revisions: attempts to mend a reply; None takes the service's number. A reply that
            still breaks a rule is refused: what comes back is a template.
    """
    request = retriever_pb2.RespondRequest(
        knowledge_base=knowledge_base,
        policy=policy,
        prompt=prompt_to_wire(messages),
        filter=retriever_pb2.ValueFilter(as_of=as_of),
        parameters=types_pb2.SamplingParameters(
            temperature=temperature, seed=seed, max_response_tokens=max_response_tokens
        ),
        max_revisions=max_revisions,
    )
    return whole_reply(stub.Respond(request))[0]


def whole_reply(
    pieces: Iterable[retriever_pb2.RespondResponse],
) -> tuple[str, retriever_pb2.RespondResponse]:
    """The text that a stream ends with, and its last message; what was withdrawn is left out."""
    text, last = "", retriever_pb2.RespondResponse()
    for last in pieces:
        text = last.delta if last.restart else text + last.delta
    return text, last
