"""Kernels in C++ for the sampling engine on CPUs, where the package was installed with a compiler.

Each takes contiguous float32 tensors on the CPU, raises ValueError at others, and works on as many
threads as torch does. The same mathematics in torch stand beside the callers, for accelerators,
other precisions and installations without a compiler. What is built is a plain library that ctypes
calls, not a Python module, so Python's headers are not needed.

Shapes: T tokens of a step, S sequences, G groups, B rows, A heads, K key-value heads, D head width,
P width padded to whole vectors, N blocks, V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BLOCK_TOKENS = 16
"""Tokens of a cache block; the kernels' vectors are as long."""

_MAX_WIDTH = 1024
"""Of a head; the kernel holds one rotated key on its stack."""

_pointer, _int, _float = ctypes.c_void_p, ctypes.c_int32, ctypes.c_float


class _Attention(ctypes.Structure):
    _fields_ = (
        *(
            (name, _pointer)
            for name in (
                "query", "out", "keys", "values", "tables", "query_start", "lengths",
                "group_start", "group_shared",
            )
        ),
        *(
            (name, _int)
            for name in (
                "table_stride", "groups", "heads", "kv_heads", "width", "padded", "window",
                "threads",
            )
        ),
        ("scale", _float),
        ("softcap", _float),
    )  # fmt: skip


class _Store(ctypes.Structure):
    _fields_ = (
        *(
            (name, _pointer)
            for name in (
                "key", "value", "cosines", "sines", "positions", "slots", "keys", "values"
            )
        ),
        *((name, _int) for name in ("tokens", "kv_heads", "width", "padded", "threads")),
    )  # fmt: skip


class _Draw(ctypes.Structure):
    _fields_ = (
        *(
            (name, _pointer)
            for name in (
                "logits", "temperatures", "uniforms", "top_p", "min_p", "top_k", "tokens",
                "logprobs", "untempered",
            )
        ),
        *((name, _int) for name in ("rows", "vocabulary", "threads")),
    )  # fmt: skip


def available() -> bool:
    """Whether the kernels were built."""
    return _library() is not None


