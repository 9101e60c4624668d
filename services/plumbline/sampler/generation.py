"""Draws tokens from a causal language model, many rows at a time.

A response is a function of (seed, prompt, parameters, policy): every row has its own counter-based
random stream, and a token is read off the inverse of its cumulative distribution in float64. Rows
that share a batch change a result only through the rounding of the model's own arithmetic.

Shapes: B rows of a batch, P prompts, K responses per prompt, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.models.batching import length_sorted_batches, pad_left, pad_right
from plumbline.models.logprobs import counted_logprobs
from plumbline.sampler.drawing import draw_tokens, uniforms_for_seeds
from plumbline.sampler.kv_cache import new_cache, select_rows
from plumbline.sampler.seeds import MAX_SEED, derive_seed

STOP = "stop"
LENGTH = "length"

MAX_TEMPERATURE = 10.0
_COMPACT_BELOW = 0.8
"""Share of unfinished rows under which finished ones are dropped: a copy of the cache costs about
as much as a quarter of a step over it."""

StopCheck = Callable[[Sequence[int]], bool]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One response as tokens."""

    token_ids: tuple[int, ...]
    """The end-of-sequence token included when it was drawn."""
    logprobs: tuple[float, ...]
    """Nats, one per token, of the tempered and truncated distribution; 0 at temperature 0."""
    finish_reason: str
    """`stop` or `length`."""
    seed: int
    """Draws this response alone, as response 0 of its prompt."""


