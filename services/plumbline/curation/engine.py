"""Filters, de-duplicates and anonymizes documents, and accounts for every one that it drops.

Gibberish is judged before language, because noise looks like some language to a classifier; the
cheap rules go before duplicates, so that what is dropped anyway is not remembered. Rules see text
only, never a document's metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plumbline.curation.config import Action, CurationConfig
from plumbline.curation.dedup import Duplicate, ExactIndex, NearIndex, digest
from plumbline.curation.language import detect_language
from plumbline.curation.normalize import normalize
from plumbline.curation.pii import Anonymized, PiiDetector
from plumbline.curation.rules import (
    EXACT_DUPLICATE,
    NEAR_DUPLICATE,
    DocumentView,
    GibberishRule,
    LanguageRule,
    LengthRule,
    LexiconRule,
    Rule,
)
from plumbline.data.records import Document

_EXCERPT_CHARACTERS = 160
_PROGRESS_EVERY = 500

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one document."""

    document_id: str
    kept: bool
    language: str
    rule: str = ""
    """Id of the rule that dropped it; empty when kept."""
    detail: str = ""
    """What the rule saw, in words."""
    duplicate_of: str = ""
    """Kept document that it copies, for the duplicate rules."""


@dataclass(frozen=True, slots=True)
class RemovedDocument:
    """A dropped document and why; its text is anonymized like that of kept ones."""

    document: Document
    decision: Decision

    def to_document(self) -> Document:
        """The document with the reason in its metadata, as removed.parquet holds it."""
        reasons = {"removed_by": self.decision.rule, "removed_because": self.decision.detail}
        if self.decision.duplicate_of:
            reasons["duplicate_of"] = self.decision.duplicate_of
        return replace(self.document, metadata={**self.document.metadata, **reasons})


@dataclass(slots=True)
class RuleCount:
    """One step of the funnel."""

    id: str
    version: int
    documents_in: int = 0
    removed: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CurationReport:
    """The funnel, for people and for the HTML report."""

    documents_in: int
    documents_out: int
    characters_in: int
    characters_out: int
    rules: tuple[RuleCount, ...]
    languages: dict[str, int]
    """Kept documents by language."""
    pii: dict[str, int]
    """Pieces of personal data replaced in kept documents, by type."""
    documents_with_pii: int
    lexicon_digest: str

    def to_json(self) -> dict[str, Any]:
        return {
            "documents_in": self.documents_in,
            "documents_out": self.documents_out,
            "characters_in": self.characters_in,
            "characters_out": self.characters_out,
            "rules": [
                {
                    "id": rule.id,
                    "version": rule.version,
                    "documents_in": rule.documents_in,
                    "removed": rule.removed,
                    "examples": rule.examples,
                }
                for rule in self.rules
            ],
            "languages": self.languages,
            "pii": self.pii,
            "documents_with_pii": self.documents_with_pii,
            "lexicon_digest": self.lexicon_digest,
        }


@dataclass(frozen=True, slots=True)
class CurationResult:
    """Kept documents in the order given, removed ones likewise, and the report."""

    kept: list[Document]
    removed: list[RemovedDocument]
    report: CurationReport


class DocumentFilter:
    """Decides on documents one by one; duplicates are found among those it has seen.

    Not safe to share between threads or streams. Documents must come in the order of preference:
    of two copies the one that came first is kept.

    Args:
        capacity: most documents remembered for duplicates; None for no bound.
    """

    def __init__(
        self, config: CurationConfig, rules: Sequence[Rule], *, capacity: int | None = None
    ) -> None:
        self._config = config
        self._rules = rules
        self._exact = ExactIndex(capacity=capacity) if config.exact_duplicates.enabled else None
        self._near = (
            NearIndex(config.near_duplicates, capacity=capacity)
            if config.near_duplicates.enabled
            else None
        )

    def decide(self, document_id: str, text: str) -> Decision:
        """Keep or drop one document.

        Raises:
            ResourceExhaustedError: more documents than `capacity`.
        """
        view = DocumentView.of(text, self._config.language)
        for rule in self._rules:
            detail = rule.objection(view)
            if detail:
                return Decision(document_id, False, view.language, rule.id, detail)
        return self._decide_copy(document_id, view)

    def _decide_copy(self, document_id: str, view: DocumentView) -> Decision:
        """Both indexes are asked before either learns, so that every copy names a kept document."""
        key = digest(view.normalized.text)
        if self._exact and (copy := self._exact.find(key)):
            return _dropped_copy(document_id, view, EXACT_DUPLICATE, copy)
        sketch = self._near.sketch(view.tokens) if self._near else None
        if self._near and sketch and (copy := self._near.find(sketch)):
            return _dropped_copy(document_id, view, NEAR_DUPLICATE, copy)
        if self._exact:
            self._exact.add(document_id, key)
        if self._near and sketch:
            self._near.add(document_id, sketch)
        return Decision(document_id, True, view.language)


def _dropped_copy(document_id: str, view: DocumentView, rule: str, copy: Duplicate) -> Decision:
    detail = f"copy of {copy.of}, similarity {copy.similarity:.2f}"
    return Decision(document_id, False, view.language, rule, detail, copy.of)


