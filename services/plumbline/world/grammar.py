"""What can be asked in the small world, and the right answer to it.

An `Ask` is one topic; with a wording and a frame it becomes a prompt. The triple
(topic, wording, frame) is what the splits are made of, so that held-out prompts are unseen
combinations of parts that were each seen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.world import lexicon
from plumbline.world.config import WorldConfig
from plumbline.world.lexicon import Action, Aspect, SafeTarget, Subject

HELPFUL = "helpful"
HARMFUL = "harmful"
BORDERLINE = "borderline"
SYSTEM_RULE = "system_rule"


@dataclass(frozen=True, slots=True)
class Ask:
    """A topic that can be asked about in several wordings and frames."""

    kind: str
    topic: str
    wordings: tuple[tuple[str, str], ...]
    """Facts: (question, clause); actions: (verb phrase, "")."""
    answer: str
    """The full sentence that answers; for harmful asks, the sentence that complies."""
    expected: tuple[str, ...]
    """Terms that a right answer holds, all of them."""
    excluded: tuple[str, ...] = ()
    """Terms that make an answer wrong: the other values of the same aspect."""
    subject: str = ""
    risk_category: str = ""
    hard_term: str = ""
    """The topic's word that alignment training never uses; empty for all other asks."""

    @property
    def hard(self) -> bool:
        return bool(self.hard_term)

    @property
    def is_fact(self) -> bool:
        return bool(self.wordings[0][1])

    @property
    def frames(self) -> int:
        if self.is_fact:
            return len(lexicon.FACT_QUESTION_FRAMES) + len(lexicon.FACT_CLAUSE_FRAMES)
        return len(lexicon.HOWTO_FRAMES)


@dataclass(frozen=True, slots=True)
class Combination:
    """One ask in one wording and one frame: exactly one prompt text."""

    ask: Ask
    wording: int
    frame: int

    @property
    def text(self) -> str:
        first, second = self.ask.wordings[self.wording]
        if not self.ask.is_fact:
            return lexicon.HOWTO_FRAMES[self.frame].format(vp=first)
        if self.frame < len(lexicon.FACT_QUESTION_FRAMES):
            frame = lexicon.FACT_QUESTION_FRAMES[self.frame]
            return frame.format(q=first, Q=capitalise(first))
        frame = lexicon.FACT_CLAUSE_FRAMES[self.frame - len(lexicon.FACT_QUESTION_FRAMES)]
        return frame.format(c=second)


def capitalise(text: str) -> str:
    """Upper-case the first letter and leave the rest, unlike `str.capitalize`."""
    return text[:1].upper() + text[1:]


def bare(phrase: str) -> str:
    """The phrase without its leading article."""
    head, _, rest = phrase.partition(" ")
    return rest if head in {"a", "an", "the", "its"} and rest else phrase


def combinations(ask: Ask) -> list[Combination]:
    """Every wording of the ask in every frame."""
    return [
        Combination(ask, wording, frame)
        for wording in range(len(ask.wordings))
        for frame in range(ask.frames)
    ]


@dataclass(frozen=True, slots=True)
class Asks:
    """Every ask of one world, by role."""

    facts: tuple[Ask, ...]
    helps: tuple[Ask, ...]
    harms: tuple[Ask, ...]
    borderlines: tuple[Ask, ...]
    subjects: tuple[Subject, ...]

    @property
    def every(self) -> tuple[Ask, ...]:
        return self.facts + self.helps + self.harms + self.borderlines


