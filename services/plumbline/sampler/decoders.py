"""Runs a policy on the tokens of a step, whatever requests they come from.

Three ways, of which the first is taken that gives on a trial what the model's own forward pass
gives: the layers of a Llama-like decoder in few calls; a model's own code with its attention led
over the paged cache; and its own code on whole texts, which keeps tokens only and so fits any.

Shapes: T tokens of a step, H hidden size, V vocabulary, R rows whose logits are wanted.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from plumbline.sampler.kernels import BLOCK_TOKENS
from plumbline.sampler.llama_decoder import LlamaDecoder
from plumbline.sampler.paged_cache import PagedCache, PagedDecoder, Queries, StepPlan

_KEY = "paged_step"


class Cache(Protocol):
    """What a decoder keeps of the tokens that it computed, in blocks."""

    def copy_blocks(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Contents of blocks into others."""
        ...


class Decoder(Protocol):
    """Computes logits of a step's tokens, keeping what later steps need of them."""

    @property
    def block_bytes(self) -> int:
        """Of one block of its cache."""
        ...

    def new_cache(self, blocks: int) -> Any:
        """An empty cache, which the other methods take."""
        ...

    def forward(self, plan: StepPlan, cache: Any) -> Tensor:
        """Logits [R, V] of `plan.logit_rows`; of no particular width where none are wanted."""
        ...


class HookedDecoder(PagedDecoder):
    """A model's own forward pass, whose attention goes to the paged cache."""

    def forward(self, plan: StepPlan, cache: PagedCache) -> Tensor:
        # A mask of four dimensions is handed on as it is, so that none of [T, T] is made.
        unused = torch.zeros(1, 1, 1, 1, device=plan.input_ids.device)
        output = self._model(
            input_ids=plan.input_ids[None],
            attention_mask=unused,
            position_ids=plan.tokens.positions.long()[None],
            use_cache=False,
            logits_to_keep=plan.logit_rows,
            **{_KEY: (plan, cache)},
        )
        logits: Tensor = output.logits[0]
        return logits


