"""From sampling options to the tensors of Triton's vLLM backend, and from its replies to responses.

Source: triton-inference-server/vllm_backend, src/model.py and src/utils/request.py, and its
docs/additional_outputs.md. Additional outputs are there since release 24.12.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.sampler.backends.remote import draws_from_the_policy_itself
from plumbline.sampler.backends.triton_client import (
    ModelFacts,
    TensorReply,
    flag_tensor,
    text_tensor,
)
from plumbline.sampler.interface import SamplingOptions, TokenDetail
from plumbline.sampler.requests import (
    LENGTH,
    MAX_TOP_LOGPROBS,
    STOP,
    DrawingParameters,
    DrawnToken,
    ResponseSpec,
)

TokenBytes = Callable[[int, str], bytes]
"""Bytes of a token, given its id and the text that the server shows for it."""

_NEEDED_INPUTS = ("text_input", "sampling_parameters")
_NEEDED_OUTPUTS = ("text_output", "finish_reason")
_TOLD = ("finish_reason", "logprobs", "num_input_tokens")
"""Outputs that are asked for by an input `return_` and their name, where the model has both."""
_UNFINISHED = ("", "None")


@dataclass(frozen=True, slots=True)
class Piece:
    """What one reply adds to a response."""

    version: str
    text: str
    tokens: tuple[DrawnToken, ...]
    details: tuple[TokenDetail, ...]
    """One for each token, where tokens are told."""
    finish_reason: str | None
    prompt_tokens: int
    """0 where they are not told."""


def is_generative(facts: ModelFacts) -> bool:
    """Whether a model takes text and gives text, as those of the vLLM backend do."""
    return facts.inputs.issuperset(_NEEDED_INPUTS) and "text_output" in facts.outputs


def check_generative(facts: ModelFacts) -> None:
    """
    Raises:
        FailedPreconditionError: a model lacks tensors without which no response can be told.
    """
    missing = [name for name in _NEEDED_INPUTS if name not in facts.inputs]
    missing += [name for name in _NEEDED_OUTPUTS if name not in facts.outputs]
    if missing:
        raise FailedPreconditionError(
            f"model {facts.name!r} of Triton lacks {', '.join(missing)}; accepted: models with the "
            "inputs and outputs of Triton's vLLM backend since its release 24.12",
            reason="NOT_GENERATIVE",
        )


def checked_spec(
    options: SamplingOptions, *, seed: int, temperature: float, default_tokens: int
) -> ResponseSpec:
    """One response to draw.

    Raises:
        InvalidInputError: an option is out of range; said here, because Triton's vLLM backend
            says no more than that it could not generate.
    """
    if any(not stop for stop in options.stop):
        raise InvalidInputError(
            "a stop string is empty; accepted: strings of at least one character", field="stop"
        )
    if options.top_logprobs is not None and not 0 <= options.top_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidInputError(
            f"top_logprobs={options.top_logprobs}; accepted: 0 to {MAX_TOP_LOGPROBS}",
            field="top_logprobs",
        )
    parameters = DrawingParameters(
        temperature=temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        logit_bias=options.logit_bias,
    )
    return ResponseSpec(seed, parameters, options.max_response_tokens or default_tokens)


def request_tensors(
    facts: ModelFacts, text: str, options: SamplingOptions, spec: ResponseSpec, *, stream: bool
) -> dict[str, Any]:
    """Inputs of one response; those that the model does not have are left out.

    Raises:
        FailedPreconditionError: token details were asked for, and tokens cannot be told.
    """
    told = list(told_outputs(facts))
    if "logprobs" in told and not _tells_tokens(options, spec.parameters.temperature):
        told.remove("logprobs")
    if options.top_logprobs is not None and "logprobs" not in told:
        raise FailedPreconditionError(
            f"model {facts.name!r} of Triton tells {_what_is_told(facts)}; leave top_logprobs out, "
            "or have a model that tells logprobs draw at temperature 1 with nothing cut",
            reason="NO_TOKEN_DETAILS",
        )
    logprobs = (options.top_logprobs or 0) if "logprobs" in told else None
    tensors = {
        "text_input": text_tensor(text),
        "sampling_parameters": text_tensor(json.dumps(_parameters(options, spec, logprobs))),
        # A response that comes as a whole repeats its prompt otherwise.
        "exclude_input_in_output": flag_tensor(True),
        "stream": flag_tensor(stream or "exclude_input_in_output" not in facts.inputs),
        **{f"return_{name}": flag_tensor(True) for name in told},
    }
    return {name: tensor for name, tensor in tensors.items() if name in facts.inputs}


def _what_is_told(facts: ModelFacts) -> str:
    if "logprobs" not in told_outputs(facts):
        return "no logprobs"
    return "the policy's logprobs and not those that tokens were drawn with"


def told_outputs(facts: ModelFacts) -> tuple[str, ...]:
    """Additional outputs that the model can be asked for."""
    return tuple(
        name for name in _TOLD if name in facts.outputs and f"return_{name}" in facts.inputs
    )


def wanted_outputs(facts: ModelFacts) -> tuple[str, ...]:
    """Names of the outputs to ask for."""
    return tuple(dict.fromkeys(("text_output", "finish_reason", *told_outputs(facts))))


def _parameters(
    options: SamplingOptions, spec: ResponseSpec, logprobs: int | None
) -> dict[str, Any]:
    """vLLM's SamplingParams; what asks for nothing is left out, for models that know fewer."""
    drawing = spec.parameters
    given: dict[str, Any] = {
        "temperature": drawing.temperature,
        "top_p": drawing.top_p,
        "max_tokens": spec.max_tokens,
        "seed": spec.seed,
    }
    optional = {
        "top_k": drawing.top_k,
        "min_p": drawing.min_p,
        "stop": list(options.stop),
        "logit_bias": {str(token): bias for token, bias in drawing.logit_bias.items()},
    }
    given |= {name: value for name, value in optional.items() if value}
    if drawing.repetition_penalty != 1:
        given["repetition_penalty"] = drawing.repetition_penalty
    if logprobs is not None:
        given["logprobs"] = logprobs
    return given


