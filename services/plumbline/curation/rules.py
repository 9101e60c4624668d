"""The rules that keep or drop one document by itself; duplicates are in `dedup`.

A rule's version rises when it may decide otherwise for the same text; reports carry it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from plumbline.curation.config import (
    GibberishConfig,
    LanguageConfig,
    LengthConfig,
    LexiconConfig,
)
from plumbline.curation.gibberish import gibberish_signs
from plumbline.curation.language import UNDETERMINED, detect_language
from plumbline.curation.lexicon import Lexicon, load_lexicon
from plumbline.curation.normalize import NormalizedText, normalize, tokens

EXACT_DUPLICATE = "exact_duplicate"
NEAR_DUPLICATE = "near_duplicate"


@dataclass(slots=True)
class DocumentView:
    """What rules see of a document: never its metadata."""

    text: str
    normalized: NormalizedText
    language: str = UNDETERMINED
    tokens: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, text: str, language: LanguageConfig) -> DocumentView:
        view = normalize(text)
        return cls(text, view, detect_language(view.text, language), tokens(view.text))


class Rule(Protocol):
    """Keeps or drops a document."""

    id: ClassVar[str]
    version: ClassVar[int]

    def objection(self, view: DocumentView) -> str:
        """What the rule saw, in words; empty when it keeps the document."""
        ...


class LengthRule:
    """Too short to learn from, or too long to be one document."""

    id: ClassVar[str] = "length"
    version: ClassVar[int] = 1

    def __init__(self, config: LengthConfig) -> None:
        self._config = config

    def objection(self, view: DocumentView) -> str:
        if len(view.tokens) < self._config.min_units:
            return f"{len(view.tokens)} words (at least {self._config.min_units})"
        if len(view.text) > self._config.max_characters:
            return f"{len(view.text)} characters (at most {self._config.max_characters})"
        return ""


class LanguageRule:
    """A language other than those of the corpus."""

    id: ClassVar[str] = "language"
    version: ClassVar[int] = 1

    def __init__(self, config: LanguageConfig) -> None:
        self._config = config

    def objection(self, view: DocumentView) -> str:
        if view.language in self._config.languages:
            return ""
        if view.language == UNDETERMINED and self._config.keep_undetermined:
            return ""
        return f"language {view.language} (accepted: {', '.join(self._config.languages)})"


class GibberishRule:
    """No language at all."""

    id: ClassVar[str] = "gibberish"
    version: ClassVar[int] = 1

    def __init__(self, config: GibberishConfig) -> None:
        self._config = config

    def objection(self, view: DocumentView) -> str:
        return "; ".join(gibberish_signs(view.normalized.text, self._config))


class LexiconRule:
    """Words of the lexicon."""

    id: ClassVar[str] = "lexicon"
    version: ClassVar[int] = 1

    def __init__(self, config: LexiconConfig, lexicon: Lexicon | None = None) -> None:
        self._min_hits = config.min_hits
        self._lexicon = lexicon or load_lexicon(config)

    @property
    def digest(self) -> str:
        """sha256 of the terms."""
        return self._lexicon.digest

    def objection(self, view: DocumentView) -> str:
        hits = self._lexicon.find(view.normalized.text)
        if len(hits) < self._min_hits:
            return ""
        terms = sorted({hit.term for hit in hits})
        return f"{len(hits)} hits: {', '.join(terms[:5])}"
