"""Evidence: a means counts for a value only when something ties it to that value."""

from __future__ import annotations

from typing import Any

import pytest

from plumbline.data.records import ValueKind, ValueSpec
from plumbline.retriever.planner.evidence import (
    Evidence,
    EvidenceFinder,
    KnowledgeBaseUse,
    Link,
    ServiceUse,
    Surroundings,
)
from plumbline.retriever.planner.matrix import Place
from plumbline.retriever.planner.pipelines import PipelineUse, StageUse
from plumbline.retriever.values.validation import content_digest

PRINCIPLE = "The reply should treat everybody with respect, whatever their origin or belief."


def fixed(category: str = "", text: str = PRINCIPLE) -> ValueSpec:
    return ValueSpec(id="respect", text=text, kind=ValueKind.FIXED.value, category=category)


def stage(name: str, uses: str, *depends_on: str, **config: Any) -> StageUse:
    return StageUse(name=name, uses=uses, config=config, depends_on=depends_on)


def found(value: ValueSpec, *stages: StageUse, **more: Any) -> dict[Place, list[Evidence]]:
    pipelines = (PipelineUse("p.yaml", stages),)
    finder = EvidenceFinder(Surroundings(pipelines=pipelines, **more))
    return {place: list(pieces) for place, pieces in finder.find(value).items()}


JUDGED = (
    stage("replies", "sampler.sample"),
    stage("judged", "trainer.judge", "replies", principles=(PRINCIPLE.upper(), "Another one.")),
    stage("reward", "trainer.reward_model", "judged", head="preference"),
)


def test_a_principle_counts_where_a_policy_learns_from_it() -> None:
    aligned = stage("aligned", "trainer.ppo", "reward")

    evidence = found(fixed(), *JUDGED, aligned)

    assert evidence == {
        Place.REWARD: [
            Evidence(Place.REWARD, Link.TEXT, "p.yaml: judged", "principles says its text")
        ]
    }


def test_a_reward_model_that_nothing_learns_from_counts_for_nothing() -> None:
    assert found(fixed(), *JUDGED) == {}
    assert found(fixed(), *JUDGED, stage("test", "evaluation.evaluate", "reward")) == {}


def test_preferences_count_without_a_reward_model() -> None:
    evidence = found(fixed(), *JUDGED[:2], stage("better", "trainer.dpo", "judged"))

    assert [piece.where for piece in evidence[Place.REWARD]] == ["p.yaml: judged"]


def test_the_rounds_of_a_block_are_named_together() -> None:
    rounds = [
        stage(name, uses, *before, **config)
        for n in ("1", "2")
        for name, uses, before, config in (
            (f"judged.{n}", "trainer.judge", (), {"principles": (PRINCIPLE,)}),
            (f"better.{n}", "trainer.dpo", (f"judged.{n}",), {}),
        )
    ]

    evidence = found(fixed(), *rounds)[Place.REWARD]

    assert [piece.where for piece in evidence] == ["p.yaml: judged.1, judged.2"]


def test_another_wording_is_no_evidence() -> None:
    other = fixed(text="The reply should respect everybody.")

    assert found(other, *JUDGED, stage("aligned", "trainer.ppo", "reward")) == {}


def test_a_text_within_a_longer_one_counts_unless_it_is_short() -> None:
    inside = stage(
        "d", "trainer.context_distillation", preprompts=(f"You help. {PRINCIPLE} Be safe.",)
    )
    learner = stage("sft", "trainer.sft", "d")

    assert found(fixed(), inside, learner)[Place.SFT][0].what == "preprompts quotes its text"
    assert found(fixed(text="Be safe."), inside, learner) == {}


@pytest.mark.parametrize(
    ("category", "config", "what"),
    [
        ("gambling", {"lexicon": {"categories": {"gambling": ("bet",)}}}, "lexicon.categories"),
        ("gambling", {"endpoints": ({"name": "gambling"},)}, "endpoint 'gambling'"),
        ("privacy", {"anonymize": {"enabled": True}}, "anonymize"),
        ("hate", {"lexicon": {"enabled": True, "builtin": True}}, "words of abuse"),
    ],
)
def test_filters_count_before_pretraining_only(
    category: str, config: dict[str, Any], what: str
) -> None:
    curated = stage("corpus", "curation.curate", **config)
    mixed = stage("mixed", "curation.mix", "corpus")

    pretrained = found(fixed(category), curated, mixed, stage("base", "trainer.pretrain", "mixed"))
    tuned = found(fixed(category), curated, mixed, stage("sft", "trainer.sft", "mixed"))

    assert what in pretrained[Place.PRETRAINING][0].what
    assert tuned == {}