class CurationEngine:
    """Curates whole corpora, and hands out filters for streams."""

    def __init__(self, config: CurationConfig) -> None:
        self._config = config
        self._pii = PiiDetector(config.anonymize)
        lexicon = LexiconRule(config.lexicon) if config.lexicon.enabled else None
        self._lexicon_digest = lexicon.digest if lexicon else ""
        candidates: tuple[tuple[bool, Callable[[], Rule]], ...] = (
            (config.length.enabled, lambda: LengthRule(config.length)),
            (config.gibberish.enabled, lambda: GibberishRule(config.gibberish)),
            (config.language.enabled, lambda: LanguageRule(config.language)),
        )
        self._rules: list[Rule] = [make() for enabled, make in candidates if enabled]
        if lexicon is not None:
            self._rules.append(lexicon)

    @property
    def config(self) -> CurationConfig:
        return self._config

    def open_filter(self, *, capacity: int | None = None) -> DocumentFilter:
        """A filter with empty memory, for one stream or one corpus."""
        return DocumentFilter(self._config, self._rules, capacity=capacity)

    def anonymize(self, text: str, action: Action | None = None) -> Anonymized:
        """Replace personal data; `action` overrides the configured one."""
        return self._pii.anonymize(text, action)

    def detect_language(self, text: str) -> str:
        """BCP 47 primary tag, `und` when unknown."""
        return detect_language(normalize(text).text, self._config.language)

    def curate(
        self, documents: Iterable[Document], *, progress: Progress | None = None
    ) -> CurationResult:
        """Curate a corpus. The result depends on the documents, not on their order, except that
        the output keeps the order of the input.

        Args:
            progress: called with (done, total) every 500 documents.
        """
        corpus = list(documents)
        decisions = self._decide_all(corpus, progress)
        kept: list[Document] = []
        removed: list[RemovedDocument] = []
        pii: Counter[str] = Counter()
        with_pii = 0
        for document, decision in zip(corpus, decisions, strict=True):
            clean, types = self._clean(document, decision)
            if decision.kept:
                kept.append(clean)
                pii.update(types)
                with_pii += bool(types)
            else:
                removed.append(RemovedDocument(clean, decision))
        report = CurationReport(
            documents_in=len(corpus),
            documents_out=len(kept),
            characters_in=sum(len(document.text) for document in corpus),
            characters_out=sum(len(document.text) for document in kept),
            rules=self._funnel(len(corpus), removed),
            languages=dict(sorted(Counter(document.language for document in kept).items())),
            pii=dict(sorted(pii.items())),
            documents_with_pii=with_pii,
            lexicon_digest=self._lexicon_digest,
        )
        return CurationResult(kept, removed, report)

    def _decide_all(self, corpus: Sequence[Document], progress: Progress | None) -> list[Decision]:
        """Decisions in the corpus's order, made in the order of ids: the smallest id is kept."""
        order = sorted(range(len(corpus)), key=lambda i: (corpus[i].id, corpus[i].text))
        decisions: dict[int, Decision] = {}
        decide = self.open_filter().decide
        for done, index in enumerate(order):
            if progress is not None and done % _PROGRESS_EVERY == 0:
                progress(done, len(corpus))
            decisions[index] = decide(corpus[index].id, corpus[index].text)
        return [decisions[index] for index in range(len(corpus))]

    def _clean(self, document: Document, decision: Decision) -> tuple[Document, list[str]]:
        """The document with its language and without its personal data, and the types found."""
        if not self._config.anonymize.enabled:
            return replace(document, language=decision.language), []
        anonymized = self._pii.anonymize(document.text)
        clean = replace(document, text=anonymized.text, language=decision.language)
        return clean, [span.type for span in anonymized.spans]

    def _funnel(
        self, documents_in: int, removed: Sequence[RemovedDocument]
    ) -> tuple[RuleCount, ...]:
        steps = [RuleCount(rule.id, rule.version) for rule in self._rules]
        if self._config.exact_duplicates.enabled:
            steps.append(RuleCount(EXACT_DUPLICATE, 1))
        if self._config.near_duplicates.enabled:
            steps.append(RuleCount(NEAR_DUPLICATE, 1))
        left = documents_in
        for step in steps:
            dropped = [item for item in removed if item.decision.rule == step.id]
            step.documents_in, step.removed = left, len(dropped)
            step.examples = list(self._examples(dropped))
            left -= len(dropped)
        return tuple(steps)

    def _examples(self, dropped: Sequence[RemovedDocument]) -> Iterator[dict[str, str]]:
        """The first few by id, so that the choice does not depend on the order either."""
        ordered = sorted(dropped, key=lambda item: (item.document.id, item.document.text))
        for item in ordered[: self._config.examples_per_rule]:
            # Anonymized even where the corpus is not: a report travels further.
            text = self._pii.anonymize(item.document.text[:_EXCERPT_CHARACTERS]).text
            yield {"id": item.document.id, "detail": item.decision.detail, "text": text}