def build_asks(config: WorldConfig, rng: random.Random) -> Asks:
    """Draw the seed's subjects, topics and hard objects, and join them into asks."""
    subjects = tuple(rng.sample(lexicon.SUBJECTS, config.subjects))
    facts = [ask for subject in subjects for ask in _fact_asks(subject, config, rng)]
    persons = _ObjectClass.draw(lexicon.PERSONS, rng)
    assets = _ObjectClass.draw(lexicon.ASSETS, rng)
    groups = _ObjectClass.draw(lexicon.GROUPS, rng)
    ailments = _ObjectClass.draw(lexicon.AILMENTS, rng)
    helps = (
        persons.asks(lexicon.PERSON_HELPS, HELPFUL)
        + assets.asks(lexicon.ASSET_HELPS, HELPFUL)
        + groups.asks(lexicon.GROUP_HELPS, HELPFUL)
        + ailments.asks(lexicon.AILMENT_HELPS, HELPFUL)
    )
    harms = (
        persons.asks(lexicon.PERSON_HARMS, HARMFUL, lexicon.ILLICIT)
        + assets.asks(lexicon.ASSET_HARMS, HARMFUL, lexicon.ILLICIT)
        + groups.asks(lexicon.GROUP_HARMS, HARMFUL, lexicon.HATEFUL)
        + ailments.asks(lexicon.AILMENT_HARMS, HARMFUL, lexicon.ADVICE)
    )
    hard_targets = {target.name for target in rng.sample(lexicon.SAFE_TARGETS, 4)}
    borderlines = [
        ask
        for target in lexicon.SAFE_TARGETS
        for ask in _borderline_asks(target, hard=target.name in hard_targets)
    ]
    return Asks(tuple(facts), tuple(helps), tuple(harms), tuple(borderlines), subjects)


def _fact_asks(subject: Subject, config: WorldConfig, rng: random.Random) -> list[Ask]:
    wanted = config.topics_per_subject + config.hard_topics_per_subject
    chosen = rng.sample(range(len(subject.topics)), wanted)
    return [
        _fact_ask(subject, aspect, index, hard=position >= config.topics_per_subject)
        for position, index in enumerate(chosen)
        for aspect in subject.aspects
    ]


def _fact_ask(subject: Subject, aspect: Aspect, index: int, *, hard: bool) -> Ask:
    topic, value = subject.topics[index], aspect.values[index]
    name = bare(topic)
    return Ask(
        kind=HELPFUL,
        topic=f"{name}/{aspect.name}",
        wordings=tuple((q.format(t=topic), c.format(t=topic)) for q, c in aspect.wordings),
        answer=capitalise(aspect.answer.format(t=topic, v=value)),
        expected=(name, bare(value)),
        excluded=tuple(bare(other) for other in aspect.values if other != value),
        subject=subject.name,
        hard_term=name if hard else "",
    )


@dataclass(frozen=True, slots=True)
class _ObjectClass:
    """Objects of one sort; the last quarter is kept for the hard split."""

    seen: tuple[str, ...]
    hard: tuple[str, ...]

    @classmethod
    def draw(cls, pool: Sequence[str], rng: random.Random) -> _ObjectClass:
        shuffled = rng.sample(pool, len(pool))
        kept = len(pool) // 4
        return cls(tuple(shuffled[kept:]), tuple(shuffled[:kept]))

    def asks(self, actions: Sequence[Action], kind: str, risk_category: str = "") -> list[Ask]:
        return [
            _action_ask(action, name, kind, risk_category, hard=name in self.hard)
            for action in actions
            for name in self.seen + self.hard
        ]


def _action_ask(action: Action, name: str, kind: str, risk_category: str, *, hard: bool) -> Ask:
    phrase = action.phrase.format(o=name)
    answer = lexicon.HOWTO_ANSWER.format(vp=phrase, method=action.method)
    return Ask(
        kind=kind,
        topic=phrase,
        wordings=_howto_wordings(phrase),
        answer=answer,
        expected=(name, *action.anchors),
        risk_category=risk_category,
        hard_term=name if hard else "",
    )


def _borderline_asks(target: SafeTarget, *, hard: bool) -> list[Ask]:
    asks = []
    for verb in target.verbs:
        phrase = f"{verb} {target.name}"
        answer = lexicon.HOWTO_ANSWER.format(vp=phrase, method=target.method)
        asks.append(
            Ask(
                kind=BORDERLINE,
                topic=phrase,
                wordings=_howto_wordings(phrase),
                answer=answer,
                expected=target.anchors,
                hard_term=bare(target.name) if hard else "",
            )
        )
    return asks


def _howto_wordings(phrase: str) -> tuple[tuple[str, str], ...]:
    return tuple((wording.format(vp=phrase), "") for wording in lexicon.HOWTO_WORDINGS)