class TokenCache:
    """The tokens themselves, [N, 16]."""

    def __init__(self, blocks: int, device: torch.device) -> None:
        self.tokens = torch.zeros(blocks, BLOCK_TOKENS, dtype=torch.long, device=device)

    def copy_blocks(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        self.tokens[list(targets)] = self.tokens[list(sources)]


class WholeTextDecoder:
    """A model's own forward pass over whole texts at every step: slow, and right for any model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def block_bytes(self) -> int:
        return BLOCK_TOKENS * torch.long.itemsize

    def new_cache(self, blocks: int) -> TokenCache:
        return TokenCache(blocks, self._model.get_input_embeddings().weight.device)

    def forward(self, plan: StepPlan, cache: TokenCache) -> Tensor:
        kept = plan.slots >= 0
        cache.tokens.view(-1)[plan.slots[kept].long()] = plan.input_ids[kept]
        starts, lengths = plan.tokens.start.tolist(), plan.lengths.tolist()
        sequence_of = {end - 1: index for index, end in enumerate(starts[1:])}
        size = self._model.get_output_embeddings().weight.shape[0]
        logits = torch.zeros(len(plan.logit_rows), size, device=plan.input_ids.device)
        for place, row in enumerate(plan.logit_rows.tolist()):
            index = sequence_of.get(row)
            if index is None:  # padding, which nobody reads
                continue
            text = cache.tokens[plan.tables[index].long()].view(-1)[: lengths[index]]
            output = self._model(input_ids=text[None], use_cache=False, logits_to_keep=1)
            logits[place] = output.logits[0, -1]
        return logits


def new_decoder(model: Any) -> Decoder:
    """The fastest way that gives a model's own logits."""
    ways: Sequence[type[LlamaDecoder] | type[HookedDecoder]] = (
        (LlamaDecoder, HookedDecoder) if LlamaDecoder.fits(model) else (HookedDecoder,)
    )
    if model not in _WAYS:
        _WAYS[model] = next((way for way in ways if _passes_trial(way, model)), WholeTextDecoder)
    decoder: Decoder = _WAYS[model](model)
    return decoder


_WAYS: weakref.WeakKeyDictionary[nn.Module, Any] = weakref.WeakKeyDictionary()


@torch.no_grad()
def _passes_trial(way: type[LlamaDecoder] | type[HookedDecoder], model: Any) -> bool:
    """Whether a text in two parts, beside another, gets the logits of the model's own pass."""
    size = int(model.get_input_embeddings().weight.shape[0])
    device = model.get_input_embeddings().weight.device
    text = [token % size for token in _TRIAL]
    first, rest = text[:_TRIAL_BREAK], text[_TRIAL_BREAK:]
    ids = torch.tensor([text], device=device)
    try:
        with torch.autocast(device.type, enabled=False):
            expected = model(input_ids=ids, use_cache=False).logits[0]
            decoder = way(model)
            cache = decoder.new_cache(4)
            found = [
                decoder.forward(_trial_plan([first, first], [0, 0], device), cache)[:1],
                decoder.forward(_trial_plan([rest, rest], [len(first)] * 2, device), cache)[1:],
            ]
    except (AttributeError, TypeError, ValueError, RuntimeError, KeyError):
        # An architecture that takes no step, or knows no positions.
        return False
    windowed = getattr(model.config.get_text_config(), "sliding_window", None)
    if windowed and way is HookedDecoder and not cache.windowed:
        return False  # the window would be in the mask, which paged attention does not look at
    wanted = expected[[len(first) - 1, len(text) - 1]].float()
    scale = float(wanted.abs().max()) or 1.0
    tolerance = max(_TOLERANCE, _ROUNDINGS * torch.finfo(expected.dtype).eps)
    return bool((torch.cat(found).float() - wanted).abs().max() <= tolerance * scale)


_TRIAL = tuple(range(2, 24))
_TRIAL_BREAK = 5
_TOLERANCE = 1e-4
_ROUNDINGS = 8
"""Of the logits, that the trial allows where they are rounded more than the tolerance."""


def _trial_plan(parts: list[list[int]], starts: list[int], device: torch.device) -> StepPlan:
    """Two sequences of two blocks each; the logits of the last token of each."""
    ids = [token for part in parts for token in part]
    places = [
        (sequence, start + offset)
        for sequence, (part, start) in enumerate(zip(parts, starts, strict=True))
        for offset in range(len(part))
    ]
    ends = [len(parts[0]), len(ids)]

    def int32(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    return StepPlan(
        input_ids=torch.tensor(ids, device=device),
        slots=int32([2 * BLOCK_TOKENS * sequence + place for sequence, place in places]),
        tables=int32([0, 1, 2, 3]).view(2, 2),
        lengths=int32([start + len(part) for start, part in zip(starts, parts, strict=True)]),
        group_start=int32([0, 1, 2]),
        group_shared=int32([0, 0]),
        tokens=Queries(
            tuple(map(len, parts)), int32([0, *ends]), int32([place for _, place in places])
        ),
        logit_rows=torch.tensor([end - 1 for end in ends], device=device),
        wanted=Queries((1, 1), int32([0, 1, 2]), int32([places[end - 1][1] for end in ends])),
        max_length=starts[0] + len(parts[0]),
    )


def _attend_paged(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of a step [1, heads, T, D] over the paged cache; other calls go on as before."""
    step: tuple[StepPlan, PagedCache] | None = options.pop(_KEY, None)
    if step is None:
        result: tuple[Tensor, None] = _UNPAGED(module, query, key, value, attention_mask, **options)
        return result
    plan, cache = step
    scaling = options.get("scaling")
    layer: Any = module
    query, key, value = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    cache.keep(int(layer.layer_idx), key, value, plan)
    out = cache.attend(
        int(layer.layer_idx),
        query,
        plan,
        plan.tokens,
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        window=int(options.get("sliding_window") or 0),
        softcap=float(options.get("softcap") or 0.0),
    )
    return out[None], None


# The step of the call decides, not a switch on the model, so that a trainer may use the same model
# meanwhile.
_UNPAGED = ALL_ATTENTION_FUNCTIONS["sdpa"]
ALL_ATTENTION_FUNCTIONS.register("sdpa", _attend_paged)
