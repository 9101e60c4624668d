"""Requests to an OpenAI-compatible endpoint, within one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import openai

from plumbline.core import telemetry
from plumbline.core.errors import FailedPreconditionError, UnavailableError
from plumbline.data.records import Message
from plumbline.data.template import Template
from plumbline.sampler.backends.config import OpenAIBackendConfig
from plumbline.sampler.backends.openai_wire import (
    arguments,
    delta_of,
    error_of,
    is_chat,
    policy_of,
    response_of,
)
from plumbline.sampler.backends.remote import Drawn
from plumbline.sampler.interface import Delta, Policy, SamplingOptions


class OpenAIEndpoint:
    """One endpoint. What it says is wrong is raised as the platform's errors.

    Args:
        config: where it is, and what it understands.
    """

    def __init__(self, config: OpenAIBackendConfig) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(config.max_requests)
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=config.api_key.get_secret_value(),
            timeout=config.timeout_s,
            max_retries=config.max_retries,
        )

    async def close(self) -> None:
        """Drops what is in progress and the connections."""
        await self._client.close()

    async def describe(self, name: str) -> Policy:
        """What is told of a model; an empty name means the first that is listed."""
        name = await self.find(name)
        with self._typed_errors():
            return policy_of(await self._client.models.retrieve(name), name)

    async def models(self) -> list[Policy]:
        """The models that are listed."""
        with self._typed_errors():
            listed = await self._client.models.list()
        return [policy_of(model, model.id) for model in listed.data]

    async def find(self, name: str) -> str:
        """The name itself; the first that is listed where it is empty."""
        if name:
            return name
        listed = await self.models()
        if not listed:
            raise FailedPreconditionError(
                "no policy is named and the endpoint lists none", reason="NO_DEFAULT_POLICY"
            )
        return listed[0].reference

    async def load(self, name: str) -> Policy:
        """What is told of a model; such endpoints load what they have by themselves."""
        return await self.describe(name)

    async def draw(
        self,
        model: str,
        prompt: Sequence[Message],
        options: SamplingOptions,
        *,
        seed: int,
        temperature: float,
        template: Template,
    ) -> Drawn:
        """One response; its policy is the model's name for itself."""
        how = arguments(
            self._config,
            model,
            prompt,
            options,
            seed=seed,
            temperature=temperature,
            template=template,
        )
        async with self._slots:
            reply = await self._ask(how, template)
        (choice,) = reply.choices
        return Drawn(reply.model, response_of(choice, options, seed=seed, temperature=temperature))

    async def deltas(
        self,
        name: str,
        prompt: Sequence[Message],
        options: SamplingOptions,
        *,
        seed: int,
        template: Template,
    ) -> AsyncGenerator[Delta]:
        """One response, piece by piece.

        Raises:
            UnavailableError: the stream ended before the response did.
        """
        how = arguments(
            self._config,
            await self.find(name),
            prompt,
            options,
            seed=seed,
            temperature=options.temperatures[0],
            template=template,
        )
        usage = {"stream_options": {"include_usage": True}} if self._config.stream_usage else {}
        last: Delta | None = None
        prompt_tokens = 0
        with self._typed_errors():
            async with (
                self._slots,
                await self._ask({**how, **usage, "stream": True}, template) as chunks,
            ):
                async for chunk in chunks:
                    if chunk.usage is not None:
                        prompt_tokens = chunk.usage.prompt_tokens
                    for choice in chunk.choices:
                        delta = delta_of(choice, chunk.model, options)
                        if delta.finish_reason is not None:
                            last = delta
                        elif delta.text or delta.tokens:
                            yield delta
        if last is None:
            raise UnavailableError("the endpoint ended the stream before the response's end")
        # Held back, because the usage comes after it.
        yield replace(last, prompt_tokens=prompt_tokens)

    async def _ask(self, how: Mapping[str, Any], template: Template) -> Any:
        api = self._client.chat.completions if is_chat(template) else self._client.completions
        with self._typed_errors():
            return await api.create(**how, extra_headers=telemetry.outgoing_headers())

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except openai.APIError as error:
            raise error_of(error, f"the endpoint {self._config.base_url}") from error
