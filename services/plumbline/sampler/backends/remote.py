"""Policies that another server holds, with the methods of `SamplerEngine`.

How that server is asked is an `Endpoint`'s to know; everything else is the same for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from plumbline.core.errors import FailedPreconditionError, InvalidInputError, UnavailableError
from plumbline.data.records import Message
from plumbline.data.template import Template
from plumbline.sampler.backends.delta_stream import DeltaStream, too_late
from plumbline.sampler.backends.event_loop import EventLoopThread
from plumbline.sampler.interface import Delta, Policy, PromptResponses, Response, SamplingOptions
from plumbline.sampler.seeds import derive_seed

ModelT = TypeVar("ModelT")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One response, as an endpoint gave it."""

    policy_id: str
    response: Response
    prompt_token_ids: tuple[int, ...] = ()
    """Empty where they are not known."""


class Endpoint(Protocol[ModelT]):
    """A server that holds policies, asked from one event loop; errors are the platform's.

    `ModelT` is what it knows of a policy when it asks for responses.
    """

    async def find(self, name: str) -> ModelT:
        """The model of a name; an empty name means whatever comes first."""
        ...

    async def describe(self, name: str) -> Policy:
        """What can be told of a policy."""
        ...

    async def load(self, name: str) -> Policy:
        """Make a policy ready."""
        ...

    async def models(self) -> list[Policy]:
        """The policies that are ready."""
        ...

    async def draw(
        self,
        model: ModelT,
        prompt: Sequence[Message],
        options: SamplingOptions,
        *,
        seed: int,
        temperature: float,
        template: Template,
    ) -> Drawn:
        """One whole response."""
        ...

    def deltas(
        self,
        name: str,
        prompt: Sequence[Message],
        options: SamplingOptions,
        *,
        seed: int,
        template: Template,
    ) -> AsyncGenerator[Delta]:
        """One response, piece by piece."""
        ...

    async def close(self) -> None:
        """Drop what is in progress and the connections."""
        ...


