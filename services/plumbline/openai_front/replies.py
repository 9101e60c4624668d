"""Bodies of replies: what the sampler answers, in the shapes of OpenAI's reference.

Beyond the reference, which clients ignore: `seed` of a choice draws that choice alone, and an entry
of chat's logprobs carries `token_id` and `sampling_logprob`, nats under the distribution that was
sampled from; text completions have the same entries under `content`. `logprob` itself is the
policy's own, at temperature 1.
"""

from __future__ import annotations

import codecs
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from plumbline.core.errors import FailedPreconditionError
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import types_pb2

_FINISH_REASONS = {
    types_pb2.FINISH_REASON_STOP: "stop",
    types_pb2.FINISH_REASON_LENGTH: "length",
}
_SHORT_DIGEST = 12

Piece = pb.GenerateResponse | types_pb2.SampledResponse
"""Tokens with their logprobs: a part of a response, or all of it."""


class Replies(Protocol):
    """How one endpoint says what was sampled; one object per request."""

    object: str
    chunk_object: str
    id_prefix: str

    def choice(self, index: int, response: types_pb2.SampledResponse) -> dict[str, Any]:
        """A whole response."""
        ...

    def opening(self, index: int) -> dict[str, Any] | None:
        """What a streamed choice begins with, if anything."""
        ...

    def delta(self, index: int, piece: pb.GenerateResponse) -> dict[str, Any]:
        """A piece of a streamed choice."""
        ...


class ChatReplies:
    """Of /v1/chat/completions.

    Args:
        logprobs: whether choices show them.
    """

    object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    id_prefix = "chatcmpl-"

    def __init__(self, *, logprobs: bool) -> None:
        self._logprobs = logprobs

    def choice(self, index: int, response: types_pb2.SampledResponse) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": response.text, "refusal": None},
            "logprobs": self._shown(response),
            "finish_reason": _FINISH_REASONS[response.finish_reason],
            "seed": response.seed,
        }

    def opening(self, index: int) -> dict[str, Any] | None:
        return {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }

    def delta(self, index: int, piece: pb.GenerateResponse) -> dict[str, Any]:
        return {
            "index": index,
            "delta": {"content": piece.delta} if piece.delta else {},
            "logprobs": self._shown(piece),
            "finish_reason": _FINISH_REASONS.get(piece.finish_reason),
        }

    def _shown(self, piece: Piece) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        return {"content": _entries(piece), "refusal": None}


class CompletionReplies:
    """Of /v1/completions.

    Args:
        logprobs: whether choices show them.
    """

    object = "text_completion"
    chunk_object = "text_completion"
    id_prefix = "cmpl-"

    def __init__(self, *, logprobs: bool) -> None:
        self._logprobs = logprobs
        self._offsets: dict[int, _TextOffsets] = {}

    def choice(self, index: int, response: types_pb2.SampledResponse) -> dict[str, Any]:
        return {
            "index": index,
            "text": response.text,
            "logprobs": self._shown(index, response),
            "finish_reason": _FINISH_REASONS[response.finish_reason],
            "seed": response.seed,
        }

    def opening(self, index: int) -> dict[str, Any] | None:
        return None

    def delta(self, index: int, piece: pb.GenerateResponse) -> dict[str, Any]:
        return {
            "index": index,
            "text": piece.delta,
            "logprobs": self._shown(index, piece),
            "finish_reason": _FINISH_REASONS.get(piece.finish_reason),
        }

    def _shown(self, index: int, piece: Piece) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        details = _details(piece)
        offsets = self._offsets.setdefault(index, _TextOffsets())
        return {
            "tokens": [_text(detail.text) for detail in details],
            "token_logprobs": [detail.logprob for detail in details],
            "top_logprobs": [
                {_text(other.text): other.logprob for other in reversed(detail.alternatives)}
                for detail in details
            ],
            "text_offset": [offsets.next(detail.text) for detail in details],
            "content": _entries(piece),
        }


class Head:
    """What all bodies of one reply have in common."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._id = f"{replies.id_prefix}{uuid.uuid4().hex}"
        self._created = int(time.time())

    def whole(self, answer: pb.SampleResponsesResponse) -> dict[str, Any]:
        """The body of a reply that is not streamed."""
        responses = [response for sample in answer.samples for response in sample.responses]
        return {
            **self._common(self._replies.object, answer.policy_id),
            "choices": [
                self._replies.choice(index, response) for index, response in enumerate(responses)
            ],
            "usage": usage([answer.usage]),
        }

    def chunk(self, policy_id: str, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The body of one event of a stream."""
        return {**self._common(self._replies.chunk_object, policy_id), "choices": list(choices)}

    def _common(self, kind: str, policy_id: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": policy_id,
            "system_fingerprint": short_id(policy_id),
        }


def usage(parts: Iterable[types_pb2.Usage]) -> dict[str, int]:
    """Tokens of all choices together."""
    found = list(parts)
    prompt_tokens = sum(part.prompt_tokens for part in found)
    response_tokens = sum(part.response_tokens for part in found)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": response_tokens,
        "total_tokens": prompt_tokens + response_tokens,
    }


def model_card(policy: pb.Policy) -> dict[str, Any]:
    """A policy as an entry of /v1/models; `id` is what a request may name it by."""
    return {
        "id": policy.reference or policy.id,
        "object": "model",
        # Equal weights have equal ids whenever they were made, so there is no time to tell.
        "created": 0,
        "owned_by": "plumbline",
        "policy_id": policy.id,
        "architecture": policy.architecture,
        "parameters": policy.parameters,
        "context_length": policy.context_length,
        "vocabulary_size": policy.vocabulary_size,
    }


def short_id(policy_id: str) -> str:
    """Enough of a policy's id to recognise it; keeps the scheme, as in `dir:0123456789ab`."""
    scheme, separator, digest = policy_id.rpartition(":")
    return scheme + separator + digest[:_SHORT_DIGEST]


class _TextOffsets:
    """Where each token begins in the text, in characters, when characters spread over tokens."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._characters = 0

    def next(self, token: bytes) -> int:
        offset = self._characters
        self._characters += len(self._decoder.decode(token))
        return offset


def _details(piece: Piece) -> Sequence[types_pb2.TokenDetail]:
    """Raises FailedPreconditionError where the sampler gave fewer than one per token."""
    if len(piece.details) != len(piece.token_ids):
        raise FailedPreconditionError(
            "this sampler tells no text and alternatives of its tokens; leave logprobs out",
            reason="NO_TOKEN_DETAILS",
        )
    return list(piece.details)


def _entries(piece: Piece) -> list[dict[str, Any]]:
    """Tokens as chat shows them."""
    return [
        {
            **_token(detail),
            "sampling_logprob": sampling_logprob,
            "top_logprobs": [_token(other) for other in detail.alternatives],
        }
        for detail, sampling_logprob in zip(_details(piece), piece.logprobs, strict=True)
    ]


def _token(token: types_pb2.TokenDetail | types_pb2.TokenAlternative) -> dict[str, Any]:
    return {
        "token": _text(token.text),
        "logprob": token.logprob,
        "bytes": list(token.text),
        "token_id": token.token_id,
    }


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")
