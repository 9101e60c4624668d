"""Holds policies and draws responses from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.data.records import Message
from plumbline.data.template import Template
from plumbline.models.chat import ChatFormat
from plumbline.models.checkpoint import load_causal_lm
from plumbline.models.references import Resolve
from plumbline.models.resident import ResidentModels
from plumbline.sampler.config import SamplerConfig
from plumbline.sampler.generation import (
    DrawnToken,
    Sampled,
    context_length,
    response_logprobs,
    sample_batch,
    stream_tokens,
)
from plumbline.sampler.text import IncrementalText, StopStrings

MAX_STOP_STRINGS = 16


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How responses are drawn."""

    temperatures: tuple[float, ...] = (1.0,)
    """Response j uses temperatures[j mod length]; 0 takes the likeliest token."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all tokens."""
    max_response_tokens: int = 0
    """0 takes the engine's default."""
    stop: tuple[str, ...] = ()
    """The response ends before the first of these."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What can be told about a loaded policy."""

    id: str
    reference: str
    architecture: str
    parameters: int
    context_length: int
    """Prompt and response together, tokens."""
    vocabulary_size: int


@dataclass(frozen=True, slots=True)
class Response:
    """A drawn response with its text."""

    text: str
    sampled: Sampled


@dataclass(frozen=True, slots=True)
class PromptResponses:
    """The responses to one prompt."""

    prompt_token_ids: tuple[int, ...]
    responses: tuple[Response, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed response. The last one has a finish_reason."""

    text: str
    tokens: tuple[DrawnToken, ...]
    policy_id: str
    prompt_tokens: int
    finish_reason: str | None = None


class _LoadedPolicy:
    """A policy with its ways of laying out prompts.

    Attributes:
        lock: held during forward passes, as threads that share the cores would only slow one
            another.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.lock = threading.Lock()
        self._tokenizer = tokenizer
        self._chats: dict[Template, ChatFormat] = {}
        # How a response ends is the same in every layout.
        self.eos_ids = _end_ids(model, self.chat("plain"))

    @property
    def size_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def chat(self, template: Template) -> ChatFormat:
        """Raises FailedPreconditionError where `chat` is asked and the policy has no template."""
        found = self._chats.get(template)
        if found is None:
            found = self._chats[template] = ChatFormat(self._tokenizer, template=template)
        return found


class SamplerEngine:
    """Draws responses from policies that are loaded when first named.

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
        self._default = ""
        self._policies = ResidentModels(
            self._load,
            lambda policy: policy.size_bytes,
            max_models=self._config.max_policies,
            max_bytes=self._config.max_policy_bytes,
        )

    def load(self, reference: str) -> Policy:
        """Load a policy now and make it the default."""
        if not reference:
            raise InvalidInputError(
                "no policy named; accepted: an artifact id, a tag or a directory", field="policy"
            )
        policy = self.policy(reference)
        self._default = reference
        return policy

    def policy(self, reference: str = "") -> Policy:
        """Describe a policy, loading it if need be; an empty reference means the default."""
        policy_id, loaded = self._get(reference)
        model = loaded.model
        return Policy(
            id=policy_id,
            reference=reference or self._default,
            architecture=model.config.model_type,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            context_length=context_length(model),
            vocabulary_size=_vocabulary_size(model),
        )

    def sample(
        self,
        reference: str,
        prompts: Sequence[Sequence[Message]],
        options: SamplingOptions,
        *,
        k: int,
        seeds: Sequence[int],
        template: Template = "chat",
        before_step: Callable[[], None] | None = None,
    ) -> tuple[str, list[PromptResponses]]:
        """Draw `k` responses to each prompt.

        Args:
            seeds: one per prompt.
            before_step: called before each forward pass; what it raises abandons the work.
        Returns:
            The policy's id, and the responses in the order of the prompts.
        Raises:
            InvalidInputError: an option out of range, or a prompt that fills the context.
            FailedPreconditionError: no policy is named and none is the default, or the policy has
                no chat template and none is named.
        """
        self._check_size(len(prompts), k)
        stops = _checked_stops(options.stop)
        policy_id, policy = self._get(reference)
        chat = policy.chat(template)
        prompt_ids = [chat.encode_prompt(prompt) for prompt in prompts]
        stopping = StopStrings(chat.decode, stops)
        with policy.lock:
            drawn = sample_batch(
                policy.model,
                prompt_ids,
                k=k,
                temperatures=options.temperatures,
                top_p=options.top_p,
                top_k=options.top_k,
                seeds=seeds,
                max_response_tokens=self._response_tokens(options),
                eos_id=policy.eos_ids,
                pad_id=chat.pad_id,
                stop_token_check=stopping.met if stops else None,
                max_rows=self._config.max_rows,
                before_step=before_step,
            )
        return policy_id, [
            PromptResponses(
                tuple(ids),
                tuple(Response(stopping.cut(chat.decode(s.token_ids)), s) for s in samples),
            )
            for ids, samples in zip(prompt_ids, drawn, strict=True)
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
        stops = _checked_stops(options.stop)
        policy_id, policy = self._get(reference)
        chat = policy.chat(template)
        prompt_ids = chat.encode_prompt(prompt)
        stopping = StopStrings(chat.decode, stops)
        tokens = stream_tokens(
            policy.model,
            prompt_ids,
            temperature=options.temperatures[0],
            top_p=options.top_p,
            top_k=options.top_k,
            seed=seed,
            max_response_tokens=self._response_tokens(options),
            eos_id=policy.eos_ids,
            pad_id=chat.pad_id,
            stop_token_check=stopping.met if stops else None,
        )
        text = IncrementalText(chat.decode, stopping)
        finish_reason = None
        while finish_reason is None:
            # Released between tokens, so that streams to several callers advance together.
            with policy.lock:
                token = next(tokens)
            finish_reason = token.finish_reason
            piece = text.add(token.token_id)
            if finish_reason is not None:
                piece += text.finish()
            yield Delta(piece, (token,), policy_id, len(prompt_ids), finish_reason)

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

    def _get(self, reference: str) -> tuple[str, _LoadedPolicy]:
        reference = reference or self._default
        if not reference:
            raise FailedPreconditionError(
                "no policy is named and none is the default; name one, or call LoadPolicy first",
                reason="NO_DEFAULT_POLICY",
            )
        policy_id, path = self._resolve(reference)
        return policy_id, self._policies.get(policy_id, path)

    def _load(self, policy_id: str, path: Path) -> _LoadedPolicy:
        model, tokenizer = load_causal_lm(path, self._config.dtype)
        return _LoadedPolicy(model.to(self._device), tokenizer)

    def _response_tokens(self, options: SamplingOptions) -> int:
        return options.max_response_tokens or self._config.default_response_tokens

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
