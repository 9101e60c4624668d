"""The rules that keep or drop one document by itself; duplicates are in `dedup`.

Rules judge batches, because some of them (classifiers, endpoints) are many times faster so; what
one document gets never depends on the others of its batch. A rule's version rises when it may
decide otherwise for the same text; reports carry it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol

import numpy as np

from plumbline.curation.filters.classifier import TextClassifier
from plumbline.curation.filters.config import (
    ClassifierConfig,
    GibberishConfig,
    LanguageConfig,
    LengthConfig,
    LexiconConfig,
    QualityConfig,
    RepetitionConfig,
)
from plumbline.curation.filters.gibberish import gibberish_signs, may_be_gibberish
from plumbline.curation.filters.lexicon import Lexicon, load_lexicon
from plumbline.curation.filters.objection import Objection as Objection
from plumbline.curation.filters.quality import UNSPACED, counts_of, is_prose, quality_signs
from plumbline.curation.filters.repetition import (
    duplicate_ngram_signs,
    line_signs,
    may_repeat,
    top_ngram_signs,
    units,
)
from plumbline.curation.filters.text_batch import place
from plumbline.curation.language import UNDETERMINED
from plumbline.curation.view import DocumentView

TOO_LONG = "TOO_LONG"
"""Code of documents that no other rule reads."""


class Rule(Protocol):
    """Keeps or drops documents."""

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> int: ...

    def judge(self, views: Sequence[DocumentView]) -> list[Objection | None]:
        """One answer for each document, in order; None keeps it."""
        ...


class LengthRule:
    """Too short to learn from, or too long to be one document."""

    id: ClassVar[str] = "length"
    version: ClassVar[int] = 1

    def __init__(self, config: LengthConfig) -> None:
        self._config = config

    def judge(self, views: Sequence[DocumentView]) -> list[Objection | None]:
        return [self.objection(view) for view in views]

    def objection(self, view: DocumentView) -> Objection | None:
        # First, so that nothing else is computed of a document that is far too long.
        if len(view.text) > self._config.max_characters:
            return Objection(
                TOO_LONG,
                f"{len(view.text)} characters (at most {self._config.max_characters})",
            )
        if len(view.tokens) < self._config.min_units:
            return Objection(
                "TOO_SHORT", f"{len(view.tokens)} words (at least {self._config.min_units})"
            )
        return None


class LanguageRule:
    """A language other than those of the corpus."""

    id: ClassVar[str] = "language"
    version: ClassVar[int] = 1

    def __init__(self, config: LanguageConfig) -> None:
        self._config = config

    def judge(self, views: Sequence[DocumentView]) -> list[Objection | None]:
        return [self.objection(view) for view in views]

    def objection(self, view: DocumentView) -> Objection | None:
        if view.language in self._config.languages:
            return None
        if view.language == UNDETERMINED and self._config.keep_undetermined:
            return None
        accepted = ", ".join(self._config.languages)
        return Objection("LANGUAGE", f"language {view.language} (accepted: {accepted})")


class GibberishRule:
    """No language at all."""

    id: ClassVar[str] = "gibberish"
    version: ClassVar[int] = 2

    def __init__(self, config: GibberishConfig) -> None:
        self._config = config

    def judge(self, views: Sequence[DocumentView]) -> list[Objection | None]:
        answers: list[Objection | None] = [None] * len(views)
        for batch, indices, rows in place(views):
            suspicious = may_be_gibberish(batch, self._config)[rows]
            for index in np.asarray(indices)[suspicious].tolist():
                answers[index] = self.objection(views[index])
        return answers

    def objection(self, view: DocumentView) -> Objection | None:
        """What speaks against one document; None keeps it."""
        signs = gibberish_signs(view.normalized.text, self._config)
        return Objection("GIBBERISH", "; ".join(signs)) if signs else None


class QualityRule:
    """Not prose that is worth learning from: lists, menus, boilerplate, placeholder text."""

    id: ClassVar[str] = "quality"
    version: ClassVar[int] = 1

    def __init__(self, config: QualityConfig) -> None:
        self._config = config

    def judge(self, views: Sequence[DocumentView]) -> list[Objection | None]:
        answers: list[Objection | None] = [None] * len(views)
        for batch, indices, rows in place(views):
            counts = counts_of(batch)
            for index, row in zip(indices, rows, strict=True):
                view = views[index]
                if is_prose(view.language, self._config):
                    answers[index] = next(quality_signs(view, counts[row], self._config), None)
        return answers


class RepetitionRule:
    """Text that says the same again and again."""

    id: ClassVar[str] = "repetition"
    version: ClassVar[int] = 1

    def __init__(self, config: RepetitionConfig) -> None:
        self._config = config

    def judge(self, views: Sequence[DocumentView]) -> list[Objection | None]:
        answers: list[Objection | None] = [None] * len(views)
        for batch, indices, rows in place(views):
            languages = [view.language for view in views]
            spans = np.ones(len(batch), dtype=np.int64)
            for index, row in zip(indices, rows, strict=True):
                spans[row] += languages[index] in UNSPACED
            words = batch.unit_counts // spans
            counted = words >= self._config.ngrams_from_words
            top, duplicates = may_repeat(batch, spans, self._config)
            top, duplicates = top & counted, duplicates & counted
            for index, row in zip(indices, rows, strict=True):
                judged = languages[index] != UNDETERMINED or self._config.judge_undetermined
                if judged and words[row] >= self._config.lines_from_words:
                    doubts = int(spans[row]), bool(top[row]), bool(duplicates[row])
                    sign = next(self._signs(views[index], *doubts), None)
                    answers[index] = Objection(*sign.split(" ", 1)) if sign else None
        return answers

    def _signs(self, view: DocumentView, span: int, top: bool, duplicates: bool) -> Iterator[str]:
        """
        Args:
            span: units that stand for a word.
            top, duplicates: whether these n-grams need be counted.
        """
        yield from line_signs(view.lines, view.folded, self._config)
        words = units(view.folded) if top or duplicates else []
        if top:
            yield from top_ngram_signs(words, span, self._config)
        if duplicates:
            yield from duplicate_ngram_signs(words, span, self._config)


class LexiconRule:
    """Words of the lexicon."""

    id: ClassVar[str] = "lexicon"
    version: ClassVar[int] = 2

    def __init__(self, config: LexiconConfig, lexicon: Lexicon | None = None) -> None:
        self._min_hits = config.min_hits
        self._lexicon = lexicon or load_lexicon(config)

    @property
    def digest(self) -> str:
        """sha256 of the terms."""
        return self._lexicon.digest

    def judge(self, views: Sequence[DocumentView]) -> list[Objection | None]:
        answers: list[Objection | None] = [None] * len(views)
        for batch, indices, rows in place(views):
            possible = self._lexicon.may_find(batch)[rows]
            for index in np.asarray(indices)[possible].tolist():
                answers[index] = self.objection(views[index])
        return answers

    def objection(self, view: DocumentView) -> Objection | None:
        """What speaks against one document; None keeps it."""
        hits = self._lexicon.find(view.normalized.text)
        if len(hits) < self._min_hits:
            return None
        categories = sorted({hit.category for hit in hits} - {""})
        code = f"LEXICON_{categories[0].upper()}" if categories else "LEXICON"
        terms = sorted({hit.term for hit in hits})
        return Objection(code, f"{len(hits)} hits: {', '.join(terms[:5])}")


class ClassifierRule:
    """What a trained filter flags."""

    version: ClassVar[int] = 1

    def __init__(self, classifier: TextClassifier, config: ClassifierConfig | None = None) -> None:
        self.id = f"filter_{classifier.card.name}"
        self._code = classifier.card.name.upper()
        self._classifier = classifier
        given = config.threshold if config else None
        self._threshold = classifier.threshold if given is None else given

    @property
    def digest(self) -> str:
        """sha256 of the filter."""
        return self._classifier.digest

    def judge(self, views: Sequence[DocumentView]) -> list[Objection | None]:
        scores = self._classifier.scores_of_folded([view.folded for view in views])
        answers: list[Objection | None] = [None] * len(views)
        for index in np.flatnonzero(scores >= self._threshold).tolist():
            answers[index] = Objection(
                self._code, f"probability {scores[index]:.3f} (below {self._threshold:.3f} is kept)"
            )
        return answers
