"""The key-value cache of one policy, in blocks, and attention over it.

Shapes: T tokens of a step, S sequences, G groups, L layers, N blocks, A heads, K key-value heads,
D head width, P width padded to whole vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.sampler import kernels
from plumbline.sampler.kernels import BLOCK_TOKENS
from plumbline.sampler.torch_attention import (
    SequenceBatch,
    attend_batch,
    batch_sequences,
    rotated,
)


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Tokens that look back, sequence after sequence; at most the last ones of each."""

    counts: tuple[int, ...]
    """[S] tokens of each sequence."""
    start: Tensor
    """[S + 1] int32 first token of each sequence."""
    positions: Tensor
    """[Q] int32, each token's place in its text; padding comes last."""


@dataclass(frozen=True, slots=True, eq=False)
class StepPlan:
    """Tokens that a step computes: sequences side by side, each with one token or several.

    Tokens after the sequences' are padding; they are computed, and nothing is kept of them.
    """

    input_ids: Tensor
    """[T] int64."""
    slots: Tensor
    """[T] int32, block id * 16 + place in the block; -1 for padding."""
    tables: Tensor
    """[S, any] int32 block ids."""
    lengths: Tensor
    """[S] int32 tokens of each sequence, those of this step included."""
    group_start: Tensor
    """[G + 1] int32 first sequence of each group."""
    group_shared: Tensor
    """[G] int32 blocks at the beginning that a group's sequences have in common."""
    tokens: Queries
    """All T tokens."""
    logit_rows: Tensor
    """[Q] int64 tokens whose logits are wanted: the last one of some sequences, and padding."""
    wanted: Queries
    """Those tokens."""
    max_length: int
    """Of the sequences."""
    _batches: dict[tuple[Queries, int], list[SequenceBatch]] = field(
        init=False, default_factory=dict
    )

    def batches(self, queries: Queries, window: int) -> list[SequenceBatch]:
        """The queries, sequences of as many tokens together; found once for all layers."""
        found = self._batches.get((queries, window))
        if found is None:
            found = self._batches[queries, window] = batch_sequences(
                queries.counts, queries.start, self.tables, self.lengths, window=window
            )
        return found


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What a policy's architecture says of its cache."""

    layers: int
    kv_heads: int
    width: int
    """Of a head."""

    @classmethod
    def of(cls, model: Any) -> CacheShape:
        config = model.config.get_text_config()
        heads = int(config.num_attention_heads)
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        return cls(int(config.num_hidden_layers), int(kv_heads), int(width))

    def block_bytes(self, dtype: torch.dtype) -> int:
        """Of one block in all layers, keys and values."""
        padded = kernels.padded_width(self.width)
        return 2 * self.layers * self.kv_heads * padded * BLOCK_TOKENS * dtype.itemsize


class PagedCache:
    """Keys and values of all layers.

    Keys lie transposed, so that a vector of the kernel holds one component of 16 keys.

    Args:
        blocks: how many; memory is taken as they are first written to.
    """

    def __init__(
        self, shape: CacheShape, blocks: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.shape = shape
        padded = kernels.padded_width(shape.width)
        heads = (shape.layers, blocks, shape.kv_heads)
        self.keys = _zeros((*heads, padded, BLOCK_TOKENS), dtype, device)
        self.values = _zeros((*heads, BLOCK_TOKENS, padded), dtype, device)
        self.windowed = False
        """Whether attention was ever asked to see a window only."""
        self._native = kernels.fits_heads(self.keys, shape.width)

    def copy_blocks(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Contents of blocks into others."""
        self.keys[:, list(targets)] = self.keys[:, list(sources)]
        self.values[:, list(targets)] = self.values[:, list(sources)]

    def keep(
        self,
        layer: int,
        key: Tensor,
        value: Tensor,
        plan: StepPlan,
        *,
        rotary: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """Keep a step's keys and values, contiguous [T, K, D].

        Args:
            rotary: cosines and sines [positions, D], where keys are still to be rotated.
        Raises:
            ValueError: heads of another shape than the configuration says.
        """
        if key.shape[1:] != (self.shape.kv_heads, self.shape.width):
            raise ValueError(f"keys of shape {tuple(key.shape)} do not fit {self.shape}")
        positions = plan.tokens.positions
        keys, values = self.keys[layer], self.values[layer]
        if self._native:
            kernels.store(
                key, value, keys, values, slots=plan.slots, positions=positions, rotary=rotary
            )
            return
        if rotary is not None:
            key = rotated(key, rotary, positions)
        kept = plan.slots >= 0
        slots = plan.slots[kept].long()
        blocks, places = slots // BLOCK_TOKENS, slots % BLOCK_TOKENS
        width = self.shape.width
        keys[blocks, :, :width, places] = key[kept]
        values[blocks, :, places, :width] = value[kept]

    def attend(
        self,
        layer: int,
        query: Tensor,
        plan: StepPlan,
        queries: Queries,
        *,
        scale: float,
        rotary: tuple[Tensor, Tensor] | None = None,
        window: int = 0,
        softcap: float = 0.0,
    ) -> Tensor:
        """Attention of these tokens to all that is kept of their texts.

        Args:
            query: [Q, A, D], contiguous; rotated in place where `rotary` is given.
            window: tokens that each one sees, itself included; 0 means all before it.
            softcap: bound that scores are squeezed into; 0 means none.
        Returns:
            [Q, A, D]; zeros at padding.
        """
        self.windowed |= window > 0
        keys, values = self.keys[layer], self.values[layer]
        out = torch.zeros_like(query)
        if not self._native:
            if rotary is not None:
                query = rotated(query, rotary, queries.positions)
            for batch in plan.batches(queries, window):
                attend_batch(query, out, keys, values, batch, scale=scale, softcap=softcap)
            return out
        if rotary is not None:
            kernels.rotate_(query, rotary, queries.positions)
        kernels.attend(
            query, out, keys, values,
            tables=plan.tables, query_start=queries.start, lengths=plan.lengths,
            group_start=plan.group_start, group_shared=plan.group_shared,
            scale=scale, window=window, softcap=softcap,
        )  # fmt: skip
        return out


class PagedDecoder:
    """What decoders over keys and values have in common."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._shape = CacheShape.of(model)
        self._weight: Tensor = model.get_input_embeddings().weight

    @property
    def block_bytes(self) -> int:
        return self._shape.block_bytes(self._weight.dtype)

    def new_cache(self, blocks: int) -> PagedCache:
        return PagedCache(self._shape, blocks, dtype=self._weight.dtype, device=self._weight.device)


def _zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type == "cpu" and dtype == torch.float32:
        # The operating system gives these pages when they are first touched.
        return torch.from_numpy(np.zeros(shape, dtype=np.float32))
    return torch.zeros(*shape, dtype=dtype, device=device)
