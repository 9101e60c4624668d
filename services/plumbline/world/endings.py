"""The words that rules ask replies to end with, apart by use."""

from __future__ import annotations

import random
from dataclasses import dataclass

from plumbline.world import lexicon


@dataclass(frozen=True, slots=True)
class Endings:
    """Reply endings that rules ask for, apart by use."""

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    rules: tuple[str, ...]

    @classmethod
    def draw(cls, rng: random.Random) -> Endings:
        every = [
            f"{verb} {determiner} {noun}"
            for verb in lexicon.ENDING_VERBS
            for determiner in lexicon.ENDING_DETERMINERS
            for noun in lexicon.ENDING_NOUNS
        ]
        rng.shuffle(every)
        return cls(tuple(every[160:]), tuple(every[20:160]), tuple(every[:20]))
