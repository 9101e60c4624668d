"""The sampler as a chat needs it: one policy's answer as a stream that can be stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from plumbline.cli.console import served_reference
from plumbline.core.errors import InvalidInputError, ServiceUnavailableError
from plumbline.core.validation import FrozenConfig
from plumbline.data.records import Message
from plumbline.data.template import Template
from plumbline.data.wire import prompt_to_wire, template_to_wire
from plumbline.v1 import sampler_pb2, types_pb2

LOAD_TIMEOUT_S = 900.0
"""Naming a policy loads it, and large weights take their time."""
CONNECT_TIMEOUT_S = 10.0
_FINISH_REASONS = {
    types_pb2.FINISH_REASON_STOP: "stop",
    types_pb2.FINISH_REASON_LENGTH: "length",
}
_STOPS: dict[Template, tuple[str, ...]] = {"transcript": ("\n\nHuman:",)}
"""Where an answer ends beside its end-of-sequence token: transcripts go on with the next turn."""


class ChatParameters(FrozenConfig):
    """How answers are drawn."""

    temperature: float = Field(0.7, ge=0, le=10)
    """0 takes the likeliest token."""
    top_p: float = Field(0.95, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    """0 keeps all tokens."""
    max_response_tokens: int = Field(512, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)
    """Every question derives its own; the same seed and questions give the same answers."""
    template: Template = "chat"
    """Layout of prompts; policies without a chat template need another one."""

    def to_wire(self, seed: int) -> types_pb2.SamplingParameters:
        return types_pb2.SamplingParameters(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_response_tokens=self.max_response_tokens,
            seed=seed,
            stop=_STOPS.get(self.template, ()),
        )


@dataclass(frozen=True, slots=True)
class ChatPolicy:
    """A policy that is talked to."""

    reference: str
    """As the sampler is asked for it."""
    id: str
    name: str
    """As people call it."""
    context_length: int
    """Prompt and response together, tokens."""


class ReplyStream:
    """An answer while it is drawn; iterating gives its text piece by piece.

    Args:
        call: the stream of `Generate`.
        template: what the prompt was laid out by; a transcript's answers begin with a space.
    """

    def __init__(self, call: Any, seed: int, template: Template) -> None:
        self._call = call
        self._begins_with_space = template == "transcript"
        self._pieces: list[str] = []
        self.seed = seed
        self.policy_id = ""
        self.finish_reason = ""
        """`stop`, `length`, or empty while unfinished."""

    def __iter__(self) -> Iterator[str]:
        for message in self._call:
            self.policy_id = message.policy_id or self.policy_id
            self.finish_reason = _FINISH_REASONS.get(message.finish_reason, "")
            piece = message.delta
            if self._begins_with_space:
                piece = piece.lstrip(" ")
                self._begins_with_space = not piece
            self._pieces.append(piece)
            yield piece

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def cancel(self) -> None:
        """Stop drawing; the service frees what the answer held."""
        self._call.cancel()


class ChatSampler:
    """Asks a sampler.

    Args:
        stub: a SamplerService stub of `connect("sampler")`.
    """

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def policy(self, name: str) -> ChatPolicy:
        """Load a policy and describe it.

        Args:
            name: directory, artifact id or tag; empty for the sampler's default.
        Raises:
            NotFoundError: no such policy.
            FailedPreconditionError: none is named and the sampler has no default.
        """
        asked = served_reference(name) if name else ""
        found = self._stub.GetPolicy(
            sampler_pb2.GetPolicyRequest(policy=asked),
            timeout=LOAD_TIMEOUT_S,
            wait_for_ready=False,
        ).policy
        return ChatPolicy(
            # A default may change while people talk; they asked for the one that it is now.
            reference=asked or found.reference,
            id=found.id,
            name=name or found.reference or found.id,
            context_length=found.context_length,
        )

    def loaded(self) -> list[tuple[str, str]]:
        """(id, reference) of the policies in memory, the most recently used first."""
        answer = self._stub.ListPolicies(sampler_pb2.ListPoliciesRequest(), wait_for_ready=False)
        return [(policy.id, policy.reference) for policy in answer.policies]

    def ask(
        self,
        policy: ChatPolicy,
        messages: Sequence[Message],
        parameters: ChatParameters,
        *,
        seed: int,
    ) -> ReplyStream:
        """Start an answer; errors come when it is iterated over."""
        request = sampler_pb2.GenerateRequest(
            policy=policy.reference,
            prompt=prompt_to_wire(messages),
            parameters=parameters.to_wire(seed),
            prompt_template=template_to_wire(parameters.template),
        )
        # A service that went away is told at once; waiting for it would look like thinking.
        call = self._stub.Generate(request, wait_for_ready=False)
        return ReplyStream(call, seed, parameters.template)

    def prompt_tokens(
        self, policy: ChatPolicy, messages: Sequence[Message], template: Template
    ) -> int | None:
        """Tokens of a prompt as the policy counts them; None when it fills the whole context.

        One token is drawn, as the sampler counts no prompt that it does not read.
        """
        request = sampler_pb2.SampleResponsesRequest(
            policy=policy.reference,
            prompts=[prompt_to_wire(messages)],
            parameters=types_pb2.SamplingParameters(max_response_tokens=1),
            prompt_template=template_to_wire(template),
        )
        try:
            answer = self._stub.SampleResponses(request, wait_for_ready=False)
        except InvalidInputError as error:
            if error.field != "prompts":
                raise
            return None
        return int(answer.usage.prompt_tokens)


def check_answers(client: Any, target: str | None, *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """
    Raises:
        ServiceUnavailableError: nothing answers at the address.
    """
    import grpc

    try:
        grpc.channel_ready_future(client.channel).result(timeout=timeout_s)
    except grpc.FutureTimeoutError:
        raise ServiceUnavailableError(
            f"no sampler answers at {target or 'its address'} within {timeout_s:.0f} s; "
            "start one with `plumbline up`, or check --target"
        ) from None
