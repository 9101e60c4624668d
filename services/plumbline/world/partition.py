"""Which combinations of asks may be used for what: training, held out, or hard.

The split is made before any text: of every ask, some combinations (wording and frame) are held
out, and of actions, whole (verb, object) pairs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from plumbline.world.grammar import HARMFUL, HELPFUL, Ask, Asks, Combination, combinations

_HELD_OUT_SHARE = 0.25


@dataclass(slots=True)
class Partition:
    """Combinations of every ask kind, kept apart by what they may be used for."""

    train: dict[str, list[Combination]] = field(default_factory=dict)
    heldout: dict[str, list[Combination]] = field(default_factory=dict)
    hard: dict[str, list[Combination]] = field(default_factory=dict)
    corpus_hard: list[Combination] = field(default_factory=list)
    """Hard facts that the raw corpus may hold as dialogues; never in the hard split."""


def divide(asks: Asks, rng: random.Random) -> Partition:
    """Deal out every combination of every ask, once."""
    partition = Partition()
    for kind_asks in (asks.facts, asks.helps, asks.harms, asks.borderlines):
        soft = [ask for ask in kind_asks if not ask.hard]
        unseen_pairs = _held_out_pairs(soft, rng)
        for ask in kind_asks:
            pool = shuffled(combinations(ask), rng)
            cut = int(len(pool) * _HELD_OUT_SHARE)
            bucket = _bucket(ask)
            if ask.hard:
                partition.hard.setdefault(bucket, []).extend(pool[:cut])
                if ask.is_fact:
                    partition.corpus_hard.extend(pool[cut:])
            elif ask.topic in unseen_pairs:
                partition.heldout.setdefault(bucket, []).extend(pool)
            elif ask.is_fact:
                partition.heldout.setdefault(bucket, []).extend(pool[:cut])
                partition.train.setdefault(bucket, []).extend(pool[cut:])
            else:
                partition.train.setdefault(bucket, []).extend(pool)
    return partition


def _held_out_pairs(asks: Sequence[Ask], rng: random.Random) -> set[str]:
    """Topics of whole (verb, object) pairs kept from training; facts have none to spare.

    A fact that training never told cannot be known, so facts are held out by wording and frame
    only. One pair in five of each action is held out, so that every verb and object stays seen.
    """
    pairs = [ask for ask in asks if not ask.is_fact]
    by_method: dict[tuple[str, ...], list[str]] = {}
    for ask in pairs:
        by_method.setdefault((ask.risk_category, ask.answer.partition(", ")[2]), []).append(
            ask.topic
        )
    held: set[str] = set()
    for topics in by_method.values():
        held.update(rng.sample(topics, max(1, len(topics) // 5)))
    return held


def _bucket(ask: Ask) -> str:
    if ask.kind == HARMFUL:
        return ask.risk_category
    if ask.kind == HELPFUL:
        return "fact" if ask.is_fact else "howto"
    return ask.kind


def shuffled(pool: Sequence[Combination], rng: random.Random) -> list[Combination]:
    """The pool in an order of its own; the pool stays as it is."""
    return rng.sample(pool, len(pool))
