"""Filters, sketches and anonymizes documents in batches, and says why each one was dropped.

Gibberish is judged before language, because noise looks like some language to a classifier; the
cheap rules go before the dear ones, and each rule sees only what the rules before it kept. Rules
see text only, never a document's metadata. Duplicates are decided over whole corpora (`corpus`) or
over what a stream has shown so far (`DocumentFilter`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from plumbline.core.errors import ConfigError
from plumbline.curation.config import CurationConfig
from plumbline.curation.dedup.index import Duplicate, ExactIndex, NearIndex
from plumbline.curation.dedup.sketch import Sketch, Sketcher, digest
from plumbline.curation.filters.classifier import load_filter
from plumbline.curation.filters.endpoint import EndpointRule
from plumbline.curation.filters.rules import (
    TOO_LONG,
    ClassifierRule,
    GibberishRule,
    LanguageRule,
    LengthRule,
    LexiconRule,
    Objection,
    QualityRule,
    RepetitionRule,
    Rule,
)
from plumbline.curation.language import UNDETERMINED
from plumbline.curation.pii.config import AnonymizeConfig, AnonymizeOptions
from plumbline.curation.pii.detector import Anonymized, PiiDetector
from plumbline.curation.pii.names.config import NamesConfig
from plumbline.curation.view import DocumentView

EXACT_DUPLICATE = "exact_duplicate"
NEAR_DUPLICATE = "near_duplicate"


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one document."""

    document_id: str
    kept: bool
    language: str
    rule: str = ""
    """Id of the rule that dropped it; empty when kept."""
    code: str = ""
    """Stable reason code of the rule; empty when kept."""
    detail: str = ""
    """What the rule saw, in words."""
    duplicate_of: str = ""
    """Kept document that it copies, for the duplicate rules."""


@dataclass(frozen=True, slots=True)
class Processed:
    """A document after everything that can be said of it without looking at others."""

    text: str
    """Without its personal data where anonymization is on."""
    language: str
    """BCP 47 primary tag, `und` when unknown."""
    rule: str
    """Id of the rule that drops it; empty when kept."""
    objection: Objection | None
    """Why; None when kept."""
    pii: tuple[str, ...]
    """Types of the personal data found, one for each piece."""
    digest: bytes
    """16 bytes that exact copies share; empty when dropped."""
    sketch: Sketch | None
    """None when dropped, too short to compare, or near duplicates are off."""

    @property
    def kept(self) -> bool:
        return self.objection is None


class CurationEngine:
    """Rules, detectors and sketches of one config; safe to share between threads."""

    def __init__(self, config: CurationConfig, rules: Sequence[Rule] = ()) -> None:
        """
        Args:
            rules: further rules, which judge after those that the config describes.
        Raises:
            ConfigError: two rules of one id, which no report could tell apart.
        """
        self._config = config
        self._pii = PiiDetector(_for_corpora(config))
        self.rules: tuple[Rule, ...] = (*_configured_rules(config), *rules)
        _check_ids(self.rules)
        self._sketcher = (
            Sketcher(config.near_duplicates) if config.near_duplicates.enabled else None
        )

    @property
    def config(self) -> CurationConfig:
        return self._config

    @property
    def lexicon_digest(self) -> str:
        """sha256 of the lexicon's terms; empty where it is off."""
        return next((rule.digest for rule in self.rules if isinstance(rule, LexiconRule)), "")

    def process(self, texts: Sequence[str]) -> list[Processed]:
        """Judge, sketch and anonymize a batch; the answers do not depend on how it was cut."""
        views = [DocumentView(text, self._config.language) for text in texts]
        judged = self.judge(views)
        kept = [view for view, found in zip(views, judged, strict=True) if found is None]
        sketches = iter(self._sketches(kept))
        return [
            self._dropped(view, clean, *found)
            if found is not None
            else self._kept(view, clean, next(sketches))
            for view, clean, found in zip(views, self._clean(views), judged, strict=True)
        ]

    def judge(self, views: Sequence[DocumentView]) -> list[tuple[Rule, Objection] | None]:
        """The first rule that objects to each document, and what it says; None keeps."""
        found: list[tuple[Rule, Objection] | None] = [None] * len(views)
        left = list(range(len(views)))
        for rule in self.rules:
            answers = rule.judge([views[index] for index in left])
            for index, objection in zip(left, answers, strict=True):
                if objection is not None:
                    found[index] = (rule, objection)
            left = [index for index in left if found[index] is None]
        return found

    def anonymizer(self, options: AnonymizeOptions) -> PiiDetector:
        """The detector as a request wants it.

        Raises:
            ConfigError: the options make no sense, or name a key that there is not.
        """
        return self._text_pii.with_options(options)

    @cached_property
    def _text_pii(self) -> PiiDetector:
        """For single texts; made when first asked for, as its gazetteers take a while to load."""
        same = _for_corpora(self._config) == self._config.anonymize
        return self._pii if same else PiiDetector(self._config.anonymize)

    def open_filter(self, *, capacity: int | None = None) -> DocumentFilter:
        """A filter with empty memory, for one stream."""
        return DocumentFilter(self, capacity=capacity)

    def sketch(self, view: DocumentView) -> Sketch | None:
        """What near duplicates are found by; None where the document is too short or it is off."""
        return self._sketches([view])[0]

    def _sketches(self, views: Sequence[DocumentView]) -> list[Sketch | None]:
        if self._sketcher is None:
            return [None] * len(views)
        return self._sketcher.sketch_all([view.tokens for view in views])

    def _clean(self, views: Sequence[DocumentView]) -> list[Anonymized]:
        texts = [view.text for view in views]
        if not self._config.anonymize.enabled:
            return [Anonymized(text, (), ()) for text in texts]
        return self._pii.anonymize_all(texts, [view.normalized for view in views])

    def _kept(self, view: DocumentView, clean: Anonymized, sketch: Sketch | None) -> Processed:
        return Processed(
            clean.text,
            view.language,
            "",
            None,
            tuple(span.type for span in clean.spans),
            digest(view.normalized.text),
            sketch,
        )

    def _dropped(
        self, view: DocumentView, clean: Anonymized, rule: Rule, objection: Objection
    ) -> Processed:
        # A document that is far too long is not read at all, not even for its language.
        language = UNDETERMINED if objection.code == TOO_LONG else view.language
        types = tuple(span.type for span in clean.spans)
        return Processed(clean.text, language, rule.id, objection, types, b"", None)


