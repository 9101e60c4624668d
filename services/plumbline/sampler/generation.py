"""Responses to a list of prompts, with one policy and in one call.

Shapes: P prompts, K responses per prompt, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from plumbline.core.errors import InvalidInputError
from plumbline.models.batching import length_sorted_batches, pad_right
from plumbline.models.logprobs import counted_logprobs
from plumbline.sampler.requests import (
    DrawingParameters,
    GenerationRequest,
    ResponseSpec,
    Sampled,
    StopCheck,
)
from plumbline.sampler.scheduler import Scheduler, SchedulerLimits
from plumbline.sampler.seeds import derive_seed


def context_length(model: Any) -> int:
    """Prompt and response together, tokens."""
    return int(model.config.get_text_config().max_position_embeddings)


def sample_batch(
    model: Any,
    prompt_token_ids: Sequence[Sequence[int]],
    *,
    k: int,
    temperatures: Sequence[float] = (1.0,),
    top_p: float = 1.0,
    top_k: int = 0,
    seeds: Sequence[int],
    max_response_tokens: int,
    eos_id: int | Sequence[int],
    stop_token_check: StopCheck | None = None,
    max_rows: int = 256,
    before_step: Callable[[], None] | None = None,
) -> list[list[Sampled]]:
    """Draw `k` responses to each prompt.

    Args:
        model: a causal language model of transformers; left in the mode it came in.
        prompt_token_ids: P prompts, each at least one token.
        temperatures: response j uses temperatures[j mod length]; 0 takes the likeliest token.
        top_p: smallest set of tokens with this mass, in (0, 1].
        top_k: likeliest tokens kept; 0 keeps all.
        seeds: one per prompt; response j draws from derive_seed(seed, j).
        max_response_tokens: bound per response; the context length bounds it too.
        eos_id: the token, or tokens, that end a response.
        stop_token_check: given a row's response tokens so far, whether to end it.
        max_rows: responses that are drawn at a time.
        before_step: called before each forward pass; what it raises abandons the work.
    Returns:
        [P][K] responses in the order of the prompts.
    Raises:
        InvalidInputError: a parameter out of range, or a prompt that fills the context.
        FailedPreconditionError: the policy's logits are not numbers.
    """
    if len(seeds) != len(prompt_token_ids):
        raise InvalidInputError(
            f"{len(seeds)} seeds for {len(prompt_token_ids)} prompts; accepted: one per prompt",
            field="seeds",
        )
    requests = [
        GenerationRequest(
            tuple(prompt),
            response_specs(
                k=k,
                parameters=DrawingParameters(top_p=top_p, top_k=top_k),
                temperatures=temperatures,
                seed=seed,
                max_tokens=max_response_tokens,
            ),
            stop_check=stop_token_check,
            name=f"prompt {index}",
        )
        for index, (prompt, seed) in enumerate(zip(prompt_token_ids, seeds, strict=True))
    ]
    run_requests(model, requests, eos_id=eos_id, max_rows=max_rows, before_step=before_step)
    return [request.drawn for request in requests]


def run_requests(
    model: Any,
    requests: Sequence[GenerationRequest],
    *,
    eos_id: int | Sequence[int],
    max_rows: int = 256,
    before_step: Callable[[], None] | None = None,
) -> None:
    """Draw the responses of all requests; each then holds its results or its error."""
    limits = SchedulerLimits(
        max_rows=max(min(max_rows, sum(len(request.responses) for request in requests)), 1)
    )
    with evaluation_mode(model):
        scheduler = Scheduler(
            model,
            eos_ids=[eos_id] if isinstance(eos_id, int) else eos_id,
            context_length=context_length(model),
            limits=limits,
        )
        for request in requests:
            scheduler.submit(request)
        while scheduler.has_work:
            if before_step is not None:
                before_step()
            scheduler.step()


def response_specs(
    *,
    k: int,
    parameters: DrawingParameters,
    temperatures: Sequence[float],
    seed: int,
    max_tokens: int,
) -> tuple[ResponseSpec, ...]:
    """The K responses to one prompt.

    Args:
        temperatures: response j uses temperatures[j mod length], in place of the parameters' own.
        seed: of the prompt; response j draws from derive_seed(seed, j).
    Raises:
        InvalidInputError: a parameter out of range.
    """
    if k < 1:
        raise InvalidInputError(
            f"responses_per_prompt={k}; accepted: 1 or more", field="responses_per_prompt"
        )
    if not temperatures:
        raise InvalidInputError("no temperature given; accepted: 1 or more", field="temperatures")
    ladder = [replace(parameters, temperature=temperature) for temperature in temperatures]
    first = ResponseSpec(seed, ladder[0], max_tokens)
    return (
        first,
        *(
            ResponseSpec(derive_seed(seed, j), ladder[j % len(ladder)], max_tokens)
            for j in range(1, k)
        ),
    )


def response_logprobs(
    model: Any,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    *,
    pad_id: int,
    max_batch_tokens: int = 16_384,
) -> list[list[float]]:
    """Logprobs of given response tokens at temperature 1, teacher-forced.

    Args:
        prompts: P prompts as tokens; responses alike, each may be empty.
        max_batch_tokens: padded tokens per forward pass.
    Returns:
        [P] lists of nats, one per response token, in the order given.
    Raises:
        InvalidInputError: prompt and response together exceed the context length.
    """
    limit = context_length(model)
    for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        if not prompt:
            raise InvalidInputError(
                f"prompt {index} has no tokens; accepted: at least 1", field="prompts"
            )
        if len(prompt) + len(response) > limit:
            raise InvalidInputError(
                f"pair {index} has {len(prompt)} prompt and {len(response)} response tokens; "
                f"the policy's context length is {limit}",
                field="pairs",
            )
    joined = [[*prompt, *response] for prompt, response in zip(prompts, responses, strict=True)]
    results: list[list[float]] = [[] for _ in joined]
    batches = length_sorted_batches([len(ids) for ids in joined], tokens_per_batch=max_batch_tokens)
    with evaluation_mode(model), torch.no_grad():
        for batch in batches:
            ids, _ = pad_right([joined[index] for index in batch], pad_id)
            counted, _ = pad_right(
                [[0] * len(prompts[index]) + [1] * len(responses[index]) for index in batch], 0
            )
            logprobs = counted_logprobs(model, ids.to(model.device), counted.to(model.device))
            for index, row in zip(batch, logprobs.tolist(), strict=True):
                results[index] = row[len(prompts[index]) : len(joined[index])]
    return results


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Dropout off inside; a model in training goes back to training."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
