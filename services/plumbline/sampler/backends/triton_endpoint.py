"""Requests to the generative models of Triton Inference Server, within one event loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from plumbline.core.errors import FailedPreconditionError, NotFoundError, UnavailableError
from plumbline.core.triton import TritonError
from plumbline.data.records import Message
from plumbline.data.template import Template
from plumbline.sampler.backends.config import TritonPolicyConfig
from plumbline.sampler.backends.remote import Drawn
from plumbline.sampler.backends.triton_attempts import Attempts
from plumbline.sampler.backends.triton_client import ModelFacts, TensorReply, TritonClient
from plumbline.sampler.backends.triton_prompts import Prompts, PromptText
from plumbline.sampler.backends.triton_wire import (
    Piece,
    check_generative,
    checked_spec,
    is_generative,
    piece_of,
    request_tensors,
    wanted_outputs,
)
from plumbline.sampler.interface import Delta, Policy, Response, SamplingOptions, TokenDetail
from plumbline.sampler.requests import DrawnToken, Sampled

_REFERENCE = re.compile(r"([^/]+)(?:/(\d+))?")
"""A model's name, and a version where one is meant."""


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """A model as it was when a request began."""

    facts: ModelFacts
    policy: Policy
    version: str = ""
    """That was asked for; empty takes the newest."""


class TritonEndpoint:
    """One Triton; make it in the event loop that will use it.

    Args:
        prompts: lays prompts out for its models.
    """

    def __init__(self, config: TritonPolicyConfig, prompts: Prompts) -> None:
        self._config = config
        self._prompts = prompts
        self._slots = asyncio.Semaphore(config.max_requests)
        self._client = TritonClient(config.target)
        self._attempts = Attempts(config)

    async def close(self) -> None:
        """Drops what is in progress and the connection."""
        await self._client.close()

    async def find(self, name: str) -> ServedPolicy:
        """The model of a name, a name and a version, or a policy's id; the first if it is empty.

        Raises:
            NotFoundError: Triton serves no such model.
            FailedPreconditionError: it is not one that generates text, or none is named and Triton
                serves none.
        """
        named = _REFERENCE.fullmatch(name)
        if named:
            try:
                facts = await self._look_up(named[1], named[2] or "")
            except NotFoundError:
                # It may be the id of a policy.
                facts = None
            if facts is not None:
                check_generative(facts)
                return replace(_served(facts, name), version=named[2] or "")
        served = await self._generative()
        if not name and served:
            return served[0]
        for one in served:
            if one.policy.id == name:
                return _served(one.facts, name)
        if not name:
            raise FailedPreconditionError(
                f"no policy is named and Triton at {self._config.target} serves no model that "
                "generates text",
                reason="NO_DEFAULT_POLICY",
            )
        known = ", ".join(one.facts.name for one in served) or "none"
        raise NotFoundError(
            f"policy {name!r} is not served by Triton at {self._config.target}; models there that "
            f"generate text: {known}"
        )

    async def describe(self, name: str) -> Policy:
        """What is told of a model."""
        return (await self.find(name)).policy

    async def load(self, name: str) -> Policy:
        """What is told of a model, which Triton loads if it is not ready.

        Raises:
            NotFoundError: it is not ready, and Triton does not let its clients load models.
        """
        try:
            return await self.describe(name)
        except NotFoundError as missing:
            try:
                await self._client.load_model(name, timeout_s=self._config.load_s)
            except TritonError as error:
                raise NotFoundError(f"{missing.message}; it cannot be loaded: {error}") from error
        return await self.describe(name)

    async def models(self) -> list[Policy]:
        """The models that are ready and generate text."""
        return [one.policy for one in await self._generative()]

    async def draw(
        self,
        model: ServedPolicy,
        prompt: Sequence[Message],
        options: SamplingOptions,
        *,
        seed: int,
        temperature: float,
        template: Template,
    ) -> Drawn:
        """One whole response.

        Raises:
            UnavailableError: it did not come to its end.
        """
        laid_out = await self._lay_out(prompt, template)
        pieces = self._pieces(
            model, laid_out, options, seed=seed, temperature=temperature, stream=False
        )
        text = ""
        tokens: list[DrawnToken] = []
        details: list[TokenDetail] = []
        finish_reason, policy_id = None, model.policy.id
        async with aclosing(pieces):
            async for piece in pieces:
                text += piece.text
                tokens.extend(piece.tokens)
                details.extend(piece.details)
                finish_reason, policy_id = piece.finish_reason, _id_of(model, piece)
        if finish_reason is None:
            raise _cut_short(model)
        sampled = Sampled(
            token_ids=tuple(token.token_id for token in tokens),
            logprobs=tuple(token.logprob for token in tokens),
            finish_reason=finish_reason,
            seed=seed,
            untempered_logprobs=tuple(token.untempered_logprob for token in tokens),
        )
        return Drawn(policy_id, Response(text, sampled, tuple(details)), laid_out.token_ids)

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
        model = await self.find(name)
        laid_out = await self._lay_out(prompt, template)
        pieces = self._pieces(
            model, laid_out, options, seed=seed, temperature=options.temperatures[0], stream=True
        )
        finished = False
        async with aclosing(pieces):
            async for piece in pieces:
                finished = piece.finish_reason is not None
                if piece.text or piece.tokens or finished:
                    yield Delta(
                        piece.text,
                        piece.tokens,
                        _id_of(model, piece),
                        piece.prompt_tokens or len(laid_out.token_ids),
                        piece.finish_reason,
                        piece.details,
                    )
        if not finished:
            raise _cut_short(model)

    async def _generative(self) -> list[ServedPolicy]:
        """Ready models that generate text."""
        names = await self._attempts.persist(
            lambda: self._client.ready_models(timeout_s=self._config.look_up_s)
        )
        found = [await self._look_up(name, "") for name in names]
        return [_served(facts, facts.name) for facts in found if is_generative(facts)]

    async def _look_up(self, name: str, version: str) -> ModelFacts:
        return await self._attempts.persist(
            lambda: self._client.facts(name, version, timeout_s=self._config.look_up_s)
        )

    async def _lay_out(self, prompt: Sequence[Message], template: Template) -> PromptText:
        # In a thread, as tokenizing a long prompt would hold the other requests up.
        return await asyncio.to_thread(self._prompts.prompt, prompt, template)

    async def _pieces(
        self,
        model: ServedPolicy,
        prompt: PromptText,
        options: SamplingOptions,
        *,
        seed: int,
        temperature: float,
        stream: bool,
    ) -> AsyncGenerator[Piece]:
        """What the replies to one request add, one by one."""
        facts = model.facts
        spec = checked_spec(
            options,
            seed=seed,
            temperature=temperature,
            default_tokens=self._config.default_response_tokens,
        )
        inputs = request_tensors(facts, prompt.text, options, spec, stream=stream)

        def ask() -> AsyncGenerator[TensorReply]:
            return self._client.stream(facts.name, model.version, inputs, wanted_outputs(facts))

        async with self._slots, aclosing(self._attempts.replies(ask)) as replies:
            async for reply in replies:
                piece = piece_of(reply, facts, options, temperature, self._prompts.token_bytes)
                _check_prompt(model, prompt, piece)
                yield piece


