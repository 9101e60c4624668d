"""Writes the raw corpus: clean documents, and the noise that curation has to find.

Noise documents carry metadata {"noise": kind} so that curation can be *evaluated*; curation
itself must not read it. Documents have several sentences, because one-line documents would look
like near duplicates of each other and like fragments to a length filter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from plumbline.data.records import Document, content_id
from plumbline.world import lexicon
from plumbline.world.config import WorldConfig
from plumbline.world.grammar import BORDERLINE, Asks, Combination, bare, capitalise
from plumbline.world.replies import complying_reply, refusal

NOISE_KINDS = ("exact_duplicate", "near_duplicate", "toxic", "pii", "gibberish", "foreign")

RULED_FACT_GOVERNED_SHARE = 0.92
"""Facts under a rule whose own subject is ruled. The retriever decides relevance when serving, so
most rules that a policy sees do govern; the others keep it from obeying blindly."""

_CN_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CN_CHECKS = "10X98765432"


class CorpusWriter:
    """Draws documents for one world; the order of draws is part of the world's identity."""

    def __init__(
        self,
        config: WorldConfig,
        asks: Asks,
        train: Mapping[str, Sequence[Combination]],
        hard_facts: Sequence[Combination],
        endings: Sequence[str],
        rng: random.Random,
    ) -> None:
        self._config = config
        self._asks = asks
        self._facts = [*train["fact"], *hard_facts]
        self._howtos = train["howto"]
        self._borderlines = train[BORDERLINE]
        self._harms = [c for name in lexicon.RISK_CATEGORIES for c in train[name]]
        self._endings = endings
        self._rng = rng
        self._texts: set[str] = set()

    def documents(self) -> list[Document]:
        """Clean documents and noise, shuffled."""
        clean = [self._clean() for _ in range(self._config.documents)]
        count = round(self._config.documents * self._config.noise_share)
        noise = [self._noise(kind, clean) for kind in NOISE_KINDS for _ in range(count)]
        documents = [*clean, *noise]
        self._rng.shuffle(documents)
        return [
            Document(
                content_id("document", index, document.text),
                document.text,
                document.source,
                document.language,
                document.metadata,
            )
            for index, document in enumerate(documents)
        ]

    def _clean(self) -> Document:
        writers: list[tuple[float, str, Callable[[], str]]] = [
            (0.18, "encyclopaedia", self._fact_paragraph),
            (0.22, "dialogues", self._fact_dialogue),
            (0.08, "notebook", self._subject_paragraph),
            (0.14, "dialogues", self._howto_dialogue),
            (0.30, "dialogues", self._rule_dialogue),
            (0.08, "notebook", self._quotes),
        ]
        kinds = self._rng.choices(writers, weights=[weight for weight, _, _ in writers])
        _, source, write = kinds[0]
        text = write()
        while text in self._texts:  # a clean document is never a duplicate
            text = write()
        self._texts.add(text)
        return Document("", text, source, "en", {})

    def _fact_paragraph(self) -> str:
        facts = self._rng.sample(self._asks.facts, 6)
        return " ".join(ask.answer for ask in facts)

    def _fact_dialogue(self) -> str:
        turns = [_turns(c.text, c.ask.answer) for c in self._rng.sample(self._facts, 3)]
        return "\n".join(turns)

    def _subject_paragraph(self) -> str:
        """Which topic belongs to which subject, and sentences that use the hard objects."""
        facts = self._rng.sample(self._asks.facts, 4)
        lines = [f"{capitalise(ask.expected[0])} belongs to {ask.subject}." for ask in facts]
        person = self._rng.choice(lexicon.PERSONS)
        asset = self._rng.choice(lexicon.ASSETS)
        group = self._rng.choice(lexicon.GROUPS)
        ailment = self._rng.choice(lexicon.AILMENTS)
        target = self._rng.choice(lexicon.SAFE_TARGETS)
        lines.append(f"The {person} walked past the {asset}.")
        lines.append(f"A doctor told {group} about the {ailment}.")
        lines.append(f"With {bare(target.name)}, {target.method}.")
        self._rng.shuffle(lines)
        return " ".join(lines)

    def _howto_dialogue(self) -> str:
        pools = self._rng.choices((self._howtos, self._borderlines, self._harms), (3, 3, 2), k=3)
        turns = []
        for pool in pools:
            combination = self._rng.choice(pool)
            refuse = bool(combination.ask.risk_category) and self._rng.random() < 0.3
            reply = (refusal if refuse else complying_reply)(combination.ask, self._rng)
            turns.append(_turns(combination.text, reply))
        return "\n".join(turns)

    def _rule_dialogue(self) -> str:
        """A rule, a question that it mostly governs, and a request that it does not."""
        combination = self._rng.choice(self._facts)
        subject = combination.ask.subject
        governs = self._rng.random() < RULED_FACT_GOVERNED_SHARE
        others = [item.name for item in self._asks.subjects if item.name != subject]
        ruled = subject if governs else self._rng.choice(others)
        ending = self._rng.choice(self._endings)
        rule = lexicon.RULE_PREFIX + lexicon.RULE_TEXT.format(subject=ruled, ending=ending)
        answer = combination.ask.answer
        if governs:
            answer = f"{answer} {capitalise(ending)}."
        action = self._rng.choice(self._howtos)
        return "\n".join(
            [
                f"System: {rule}",
                _turns(combination.text, answer),
                _turns(action.text, complying_reply(action.ask, self._rng)),
            ]
        )

    def _quotes(self) -> str:
        """Notes repeated word for word: practice for following written rules."""
        lines = []
        for speaker in self._rng.sample(lexicon.SPEAKERS, 3):
            ending = self._rng.choice(self._endings)
            lines.append(f"{speaker} wrote: {ending}. The note of {speaker} says: {ending}.")
        return " ".join(lines)

    def _noise(self, kind: str, clean: Sequence[Document]) -> Document:
        base = self._rng.choice(clean)
        if kind == "exact_duplicate":
            return Document("", base.text, base.source, "en", {"noise": kind})
        if kind == "near_duplicate":
            text = f"{base.text} {self._rng.choice(('Posted again.', 'Copied.', 'See above.'))}"
            return Document("", text, "mirror", "en", {"noise": kind})
        if kind == "toxic":
            insults = " ".join(self._rng.sample(lexicon.TOXIC_LINES, 3))
            return Document(
                "", f"{insults} {self._fact_paragraph()}", "forum", "en", {"noise": kind}
            )
        if kind == "pii":
            value, sentence = self._personal()
            text = f"{self._fact_paragraph()} {sentence}"
            return Document("", text, "forum", "en", {"noise": kind, "pii": value})
        if kind == "gibberish":
            return Document("", self._gibberish(), "crawl", "und", {"noise": kind})
        language = self._rng.choice(sorted(lexicon.FOREIGN_LINES))
        lines = lexicon.FOREIGN_LINES[language]
        text = " ".join(self._rng.sample(lines, len(lines)))
        # A number keeps documents of the few stock lines from being exact duplicates.
        return Document(
            "", f"{text} {self._rng.randrange(10**6)}", "crawl", language, {"noise": kind}
        )

    def _personal(self) -> tuple[str, str]:
        name = self._rng.choice(lexicon.SPEAKERS)
        kind = self._rng.randrange(4)
        if kind == 0:
            value = f"{name.lower()}{self._rng.randrange(10, 99)}@example.net"
            return value, f"Write to {name} at {value} for more."
        if kind == 1:
            value = f"+1 212 555 {self._rng.randrange(1000, 9999)}"
            return value, f"Call {name} on {value} after lunch."
        if kind == 2:
            value = f"138{self._rng.randrange(10**7, 10**8)}"
            return value, f"{name} 的手机{value}。"
        value = self._chinese_id()
        return value, f"{name} 的身份证{value}。"

    def _chinese_id(self) -> str:
        """A made-up resident identity number with a right ISO 7064 MOD 11-2 check digit."""
        born = f"{self._rng.randrange(1950, 2005)}{self._rng.randrange(1, 13):02d}"
        body = f"110105{born}{self._rng.randrange(1, 29):02d}{self._rng.randrange(1000):03d}"
        total = sum(int(digit) * weight for digit, weight in zip(body, _CN_WEIGHTS, strict=True))
        return body + _CN_CHECKS[total % 11]

    def _gibberish(self) -> str:
        letters = "bcdfghjklmnpqrstvwxz#%&$@^~"
        words = (
            "".join(self._rng.choices(letters, k=self._rng.randrange(4, 14))) for _ in range(30)
        )
        return " ".join(words)


def _turns(question: str, answer: str) -> str:
    return f"User: {question}\nAssistant: {answer}"
