"""Sequence packing: many texts as one row without padding, and responses that share a prompt.

A packed row holds segments one after another. A segment is a text of its own, or a response that
goes on from a prompt: it attends to the prompt's keys and to itself, so that a prompt is computed
once for all its responses. No mask of the whole row exists: attention runs segment by segment.

Legend: T tokens of the row, N counted tokens, H hidden size, A heads, D size of a head.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_KEY = "packed_layout"
_ATTENTION = "sdpa"
_PROBE = ((1, 2, 3), (4, 1, 2, 5), (2, 3))
_TOLERANCE = 1e-4
_ROUNDINGS = 8
"""Of the states, that the trial allows where they are rounded more than the tolerance."""
_LOGIT_BOUNDS = ("attn_logit_softcapping", "attention_chunk_size")


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """Responses that share a prompt, as token ids; the prompt's ids are computed once for all."""

    prompt: Sequence[int]
    responses: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass has to compute."""
        return len(self.prompt) + sum(map(len, self.responses))


def group_pair(first: Sequence[int], second: Sequence[int]) -> PromptGroup:
    """Two texts as one group: what they begin with alike is the prompt; neither is left empty."""
    most = min(len(first), len(second)) - 1
    shared = next((i for i in range(most) if first[i] != second[i]), max(most, 0))
    return PromptGroup(first[:shared], (first[shared:], second[shared:]))


@dataclass(frozen=True)
class Layout:
    """Where the segments of a packed row stand.

    Args:
        lengths: tokens of each segment, in order.
        prefixes: the segment that each one goes on from; None for a text of its own.
    """

    lengths: tuple[int, ...]
    prefixes: tuple[int | None, ...]

    @property
    def ends(self) -> Tensor:
        """[segments] the place of each segment's last token."""
        return torch.tensor(self.lengths).cumsum(dim=0) - 1

    @property
    def continuing(self) -> Tensor:
        """[segments] True at responses, which go on from a prompt."""
        return torch.tensor([prefix is not None for prefix in self.prefixes])

    @cached_property
    def alike(self) -> list[list[int]]:
        """Segments by length and length of what they go on from: one call of attention for each."""
        found: dict[tuple[int, int | None], list[int]] = {}
        for index, (length, prefix) in enumerate(zip(self.lengths, self.prefixes, strict=True)):
            before = None if prefix is None else self.lengths[prefix]
            found.setdefault((length, before), []).append(index)
        return list(found.values())

    @cached_property
    def is_even(self) -> bool:
        """Whether it holds texts of one length and no responses."""
        return len(set(self.lengths)) == 1 and not any(p is not None for p in self.prefixes)

    @cached_property
    def positions(self) -> Tensor:
        """[1, T] each token's place in its text; a response goes on where its prompt ends."""
        starts = [0 if prefix is None else self.lengths[prefix] for prefix in self.prefixes]
        spans = zip(starts, self.lengths, strict=True)
        return torch.cat([torch.arange(start, start + length) for start, length in spans])[None]


@dataclass(frozen=True)
class PackedRow:
    """Token ids of a packed row.

    Args:
        input_ids: [1, T].
        predictors: [N] the places whose states predict the counted tokens.
        targets: [N] the counted tokens.
    """

    input_ids: Tensor
    layout: Layout
    predictors: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> PackedRow:
        return PackedRow(
            self.input_ids.to(device),
            self.layout,
            self.predictors.to(device),
            self.targets.to(device),
        )


def pack_texts(texts: Sequence[Sequence[int]], counted: Sequence[Sequence[bool]]) -> PackedRow:
    """Texts side by side; a counted first token has nothing that predicts it and is left out.

    Args:
        counted: for each text, True at the tokens that count.
    """
    layout = Layout(tuple(map(len, texts)), (None,) * len(texts))
    ids = torch.tensor([token for text in texts for token in text])
    marks = [bool(mark) and place > 0 for row in counted for place, mark in enumerate(row)]
    places = torch.tensor(marks).nonzero().squeeze(1)
    return PackedRow(ids[None], layout, places - 1, ids[places])


def pack_groups(groups: Sequence[PromptGroup]) -> PackedRow:
    """Each prompt followed by its responses, whose tokens all count.

    The first token of every response is predicted by the last state of the prompt.
    """
    ids: list[int] = []
    lengths: list[int] = []
    prefixes: list[int | None] = []
    predictors: list[Tensor] = []
    targets: list[int] = []
    for group in groups:
        ids.extend(group.prompt)
        prompt_end, prompt_segment = len(ids) - 1, len(lengths)
        lengths.append(len(group.prompt))
        prefixes.append(None)
        for response in group.responses:
            places = torch.arange(len(ids) - 1, len(ids) + len(response) - 1)
            if len(places):
                places[0] = prompt_end
            predictors.append(places)
            targets.extend(response)
            ids.extend(response)
            lengths.append(len(response))
            prefixes.append(prompt_segment)
    layout = Layout(tuple(lengths), tuple(prefixes))
    return PackedRow(torch.tensor([ids]), layout, torch.cat(predictors), torch.tensor(targets))


