"""A generator behind SamplerService."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from plumbline.core.errors import DeadlineExceededError, InvalidInputError
from plumbline.curation.synthesis.config import SamplingConfig
from plumbline.curation.synthesis.generator import Generation, GenerationRequest
from plumbline.data.wire import prompt_to_wire, template_to_wire
from plumbline.v1 import sampler_pb2, types_pb2

_PROMPTS = "prompts"
"""The field that the sampler names when prompts are too many or one is too long."""


class SamplerGenerator:
    """Asks a policy through a SamplerService stub.

    A text depends on its prompt and seed alone, so neither the division into calls nor a call
    made again changes one. The channel itself tries again while the service is away.

    Args:
        stub: of `connect("sampler")`.
        policy: artifact id.
        before_call: called before each call; what it raises ends the work.
    """

    def __init__(
        self,
        stub: Any,
        policy: str,
        config: SamplingConfig,
        *,
        before_call: Callable[[], None] | None = None,
    ) -> None:
        self._stub = stub
        self._policy = policy
        self._config = config
        self._before_call = before_call

    @property
    def policy_id(self) -> str:
        return self._policy

    def generate(
        self, requests: Sequence[GenerationRequest], *, temperature: float | None = None
    ) -> list[Generation]:
        """Texts in the order of the requests.

        Raises:
            DeadlineExceededError: one prompt took longer than `timeout_s` in every attempt.
            InvalidInputError: a setting that the sampler does not accept.
        """
        size = self._config.prompts_per_call
        used = self._config.temperature if temperature is None else temperature
        return [
            generation
            for start in range(0, len(requests), size)
            for generation in self._call(requests[start : start + size], used, attempt=1)
        ]

    def _call(
        self, requests: Sequence[GenerationRequest], temperature: float, *, attempt: int
    ) -> list[Generation]:
        if self._before_call is not None:
            self._before_call()
        try:
            return self._sample(requests, temperature)
        except DeadlineExceededError:
            if len(requests) > 1:
                return self._halves(requests, temperature)
            if attempt >= self._config.attempts:
                raise
            return self._call(requests, temperature, attempt=attempt + 1)
        except InvalidInputError as error:
            # One prompt beyond the context refuses the whole call, as do more prompts than the
            # service takes at once; asked apart, the others get their answers.
            if error.field != _PROMPTS:
                raise
            if len(requests) > 1:
                return self._halves(requests, temperature)
            return [Generation("", finished=False, fitted=False)]

    def _halves(
        self, requests: Sequence[GenerationRequest], temperature: float
    ) -> list[Generation]:
        middle = len(requests) // 2
        return [
            *self._call(requests[:middle], temperature, attempt=1),
            *self._call(requests[middle:], temperature, attempt=1),
        ]

    def _sample(
        self, requests: Sequence[GenerationRequest], temperature: float
    ) -> list[Generation]:
        config = self._config
        response = self._stub.SampleResponses(
            sampler_pb2.SampleResponsesRequest(
                policy=self._policy,
                prompts=[prompt_to_wire(request.messages) for request in requests],
                responses_per_prompt=1,
                parameters=types_pb2.SamplingParameters(
                    temperature=temperature,
                    top_p=config.top_p,
                    top_k=config.top_k,
                    max_response_tokens=config.max_response_tokens,
                ),
                seeds=[request.seed for request in requests],
                prompt_template=template_to_wire(config.template),
            ),
            timeout=config.timeout_s,
        )
        return [
            Generation(
                samples.responses[0].text,
                samples.responses[0].finish_reason == types_pb2.FINISH_REASON_STOP,
            )
            for samples in response.samples
        ]
