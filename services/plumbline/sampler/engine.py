"""Holds policies and draws responses from them."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from plumbline.core.errors import (
    FailedPreconditionError,
    InvalidInputError,
    ResourceExhaustedError,
)
from plumbline.data.records import Message
from plumbline.data.template import Template
from plumbline.models.adapters import adapter_base, holds_adapters, with_adapters
from plumbline.models.chat import ChatFormat
from plumbline.models.checkpoint import load_causal_lm
from plumbline.models.references import Resolve
from plumbline.models.resident import ResidentModels
from plumbline.sampler.config import SamplerConfig
from plumbline.sampler.generation import context_length, response_logprobs, response_specs
from plumbline.sampler.interface import (
    Delta,
    Policy,
    PromptResponses,
    Response,
    SamplingOptions,
    TokenDetail,
)
from plumbline.sampler.loop import QUEUE_FULL, EngineLoop, TokenStream
from plumbline.sampler.requests import DrawnToken, GenerationRequest, Sampled
from plumbline.sampler.scheduler import Scheduler, SchedulerLimits
from plumbline.sampler.text import IncrementalText, StopStrings
from plumbline.sampler.token_text import token_bytes

MAX_STOP_STRINGS = 16
_LOOK_S = 0.2
"""Between two looks at whether anybody still waits for the responses."""


class _LoadedPolicy:
    """A policy with its ways of laying out prompts, and the scheduler of its requests.

    Attributes:
        lock: held while logprobs of given responses are computed: threads that share the cores
            would only slow one another.
    """

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, limits: SchedulerLimits
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.lock = threading.Lock()
        self._chats: dict[Template, ChatFormat] = {}
        # How a response ends is the same in every layout.
        self.eos_ids = _end_ids(model, self.chat("plain"))
        self.scheduler = Scheduler(
            model, eos_ids=self.eos_ids, context_length=context_length(model), limits=limits
        )

    @property
    def size_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def chat(self, template: Template) -> ChatFormat:
        """Raises FailedPreconditionError where `chat` is asked and the policy has no template."""
        found = self._chats.get(template)
        if found is None:
            found = self._chats[template] = ChatFormat(self.tokenizer, template=template)
        return found


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request on its way into the loop."""

    policy_id: str
    policy: _LoadedPolicy
    chat: ChatFormat
    stopping: StopStrings
    request: GenerationRequest