def _served(facts: ModelFacts, reference: str) -> ServedPolicy:
    """A policy's id is what the model's configuration says, else its name and version."""
    told = facts.parameters
    policy_id = told.get("policy_id") or _numbered(facts.name, facts.version)
    policy = Policy(
        id=policy_id,
        reference=reference,
        architecture=told.get("architecture", ""),
        parameters=_number(told.get("parameters")),
        context_length=_number(told.get("context_length")),
        vocabulary_size=_number(told.get("vocabulary_size")),
    )
    return ServedPolicy(facts, policy)


def _number(told: str | None) -> int:
    return int(told) if told and told.isdecimal() else 0


def _numbered(name: str, version: str) -> str:
    return f"{name}/{version}"


def _id_of(model: ServedPolicy, piece: Piece) -> str:
    """Of the policy that wrote a piece; another version may have come meanwhile."""
    if piece.version == model.facts.version:
        return model.policy.id
    return _numbered(model.facts.name, piece.version)


def _check_prompt(model: ServedPolicy, prompt: PromptText, piece: Piece) -> None:
    if prompt.token_ids and piece.prompt_tokens not in (0, len(prompt.token_ids)):
        raise FailedPreconditionError(
            f"model {model.facts.name!r} of Triton made {piece.prompt_tokens} tokens of a prompt "
            f"that has {len(prompt.token_ids)}; accepted: the tokenizer of that model in "
            "PLUMBLINE_TRITON_TOKENIZER",
            reason="WRONG_TOKENIZER",
        )


def _cut_short(model: ServedPolicy) -> UnavailableError:
    return UnavailableError(
        f"model {model.facts.name!r} of Triton ended before the response's end; try again"
    )