def packed_states(model: PreTrainedModel, row: PackedRow) -> Tensor:
    """Last hidden states [T, H] of a packed row; the model must `supports_packing`."""
    device = row.input_ids.device
    # A mask of four dimensions is handed on as it is, so that none of [T, T] is made.
    unused = torch.zeros(1, 1, 1, 1, device=device)
    output = model.base_model(
        input_ids=row.input_ids,
        attention_mask=unused,
        position_ids=row.layout.positions.to(device),
        use_cache=False,
        **{_KEY: row.layout},
    )
    states: Tensor = output.last_hidden_state[0]
    return states


def supports_packing(model: PreTrainedModel) -> bool:
    """Whether a packed row gives what its texts give one by one.

    Known from the architecture's settings and from trying it once on a few tokens: a model that
    drops the layout on its way to attention, or knows no positions, fails the trial.
    """
    core = model.base_model
    if core not in _SUPPORT:
        _SUPPORT[core] = _fits(model) and _passes_trial(model)
    return _SUPPORT[core]


_SUPPORT: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def _fits(model: PreTrainedModel) -> bool:
    config = model.config.get_text_config()
    if config._attn_implementation != _ATTENTION:
        return False
    # Windows and bounds of attention would have to be done segment by segment as well.
    if any(getattr(config, name, None) for name in _LOGIT_BOUNDS):
        return False
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return set(kinds) == {"full_attention"}
    return not getattr(config, "sliding_window", None)


@torch.no_grad()
def _passes_trial(model: PreTrainedModel) -> bool:
    device = model.get_input_embeddings().weight.device
    size = int(model.get_input_embeddings().weight.shape[0])
    prompt, *responses = [[token % size for token in text] for text in _PROBE]
    was_training = model.training
    model.eval()
    try:
        # Rounded as the weights are, whatever the precision of the work around.
        with torch.autocast(device.type, enabled=False):
            row = pack_groups([PromptGroup(prompt, responses)] * 2).to(device)
            found = packed_states(model, row)[row.predictors]
            apart = [
                model.base_model(
                    input_ids=torch.tensor([[*prompt, *response]], device=device), use_cache=False
                ).last_hidden_state[0, len(prompt) - 1 : -1]
                for response in responses
            ]
    except (TypeError, ValueError, RuntimeError, KeyError):
        # The architecture takes no layout or no positions; its texts are padded then.
        return False
    finally:
        model.train(was_training)
    expected = torch.cat(apart * 2)
    scale = float(expected.abs().max()) or 1.0
    tolerance = max(_TOLERANCE, _ROUNDINGS * torch.finfo(expected.dtype).eps)
    return bool((found - expected).abs().max() <= tolerance * scale)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of a packed row, segment by segment; other calls go to torch's own as before.

    Args:
        query: [1, A, T, D]; key and value [1, A or fewer, T, D].
    Returns:
        [1, T, A, D]
    """
    layout: Layout | None = options.pop(_KEY, None)
    if layout is None:
        result: tuple[Tensor, None] = _UNPACKED(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            **options,
        )
        return result
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1:
        key, value = (part.repeat_interleave(repeats, dim=1) for part in (key, value))
    if layout.is_even:
        return _attend_evenly(layout, query, key, value, dropout, scaling), None
    # Split, not sliced: the backward of many slices would each fill a whole row with zeros.
    queries, keys, values = (part.split(layout.lengths, dim=2) for part in (query, key, value))
    outputs: list[Tensor] = [query] * len(layout.lengths)
    for members in layout.alike:
        first = members[0]
        prefixes = [layout.prefixes[index] for index in members]
        own_keys = _with_prefixes(keys, members, prefixes)
        own_values = _with_prefixes(values, members, prefixes)
        before = own_keys.shape[2] - layout.lengths[first]
        mask = _continuing(layout.lengths[first], before, query.device) if before else None
        found = F.scaled_dot_product_attention(
            torch.cat([queries[index] for index in members]),
            own_keys,
            own_values,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
        )
        for index, output in zip(members, found.split(1), strict=True):
            outputs[index] = output
    return torch.cat(outputs, dim=2).transpose(1, 2), None


def _with_prefixes(
    parts: Sequence[Tensor], members: Sequence[int], prefixes: Sequence[int | None]
) -> Tensor:
    """Keys or values of segments with those that they go on from: [segments, A, T, D]."""
    own = torch.cat([parts[index] for index in members])
    known = [parts[prefix] for prefix in prefixes if prefix is not None]
    return torch.cat([torch.cat(known), own], dim=2) if known else own


def _attend_evenly(
    layout: Layout,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    scaling: float | None,
) -> Tensor:
    """Texts of one length, as a batch: [1, T, A, D]."""
    rows, heads, size = len(layout.lengths), query.shape[1], query.shape[3]
    query, key, value = (
        part.squeeze(0).reshape(heads, rows, -1, size).transpose(0, 1)
        for part in (query, key, value)
    )
    found = F.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=True, scale=scaling
    )
    return found.transpose(1, 2).reshape(1, -1, heads, size)


def _continuing(length: int, before: int, device: torch.device) -> Tensor:
    """[length, before + length], True where a token of a response sees prompt and response."""
    mask = torch.ones(length, before + length, dtype=torch.bool, device=device)
    return mask.tril(diagonal=before)


# The layout of the call decides, not a switch on the model, so that other threads may use the same
# model with padded rows meanwhile.
_UNPACKED = ALL_ATTENTION_FUNCTIONS[_ATTENTION]
ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attend)
