"""A larger set of rules over one world, and prompts whose governing rule is known exactly.

The facts of a world are dealt out in plots: half of one subject's topics each. A plot is under one
rule, under two rules for different requests, under two that conflict, or under none. All draws come
from a stream of their own, so that a world stays the same whatever rules are made for it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from plumbline.core.errors import ConfigError
from plumbline.data.records import Prompt, ValueSpec, content_id
from plumbline.world.config import RuleSetConfig, WorldConfig
from plumbline.world.foundations import Foundations, lay_foundations
from plumbline.world.grammar import Combination
from plumbline.world.plots import Case, Plot, make_plot
from plumbline.world.prompts import make_prompt, take
from plumbline.world.rules import rule_ending

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules to import, those to revoke afterwards, and what to ask before and after."""

    rules: tuple[ValueSpec, ...]
    revoked: tuple[str, ...]
    """Ids of the rules that are taken back."""
    governed: tuple[Prompt, ...]
    """metadata rule_id names the rule that governs, rule_ending what it asks for; outranked and
    outranked_ending are those of a rule that conflicts with it and loses; as_of, tenant,
    jurisdiction and audience say how the request is made."""
    ungoverned: tuple[Prompt, ...]
    """metadata near_miss is `true` where only the request's filter or the topic's half of the
    subject keeps a rule away."""
    after_revocation: tuple[Prompt, ...]
    """The prompts that revoked rules governed; metadata rule_id is left out, or names the rule
    that had lost to the revoked one. revoked and revoked_ending say what must be gone."""


def build_rule_set(world: WorldConfig, config: RuleSetConfig) -> RuleSet:
    """Rules over the facts of a world, and their prompts; deterministic.

    Raises:
        ConfigError: the world has too few subjects or topics for these rules.
        InvalidInputError: more prompts are asked for than there are combinations.
    """
    rng = random.Random(f"plumbline-rule-set-{world.seed}-{config.seed}")
    laid = lay_foundations(world)
    plots = _lay_out(laid, config, rng)
    rules = tuple(rule for plot in plots for rule in plot.rules)
    revoked = tuple(islice(_by_turns(plots), config.revoked))
    endings = {rule.id: rule_ending(rule) for rule in rules}
    facts = laid.partition.heldout["fact"]
    cases = [
        (case, combination)
        for plot in plots
        for rule_id in dict.fromkeys(case.governing for case in plot.cases if case.governing)
        for case, combination in _asked(plot, rule_id, facts, config.prompts_per_rule, rng)
    ]
    return RuleSet(
        rules=rules,
        revoked=revoked,
        governed=tuple(_prompt(combination, case, endings) for case, combination in cases),
        ungoverned=tuple(_ungoverned(laid, plots, config, rng)),
        after_revocation=tuple(
            _prompt_after(combination, case, endings)
            for case, combination in cases
            if case.governing in revoked
        ),
    )


def _lay_out(laid: Foundations, config: RuleSetConfig, rng: random.Random) -> list[Plot]:
    """Every plot, those without a rule at the end."""
    pieces = [
        (f"{subject.name}-{half + 1}", subject.name, topics)
        for subject in laid.asks.subjects
        for half, topics in enumerate(_halves(laid, subject.name))
    ]
    if config.plots >= len(pieces):
        raise ConfigError(
            f"these rules need {config.plots} plots and one that stays free, but the world has "
            f"{len(pieces)}: two for each subject; raise the world's subjects or make fewer rules",
            field="rules",
        )
    rng.shuffle(pieces)
    endings = iter(rng.sample(laid.endings.rules, len(laid.endings.rules)))
    arrangements = [*config.arrangements, *[""] * (len(pieces) - config.plots)]
    return [
        make_plot(arrangement, name, subject, topics, endings)
        for arrangement, (name, subject, topics) in zip(arrangements, pieces, strict=True)
    ]


