"""Rule sets: what governs each prompt is known by construction, and the world stays as it was.

The oracle of governance here is a plain loop over the rules, written from the meaning of their
fields and not from the arrangements.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from plumbline.core.errors import ConfigError
from plumbline.data.records import Prompt, ValueSpec
from plumbline.world.config import RuleSetConfig, WorldConfig
from plumbline.world.generator import build_world
from plumbline.world.oracle import judge
from plumbline.world.rule_set import RuleSet, build_rule_set
from plumbline.world.rules import rule_ending

SEEDS = (0, 7, 9)


@pytest.fixture(scope="module", params=SEEDS)
def rule_set(request: pytest.FixtureRequest) -> RuleSet:
    return build_rule_set(WorldConfig(seed=request.param), RuleSetConfig(seed=request.param))


def _words(text: str) -> str:
    return " ".join(re.findall("[a-z]+", text.lower()))


def _governing(rules: tuple[ValueSpec, ...], prompt: Prompt) -> list[str]:
    """Ids of the rules that apply to the request and mention its topic, highest priority first."""
    asked = prompt.metadata
    words = f" {_words(prompt.messages[-1].content)} "
    in_force = [
        rule
        for rule in rules
        if rule.effective_from <= asked["as_of"]
        and rule.tenant in ("", asked["tenant"])
        and rule.audience in ("", asked["audience"])
        and (not rule.jurisdiction or asked["jurisdiction"].split("-")[0] == rule.jurisdiction)
        and any(f" {_words(trigger)} " in words for trigger in rule.triggers)
    ]
    superseded = {value_id for rule in in_force for value_id in rule.supersedes}
    left = [rule for rule in in_force if rule.id not in superseded]
    return [rule.id for rule in sorted(left, key=lambda rule: -rule.priority)]


def test_every_prompt_is_governed_by_exactly_what_it_says(rule_set: RuleSet) -> None:
    for prompt in (*rule_set.governed, *rule_set.ungoverned):
        named = [prompt.metadata.get(key, "") for key in ("rule_id", "outranked")]
        assert _governing(rule_set.rules, prompt) == [value_id for value_id in named if value_id]


@settings(max_examples=15, deadline=None)
@given(
    world=st.builds(WorldConfig, seed=st.integers(0, 10**6), subjects=st.integers(5, 10)),
    sizes=st.fixed_dictionaries(
        {
            "seed": st.integers(0, 10**6),
            "conflicts": st.integers(0, 2),
            "plain": st.integers(1, 2),
            "tenants": st.integers(0, 1),
            "jurisdictions": st.integers(0, 1),
            "amendments": st.integers(0, 2),
            "audiences": st.integers(0, 1),
        }
    ),
    data=st.data(),
)
def test_so_it_is_for_any_sizes(
    world: WorldConfig, sizes: dict[str, int], data: st.DataObject
) -> None:
    rules = RuleSetConfig(**sizes, revoked=0).rules
    outranked, amended = sizes["conflicts"], 2 * sizes["amendments"]
    revoked = data.draw(st.integers(0, rules - outranked - amended))
    config = RuleSetConfig(**sizes, revoked=revoked, prompts_per_rule=4, ungoverned_prompts=20)

    made = build_rule_set(world, config)

    assert (len(made.rules), len(made.revoked)) == (rules, revoked)
    test_every_prompt_is_governed_by_exactly_what_it_says(made)
    left = tuple(rule for rule in made.rules if rule.id not in made.revoked)
    for prompt in made.after_revocation:
        named = prompt.metadata.get("rule_id", "")
        assert _governing(left, prompt) == ([named] if named else [])


def test_after_revocation_the_outranked_rule_governs_or_none_does(rule_set: RuleSet) -> None:
    left = tuple(rule for rule in rule_set.rules if rule.id not in rule_set.revoked)
    heirs = Counter(prompt.metadata.get("rule_id", "") for prompt in rule_set.after_revocation)

    for prompt in rule_set.after_revocation:
        assert prompt.metadata["revoked"] in rule_set.revoked
        named = prompt.metadata.get("rule_id", "")
        assert _governing(left, prompt) == ([named] if named else [])
    assert heirs[""] and len(heirs) == 2


def test_the_default_makes_20_rules_5_revoked_and_3_outranked(rule_set: RuleSet) -> None:
    outranked = {p.metadata["outranked"] for p in rule_set.governed if "outranked" in p.metadata}
    asked = Counter(prompt.metadata["rule_id"] for prompt in rule_set.governed)

    assert len({rule.id for rule in rule_set.rules}) == 20
    assert len(set(rule_set.revoked)) == 5
    assert len(outranked) == 3
    assert asked == {rule.id: 24 for rule in rule_set.rules if rule.id not in outranked}
    # One of each arrangement: a conflict's winner, a plain rule, a tenant's, a country's, minors'.
    arrangements = {p.metadata["revoked"]: p for p in rule_set.after_revocation}
    assert len({p.metadata["arrangement"] for p in arrangements.values()}) == 5


def test_half_of_the_ungoverned_prompts_are_near_misses(rule_set: RuleSet) -> None:
    misses = [p for p in rule_set.ungoverned if p.metadata.get("near_miss") == "true"]
    ruled = {rule.category for rule in rule_set.rules}
    triggers = {trigger for rule in rule_set.rules for trigger in rule.triggers}

    assert (len(misses), len(rule_set.ungoverned)) == (200, 400)
    # Near by topic and kept away by the filter, or near by subject and another topic.
    assert sum(p.metadata["expected"].split("|")[0] in triggers for p in misses) >= 100
    assert sum(p.metadata["subject"] in ruled for p in misses) >= 160


def test_only_priority_speaks_for_the_rule_that_wins(rule_set: RuleSet) -> None:
    by_id = {rule.id: rule for rule in rule_set.rules}
    pairs = {
        (p.metadata["rule_id"], p.metadata["outranked"])
        for p in rule_set.governed
        if "outranked" in p.metadata
    }

    assert len(pairs) == 3
    for winner, loser in ((by_id[won], by_id[lost]) for won, lost in pairs):
        assert winner.priority > loser.priority
        assert loser.tenant and not winner.tenant
        assert loser.effective_from > winner.effective_from
        assert loser.triggers == winner.triggers


def test_the_oracle_tells_the_right_ending_from_all_others(rule_set: RuleSet) -> None:
    endings = [rule_ending(rule) for rule in rule_set.rules]
    assert len(set(endings)) == len(endings)
    for prompt in rule_set.governed[::7]:
        reference = prompt.metadata["reference"]
        followed = [
            judge(prompt, f"{reference} {ending.capitalize()}.").follows_rule for ending in endings
        ]
        assert followed == [ending == prompt.metadata["rule_ending"] for ending in endings]
        assert judge(prompt, reference).follows_rule is False
        assert judge(prompt, f"{reference} {prompt.metadata['rule_ending']}.").helpful


def test_every_prompt_is_different(rule_set: RuleSet) -> None:
    every = (*rule_set.governed, *rule_set.ungoverned, *rule_set.after_revocation)

    assert len({prompt.id for prompt in every}) == len(every)


def test_prompts_are_held_out() -> None:
    config = WorldConfig(seed=SEEDS[0])
    world = build_world(config)
    made = build_rule_set(config, RuleSetConfig())
    seen = {c.messages[-2].content for c in world.demonstrations}
    seen |= {p.messages[-1].content for name in ("train", "rl") for p in world.split(name)}
    prompts = (*made.governed, *made.ungoverned)

    assert not [p for p in prompts if p.messages[-1].content in seen]


def test_the_same_seeds_give_the_same_rules_and_others_others() -> None:
    world = WorldConfig(seed=3)
    first, again = build_rule_set(world, RuleSetConfig()), build_rule_set(world, RuleSetConfig())
    other = build_rule_set(world, RuleSetConfig(seed=1))

    assert first == again
    assert [rule.text for rule in other.rules] != [rule.text for rule in first.rules]


def test_a_small_world_has_room_for_a_few_rules() -> None:
    world = WorldConfig(subjects=2, topics_per_subject=2, hard_topics_per_subject=0, rules=1)
    config = RuleSetConfig(
        conflicts=1,
        plain=1,
        tenants=1,
        jurisdictions=0,
        amendments=0,
        audiences=0,
        revoked=2,
        prompts_per_rule=6,
        ungoverned_prompts=20,
    )

    made = build_rule_set(world, config)

    assert len(made.rules) == 5
    with pytest.raises(ConfigError, match=r"need 4 plots .* the world has 4"):
        build_rule_set(world, config.model_copy(update={"plain": 2}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"plain": 5}, "make 21 rules; accepted: 1 to 20"),
        (
            {"conflicts": 0, "plain": 0, "tenants": 0, "jurisdictions": 0, "amendments": 0}
            | {"audiences": 0},
            "make 0 rules",
        ),
        ({"revoked": 16}, "revoked=16 exceeds the 15 rules"),
        ({"revoke": 1}, "Extra inputs"),
    ],
)
def test_bad_rule_sets_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RuleSetConfig.model_validate(fields)


def test_a_moved_trigger_is_noticed(rule_set: RuleSet) -> None:
    """The oracle of governance above reads the rules, not the arrangements."""
    rules = list(rule_set.rules)
    moved = replace(rules[0], triggers=rules[-1].triggers)
    asked = [p for p in rule_set.governed if p.metadata["rule_id"] == rules[0].id]

    assert all(rules[0].id not in _governing((moved, *rules[1:]), prompt) for prompt in asked)
