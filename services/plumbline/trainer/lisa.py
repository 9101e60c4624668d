"""Layerwise importance-sampled training: which decoder layers learn during which steps.

Source: Pan et al. 2024, arXiv:2403.17919, algorithm 1; every layer is as likely as any other.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from plumbline.core.errors import ConfigError
from plumbline.trainer.config import LISAConfig


def decoder_layers(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The longest list of modules among these and their parts; empty where there is none."""
    lists = [
        list(part)
        for module in modules
        for part in module.modules()
        if isinstance(part, nn.ModuleList)
    ]
    return max(lists, key=len, default=[])


class LayerSampler:
    """Switches the layers of a model on and off, by the number of the optimizer step alone.

    Args:
        modules: what is trained; its layers are those of `decoder_layers`.
    Raises:
        ConfigError: there are fewer layers than should learn at a time.
    """

    def __init__(self, modules: Iterable[nn.Module], config: LISAConfig, *, seed: int) -> None:
        self._layers = decoder_layers(modules)
        if len(self._layers) < config.layers:
            raise ConfigError(
                f"lisa.layers={config.layers}, and the model has {len(self._layers)} decoder "
                "layers; accepted: at most as many",
                field="lisa.layers",
            )
        self._config, self._seed = config, seed
        # What was frozen before stays frozen.
        self._trainable = [
            [parameter for parameter in layer.parameters() if parameter.requires_grad]
            for layer in self._layers
        ]

    def layers_at(self, step: int) -> list[int]:
        """Indices of the layers that learn in an optimizer step, in order."""
        period = step // self._config.every
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + period)
        drawn = torch.randperm(len(self._layers), generator=generator)
        return sorted(drawn[: self._config.layers].tolist())

    def select(self, step: int) -> list[nn.Parameter]:
        """Make the step's layers learn and all others not; returns the parameters of these."""
        chosen = set(self.layers_at(step))
        frozen: list[nn.Parameter] = []
        for index, parameters in enumerate(self._trainable):
            for parameter in parameters:
                parameter.requires_grad_(index in chosen)
            if index not in chosen:
                frozen.extend(parameters)
        return frozen