class SamplerEngine:
    """Draws responses from policies that are loaded when first named.

    Requests of all callers are drawn together. A policy that is replaced while it draws draws its
    requests to their end.

    Args:
        resolve: turns a reference into the policy's id and directory.
        config: bounds.
        device: where models run; None takes an accelerator if there is one.
    """

    def __init__(
        self, resolve: Resolve, config: SamplerConfig | None = None, *, device: str | None = None
    ) -> None:
        self._resolve = resolve
        self._config = config or SamplerConfig()
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._limits = SchedulerLimits(
            max_rows=self._config.max_rows,
            prefill_tokens=self._config.prefill_tokens,
            cache_bytes=self._config.cache_bytes,
        )
        self._default = ""
        self._bases: dict[str, str] = {}
        """By reference of adapters: the policy that they are added to."""
        self._loop = EngineLoop(max_waiting=self._config.max_waiting)
        self._policies = ResidentModels(
            self._load,
            lambda policy: policy.size_bytes,
            max_models=self._config.max_policies,
            max_bytes=self._config.max_policy_bytes,
        )

    def load(self, reference: str, base: str = "") -> Policy:
        """Load a policy now and make it the default.

        Args:
            base: of adapters, the policy that they are added to; empty takes what their
                configuration names.
        """
        if not reference:
            raise InvalidInputError(
                "no policy named; accepted: an artifact id, a tag or a directory", field="policy"
            )
        policy_id, loaded = self._get(reference, base)
        if base:
            self._bases[reference] = base
        self._default = reference
        return _describe(policy_id, reference, loaded)

    def policy(self, reference: str = "") -> Policy:
        """Describe a policy, loading it if need be; an empty reference means the default."""
        policy_id, loaded = self._get(reference)
        return _describe(policy_id, reference or self._default, loaded)

    def policies(self) -> tuple[list[Policy], str]:
        """Policies in memory, the most recently used first, and the default's reference."""
        held = reversed(self._policies.items())
        return [_describe(policy_id, policy_id, loaded) for policy_id, loaded in held], (
            self._default
        )

    def close(self) -> None:
        """End all requests."""
        self._loop.close()

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
        """Draw `k` responses to each prompt.

        Args:
            seeds: one per prompt.
            deadline: by `time.monotonic`, after which nobody waits.
            while_waiting: called several times a second; what it raises abandons the work.
        Returns:
            The policy's id, and the responses in the order of the prompts.
        Raises:
            InvalidInputError: an option out of range, or a prompt that fills the context.
            FailedPreconditionError: no policy is named and none is the default, or the policy has
                no chat template and none is named.
            ResourceExhaustedError: too many requests wait.
        """
        self._check_size(len(prompts), k)
        if len(seeds) != len(prompts):
            raise InvalidInputError(
                f"{len(seeds)} seeds for {len(prompts)} prompts; accepted: one per prompt",
                field="seeds",
            )
        policy_id, policy = self._get(reference)
        prepared = [
            self._prepare(
                policy_id, policy, prompt, options, k, seed, template, deadline, index=index
            )
            for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
        ]
        self._wait_for([one.request for one in prepared], policy, while_waiting)
        return policy_id, [
            PromptResponses(
                one.request.prompt,
                tuple(_response(one, sampled, options) for sampled in one.request.drawn),
            )
            for one in prepared
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
        """The response that `sample` draws first for the same arguments, piece by piece.

        Every token comes in exactly one delta; the texts join to the response's text.
        """
        stream = TokenStream()
        one = self._prepare_stream(reference, prompt, options, seed, template, None, stream)
        pieces = _Pieces(one, options)
        self._loop.submit(one.policy.scheduler, one.request)
        try:
            for token in stream:
                yield pieces.delta([token])
        finally:
            self._loop.cancel(one.policy.scheduler, one.request)

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
        """`generate` for an event loop; tokens that come at once come in one delta.

        When the caller goes away, what the request holds is free at the engine's next step.
        """
        stream = TokenStream()
        one = await asyncio.to_thread(
            self._prepare_stream, reference, prompt, options, seed, template, deadline, stream
        )
        pieces = _Pieces(one, options)
        self._loop.submit(one.policy.scheduler, one.request)
        try:
            async for tokens in stream:
                yield pieces.delta(tokens)
        finally:
            self._loop.cancel(one.policy.scheduler, one.request)

    def compute_logprobs(
        self,
        reference: str,
        pairs: Sequence[tuple[Sequence[Message], str]],
        *,
        token_ids: Sequence[Sequence[int]] = (),
        template: Template = "chat",
    ) -> tuple[str, list[tuple[list[int], list[float]]]]:
        """Token ids and logprobs (nats, temperature 1) of responses.

        Args:
            pairs: (prompt, response text); the end-of-sequence token is added to the text.
            token_ids: one response per pair, as it was sampled, in place of all the texts.
        Returns:
            The policy's id, and (token ids, logprobs) in the order of the pairs.
        Raises:
            InvalidInputError: too many pairs, token ids that fit neither the pairs nor the
                vocabulary, or a pair beyond the context length.
        """
        self._check_size(len(pairs), 1)
        policy_id, policy = self._get(reference)
        chat = policy.chat(template)
        prompts = [chat.encode_prompt(prompt) for prompt, _ in pairs]
        if token_ids:
            _check_token_ids(token_ids, pairs=len(pairs), vocabulary=_vocabulary_size(policy.model))
            responses = [list(ids) for ids in token_ids]
        else:
            responses = [chat.encode_response(response, literal=True) for _, response in pairs]
        with policy.lock:
            logprobs = response_logprobs(policy.model, prompts, responses, pad_id=chat.pad_id)
        return policy_id, list(zip(responses, logprobs, strict=True))

    def _prepare(
        self,
        policy_id: str,
        policy: _LoadedPolicy,
        prompt: Sequence[Message],
        options: SamplingOptions,
        k: int,
        seed: int,
        template: Template,
        deadline: float | None,
        *,
        index: int = 0,
    ) -> _Prepared:
        stops = _checked_stops(options.stop)
        vocabulary = _vocabulary_size(policy.model)
        for token_id in options.logit_bias:
            if not 0 <= token_id < vocabulary:
                raise InvalidInputError(
                    f"logit_bias names token {token_id}; accepted: 0 to {vocabulary - 1}",
                    field="logit_bias",
                )
        chat = policy.chat(template)
        stopping = StopStrings(chat.decode, stops)
        request = GenerationRequest(
            tuple(chat.encode_prompt(prompt)),
            response_specs(
                k=k,
                parameters=options.drawing,
                temperatures=options.temperatures,
                seed=seed,
                max_tokens=options.max_response_tokens or self._config.default_response_tokens,
            ),
            stop_check=stopping.met if stops else None,
            top_logprobs=options.top_logprobs,
            deadline=deadline,
            name=f"prompt {index}",
        )
        policy.scheduler.check(request)
        return _Prepared(policy_id, policy, chat, stopping, request)

    def _prepare_stream(
        self,
        reference: str,
        prompt: Sequence[Message],
        options: SamplingOptions,
        seed: int,
        template: Template,
        deadline: float | None,
        stream: TokenStream,
    ) -> _Prepared:
        policy_id, policy = self._get(reference)
        one = self._prepare(policy_id, policy, prompt, options, 1, seed, template, deadline)
        stream.request = one.request
        one.request.on_token, one.request.on_end = stream.put, stream.end
        return one

    def _wait_for(
        self,
        requests: Sequence[GenerationRequest],
        policy: _LoadedPolicy,
        while_waiting: Callable[[], None] | None,
    ) -> None:
        """Have requests drawn; those that are left are cancelled when anything goes wrong."""
        work = _Handover(self._loop, policy.scheduler, while_waiting)
        try:
            for request in requests:
                work.submit(request)
            while work.outstanding:
                work.wait_for_one()
        except BaseException:
            for request in work.submitted:
                self._loop.cancel(policy.scheduler, request)
            raise

    def _get(self, reference: str, base: str = "") -> tuple[str, _LoadedPolicy]:
        reference = reference or self._default
        if not reference:
            raise FailedPreconditionError(
                "no policy is named and none is the default; name one, or call LoadPolicy first",
                reason="NO_DEFAULT_POLICY",
            )
        # Ids of policies in memory name them too, as those of directories resolve to nothing.
        held = self._policies.held(reference)
        if held is not None:
            return reference, held
        policy_id, path = self._resolve(reference)
        if not holds_adapters(path):
            return policy_id, self._policies.get(policy_id, path)
        base_reference = base or self._bases.get(reference) or adapter_base(path)
        base_id, base_path = self._resolve(base_reference)
        joined = f"{policy_id}+{base_id}"
        held = self._policies.get(base_id, base_path)
        return joined, self._policies.get(joined, path, lambda: self._add_adapters(held, path))

    def _load(self, policy_id: str, path: Path) -> _LoadedPolicy:
        model, tokenizer = load_causal_lm(path, self._config.dtype)
        return _LoadedPolicy(model.to(self._device), tokenizer, self._limits)

    def _add_adapters(self, base: _LoadedPolicy, path: Path) -> _LoadedPolicy:
        model = with_adapters(base.model, path)
        return _LoadedPolicy(model, base.tokenizer, self._limits)

    def _check_size(self, prompts: int, k: int) -> None:
        if prompts == 0:
            raise InvalidInputError("no prompts came; accepted: 1 or more", field="prompts")
        limit = self._config.max_responses_per_request
        if prompts * max(k, 1) > limit:
            raise InvalidInputError(
                f"{prompts} prompts times {k} responses are {prompts * k}; "
                f"accepted: up to {limit} responses in one call",
                field="prompts",
            )


class _Handover:
    """A call's requests on their way through the loop.

    Where others' requests fill the queue, a call that has some of its own in it waits for one of
    those before it hands in the next; a call that has none is refused.
    """

    def __init__(
        self, loop: EngineLoop, scheduler: Scheduler, while_waiting: Callable[[], None] | None
    ) -> None:
        self._loop, self._scheduler = loop, scheduler
        self._while_waiting = while_waiting
        self._ended: deque[GenerationRequest] = deque()
        self._some = threading.Semaphore(0)
        self.submitted: list[GenerationRequest] = []
        self.outstanding = 0

    def submit(self, request: GenerationRequest) -> None:
        request.on_end = lambda: self._note_end(request)
        while True:
            try:
                self._loop.submit(self._scheduler, request)
            except ResourceExhaustedError as error:
                if error.reason != QUEUE_FULL or not self.outstanding:
                    raise
                self.wait_for_one()
            else:
                self.submitted.append(request)
                self.outstanding += 1
                return

    def wait_for_one(self) -> None:
        """Until a request has ended; raises its error."""
        while not self._some.acquire(timeout=_LOOK_S):
            if self._while_waiting is not None:
                self._while_waiting()
        self.outstanding -= 1
        error = self._ended.popleft().error
        if error is not None:
            raise error

    def _note_end(self, request: GenerationRequest) -> None:
        self._ended.append(request)
        self._some.release()


class _Pieces:
    """Deltas of one response from its tokens."""

    def __init__(self, one: _Prepared, options: SamplingOptions) -> None:
        self._one = one
        self._detailed = options.top_logprobs is not None
        self._text = IncrementalText(one.chat.decode, one.stopping)

    def delta(self, tokens: Sequence[DrawnToken]) -> Delta:
        piece = "".join([self._text.add(token.token_id) for token in tokens])
        finish_reason = tokens[-1].finish_reason
        if finish_reason is not None:
            piece += self._text.finish()
        one = self._one
        return Delta(
            piece,
            tuple(tokens),
            one.policy_id,
            len(one.request.prompt),
            finish_reason,
            tuple(_detail(one, token) for token in tokens) if self._detailed else (),
        )


def _detail(one: _Prepared, token: DrawnToken) -> TokenDetail:
    tokenizer = one.chat.tokenizer
    return TokenDetail(
        token.token_id,
        token_bytes(tokenizer, token.token_id),
        token.untempered_logprob,
        tuple(
            TokenDetail(other.token_id, token_bytes(tokenizer, other.token_id), other.logprob)
            for other in token.alternatives
        ),
    )


def _response(one: _Prepared, sampled: Sampled, options: SamplingOptions) -> Response:
    text = one.stopping.cut(one.chat.decode(sampled.token_ids))
    if options.top_logprobs is None:
        return Response(text, sampled)
    tokens = zip(sampled.token_ids, sampled.untempered_logprobs, sampled.alternatives, strict=True)
    details = tuple(
        _detail(one, DrawnToken(token_id, logprob, logprob, None, alternatives))
        for token_id, logprob, alternatives in tokens
    )
    return Response(text, sampled, details)


def _describe(policy_id: str, reference: str, loaded: _LoadedPolicy) -> Policy:
    model = loaded.model
    return Policy(
        id=policy_id,
        reference=reference,
        architecture=model.config.model_type,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        context_length=context_length(model),
        vocabulary_size=_vocabulary_size(model),
    )


def _end_ids(model: Any, chat: ChatFormat) -> tuple[int, ...]:
    """Tokens that end a response.

    Saved generation settings may add to the tokenizer's own, but only control tokens: a default
    left in a configuration can be any word's id.
    """
    saved = getattr(model.generation_config, "eos_token_id", None)
    saved_ids = [saved] if isinstance(saved, int) else list(saved or ())
    control_ids = set(chat.tokenizer.all_special_ids)
    return tuple(dict.fromkeys([chat.eos_id, *(i for i in saved_ids if i in control_ids)]))


def _vocabulary_size(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)


def _check_token_ids(token_ids: Sequence[Sequence[int]], *, pairs: int, vocabulary: int) -> None:
    if len(token_ids) != pairs:
        raise InvalidInputError(
            f"token ids of {len(token_ids)} responses came with {pairs} prompts; accepted: one "
            "response per prompt",
            field="responses",
        )
    for index, ids in enumerate(token_ids):
        outside = [token_id for token_id in ids if not 0 <= token_id < vocabulary]
        if outside:
            raise InvalidInputError(
                f"response {index} has the token id {outside[0]}; accepted: 0 to {vocabulary - 1}",
                field="responses",
            )


def _checked_stops(stops: Sequence[str]) -> tuple[str, ...]:
    if len(stops) > MAX_STOP_STRINGS:
        raise InvalidInputError(
            f"{len(stops)} stop strings came; accepted: up to {MAX_STOP_STRINGS}", field="stop"
        )
    if any(not stop for stop in stops):
        raise InvalidInputError(
            "a stop string is empty; accepted: strings of at least one character", field="stop"
        )
    return tuple(stops)