@pytest.mark.parametrize(
    "config",
    [
        {"lexicon": {"enabled": False, "categories": {"gambling": ("bet",)}}},
        {"lexicon": {"categories": {"gambling": ()}}},
        {"lexicon": {"categories": {"alcohol": ("beer",)}}},
        {},
    ],
)
def test_filters_that_do_not_look_for_it_count_for_nothing(config: dict[str, Any]) -> None:
    curated = stage("corpus", "curation.curate", **config)

    assert found(fixed("gambling"), curated, stage("b", "trainer.pretrain", "corpus")) == {}


@pytest.mark.parametrize("anonymize", [{"enabled": False}, {"enabled": True, "action": "keep"}])
def test_personal_data_that_is_kept_is_no_privacy(anonymize: dict[str, Any]) -> None:
    curated = stage("corpus", "curation.curate", anonymize=anonymize)

    assert found(fixed("privacy"), curated, stage("b", "trainer.pretrain", "corpus")) == {}


def test_filters_of_a_corpus_do_not_count_for_what_learns_from_the_policy() -> None:
    """Data acts on the first learner that it reaches, not on those who start from its weights."""
    evidence = found(
        fixed("privacy"),
        stage("corpus", "curation.curate", anonymize={"enabled": True}),
        stage("base", "trainer.pretrain", "corpus"),
        stage("sft", "trainer.sft", "base"),
    )

    assert set(evidence) == {Place.PRETRAINING}


def test_heads_count_for_their_concern() -> None:
    stages = (
        stage("safety", "trainer.reward_model", head="safety"),
        stage("help", "trainer.reward_model", head="helpfulness"),
        stage("ppo", "trainer.ppo", "safety", "help"),
    )

    harmless = found(fixed("harmless"), *stages)[Place.REWARD]
    helpful = found(fixed("helpful"), *stages)[Place.REWARD]

    assert [piece.where for piece in harmless] == ["p.yaml: safety"]
    assert [piece.where for piece in helpful] == ["p.yaml: help"]
    assert helpful[0].what == "head 'helpfulness' scores what trainer.ppo learns from"
    assert found(fixed("honest"), *stages) == {}


def test_demonstrations_count_by_category() -> None:
    stages = (
        stage("cd", "trainer.context_distillation", answer_templates={"illicit": "Decline."}),
        stage("gatt", "trainer.ghost_attention", constraints=({"kind": "language"},)),
        stage("sft", "trainer.sft", "cd", "gatt"),
    )
    wish = ValueSpec(id="w", text="x", kind=ValueKind.CUSTOMISABLE.value, category="language")

    assert [p.where for p in found(fixed("illicit"), *stages)[Place.SFT]] == ["p.yaml: cd"]
    assert [p.where for p in found(wish, *stages)[Place.SFT]] == ["p.yaml: gatt"]


def test_an_import_counts_for_the_content_that_its_files_hold() -> None:
    law, amended = fixed(), fixed(text="Another text entirely.")
    imported = StageUse(
        "rules", "retriever.import_values", {}, value_digests=frozenset({content_digest(law)})
    )
    unknown = StageUse("rules", "retriever.import_values", {}, value_digests=None)

    assert found(law, imported)[Place.INFERENCE][0].link is Link.CONTENT
    assert found(amended, imported) == {}
    assert found(law, unknown) == {}


def test_an_import_by_id_counts_though_only_a_run_tells_the_rest() -> None:
    named = StageUse("rules", "retriever.import_values", {"ids": ("respect",)}, value_digests=None)

    assert found(fixed(), named)[Place.INFERENCE][0].link is Link.ID


def test_a_word_that_happens_to_be_an_id_is_no_evidence() -> None:
    chat = ValueSpec(id="chat", text="Chat like a friend of the user.", kind=ValueKind.FIXED.value)

    assert found(chat, stage("sft", "trainer.sft", template="chat")) == {}


def test_a_knowledge_base_counts_for_the_content_that_it_holds() -> None:
    value = fixed()
    base = KnowledgeBaseUse("house", "ab" * 32, {"respect": {content_digest(value): 3}})
    finder = EvidenceFinder(Surroundings(knowledge_bases=(base,)))
    amended = fixed(text="Another text entirely.")

    piece = finder.find(value)[Place.INFERENCE][0]

    assert (piece.where, piece.what) == ("kb/house", "artifact abababababab holds version 3 of it")
    assert finder.find(amended) == {}
    assert finder.other_texts(amended) == ("kb/house (artifact abababababab)",)
    assert finder.other_texts(value) == ()


def test_settings_of_the_service_count_for_their_concern() -> None:
    service = ServiceUse("retriever.yaml", minimum_safety=0.15, claim_kinds=("arithmetic",))

    harmless = found(fixed("harmless"), services=(service,))
    honest = found(fixed("honest"), services=(service,))

    assert set(harmless) == {Place.INFERENCE}
    assert "0.15" in harmless[Place.INFERENCE][0].what
    assert set(honest) == {Place.TOOLS}
    assert found(fixed("politics"), services=(service,)) == {}
    assert found(fixed("harmless"), services=(ServiceUse("retriever.yaml"),)) == {}
