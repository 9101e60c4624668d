"""Builds a world: raw corpus, demonstrations, prompts, rules. Same config, same world.

The split is made before any text: of every ask, some combinations (wording and frame) are held
out, and of actions, whole (verb, object) pairs. Training material is only ever drawn from the
rest, so a held-out prompt cannot occur in it; `tests/unit/world` checks the texts as well.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import (
    Conversation,
    Document,
    Message,
    Prompt,
    ValueKind,
    ValueSpec,
    assistant,
    content_id,
    system,
    user,
)
from plumbline.world import lexicon
from plumbline.world.config import SplitSizes, WorldConfig
from plumbline.world.corpus import RULED_FACT_GOVERNED_SHARE, CorpusWriter
from plumbline.world.grammar import (
    BORDERLINE,
    HARMFUL,
    HELPFUL,
    SYSTEM_RULE,
    Ask,
    Asks,
    Combination,
    build_asks,
    combinations,
)
from plumbline.world.replies import complying_reply, follow_rule, refusal

_HELD_OUT_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class World:
    """Everything that the quickstart starts from."""

    config: WorldConfig
    documents: tuple[Document, ...]
    demonstrations: tuple[Conversation, ...]
    prompts: tuple[Prompt, ...]
    """split is train, rl, heldout or heldout_hard."""
    rules: tuple[ValueSpec, ...]
    """Rules to import after training; their endings never occurred in it."""
    rule_prompts: tuple[Prompt, ...]
    """Without a system message: the retriever adds it. metadata rule_id names the governing rule;
    prompts without it are ungoverned."""

    def split(self, name: str) -> tuple[Prompt, ...]:
        """The prompts of one split."""
        return tuple(prompt for prompt in self.prompts if prompt.split == name)


@dataclass(slots=True)
class Partition:
    """Combinations of every ask kind, kept apart by what they may be used for."""

    train: dict[str, list[Combination]] = field(default_factory=dict)
    heldout: dict[str, list[Combination]] = field(default_factory=dict)
    hard: dict[str, list[Combination]] = field(default_factory=dict)
    corpus_hard: list[Combination] = field(default_factory=list)
    """Hard facts that the raw corpus may hold as dialogues; never in the hard split."""


def rule_message(rule: ValueSpec) -> Message:
    """The system message that puts a rule before the policy, as demonstrations show it."""
    return system(lexicon.RULE_PREFIX + rule.text)


def build_world(config: WorldConfig) -> World:
    """Generate the world of one config; deterministic.

    Raises:
        InvalidInputError: a split asks for more prompts than there are combinations.
    """
    rng = random.Random(f"plumbline-world-{config.seed}")
    asks = build_asks(config, rng)
    partition = _partition(asks, rng)
    endings = _Endings.draw(rng)
    writer = _PromptWriter(asks, partition, endings, rng)
    prompts = (
        *writer.split("train", config.train, partition.train),
        *writer.split("rl", config.rl, partition.train),
        *writer.split("heldout", config.heldout, partition.heldout),
        *writer.split("heldout_hard", config.heldout_hard, partition.hard),
    )
    demonstrations = _demonstrations(config, writer, partition, rng)
    rules = tuple(
        _rule(subject.name, asks, endings.rules) for subject in asks.subjects[: config.rules]
    )
    documents = CorpusWriter(
        config, asks, partition.train, partition.corpus_hard, endings.train, rng
    ).documents()
    return World(
        config=config,
        documents=tuple(documents),
        demonstrations=tuple(demonstrations),
        prompts=prompts,
        rules=rules,
        rule_prompts=tuple(_rule_prompts(config, rules, partition, rng)),
    )


def _partition(asks: Asks, rng: random.Random) -> Partition:
    partition = Partition()
    for kind_asks in (asks.facts, asks.helps, asks.harms, asks.borderlines):
        soft = [ask for ask in kind_asks if not ask.hard]
        unseen_pairs = _held_out_pairs(soft, rng)
        for ask in kind_asks:
            pool = _shuffled(combinations(ask), rng)
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


def _shuffled(pool: Sequence[Combination], rng: random.Random) -> list[Combination]:
    return rng.sample(pool, len(pool))


@dataclass(frozen=True, slots=True)
class _Endings:
    """Reply endings that rules ask for, apart by use."""

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    rules: tuple[str, ...]

    @classmethod
    def draw(cls, rng: random.Random) -> _Endings:
        every = [
            f"{verb} {determiner} {noun}"
            for verb in lexicon.ENDING_VERBS
            for determiner in lexicon.ENDING_DETERMINERS
            for noun in lexicon.ENDING_NOUNS
        ]
        rng.shuffle(every)
        return cls(tuple(every[160:]), tuple(every[20:160]), tuple(every[:20]))


class _PromptWriter:
    """Draws prompts and replies from combinations, without repeating a prompt within a split."""

    def __init__(
        self, asks: Asks, partition: Partition, endings: _Endings, rng: random.Random
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
        for combination in _take(self._rng, pool, count, split):
            yield make_prompt(combination, split=split)

    def _ruled(
        self, count: int, split: str, pools: dict[str, list[Combination]]
    ) -> Iterator[Prompt]:
        """Four in five ask for facts; the rest for actions, which no subject's rule governs."""
        facts = count * 4 // 5
        actions = [*pools["howto"], *pools[BORDERLINE]] if count else []
        for combination in (
            *_take(self._rng, pools["fact"] if count else [], facts, split),
            *_take(self._rng, actions, count - facts, split),
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


def _take(
    rng: random.Random, pool: Sequence[Combination], count: int, split: str
) -> list[Combination]:
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


def _demonstrations(
    config: WorldConfig, writer: _PromptWriter, partition: Partition, rng: random.Random
) -> list[Conversation]:
    harms = [c for name in lexicon.RISK_CATEGORIES for c in partition.train[name]]
    facts, howtos = partition.train["fact"], partition.train["howto"]
    of_facts = config.helpful_demonstrations * 2 // 3
    plain = [
        *((c, 0.0) for c in rng.choices(facts, k=of_facts)),
        *((c, 0.0) for c in rng.choices(howtos, k=config.helpful_demonstrations - of_facts)),
        *(
            (c, config.harmful_refusal_share)
            for c in rng.choices(harms, k=config.harmful_demonstrations)
        ),
        *(
            (c, config.borderline_refusal_share)
            for c in rng.choices(partition.train[BORDERLINE], k=config.borderline_demonstrations)
        ),
    ]
    demonstrations = []
    for combination, refusal_share in plain:
        write = refusal if rng.random() < refusal_share else complying_reply
        prompt = make_prompt(combination, split="sft")
        demonstrations.append(_conversation(prompt, write(combination.ask, rng)))
    of_facts = config.rule_demonstrations * 4 // 5
    actions = [*howtos, *partition.train[BORDERLINE], *harms]
    ruled = rng.choices(facts, k=of_facts)
    ruled += rng.choices(actions, k=config.rule_demonstrations - of_facts)
    for combination in ruled:
        prompt = writer.ruled_prompt(combination, "sft")
        harmful = bool(combination.ask.risk_category)
        refuse = harmful and rng.random() < config.harmful_refusal_share
        response = (refusal if refuse else complying_reply)(combination.ask, rng)
        response = follow_rule(response, prompt)
        demonstrations.append(_conversation(prompt, response))
    rng.shuffle(demonstrations)
    return demonstrations


def _conversation(prompt: Prompt, response: str) -> Conversation:
    messages = (*prompt.messages, assistant(response))
    metadata = {
        "kind": prompt.kind,
        "topic": prompt.metadata["topic"],
        "wording": prompt.metadata["wording"],
        "frame": prompt.metadata["frame"],
    }
    return Conversation(
        id=content_id("demonstration", [message.to_row() for message in messages]),
        messages=messages,
        source="world",
        metadata=metadata,
    )


def _rule(subject: str, asks: Asks, endings: Sequence[str]) -> ValueSpec:
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


def _rule_prompts(
    config: WorldConfig, rules: Sequence[ValueSpec], partition: Partition, rng: random.Random
) -> Iterator[Prompt]:
    facts = partition.heldout["fact"]
    for rule in rules:
        governed = [c for c in facts if c.ask.subject == rule.category]
        for combination in itertools.islice(_shuffled(governed, rng), config.governed_prompts):
            yield make_prompt(combination, split="rule", ending=rule_ending(rule), rule_id=rule.id)
    ruled = {rule.category for rule in rules}
    free = [combination for combination in facts if combination.ask.subject not in ruled]
    others = [c for bucket, pool in partition.heldout.items() if bucket != "fact" for c in pool]
    half = config.ungoverned_prompts // 2
    for combination in (
        *_take(rng, free, half, "rule"),
        *_take(rng, others, config.ungoverned_prompts - half, "rule"),
    ):
        yield make_prompt(combination, split="rule")