def _halves(laid: Foundations, subject: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The subject's topics that training uses; `WorldConfig` holds at least two."""
    topics = tuple(
        dict.fromkeys(
            ask.expected[0] for ask in laid.asks.facts if ask.subject == subject and not ask.hard
        )
    )
    return topics[: len(topics) // 2], topics[len(topics) // 2 :]


def _by_turns(plots: Sequence[Plot]) -> Iterator[str]:
    """Rules that may be revoked, one of each arrangement in turn."""
    waiting: dict[str, list[str]] = {}
    for plot in plots:
        waiting.setdefault(plot.arrangement, []).extend(plot.revocable)
    while any(waiting.values()):
        for ids in waiting.values():
            if ids:
                yield ids.pop(0)


def _asked(
    plot: Plot, rule_id: str, facts: Sequence[Combination], count: int, rng: random.Random
) -> Iterator[tuple[Case, Combination]]:
    """So many questions under one rule, over the ways of asking that it governs."""
    cases = [case for case in plot.cases if case.governing == rule_id]
    for index, combination in enumerate(take(rng, _of(plot, facts), count, "prompts_per_rule")):
        yield cases[index % len(cases)], combination


def _of(plot: Plot, facts: Iterable[Combination]) -> list[Combination]:
    return [c for c in facts if c.ask.subject == plot.subject and c.ask.expected[0] in plot.topics]


def _ungoverned(
    laid: Foundations, plots: Sequence[Plot], config: RuleSetConfig, rng: random.Random
) -> Iterator[Prompt]:
    """Near misses, then requests for actions, which no rule is about."""
    facts = laid.partition.heldout["fact"]
    misses = [
        (case, combination)
        for plot in plots
        for case in plot.cases
        if not case.governing
        for combination in _of(plot, facts)
    ]
    topics = {topic for plot in plots for topic in plot.topics}
    actions = [
        combination
        for bucket, pool in laid.partition.heldout.items()
        if bucket != "fact"
        for combination in pool
        if not _mentions(combination.text, topics)
    ]
    cases = [case for plot in plots for case in plot.cases]
    half = config.ungoverned_prompts // 2
    for case, combination in take(rng, misses, half, "ungoverned_prompts"):
        prompt = _prompt(combination, case, {})
        yield replace(prompt, metadata={**prompt.metadata, "near_miss": "true"})
    for combination in take(rng, actions, config.ungoverned_prompts - half, "ungoverned_prompts"):
        yield _prompt(combination, Case(rng.choice(cases).where), {})


def _mentions(text: str, phrases: Iterable[str]) -> bool:
    said = f" {' '.join(_WORD.findall(text.lower()))} "
    return any(f" {' '.join(_WORD.findall(phrase.lower()))} " in said for phrase in phrases)


def _prompt(combination: Combination, case: Case, endings: Mapping[str, str]) -> Prompt:
    prompt = make_prompt(
        combination,
        split="rule",
        ending=endings.get(case.governing, ""),
        rule_id=case.governing,
    )
    added = {**case.where.to_metadata(), "arrangement": case.arrangement}
    if case.outranked:
        added |= {"outranked": case.outranked, "outranked_ending": endings[case.outranked]}
    return _named(replace(prompt, metadata={**prompt.metadata, **added}))


def _prompt_after(combination: Combination, case: Case, endings: Mapping[str, str]) -> Prompt:
    """The same question once the rule that governed it is revoked."""
    heir = replace(case, governing=case.outranked, outranked="")
    prompt = _prompt(combination, heir, endings)
    gone = {"revoked": case.governing, "revoked_ending": endings[case.governing]}
    return _named(replace(prompt, metadata={**prompt.metadata, **gone}))


def _named(prompt: Prompt) -> Prompt:
    """Questions that differ in how they are asked only are different prompts."""
    return replace(prompt, id=content_id("prompt", prompt.id, sorted(prompt.metadata.items())))
