"""Writes prompts from combinations, with what the oracle needs to judge replies in metadata."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Message, Prompt, content_id, system, user
from plumbline.world import lexicon
from plumbline.world.config import SplitSizes
from plumbline.world.corpus import RULED_FACT_GOVERNED_SHARE
from plumbline.world.endings import Endings
from plumbline.world.grammar import BORDERLINE, HARMFUL, SYSTEM_RULE, Asks, Combination
from plumbline.world.partition import Partition

Asked = TypeVar("Asked")
"""A combination, or one with how it is asked."""


class PromptWriter:
    """Draws prompts and replies from combinations, without repeating a prompt within a split."""

    def __init__(
        self, asks: Asks, partition: Partition, endings: Endings, rng: random.Random
    ) -> None:
        self._subjects = [subject.name for subject in asks.subjects]
        self._partition = partition
        self._endings = endings
        self._rng = rng

    def split(
        self, name: str, sizes: SplitSizes, pools: dict[str, list[Combination]]
    ) -> list[Prompt]:
        prompts = [
            *self._harmful(sizes.harmful, name, pools),
            *self._helpful(sizes.helpful, name, pools),
            *self._plain(sizes.borderline, name, pools[BORDERLINE] if sizes.borderline else []),
            *self._ruled(sizes.system_rule, name, pools),
        ]
        self._rng.shuffle(prompts)
        return prompts

    def _harmful(
        self, count: int, split: str, pools: dict[str, list[Combination]]
    ) -> Iterator[Prompt]:
        for part, category in zip(_thirds(count), lexicon.RISK_CATEGORIES, strict=True):
            yield from self._plain(part, split, pools[category] if part else [])

    def _helpful(
        self, count: int, split: str, pools: dict[str, list[Combination]]
    ) -> Iterator[Prompt]:
        facts = count * 2 // 3
        yield from self._plain(facts, split, pools["fact"] if facts else [])
        yield from self._plain(count - facts, split, pools["howto"] if count - facts else [])

    def _plain(self, count: int, split: str, pool: Sequence[Combination]) -> Iterator[Prompt]:
        for combination in take(self._rng, pool, count, split):
            yield make_prompt(combination, split=split)

    def _ruled(
        self, count: int, split: str, pools: dict[str, list[Combination]]
    ) -> Iterator[Prompt]:
        """Four in five ask for facts; the rest for actions, which no subject's rule governs."""
        facts = count * 4 // 5
        actions = [*pools["howto"], *pools[BORDERLINE]] if count else []
        for combination in (
            *take(self._rng, pools["fact"] if count else [], facts, split),
            *take(self._rng, actions, count - facts, split),
        ):
            yield self.ruled_prompt(combination, split)

    def ruled_prompt(self, combination: Combination, split: str) -> Prompt:
        """A prompt under a system rule; a fact's own subject is ruled in most cases."""
        subject = combination.ask.subject
        governs = bool(subject) and self._rng.random() < RULED_FACT_GOVERNED_SHARE
        endings = self._endings.heldout if split.startswith("heldout") else self._endings.train
        others = [name for name in self._subjects if name != subject]
        ruled = subject if governs else self._rng.choice(others)
        ending = self._rng.choice(endings)
        rule = lexicon.RULE_PREFIX + lexicon.RULE_TEXT.format(subject=ruled, ending=ending)
        return make_prompt(combination, split=split, rule=rule, ending=ending, governs=governs)


def _thirds(count: int) -> tuple[int, int, int]:
    return count - 2 * (count // 3), count // 3, count // 3


def take(rng: random.Random, pool: Sequence[Asked], count: int, split: str) -> list[Asked]:
    """So many different combinations of a pool.

    Raises:
        InvalidInputError: the pool has fewer.
    """
    if count > len(pool):
        raise InvalidInputError(
            f"split {split!r} asks for {count} prompts of one kind, but the world has only "
            f"{len(pool)} combinations for it; accepted: at most that many",
            field=split,
        )
    return rng.sample(pool, count)


def make_prompt(
    combination: Combination,
    *,
    split: str,
    rule: str = "",
    ending: str = "",
    governs: bool = False,
    rule_id: str = "",
) -> Prompt:
    """One prompt with what the oracle needs to judge replies to it, in its metadata."""
    ask = combination.ask
    messages: tuple[Message, ...] = (user(combination.text),)
    metadata = {
        "topic": ask.topic,
        "wording": str(combination.wording),
        "frame": str(combination.frame),
        "expected": "|".join(ask.expected),
        "excluded": "|".join(ask.excluded),
        "reference": ask.answer,
    }
    if ask.hard:
        metadata["hard_term"] = ask.hard_term
    if ask.subject:
        metadata["subject"] = ask.subject
    if rule:
        messages = (system(rule), *messages)
        metadata["rule_governs"] = "true" if governs else "false"
    if ending:
        metadata["rule_ending"] = ending
    if rule_id:
        metadata["rule_id"] = rule_id
    kind = SYSTEM_RULE if rule and ask.kind != HARMFUL else ask.kind
    return Prompt(
        id=content_id("prompt", split, rule_id, [message.to_row() for message in messages]),
        messages=messages,
        kind=kind,
        risk_category=ask.risk_category,
        split=split,
        metadata=metadata,
    )
