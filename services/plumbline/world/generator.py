"""Builds a world: raw corpus, demonstrations, prompts, rules. Same config, same world.

Training material is only ever drawn from the training part of `partition.divide`, so a held-out
prompt cannot occur in it; `tests/unit/world` checks the texts as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from plumbline.data.records import Conversation, Document, Prompt, ValueSpec, assistant, content_id
from plumbline.world import lexicon
from plumbline.world.config import WorldConfig
from plumbline.world.corpus import CorpusWriter
from plumbline.world.foundations import lay_foundations
from plumbline.world.grammar import BORDERLINE
from plumbline.world.partition import Partition
from plumbline.world.prompts import PromptWriter, make_prompt
from plumbline.world.replies import complying_reply, follow_rule, refusal
from plumbline.world.rules import rule_prompts, subject_rule


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


def build_world(config: WorldConfig) -> World:
    """Generate the world of one config; deterministic.

    Raises:
        InvalidInputError: a split asks for more prompts than there are combinations.
    """
    laid = lay_foundations(config)
    asks, partition, endings, rng = laid.asks, laid.partition, laid.endings, laid.rng
    writer = PromptWriter(asks, partition, endings, rng)
    prompts = (
        *writer.split("train", config.train, partition.train),
        *writer.split("rl", config.rl, partition.train),
        *writer.split("heldout", config.heldout, partition.heldout),
        *writer.split("heldout_hard", config.heldout_hard, partition.hard),
    )
    demonstrations = _demonstrations(config, writer, partition, rng)
    rules = tuple(
        subject_rule(subject.name, asks, endings.rules) for subject in asks.subjects[: config.rules]
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
        rule_prompts=tuple(rule_prompts(config, rules, partition, rng)),
    )


def _demonstrations(
    config: WorldConfig, writer: PromptWriter, partition: Partition, rng: random.Random
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