def fits(tensor: Tensor) -> bool:
    """Whether the kernels can work on tensors like this one."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and available()


def fits_heads(tensor: Tensor, width: int) -> bool:
    """Whether attention over heads of this width can be computed by the kernels."""
    return fits(tensor) and width % 2 == 0 and width <= _MAX_WIDTH


def padded_width(width: int) -> int:
    """A head's width in whole vectors."""
    return -(-width // BLOCK_TOKENS) * BLOCK_TOKENS


def attend(
    query: Tensor,
    out: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    tables: Tensor,
    query_start: Tensor,
    lengths: Tensor,
    group_start: Tensor,
    group_shared: Tensor,
    scale: float,
    window: int = 0,
    softcap: float = 0.0,
) -> None:
    """Causal attention of a step's tokens over the cache, into `out`.

    Args:
        query: [T, A, D], sequence after sequence; `out` alike.
        keys: [N, K, P, 16] of a layer; values [N, K, 16, P].
        tables: [S, any] int32 block ids of each sequence.
        query_start: [S + 1] int32 first token of each sequence in `query`.
        lengths: [S] int32 tokens of each sequence, those of this step included.
        group_start: [G + 1] int32 first sequence of each group.
        group_shared: [G] int32 blocks at the beginning that a group's sequences have in common.
        scale: factor of the scores.
        window: tokens that each one sees, itself included; 0 means all before it.
        softcap: bound that scores are squeezed into; 0 means none.
    """
    _check_floats(query, out, keys, values)
    _check_ints(tables, query_start, lengths, group_start, group_shared)
    work = _Attention(
        query.data_ptr(), out.data_ptr(), keys.data_ptr(), values.data_ptr(), tables.data_ptr(),
        query_start.data_ptr(), lengths.data_ptr(), group_start.data_ptr(),
        group_shared.data_ptr(), tables.stride(0), len(group_shared), query.shape[1],
        keys.shape[1], query.shape[2], values.shape[3], window, torch.get_num_threads(), scale,
        softcap,
    )  # fmt: skip
    _call("attention")(ctypes.byref(work))


def store(
    key: Tensor,
    value: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    slots: Tensor,
    positions: Tensor,
    rotary: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Put a step's keys and values into the cache.

    Args:
        key: [T, K, D]; value alike.
        keys, values: the cache of a layer, see `attend`.
        slots: [T] int32 block id * 16 + place in the block; negative ones are not kept.
        positions: [T] int32 rows of the tables.
        rotary: cosines and sines [positions, D], halves apart, where keys are still to be rotated.
    """
    _check_floats(key, value, keys, values, *(rotary or ()))
    _check_ints(slots, positions)
    cosines, sines = (None, None) if rotary is None else (part.data_ptr() for part in rotary)
    work = _Store(
        key.data_ptr(), value.data_ptr(), cosines, sines, positions.data_ptr(), slots.data_ptr(),
        keys.data_ptr(), values.data_ptr(), key.shape[0], key.shape[1], key.shape[2],
        values.shape[3], torch.get_num_threads(),
    )  # fmt: skip
    _call("store")(ctypes.byref(work))


def rotate_(x: Tensor, rotary: tuple[Tensor, Tensor], positions: Tensor) -> None:
    """Rotary positions of [T, A, D], in place; see `store`."""
    tokens, heads, width = x.shape
    cosines, sines = rotary
    _check_floats(x, cosines, sines)
    _check_ints(positions)
    _call("rotate")(
        x.data_ptr(), cosines.data_ptr(), sines.data_ptr(), positions.data_ptr(), tokens, heads,
        width, torch.get_num_threads(),
    )  # fmt: skip


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root-mean-square norm of the last dimension of [..., H]."""
    _check_floats(x, weight)
    out = torch.empty_like(x)
    width = x.shape[-1]
    _call("rms_norm")(
        x.data_ptr(), weight.data_ptr(), out.data_ptr(), x.numel() // width, width, epsilon,
        torch.get_num_threads(),
    )  # fmt: skip
    return out


def silu_mul_(gate: Tensor, up: Tensor) -> Tensor:
    """`gate` becomes silu(gate) * up, elementwise."""
    _check_floats(gate, up)
    _call("silu_mul")(gate.data_ptr(), up.data_ptr(), gate.numel(), torch.get_num_threads())
    return gate


def draw(
    logits: Tensor,
    temperatures: Tensor,
    uniforms: Tensor,
    *,
    top_p: Tensor,
    top_k: Tensor,
    min_p: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """One token of each row; see `sampler.drawing.draw_tokens`.

    Args:
        logits: [B, V] float32; the rest [B]: float64, and int32 for top_k.
    """
    _check_floats(logits)
    _check_floats(temperatures, uniforms, top_p, min_p, dtype=torch.float64)
    _check_ints(top_k)
    rows, vocabulary = logits.shape
    tokens = torch.empty(rows, dtype=torch.int64)
    logprobs = torch.empty(rows, dtype=torch.float64)
    untempered = torch.empty(rows, dtype=torch.float64)
    work = _Draw(
        logits.data_ptr(), temperatures.data_ptr(), uniforms.data_ptr(), top_p.data_ptr(),
        min_p.data_ptr(), top_k.data_ptr(), tokens.data_ptr(), logprobs.data_ptr(),
        untempered.data_ptr(), rows, vocabulary, torch.get_num_threads(),
    )  # fmt: skip
    _call("draw")(ctypes.byref(work))
    return tokens, logprobs, untempered


def _check_floats(*tensors: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """A kernel reads raw memory: what it would misread is refused."""
    for tensor in tensors:
        if tensor.dtype != dtype or not tensor.is_contiguous():
            raise ValueError(f"a kernel was given {tensor.dtype} of strides {tensor.stride()}")


def _check_ints(*tensors: Tensor) -> None:
    _check_floats(*tensors, dtype=torch.int32)


@cache
def _library() -> ctypes.CDLL | None:
    # torch, imported above, has loaded the OpenMP runtime that the library's threads come from: one
    # pool of threads for both, as two would fight for the cores.
    for path in sorted(Path(__file__).parent.glob("_native*.so")):
        library = ctypes.CDLL(str(path))
        _set_types(library)
        return library
    return None


def _set_types(library: ctypes.CDLL) -> None:
    for name in ("attention", "store", "draw"):
        getattr(library, f"plumbline_{name}").argtypes = (_pointer,)
    size = ctypes.c_int64
    library.plumbline_rms_norm.argtypes = (_pointer, _pointer, _pointer, size, size, _float, _int)
    library.plumbline_rotate.argtypes = (*(_pointer,) * 4, size, _int, _int, _int)
    library.plumbline_silu_mul.argtypes = (_pointer, _pointer, size, _int)
    for name in ("attention", "store", "rotate", "draw", "rms_norm", "silu_mul"):
        getattr(library, f"plumbline_{name}").restype = None


@cache
def _call(name: str) -> Callable[..., Any]:
    library = _library()
    if library is None:
        raise RuntimeError("the kernels were not built; callers ask `fits` first")
    function: Callable[..., Any] = getattr(library, f"plumbline_{name}")
    return function
