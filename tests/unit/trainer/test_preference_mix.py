"""Mixes of preferences: Llama 2's recipes, proportions, the same draw for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Preference, user
from plumbline.trainer.config import PreferenceMix, RewardModelConfig
from plumbline.trainer.preference_mix import mix_preferences


def marked(head: str, count: int, *, source: str = "", named: str = "") -> list[Preference]:
    return [
        Preference(
            f"{head}{source}{named}{index}",
            (user("?"),),
            "a",
            "b",
            head=head,
            source=source,
            metadata={"source": named} if named else {},
        )
        for index in range(count)
    ]


PREFERENCES = marked("helpfulness", 90) + marked("safety", 180) + marked("", 300)


@pytest.mark.parametrize(
    ("head", "own", "other"),
    [
        # All 90 of helpfulness, and as many of the remaining 480.
        ("helpfulness", 90, 90),
        # All 180 of safety are nine tenths; 180 / 9 = 20 of the remaining 390.
        ("safety", 180, 20),
    ],
)
def test_llama2_recipes(head: str, own: int, other: int) -> None:
    mix = RewardModelConfig.model_validate({"head": head, "mix": "llama2"}).preference_mix
    assert mix is not None

    chosen, counts = mix_preferences(PREFERENCES, mix, seed=0)

    assert counts == {head: own, "other": other}
    found = Counter(p.head for p in chosen)
    assert found[head] == own
    assert len(chosen) == own + other
    # Drawn uniformly from all that is left, so every other kind is there.
    assert len(found) == 3


def test_draw_follows_the_seed_and_keeps_the_order() -> None:
    mix = PreferenceMix(weights={"safety": 0.5, "other": 0.5}, whole="safety")

    first, second, third = (mix_preferences(PREFERENCES, mix, seed=seed)[0] for seed in (1, 1, 2))

    assert first == second
    assert first != third
    places = [PREFERENCES.index(p) for p in first]
    assert places == sorted(set(places))


def test_small_group_is_used_whole_and_counted() -> None:
    mix = PreferenceMix(weights={"safety": 1, "helpfulness": 3}, whole="safety")

    _, counts = mix_preferences(PREFERENCES, mix, seed=0)

    # 3 * 180 would be needed; without `other`, unmarked pairs are left out.
    assert counts == {"safety": 180, "helpfulness": 90}


def test_sources_are_named_by_metadata_or_by_file() -> None:
    preferences = marked("", 4, source="a.jsonl") + marked("", 8, source="b.jsonl", named="arena")
    mix = PreferenceMix(by="source", weights={"a.jsonl": 2, "arena": 1}, whole="a.jsonl")

    chosen, counts = mix_preferences(preferences, mix, seed=0)

    assert counts == {"a.jsonl": 4, "arena": 2}
    assert sum(p.metadata.get("source") == "arena" for p in chosen) == 2


def test_missing_group_is_named() -> None:
    mix = PreferenceMix(weights={"helpfulness": 1, "other": 1}, whole="helpfulness")

    with pytest.raises(InvalidInputError, match="no preference has the head 'helpfulness'"):
        mix_preferences(marked("safety", 2), mix, seed=0)


def test_impossible_mixes_are_refused() -> None:
    with pytest.raises(ValidationError, match="whole='safety' has no weight"):
        PreferenceMix(weights={"helpfulness": 1}, whole="safety")
    with pytest.raises(ValidationError, match="numbers above 0"):
        PreferenceMix(weights={"safety": 1, "other": 0}, whole="safety")
    with pytest.raises(ValidationError, match="no recipe for head='preference'"):
        RewardModelConfig(mix="llama2")
