"""The key-value cache of a batch whose rows may be dropped or repeated.

Shapes: B rows, H key-value heads, T tokens, D head width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

_ROOM = 64
"""Tokens of space that a buffer gains when it is full."""


class BufferedLayer(DynamicLayer):
    """Keys and values in buffers with room to grow; concatenating would copy all each step."""

    keys: Tensor
    values: Tensor
    _key_buffer: Tensor
    _value_buffer: Tensor
    _length: int = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append [B, H, T, D] states; returns views of all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self._length, self._length + key_states.shape[-2]
        if start == 0 or end > self._key_buffer.shape[-2]:
            self._key_buffer = self._grown(self.keys, key_states, end + _ROOM)
            self._value_buffer = self._grown(self.values, value_states, end + _ROOM)
        self._key_buffer[:, :, start:end] = key_states
        self._value_buffer[:, :, start:end] = value_states
        self._length = end
        self._refresh()
        return self.keys, self.values

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) these rows of the batch."""
        self._key_buffer = self._key_buffer.index_select(0, rows)
        self._value_buffer = self._value_buffer.index_select(0, rows)
        self._refresh()

    def _refresh(self) -> None:
        self.keys = self._key_buffer[:, :, : self._length]
        self.values = self._value_buffer[:, :, : self._length]

    def _grown(self, held: Tensor, states: Tensor, capacity: int) -> Tensor:
        rows, heads, _, width = states.shape
        buffer = states.new_empty(rows, heads, capacity, width)
        if self._length:
            buffer[:, :, : self._length] = held
        return buffer


def new_cache(model: Any) -> DynamicCache:
    """An empty cache for this model; layers with a sliding window keep their own kind."""
    cache = DynamicCache(config=model.config)
    cache.layers = [
        BufferedLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def select_rows(cache: DynamicCache, rows: Tensor) -> None:
    """Keep (or repeat) these rows of every layer."""
    for layer in cache.layers:
        if isinstance(layer, BufferedLayer):
            layer.select(rows)
        else:
            layer.batch_select_indices(rows)
