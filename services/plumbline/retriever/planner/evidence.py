"""What enforces a value already: found in pipelines, knowledge bases and the service's settings.

Nothing is assumed. A stage counts for a value when its configuration holds the value's id or
text, is keyed by its category, or does what the value's concern asks for; a stage that merely
acts at a place counts for nothing. The text is compared without regard to case and white space.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from plumbline.data.records import ValueSpec
from plumbline.retriever.planner.matrix import Concern, Place, concern_of
from plumbline.retriever.planner.pipelines import (
    IMPORT_VALUES,
    REWARD_MODEL,
    PipelineUse,
    StageUse,
)
from plumbline.retriever.values.validation import content_digest

_IDS = "ids"
"""The key under which stages hold ids of values; elsewhere a word that is an id means itself."""
_SHORTEST_QUOTE = 20
"""Characters from which on a text counts as found inside a longer one."""


class Link(StrEnum):
    """What ties a means to a value, the firmest first."""

    CONTENT = "content"
    """The value itself, by its content digest."""
    ID = "id"
    TEXT = "text"
    CATEGORY = "category"
    CONCERN = "concern"
    """The means serves whatever has the value's concern."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One means that enforces a value at a place."""

    place: Place
    link: Link
    where: str
    """File and stage, or the name of a knowledge base."""
    what: str


@dataclass(frozen=True, slots=True)
class KnowledgeBaseUse:
    """A knowledge base that replies are made with."""

    name: str
    artifact: str
    versions: Mapping[str, Mapping[str, int]]
    """By id, then by content digest: the versions that it holds."""


@dataclass(frozen=True, slots=True)
class ServiceUse:
    """What the retriever's settings say of every reply."""

    where: str
    minimum_safety: float | None = None
    """Least probability of being safe that a reply needs to be given."""
    claim_kinds: tuple[str, ...] = ()
    """Claims that tools check in every reply."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything that evidence is looked for in."""

    pipelines: tuple[PipelineUse, ...] = ()
    knowledge_bases: tuple[KnowledgeBaseUse, ...] = ()
    services: tuple[ServiceUse, ...] = ()


@dataclass(frozen=True, slots=True)
class _Clue:
    """A stage as evidence sees it, searched once for all values."""

    pipeline: PipelineUse
    stage: StageUse
    places: frozenset[Place]
    strings: Mapping[str, str] = field(default_factory=dict)
    """Every text of its configuration in comparable form, to the key that holds it."""


_Finder = Callable[[_Clue, ValueSpec], "tuple[Link, str] | None"]


class EvidenceFinder:
    """Looks for means, value by value."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._clues = [
            _Clue(
                pipeline=pipeline,
                stage=stage,
                places=pipeline.places_of(stage),
                strings=dict(_strings(stage.config)),
            )
            for pipeline in surroundings.pipelines
            for stage in pipeline.stages
        ]

    def find(self, value: ValueSpec) -> dict[Place, tuple[Evidence, ...]]:
        """Evidence by place, at most one piece for each stage and place.

        Stages of one pipeline that enforce it in the same way, such as the rounds of a block, are
        named together.
        """
        stages: defaultdict[tuple[Place, str, Link, str], list[str]] = defaultdict(list)
        for clue in self._clues:
            for place, finders in _FINDERS.items():
                if place not in clue.places:
                    continue
                hit = next((hit for finder in finders if (hit := finder(clue, value))), None)
                if hit:
                    stages[place, clue.pipeline.name, *hit].append(clue.stage.name)
        found: defaultdict[Place, list[Evidence]] = defaultdict(list)
        for (place, pipeline, link, what), names in stages.items():
            found[place].append(Evidence(place, link, f"{pipeline}: {', '.join(names)}", what))
        for evidence in self._outside_pipelines(value):
            found[evidence.place].append(evidence)
        return {place: tuple(pieces) for place, pieces in found.items()}

    def other_texts(self, value: ValueSpec) -> tuple[str, ...]:
        """Knowledge bases that hold the value's id, but nothing of this content."""
        digest = content_digest(value)
        return tuple(
            f"kb/{base.name} (artifact {base.artifact[:12]})"
            for base in self._surroundings.knowledge_bases
            if value.id in base.versions and digest not in base.versions[value.id]
        )

    def _outside_pipelines(self, value: ValueSpec) -> Iterator[Evidence]:
        digest, concern = content_digest(value), concern_of(value)
        for base in self._surroundings.knowledge_bases:
            version = base.versions.get(value.id, {}).get(digest)
            if version is not None:
                yield Evidence(
                    Place.INFERENCE,
                    Link.CONTENT,
                    f"kb/{base.name}",
                    f"artifact {base.artifact[:12]} holds version {version} of it",
                )
        for service in self._surroundings.services:
            if concern is Concern.HARM and service.minimum_safety is not None:
                yield Evidence(
                    Place.INFERENCE,
                    Link.CONCERN,
                    service.where,
                    f"withholds replies under {service.minimum_safety:g} of being safe",
                )
            if concern is Concern.FACTS and service.claim_kinds:
                yield Evidence(
                    Place.TOOLS,
                    Link.CONCERN,
                    service.where,
                    f"checks the claims of every reply: {', '.join(service.claim_kinds)}",
                )