class RemoteBackend(Generic[ModelT]):
    """Draws responses from the policies of one endpoint.

    Several are drawn at a time, each by a request of its own with its own seed, so that it can be
    drawn again alone. When nobody waits any more the requests are dropped, which endpoints notice.

    Args:
        connect: makes the endpoint; called in the event loop that will use it.
        name: of the event loop's thread.
        default_model: what an empty policy name means; empty takes the endpoint's first.
        max_responses: of one call, prompts times responses per prompt.
    """

    def __init__(
        self,
        connect: Callable[[], Endpoint[ModelT]],
        *,
        name: str,
        default_model: str,
        max_responses: int,
    ) -> None:
        async def make() -> Endpoint[ModelT]:
            return connect()

        self._default = default_model
        self._max_responses = max_responses
        self._loop = EventLoopThread(name)
        try:
            self._endpoint = self._loop.run(make())
        except BaseException:
            self._loop.close()
            raise

    def close(self) -> None:
        """Drops what is in progress and the connections."""
        self._loop.run(self._endpoint.close())
        self._loop.close()

    def load(self, reference: str, base: str = "") -> Policy:
        """Make a model of the endpoint the default; the endpoint loads it or has it.

        Raises:
            InvalidInputError: none is named, or a base for adapters is.
        """
        if not reference or base:
            raise InvalidInputError(
                f"policy={reference!r} and base={base!r}; accepted: the name of a model of the "
                "endpoint, and no base",
                field="base" if base else "policy",
            )
        policy = self._loop.run(self._endpoint.load(reference))
        self._default = reference
        return policy

    def policy(self, reference: str = "") -> Policy:
        """What the endpoint tells of a model; an empty reference means the default."""
        return self._loop.run(self._endpoint.describe(reference or self._default))

    def policies(self) -> tuple[list[Policy], str]:
        """The models that the endpoint lists, and the default's name."""
        return self._loop.run(self._endpoint.models()), self._default

    def sample(
        self,
        reference: str,
        prompts: Sequence[Sequence[Message]],
        options: SamplingOptions,
        *,
        k: int,
        seeds: Sequence[int],
        template: Template = "chat",
        deadline: float | None = None,
        while_waiting: Callable[[], None] | None = None,
    ) -> tuple[str, list[PromptResponses]]:
        """Draw `k` responses to each prompt; as `SamplerEngine.sample`.

        Raises:
            InvalidInputError: the endpoint does not accept a parameter or a prompt.
            FailedPreconditionError: it tells no tokens and they were asked for, or it withheld a
                response.
            UnavailableError: it does not answer, or changed its model meanwhile.
        """
        self._check_size(len(prompts), k, seeds)
        drawn = self._loop.run(
            self._draw_all(
                reference or self._default,
                prompts,
                options,
                k=k,
                seeds=seeds,
                template=template,
                deadline=deadline,
            ),
            while_waiting,
        )
        ids = {one.policy_id for one in drawn}
        if len(ids) > 1:
            raise UnavailableError(
                "the endpoint changed its model while responses were being drawn: "
                f"{', '.join(sorted(ids))}; try again"
            )
        return ids.pop(), [
            PromptResponses(
                drawn[start].prompt_token_ids,
                tuple(one.response for one in drawn[start : start + k]),
            )
            for start in range(0, len(drawn), k)
        ]

    def generate(
        self,
        reference: str,
        prompt: Sequence[Message],
        options: SamplingOptions,
        *,
        seed: int,
        template: Template = "chat",
    ) -> Iterator[Delta]:
        """One response, piece by piece; as `SamplerEngine.generate`.

        Raises:
            UnavailableError: the endpoint does not answer, or ends the stream before its end.
        """
        deltas = self._deltas(reference, prompt, options, seed, template)
        try:
            while (delta := self._loop.run(deltas.next())) is not None:
                yield delta
        finally:
            self._loop.run(deltas.close())

    async def stream(
        self,
        reference: str,
        prompt: Sequence[Message],
        options: SamplingOptions,
        *,
        seed: int,
        template: Template = "chat",
        deadline: float | None = None,
    ) -> AsyncGenerator[Delta]:
        """`generate` for an event loop; as `SamplerEngine.stream`."""
        deltas = self._deltas(reference, prompt, options, seed, template)
        try:
            while (delta := await self._loop.wait_for(deltas.next(deadline))) is not None:
                yield delta
        finally:
            await self._loop.wait_for(deltas.close())

    def compute_logprobs(
        self,
        reference: str,
        pairs: Sequence[tuple[Sequence[Message], str]],
        *,
        token_ids: Sequence[Sequence[int]] = (),
        template: Template = "chat",
    ) -> tuple[str, list[tuple[list[int], list[float]]]]:
        """Raises FailedPreconditionError: endpoints have no way to ask for it."""
        raise FailedPreconditionError(
            "this backend computes no logprobs of given responses; accepted: a sampler that holds "
            "the policy's weights",
            reason="NO_GIVEN_LOGPROBS",
        )

    async def _draw_all(
        self,
        name: str,
        prompts: Sequence[Sequence[Message]],
        options: SamplingOptions,
        *,
        k: int,
        seeds: Sequence[int],
        template: Template,
        deadline: float | None,
    ) -> list[Drawn]:
        """Every draw, prompt by prompt; the first failure drops the others.

        Raises:
            DeadlineExceededError: the deadline, by `time.monotonic`, came first.
        """
        temperatures = options.temperatures
        timeout = asyncio.timeout_at(deadline)
        try:
            async with timeout, asyncio.TaskGroup() as group:
                model = await self._endpoint.find(name)
                draws = [
                    group.create_task(
                        self._endpoint.draw(
                            model,
                            prompt,
                            options,
                            seed=derive_seed(seed, index),
                            temperature=temperatures[index % len(temperatures)],
                            template=template,
                        )
                    )
                    for prompt, seed in zip(prompts, seeds, strict=True)
                    for index in range(k)
                ]
        except TimeoutError as error:
            # The endpoint's own timeout is a TimeoutError too, and says more.
            raise (too_late() if timeout.expired() else error) from error
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [draw.result() for draw in draws]

    def _deltas(
        self,
        reference: str,
        prompt: Sequence[Message],
        options: SamplingOptions,
        seed: int,
        template: Template,
    ) -> DeltaStream:
        name = reference or self._default
        return DeltaStream(
            self._endpoint.deltas(name, prompt, options, seed=seed, template=template)
        )

    def _check_size(self, prompts: int, k: int, seeds: Sequence[int]) -> None:
        if prompts == 0:
            raise InvalidInputError("no prompts came; accepted: 1 or more", field="prompts")
        if k < 1:
            raise InvalidInputError(
                f"responses_per_prompt={k}; accepted: 1 or more", field="responses_per_prompt"
            )
        if len(seeds) != prompts:
            raise InvalidInputError(
                f"{len(seeds)} seeds for {prompts} prompts; accepted: one per prompt",
                field="seeds",
            )
        if prompts * k > self._max_responses:
            raise InvalidInputError(
                f"{prompts} prompts times {k} responses are {prompts * k}; accepted: up to "
                f"{self._max_responses} responses in one call",
                field="prompts",
            )


def draws_from_the_policy_itself(options: SamplingOptions, temperature: float) -> bool:
    """Whether the distribution that is sampled from is the policy's own."""
    return (
        temperature == 1
        and options.top_p == 1
        and not (options.top_k or options.min_p or options.logit_bias)
        and options.repetition_penalty == 1
    )
