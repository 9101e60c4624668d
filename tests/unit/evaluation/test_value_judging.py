"""Shares of the value check, on replies whose faults are planted one at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plumbline.data.records import Prompt
from plumbline.evaluation.values.judging import (
    Asked,
    Citation,
    Conflict,
    Imported,
    Reply,
    followed_by_arrangement,
    summarise,
)
from plumbline.world.config import RuleSetConfig, WorldConfig
from plumbline.world.rule_set import RuleSet, build_rule_set

ALL, FEWER = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def rule_set() -> RuleSet:
    return build_rule_set(
        WorldConfig(seed=1), RuleSetConfig(prompts_per_rule=4, ungoverned_prompts=200)
    )


@pytest.fixture(scope="module")
def imported(rule_set: RuleSet) -> dict[str, Imported]:
    return {rule.id: Imported(index + 1, rule.id * 2) for index, rule in enumerate(rule_set.rules)}


def _right(prompt: Prompt, imported: dict[str, Imported], artifact: str) -> Asked:
    """The prompt with the reply that a service without faults gives."""
    metadata = prompt.metadata
    plain = metadata["reference"]
    rule_id = metadata.get("rule_id", "")
    if not rule_id:
        return Asked(prompt, Reply(plain, artifact, "answered", (), ()), artifact, plain)
    text = f"{plain} {metadata['rule_ending'].capitalize()}."
    rule = imported[rule_id]
    cited = Citation(rule_id, rule.version, rule.content_digest, "followed")
    conflicts: tuple[Conflict, ...] = ()
    if "outranked" in metadata:
        conflicts = (Conflict(rule_id, metadata["outranked"], "priority"),)
    return Asked(prompt, Reply(text, artifact, "answered", (cited,), conflicts), artifact)


@pytest.fixture
def faultless(
    rule_set: RuleSet, imported: dict[str, Imported]
) -> tuple[list[Asked], list[Asked], list[Asked]]:
    lost = [p for p in rule_set.governed if p.metadata["rule_id"] in rule_set.revoked]
    return (
        [_right(p, imported, ALL) for p in (*rule_set.governed, *rule_set.ungoverned)],
        [_right(p, imported, FEWER) for p in rule_set.after_revocation],
        [_right(p, imported, ALL) for p in lost],
    )


def _values(
    faultless: tuple[list[Asked], list[Asked], list[Asked]], imported: dict[str, Imported]
) -> dict[str, tuple[int, int]]:
    """Counts: those that are so, and all."""
    return {
        name: (round(share.value * share.n), share.n)
        for name, share in summarise(*faultless, imported).items()
    }


def test_a_service_without_faults_has_full_marks(
    faultless: tuple[list[Asked], list[Asked], list[Asked]], imported: dict[str, Imported]
) -> None:
    # 17 rules govern 4 prompts each, and the heir of the revoked law half of its 4; a conflict
    # shows in half of the prompts of its 3 laws; 5 rules are revoked.
    assert _values(faultless, imported) == {
        "followed": (17 * 4 + 2, 17 * 4 + 2),
        "unrelated_changed": (0, 200),
        "revoked_effect": (0, 20),
        "conflicts_right": (6, 6),
        "citations_right": (17 * 4 + 200 + 20 + 20, 17 * 4 + 200 + 20 + 20),
        "restored": (20, 20),
    }
    by_arrangement = followed_by_arrangement(faultless[0])
    assert {name: share.n for name, share in by_arrangement.items()} == {
        "conflict": 12,
        "plain": 16,
        "tenants": 16,
        "jurisdictions": 8,
        "amendment": 8,
        "audience": 8,
    }


def _spoil(asked: list[Asked], index: int, **fields: Any) -> None:
    asked[index] = replace(asked[index], reply=replace(asked[index].reply, **fields))


def _first(asked: list[Asked], key: str) -> int:
    return next(index for index, one in enumerate(asked) if key in one.prompt.metadata)


def test_a_reply_without_its_ending_is_neither_followed_nor_said_to_be(
    faultless: tuple[list[Asked], list[Asked], list[Asked]], imported: dict[str, Imported]
) -> None:
    first = faultless[0]
    index = next(i for i, one in enumerate(first) if one.rule_id and not one.outranked)
    _spoil(first, index, text=first[index].prompt.metadata["reference"])

    counted = _values(faultless, imported)

    assert counted["followed"] == (69, 70)
    assert counted["citations_right"][0] == counted["citations_right"][1] - 1
    # With the verdict that the reply deserves, the citation is right again.
    cited = replace(first[index].reply.citations[0], verdict="broken")
    _spoil(first, index, citations=(cited,))
    again = _values(faultless, imported)["citations_right"]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    "fields", [{"version": 99}, {"content_digest": "c" * 64}, {"value_id": "other"}]
)
def test_a_wrong_citation_is_counted(
    fields: dict[str, Any],
    faultless: tuple[list[Asked], list[Asked], list[Asked]],
    imported: dict[str, Imported],
) -> None:
    first = faultless[0]
    _spoil(first, 0, citations=(replace(first[0].reply.citations[0], **fields),))

    right, total = _values(faultless, imported)["citations_right"]

    assert right == total - 1


def test_an_answer_of_another_state_of_the_knowledge_base_is_cited_wrong(
    faultless: tuple[list[Asked], list[Asked], list[Asked]], imported: dict[str, Imported]
) -> None:
    _spoil(faultless[1], 0, artifact=ALL)

    right, total = _values(faultless, imported)["citations_right"]

    assert right == total - 1


def test_an_ungoverned_reply_that_differs_by_one_letter_is_changed(
    faultless: tuple[list[Asked], list[Asked], list[Asked]], imported: dict[str, Imported]
) -> None:
    first = faultless[0]
    _spoil(first, len(first) - 1, text=first[-1].plain + " ")

    assert _values(faultless, imported)["unrelated_changed"] == (1, 200)


@pytest.mark.parametrize("fault", ["cited", "followed", "changed"])
def test_each_effect_of_a_revoked_rule_is_seen(
    fault: str,
    faultless: tuple[list[Asked], list[Asked], list[Asked]],
    imported: dict[str, Imported],
) -> None:
    after = faultless[1]
    index = next(i for i, one in enumerate(after) if not one.rule_id)
    metadata = after[index].prompt.metadata
    faults: dict[str, dict[str, Any]] = {
        "cited": {"citations": (Citation(metadata["revoked"], 1, "d" * 64, "broken"),)},
        "followed": {"text": f"{metadata['reference']} {metadata['revoked_ending'].capitalize()}."},
        "changed": {"text": "Something else."},
    }
    _spoil(after, index, **faults[fault])

    assert _values(faultless, imported)["revoked_effect"] == (1, 20)


@pytest.mark.parametrize("fault", ["silent", "reversed", "other reason", "loser followed"])
def test_each_fault_of_a_conflict_is_seen(
    fault: str,
    faultless: tuple[list[Asked], list[Asked], list[Asked]],
    imported: dict[str, Imported],
) -> None:
    first = faultless[0]
    index = _first(first, "outranked")
    one = first[index]
    metadata = one.prompt.metadata
    faults: dict[str, dict[str, Any]] = {
        "silent": {"conflicts": ()},
        "reversed": {"conflicts": (Conflict(one.outranked, one.rule_id, "priority"),)},
        "other reason": {"conflicts": (Conflict(one.rule_id, one.outranked, "recency"),)},
        "loser followed": {
            "text": f"{metadata['reference']} {metadata['outranked_ending'].capitalize()}."
        },
    }
    _spoil(first, index, **faults[fault])

    assert _values(faultless, imported)["conflicts_right"] == (5, 6)


def test_a_reply_that_the_old_tag_does_not_bring_back_is_counted(
    faultless: tuple[list[Asked], list[Asked], list[Asked]], imported: dict[str, Imported]
) -> None:
    _spoil(faultless[2], 0, text="Something else.")

    assert _values(faultless, imported)["restored"] == (19, 20)