def open_engine(config: CurationConfig, filters: Sequence[Path] = ()) -> CurationEngine:
    """An engine with trained filters.

    Args:
        filters: directories of filter artifacts.
    Raises:
        ConfigError: as of `CurationEngine`.
    """
    if not config.classifier.enabled:
        return CurationEngine(config)
    return CurationEngine(
        config, [ClassifierRule(load_filter(path), config.classifier) for path in filters]
    )


def _check_ids(rules: Sequence[Rule]) -> None:
    repeated = sorted(name for name, count in Counter(r.id for r in rules).items() if count > 1)
    if repeated:
        raise ConfigError(
            f"more than one rule is named {', '.join(repeated)}; every rule, trained filter and "
            "endpoint needs a name of its own",
            field="filters",
        )


def _for_corpora(config: CurationConfig) -> AnonymizeConfig:
    if config.names_in_corpora:
        return config.anonymize
    return config.anonymize.model_copy(update={"names": NamesConfig(enabled=False)})


def _configured_rules(config: CurationConfig) -> list[Rule]:
    candidates: tuple[tuple[bool, Callable[[], Rule]], ...] = (
        (config.length.enabled, lambda: LengthRule(config.length)),
        (config.gibberish.enabled, lambda: GibberishRule(config.gibberish)),
        (config.language.enabled, lambda: LanguageRule(config.language)),
        (config.quality.enabled, lambda: QualityRule(config.quality)),
        (config.repetition.enabled, lambda: RepetitionRule(config.repetition)),
        (config.lexicon.enabled, lambda: LexiconRule(config.lexicon)),
    )
    rules = [make() for enabled, make in candidates if enabled]
    return [*rules, *(EndpointRule(endpoint) for endpoint in config.endpoints)]


class DocumentFilter:
    """Decides on the documents of one stream; duplicates are found among those it has seen.

    Not safe to share between threads or streams. Of two copies the one that came first is kept.

    Args:
        capacity: most documents remembered for duplicates; None for no bound.
    """

    def __init__(self, engine: CurationEngine, *, capacity: int | None = None) -> None:
        config = engine.config
        self._engine = engine
        self._exact = ExactIndex(capacity=capacity) if config.exact_duplicates.enabled else None
        self._near = (
            NearIndex(config.near_duplicates, capacity=capacity)
            if config.near_duplicates.enabled
            else None
        )

    def decide(self, documents: Sequence[tuple[str, str]]) -> list[Decision]:
        """Keep or drop documents, given as (id, text), in order.

        Raises:
            ResourceExhaustedError: more documents than `capacity`.
        """
        views = [DocumentView(text, self._engine.config.language) for _, text in documents]
        return [
            self._decide_copy(document_id, view)
            if objection is None
            else _dropped(document_id, view, *objection)
            for (document_id, _), view, objection in zip(
                documents, views, self._engine.judge(views), strict=True
            )
        ]

    def _decide_copy(self, document_id: str, view: DocumentView) -> Decision:
        """Both indexes are asked before either learns, so that every copy names a kept document."""
        key = digest(view.normalized.text)
        if self._exact and (copy := self._exact.find(key)):
            return _copied(document_id, view, EXACT_DUPLICATE, copy)
        sketch = self._engine.sketch(view)
        if self._near and sketch and (copy := self._near.find(sketch)):
            return _copied(document_id, view, NEAR_DUPLICATE, copy)
        if self._exact:
            self._exact.add(document_id, key)
        if self._near and sketch:
            self._near.add(document_id, sketch)
        return Decision(document_id, True, view.language)


def _dropped(document_id: str, view: DocumentView, rule: Rule, found: Objection) -> Decision:
    return Decision(document_id, False, view.language, rule.id, found.code, found.detail)


def _copied(document_id: str, view: DocumentView, rule: str, copy: Duplicate) -> Decision:
    detail = f"copy of {copy.of}, similarity {copy.similarity:.2f}"
    return Decision(document_id, False, view.language, rule, rule.upper(), detail, copy.of)