def comparable(text: str) -> str:
    """A text in the form in which texts are compared."""
    return " ".join(text.casefold().split())


def _strings(config: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(comparable text, dotted key) of every text in a configuration."""
    if isinstance(config, str):
        yield comparable(config), key
    elif isinstance(config, Mapping):
        for name, item in config.items():
            yield from _strings(item, f"{key}.{name}" if key else str(name))
    elif isinstance(config, Sequence):
        for item in config:
            yield from _strings(item, key)


def _says_the_value(clue: _Clue, value: ValueSpec) -> tuple[Link, str] | None:
    """The configuration holds the id, or the text, whole or within a longer one."""
    if value.id in clue.stage.config.get(_IDS, ()):
        return Link.ID, f"{_IDS} names it"
    text = comparable(value.text)
    if (key := clue.strings.get(text)) is not None:
        return Link.TEXT, f"{key} says its text"
    if len(text) >= _SHORTEST_QUOTE:
        for candidate, key in clue.strings.items():
            if text in candidate:
                return Link.TEXT, f"{key} quotes its text"
    return None


def _filters_for_it(clue: _Clue, value: ValueSpec) -> tuple[Link, str] | None:
    """Curation drops or rewrites documents for the value's sake."""
    if clue.stage.uses not in ("curation.curate", "curation.curate_shard"):
        return None
    config, concern = clue.stage.config, concern_of(value)
    lexicon = _enabled(config, "lexicon")
    if lexicon and value.category and lexicon.get("categories", {}).get(value.category):
        return Link.CATEGORY, f"lexicon.categories.{value.category} lists its terms"
    for endpoint in config.get("endpoints", ()):
        if value.category and endpoint.get("name") == value.category:
            return Link.CATEGORY, f"endpoint {value.category!r} judges documents by it"
    anonymize = _enabled(config, "anonymize")
    if concern is Concern.PRIVACY and anonymize and anonymize.get("action") != "keep":
        return Link.CONCERN, "anonymize replaces personal data"
    if concern is Concern.HARM and lexicon and lexicon.get("builtin"):
        return Link.CONCERN, "lexicon drops documents with words of abuse"
    return None


def _enabled(config: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    section = config.get(name)
    if not isinstance(section, Mapping) or section.get("enabled") is False:
        return None
    return section


def _demonstrates_it(clue: _Clue, value: ValueSpec) -> tuple[Link, str] | None:
    """Data for fine-tuning is made for the value's category."""
    config = clue.stage.config
    if not value.category:
        return None
    if clue.stage.uses == "trainer.context_distillation":
        if value.category in config.get("answer_templates", {}):
            return Link.CATEGORY, f"answer_templates.{value.category} shapes the replies"
    elif clue.stage.uses == "trainer.ghost_attention":
        kinds = {constraint.get("kind") for constraint in config.get("constraints", ())}
        if value.category in kinds:
            return Link.CATEGORY, f"constraint {value.category!r} holds through conversations"
    return None


_HEAD_CONCERNS = {"safety": Concern.HARM, "helpfulness": Concern.HELP}


def _rewards_it(clue: _Clue, value: ValueSpec) -> tuple[Link, str] | None:
    """A reward model of the value's concern, whose scores a policy learns from."""
    head, concern = str(clue.stage.config.get("head", "")), concern_of(value)
    if clue.stage.uses != REWARD_MODEL or concern is None:
        return None
    if _HEAD_CONCERNS.get(head) is not concern:
        return None
    learners = dict.fromkeys(
        learner.uses for learner in clue.pipeline.policies_rewarded_by(clue.stage)
    )
    return Link.CONCERN, f"head {head!r} scores what {', '.join(learners)} learns from"


def _imports_it(clue: _Clue, value: ValueSpec) -> tuple[Link, str] | None:
    """A knowledge base is made from files that hold the value."""
    stage = clue.stage
    if stage.uses != IMPORT_VALUES or not stage.value_digests:
        return None
    chosen = stage.config.get("ids", ())
    if chosen and value.id not in chosen:
        return None
    if content_digest(value) in stage.value_digests:
        return Link.CONTENT, "imports it into a knowledge base"
    return None


_FINDERS: Mapping[Place, tuple[_Finder, ...]] = {
    Place.PRETRAINING: (_says_the_value, _filters_for_it),
    Place.SFT: (_says_the_value, _demonstrates_it),
    Place.REWARD: (_says_the_value, _rewards_it),
    Place.INFERENCE: (_imports_it, _says_the_value),
}
"""Tools are no stages; what every reply is checked by stands in the service's settings."""
