"""What of a model is trained: all of it, low-rank adapters, or all but what is frozen."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

from torch import nn
from transformers import PreTrainedModel

from plumbline.core.errors import ConfigError
from plumbline.models.adapters import adapted_layers
from plumbline.trainer.config import LoRAConfig, TrainingConfig

_ALL = "all-linear"


def choose_parameters(model: PreTrainedModel, config: TrainingConfig) -> None:
    """Add adapters to a model, in place, and freeze what the configuration names.

    Raises:
        ConfigError: no layer has a target's name, or no parameter matches a pattern.
    """
    if config.lora is not None:
        _add_adapters(model, config.lora)
    for pattern in config.freeze:
        names = [name for name, _ in model.named_parameters()]
        matching = [name for name in names if fnmatchcase(name, pattern)]
        if not matching:
            near = ", ".join(difflib.get_close_matches(pattern, names, n=3, cutoff=0.0))
            raise ConfigError(
                f"freeze={pattern!r} matches no parameter; there are for example {near}",
                field="freeze",
            )
        for name in matching:
            model.get_parameter(name).requires_grad_(False)


def has_adapters(model: nn.Module) -> bool:
    """Whether a model's own weights stay as they were, because only adapters learn."""
    return any(True for _ in adapted_layers(model))


@contextmanager
def base_weights(model: nn.Module) -> Iterator[None]:
    """The model without its adapters, for as long as the block lasts: its own reference."""
    layers = [layer for _, _, layer in adapted_layers(model)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _add_adapters(model: PreTrainedModel, config: LoRAConfig) -> None:
    import peft

    wanted = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.targets) or _ALL,
    )
    try:
        peft.inject_adapter_in_model(wanted, model)
    except ValueError as error:
        names = sorted(
            {
                name.rpartition(".")[2]
                for name, module in model.named_modules()
                if isinstance(module, nn.Linear)
            }
        )
        raise ConfigError(
            f"lora.targets={list(config.targets)} names no layer of the model; accepted: "
            f"{', '.join(names)}",
            field="lora.targets",
        ) from error
