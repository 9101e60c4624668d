"""The rules that are imported after training, and prompts that they govern or do not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from plumbline.data.records import Message, Prompt, ValueKind, ValueSpec, system
from plumbline.world import lexicon
from plumbline.world.config import WorldConfig
from plumbline.world.grammar import Asks
from plumbline.world.partition import Partition, shuffled
from plumbline.world.prompts import make_prompt, take


def rule_message(rule: ValueSpec) -> Message:
    """The system message that puts a rule before the policy, as demonstrations show it."""
    return system(lexicon.RULE_PREFIX + rule.text)


def subject_rule(subject: str, asks: Asks, endings: Sequence[str]) -> ValueSpec:
    """The rule over all topics of one subject."""
    position = [item.name for item in asks.subjects].index(subject)
    ending = endings[position % len(endings)]
    topics = {ask.expected[0]: None for ask in asks.facts if ask.subject == subject}
    return ValueSpec(
        id=f"end-{subject}",
        text=lexicon.RULE_TEXT.format(subject=subject, ending=ending),
        kind=ValueKind.CHANGING.value,
        title=f"Ending for {subject}",
        category=subject,
        triggers=(subject, *topics),
        effective_from="2024-01-01",
    )


def rule_ending(rule: ValueSpec) -> str:
    """The words that a rule of this world asks replies to end with."""
    return rule.text.rpartition(": ")[2].rstrip(".")


def rule_prompts(
    config: WorldConfig, rules: Sequence[ValueSpec], partition: Partition, rng: random.Random
) -> Iterator[Prompt]:
    """Held-out prompts that each rule governs, then prompts that none does, half of them facts."""
    facts = partition.heldout["fact"]
    for rule in rules:
        governed = [c for c in facts if c.ask.subject == rule.category]
        for combination in itertools.islice(shuffled(governed, rng), config.governed_prompts):
            yield make_prompt(combination, split="rule", ending=rule_ending(rule), rule_id=rule.id)
    ruled = {rule.category for rule in rules}
    free = [combination for combination in facts if combination.ask.subject not in ruled]
    others = [c for bucket, pool in partition.heldout.items() if bucket != "fact" for c in pool]
    half = config.ungoverned_prompts // 2
    for combination in (
        *take(rng, free, half, "rule"),
        *take(rng, others, config.ungoverned_prompts - half, "rule"),
    ):
        yield make_prompt(combination, split="rule")
