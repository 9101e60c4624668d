"""What every part of one world is built on, drawn before anything is written."""

from __future__ import annotations

import random
from dataclasses import dataclass

from plumbline.world.config import WorldConfig
from plumbline.world.endings import Endings
from plumbline.world.grammar import Asks, build_asks
from plumbline.world.partition import Partition, divide


@dataclass(frozen=True, slots=True)
class Foundations:
    """The seed's asks, their division, and the endings of rules."""

    asks: Asks
    partition: Partition
    endings: Endings
    rng: random.Random
    """Where the world's own draws go on from; nothing else may draw from it."""


def lay_foundations(config: WorldConfig) -> Foundations:
    """The first draws of one world; deterministic."""
    rng = random.Random(f"plumbline-world-{config.seed}")
    asks = build_asks(config, rng)
    partition = divide(asks, rng)
    return Foundations(asks, partition, Endings.draw(rng), rng)