def piece_of(
    reply: TensorReply,
    facts: ModelFacts,
    options: SamplingOptions,
    temperature: float,
    token_bytes: TokenBytes,
) -> Piece:
    """What a reply tells.

    Raises:
        FailedPreconditionError: the response was withheld.
    """
    text = "".join(reply.texts("text_output"))
    finish_reason = _finish_reason(facts, reply.texts("finish_reason"))
    count = options.top_logprobs or 0
    details = tuple(_details(reply.texts("logprobs"), count, token_bytes))
    tokens = _tokens(details, options, temperature, finish_reason)
    counted = reply.tensors.get("num_input_tokens")
    prompt_tokens = 0 if counted is None else int(counted.flatten()[0])
    shown = () if options.top_logprobs is None else details
    return Piece(reply.version, text, tokens, shown, finish_reason, prompt_tokens)


def _finish_reason(facts: ModelFacts, told: list[str]) -> str | None:
    reason = told[0] if told else ""
    if reason in _UNFINISHED:
        return None
    if reason in (STOP, LENGTH):
        return reason
    raise FailedPreconditionError(
        f"model {facts.name!r} of Triton ended the response with {reason!r}; accepted: {STOP} and "
        f"{LENGTH}",
        reason="RESPONSE_WITHHELD",
    )


def _tells_tokens(options: SamplingOptions, temperature: float) -> bool:
    """Whether the policy's logprobs tell those that tokens are drawn with."""
    greedy = temperature == 0 and not options.drawing.changes_logits
    return greedy or draws_from_the_policy_itself(options, temperature)


def _tokens(
    details: tuple[TokenDetail, ...],
    options: SamplingOptions,
    temperature: float,
    finish_reason: str | None,
) -> tuple[DrawnToken, ...]:
    if not _tells_tokens(options, temperature):
        return ()
    last = len(details) - 1
    return tuple(
        DrawnToken(
            detail.token_id,
            0.0 if temperature == 0 else detail.logprob,
            detail.logprob,
            finish_reason if index == last else None,
        )
        for index, detail in enumerate(details)
    )


def _details(told: list[str], count: int, token_bytes: TokenBytes) -> Iterator[TokenDetail]:
    """Tokens of the `logprobs` output: JSON, for each token an object of likely ones by id.

    The first of them is the one that was drawn; the `count` likeliest follow, the drawn one not
    again. Source: vLLM, vllm/v1/engine/logprobs.py.
    """
    for entries in (json.loads(told[0]) if told else None) or ():
        named = [_detail(int(token_id), entry, token_bytes) for token_id, entry in entries.items()]
        likeliest = sorted(named, key=lambda one: -one.logprob)[:count]
        yield replace(named[0], alternatives=tuple(likeliest))


def _detail(token_id: int, entry: Mapping[str, Any], token_bytes: TokenBytes) -> TokenDetail:
    shown = entry.get("decoded_token") or ""
    return TokenDetail(token_id, token_bytes(token_id, shown), float(entry["logprob"]))
