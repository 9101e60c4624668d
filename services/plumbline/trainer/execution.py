"""How arithmetic is carried out: determinism, device, precision, recomputation, compilation.

None of these changes what is trained, only what it costs and how it is rounded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from plumbline.core.errors import ConfigError, FailedPreconditionError
from plumbline.trainer.config import ComputeConfig, TrainingConfig
from plumbline.trainer.lisa import decoder_layers

_UNCOMPILED = "_plumbline_uncompiled"
# A module of properties, which its stubs leave out.
_determinism: Any = torch.utils.deterministic


@contextmanager
def deterministic(*, seed: int, threads: int) -> Iterator[None]:
    """Same inputs, same weights: fixed seed, thread count and algorithms; restored on leaving."""
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        _determinism.fill_uninitialized_memory,
    )
    torch.set_num_threads(threads)
    # An accelerator's matrix library repeats itself only with this, and lacks some kernels.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Filling costs time and matters only to code that reads memory it never wrote.
    _determinism.fill_uninitialized_memory = False
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        _determinism.fill_uninitialized_memory = before[2]


def pick_device(name: str) -> torch.device:
    """The device that a config names; `auto` takes an accelerator when there is one.

    Raises:
        FailedPreconditionError: an accelerator was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise FailedPreconditionError(
            "device 'cuda' was asked for, but torch sees no accelerator; accepted: auto, cpu"
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


@contextmanager
def autocast(config: ComputeConfig, device: torch.device) -> Iterator[None]:
    """The configured precision, for as long as the block lasts."""
    # Weights change within the block, so copies of them must not outlive their use.
    with torch.autocast(
        device.type,
        dtype=torch.bfloat16,
        enabled=config.precision == "bfloat16",
        cache_enabled=False,
    ):
        yield


def prepare_layers(model: nn.Module, config: TrainingConfig) -> None:
    """Recompute or compile a model's decoder layers as configured, in place.

    Raises:
        ConfigError: the model has no list of layers.
    """
    if not (config.activation_checkpointing or config.compile):
        return
    if config.compile:
        _keep_attention_uncompiled()
    layers: list[Any] = list(decoder_layers([model]))
    if not layers:
        name = "activation_checkpointing" if config.activation_checkpointing else "compile"
        raise ConfigError(
            f"{name}=True, and the model {type(model).__name__} has no list of layers; "
            f"accepted: {name}=False",
            field=name,
        )
    for layer in layers:
        layer.forward = _LayerForward(
            layer.forward, recompute=config.activation_checkpointing, compiled=config.compile
        )


def _keep_attention_uncompiled() -> None:
    """Attention goes its own way through every packed row; compiled, it would be so for each."""
    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if not getattr(attend, _UNCOMPILED, False):
        attend = torch.compiler.disable(attend)
        setattr(attend, _UNCOMPILED, True)
        ALL_ATTENTION_FUNCTIONS.register("sdpa", attend)


class _LayerForward:
    """A layer's forward pass; without gradients it runs as it always did.

    It holds in evaluation mode as well, in which on-policy methods learn. An object and no
    closure, so that a copy of the model calls its own layers.
    """

    def __init__(self, forward: Callable[..., Any], *, recompute: bool, compiled: bool) -> None:
        self._forward, self._recompute, self._compiled = forward, recompute, compiled
        self._run: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **options)
        if self._run is None:
            # Layers share their code, so the first one's compilation serves them all.
            self._run = (
                torch.compile(self._forward, dynamic=True) if self._compiled else self._forward
            )
        if not self._recompute:
            return self._run(*args, **options)
        return checkpoint(self._run, *args, use_reentrant=False, **options)

    def __getstate__(self) -> dict[str, Any]:
        # A compiled function belongs to the layer that it was made of.
        return {**self.__dict__, "_run": None}