@dataclass(frozen=True, slots=True)
class DrawnToken:
    """One token of a stream."""

    token_id: int
    logprob: float
    finish_reason: str | None
    """Set on the last token only."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One response to draw."""

    prompt_index: int
    sample_index: int
    prompt: tuple[int, ...]
    seed: int
    temperature: float
    limit: int
    """Tokens at most."""


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
    pad_id: int,
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
        pad_id: fills the left of shorter prompts; never attended to.
        stop_token_check: given a row's response tokens so far, whether to end it.
        max_rows: rows per forward pass.
        before_step: called before each forward pass; what it raises abandons the work.
    Returns:
        [P][K] responses in the order of the prompts.
    Raises:
        InvalidInputError: a parameter out of range, or a prompt that fills the context.
    """
    check_parameters(k=k, temperatures=temperatures, top_p=top_p, top_k=top_k, seeds=seeds)
    if len(seeds) != len(prompt_token_ids):
        raise InvalidInputError(
            f"{len(seeds)} seeds for {len(prompt_token_ids)} prompts; accepted: one per prompt",
            field="seeds",
        )
    rows = _plan_rows(model, prompt_token_ids, k, temperatures, seeds, max_response_tokens)
    results: list[list[Sampled | None]] = [[None] * k for _ in prompt_token_ids]
    with _evaluation_mode(model):
        for start in range(0, len(rows), max_rows):
            chunk = rows[start : start + max_rows]
            batch = _Batch(model, chunk, top_p, top_k, _eos_ids(eos_id), pad_id, stop_token_check)
            for row, sampled in zip(chunk, batch.run(before_step), strict=True):
                results[row.prompt_index][row.sample_index] = sampled
    return [[sampled for sampled in row if sampled is not None] for row in results]


def stream_tokens(
    model: Any,
    prompt_token_ids: Sequence[int],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    max_response_tokens: int,
    eos_id: int | Sequence[int],
    pad_id: int,
    stop_token_check: StopCheck | None = None,
) -> Iterator[DrawnToken]:
    """The response that `sample_batch` draws first for the same arguments, token by token.

    The model must be in evaluation mode already: others may use it between two tokens.
    """
    check_parameters(k=1, temperatures=[temperature], top_p=top_p, top_k=top_k, seeds=[seed])
    rows = _plan_rows(model, [prompt_token_ids], 1, [temperature], [seed], max_response_tokens)
    batch = _Batch(model, rows, top_p, top_k, _eos_ids(eos_id), pad_id, stop_token_check)
    while not batch.finished:
        batch.step()
        yield batch.newest(0)


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
    with _evaluation_mode(model), torch.no_grad():
        for batch in batches:
            ids, _ = pad_right([joined[index] for index in batch], pad_id)
            counted, _ = pad_right(
                [[0] * len(prompts[index]) + [1] * len(responses[index]) for index in batch], 0
            )
            logprobs = counted_logprobs(model, ids.to(model.device), counted.to(model.device))
            for index, row in zip(batch, logprobs.tolist(), strict=True):
                results[index] = row[len(prompts[index]) : len(joined[index])]
    return results


def check_parameters(
    *, k: int, temperatures: Sequence[float], top_p: float, top_k: int, seeds: Sequence[int]
) -> None:
    """Refuse sampling parameters out of range, naming what is accepted.

    Raises:
        InvalidInputError: names the field, the value and the accepted range.
    """
    if k < 1:
        raise InvalidInputError(
            f"responses_per_prompt={k}; accepted: 1 or more", field="responses_per_prompt"
        )
    if not temperatures:
        raise InvalidInputError("no temperature given; accepted: 1 or more", field="temperatures")
    for temperature in temperatures:
        if not 0 <= temperature <= MAX_TEMPERATURE:
            raise InvalidInputError(
                f"temperature={temperature}; accepted: 0 to {MAX_TEMPERATURE:g}",
                field="temperature",
            )
    if not 0 < top_p <= 1:
        raise InvalidInputError(f"top_p={top_p}; accepted: above 0, up to 1", field="top_p")
    if top_k < 0:
        raise InvalidInputError(
            f"top_k={top_k}; accepted: 0 (all tokens) or a positive count", field="top_k"
        )
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise InvalidInputError(f"seed={seed}; accepted: 0 to {MAX_SEED}", field="seed")


class _Batch:
    """Rows that step together. Holds the cache, the tokens drawn and which rows are unfinished."""

    def __init__(
        self,
        model: Any,
        rows: Sequence[_Row],
        top_p: float,
        top_k: int,
        eos_ids: Sequence[int],
        pad_id: int,
        stop_token_check: StopCheck | None,
    ) -> None:
        self._model, self._rows = model, rows
        self._top_p, self._top_k = top_p, top_k
        self._stop_token_check = stop_token_check
        self._pad_id = pad_id
        device = model.device
        steps = max(row.limit for row in rows)
        uniforms = uniforms_for_seeds([row.seed for row in rows], steps)
        self._uniforms = torch.from_numpy(uniforms).to(device)
        temperatures = [row.temperature for row in rows]
        self._temperatures = torch.tensor(temperatures, dtype=torch.float64, device=device)
        self._limits = torch.tensor([row.limit for row in rows], device=device)
        self._eos_ids = torch.tensor(list(eos_ids), device=device)
        self._tokens = torch.zeros(len(rows), steps, dtype=torch.long, device=device)
        self._logprobs = torch.zeros(len(rows), steps, dtype=torch.float64, device=device)
        self._lengths = torch.zeros(len(rows), dtype=torch.long, device=device)
        self._stopped = torch.zeros(len(rows), dtype=torch.bool, device=device)
        # Index in `rows` of each row that is still in the batch, and which of those are unfinished.
        self._members = torch.arange(len(rows), device=device)
        self._active = torch.ones(len(rows), dtype=torch.bool, device=device)
        self._step = 0
        self._cache = new_cache(model)
        self._mask: Tensor | None = None
        self._positions = torch.empty(0)
        self._logits = torch.empty(0)
        self.finished = False

    def run(self, before_step: Callable[[], None] | None) -> list[Sampled]:
        """Step until every row has ended; results in the order of the rows."""
        while not self.finished:
            if before_step is not None:
                before_step()
            self.step()
        lengths, stopped = self._lengths.tolist(), self._stopped.tolist()
        tokens, logprobs = self._tokens.tolist(), self._logprobs.tolist()
        return [
            Sampled(
                token_ids=tuple(tokens[index][: lengths[index]]),
                logprobs=tuple(logprobs[index][: lengths[index]]),
                finish_reason=STOP if stopped[index] else LENGTH,
                seed=row.seed,
            )
            for index, row in enumerate(self._rows)
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Draw one token for every row in the batch."""
        if self._step == 0:
            self._prefill()
        else:
            self._forward_newest()
        members = self._members
        tokens, logprobs = draw_tokens(
            self._logits,
            self._temperatures[members],
            self._uniforms[members, self._step],
            top_p=self._top_p,
            top_k=self._top_k,
        )
        if bool(logprobs.isnan().any()):
            raise FailedPreconditionError(
                "the policy's logits are not numbers; accepted: a policy with finite weights",
                reason="POLICY_NOT_FINITE",
            )
        self._tokens[members, self._step] = tokens
        self._logprobs[members, self._step] = logprobs
        self._step += 1
        self._end_rows(tokens)

    def newest(self, row: int) -> DrawnToken:
        """The token that the last step drew for this row."""
        token_id = int(self._tokens[row, self._step - 1])
        reason = None
        if self.finished:
            reason = STOP if bool(self._stopped[row]) else LENGTH
        return DrawnToken(token_id, float(self._logprobs[row, self._step - 1]), reason)

    def _prefill(self) -> None:
        """Run each distinct prompt once, then give every response its copy of the cache."""
        distinct = list(dict.fromkeys(row.prompt for row in self._rows))
        position = {prompt: index for index, prompt in enumerate(distinct)}
        ids, tokens_present = pad_left(distinct, self._pad_id)
        even = bool(tokens_present.all())
        ids, mask = ids.to(self._model.device), tokens_present.long().to(self._model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        output = self._model(
            input_ids=ids,
            attention_mask=None if even else mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        if len(distinct) == len(self._rows):
            self._logits, self._positions = output.logits[:, -1], positions[:, -1:]
            self._mask = None if even else mask
            return
        source = torch.tensor([position[row.prompt] for row in self._rows], device=ids.device)
        select_rows(self._cache, source)
        self._logits = output.logits[:, -1][source]
        self._positions = positions[source, -1:]
        self._mask = None if even else mask[source]

    def _forward_newest(self) -> None:
        """Feed the tokens of the last step."""
        self._positions = self._positions + 1
        if self._mask is not None:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        output = self._model(
            input_ids=self._tokens[self._members, self._step - 1][:, None],
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._logits = output.logits[:, -1]

    def _end_rows(self, tokens: Tensor) -> None:
        """Mark rows that ended with these tokens [B]; drop them when they have become many."""
        members = self._members
        stops = torch.isin(tokens, self._eos_ids) & self._active
        if self._stop_token_check is not None:
            stops |= self._checked_stops()
        ended = (stops | (self._limits[members] <= self._step)) & self._active
        self._stopped[members] |= stops
        self._lengths[members[ended]] = self._step
        self._active &= ~ended
        remaining = int(self._active.sum())
        if remaining == 0:
            self.finished = True
        elif remaining < _COMPACT_BELOW * len(members):
            self._compact()

    def _checked_stops(self) -> Tensor:
        check = self._stop_token_check
        assert check is not None
        active = self._active.tolist()
        drawn = self._tokens[self._members, : self._step].tolist()
        flags = [on and check(row) for on, row in zip(active, drawn, strict=True)]
        return torch.tensor(flags, device=self._active.device)

    def _compact(self) -> None:
        kept = self._active.nonzero().squeeze(1)
        select_rows(self._cache, kept)
        self._members, self._active = self._members[kept], self._active[kept]
        self._positions = self._positions[kept]
        if self._mask is not None:
            self._mask = self._mask[kept]


def _plan_rows(
    model: Any,
    prompts: Sequence[Sequence[int]],
    k: int,
    temperatures: Sequence[float],
    seeds: Sequence[int],
    max_response_tokens: int,
) -> list[_Row]:
    """Every response to draw, sorted by prompt length so that a batch holds little padding."""
    if max_response_tokens < 1:
        raise InvalidInputError(
            f"max_response_tokens={max_response_tokens}; accepted: 1 or more",
            field="max_response_tokens",
        )
    limit = context_length(model)
    rows = []
    for index, prompt in enumerate(prompts):
        if not 0 < len(prompt) < limit:
            raise InvalidInputError(
                f"prompt {index} has {len(prompt)} tokens and the policy's context length is "
                f"{limit}; accepted: 1 to {limit - 1} tokens, so that a response has room",
                field="prompts",
            )
        tokens = tuple(prompt)
        room = min(max_response_tokens, limit - len(prompt))
        rows += [
            _Row(
                prompt_index=index,
                sample_index=j,
                prompt=tokens,
                seed=derive_seed(seeds[index], j),
                temperature=temperatures[j % len(temperatures)],
                limit=room,
            )
            for j in range(k)
        ]
    return sorted(rows, key=lambda row: (len(row.prompt), row.prompt_index, row.sample_index))


def _eos_ids(eos_id: int | Sequence[int]) -> Sequence[int]:
    return [eos_id] if isinstance(eos_id, int) else list(eos_id)


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    """Dropout off inside; a model in training goes back to training."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
