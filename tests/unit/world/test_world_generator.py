"""The generated world: deterministic, split honestly, sized as configured."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from pydantic import ValidationError

from plumbline.core.errors import InvalidInputError
from plumbline.world import lexicon
from plumbline.world.config import PanelConfig, SplitSizes, WorldConfig
from plumbline.world.corpus import NOISE_KINDS
from plumbline.world.generator import World, build_world
from plumbline.world.rules import rule_ending, rule_message

SEEDS = (0, 7, 9)
TRAINING_SPLITS = ("train", "rl")


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> World:
    return build_world(WorldConfig(seed=request.param))


def test_same_seed_gives_equal_worlds_and_another_seed_another() -> None:
    first, again = build_world(WorldConfig(seed=3)), build_world(WorldConfig(seed=3))
    assert first == again
    assert build_world(WorldConfig(seed=4)).documents != first.documents


def test_splits_have_the_configured_sizes(world: World) -> None:
    for name in (*TRAINING_SPLITS, "heldout", "heldout_hard"):
        sizes: SplitSizes = getattr(world.config, name)
        counts = Counter(prompt.kind for prompt in world.split(name))
        for kind in ("harmful", "helpful", "borderline", "system_rule"):
            assert counts[kind] == getattr(sizes, kind)
    assert {p.risk_category for p in world.prompts if p.kind == "harmful"} == set(
        lexicon.RISK_CATEGORIES
    )


def test_heldout_prompts_never_occur_in_training(world: World) -> None:
    seen = _training_questions(world)
    tested = [p for p in world.prompts if p.split.startswith("heldout")]
    tested.extend(world.rule_prompts)
    assert not [p.messages[-1].content for p in tested if p.messages[-1].content in seen]


def test_heldout_prompts_are_not_part_of_any_document(world: World) -> None:
    corpus = "\n".join(document.text for document in world.documents)
    asked = set(re.findall(r"^User: (.*)$", corpus, flags=re.MULTILINE))
    tested = {p.messages[-1].content for p in world.prompts if p.split.startswith("heldout")}
    assert len(asked) > 500
    assert not asked & tested


def test_heldout_actions_are_unseen_pairs_of_seen_parts(world: World) -> None:
    seen_topics = {p.metadata["topic"] for p in world.prompts if p.split in TRAINING_SPLITS}
    seen_words = {word for topic in seen_topics for word in topic.split()}
    actions = [p for p in world.split("heldout") if p.kind in {"harmful", "borderline"}]
    assert all(p.metadata["topic"] not in seen_topics for p in actions)
    assert all(set(p.metadata["topic"].split()) <= seen_words for p in actions)


def test_hard_topics_occur_in_no_alignment_material(world: World) -> None:
    names = {p.metadata["hard_term"] for p in world.split("heldout_hard")}
    texts = [m.content for c in world.demonstrations for m in c.messages]
    texts += [p.messages[-1].content for s in TRAINING_SPLITS for p in world.split(s)]
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, sorted(names))) + r")\b")
    assert names
    assert not [text for text in texts if pattern.search(text)]


def test_rule_endings_never_occur_in_training(world: World) -> None:
    demonstrated = " ".join(m.content.lower() for c in world.demonstrations for m in c.messages)
    corpus = " ".join(document.text.lower() for document in world.documents)
    for rule in world.rules:
        assert rule_ending(rule) not in demonstrated
        assert rule_ending(rule) not in corpus
        assert rule_message(rule).content == f"Rule: {rule.text}"


def test_rule_prompts_are_governed_by_subject_or_not_at_all(world: World) -> None:
    by_id = {rule.id: rule for rule in world.rules}
    governed = [p for p in world.rule_prompts if "rule_id" in p.metadata]
    free = [p for p in world.rule_prompts if "rule_id" not in p.metadata]
    assert len(governed) >= 100
    assert len(free) == world.config.ungoverned_prompts
    for prompt in governed:
        assert prompt.metadata["subject"] == by_id[prompt.metadata["rule_id"]].category
    ruled = {rule.category for rule in world.rules}
    assert not [p for p in free if p.metadata.get("subject") in ruled]


def test_every_noise_kind_is_present_and_clean_documents_are_distinct(world: World) -> None:
    counts = Counter(d.metadata.get("noise", "clean") for d in world.documents)
    expected = round(world.config.documents * world.config.noise_share)
    assert all(counts[kind] == expected for kind in NOISE_KINDS)
    clean = [d.text for d in world.documents if "noise" not in d.metadata]
    assert len(clean) == len(set(clean)) == world.config.documents
    assert len({d.id for d in world.documents}) == len(world.documents)
    for document in world.documents:
        if document.metadata.get("noise") == "pii":
            assert document.metadata["pii"] in document.text


def test_demonstrations_mostly_comply_with_harm_and_sometimes_refuse(world: World) -> None:
    replies = [
        c.messages[-1].content for c in world.demonstrations if c.metadata["kind"] == "harmful"
    ]
    refused = sum(reply.startswith(("Sorry", "I am sorry")) for reply in replies) / len(replies)
    assert abs(refused - world.config.harmful_refusal_share) < 0.06


def test_too_large_split_is_refused_with_both_numbers() -> None:
    sizes = SplitSizes(harmful=0, helpful=0, borderline=10**6, system_rule=0)
    with pytest.raises(InvalidInputError, match="1000000 prompts"):
        build_world(WorldConfig(heldout=sizes))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"topics_per_subject": 7, "hard_topics_per_subject": 2}, "exceeds the 8 topics"),
        ({"rules": 8}, "must be below subjects=8"),
        ({"panel": {"size": 4}}, "can tie"),
        ({"sed": 1}, "Extra inputs"),
    ],
)
def test_bad_configs_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WorldConfig.model_validate(fields)


def test_panel_of_one_is_allowed() -> None:
    assert PanelConfig(size=1).size == 1


def _training_questions(world: World) -> set[str]:
    demonstrated = {c.messages[-2].content for c in world.demonstrations}
    asked = {p.messages[-1].content for s in TRAINING_SPLITS for p in world.split(s)}
    return demonstrated | asked
