"""What is measured of one document: a row of the table that everything else is summed from."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from plumbline.core.characters import HAN
from plumbline.curation.analysis.identity import IdentityMatcher
from plumbline.curation.analysis.pronouns import pronoun_groups
from plumbline.curation.config import AnalyzeConfig
from plumbline.curation.dedup.sketch import Sketch, digest
from plumbline.curation.engine import CurationEngine
from plumbline.curation.filters.rules import LexiconRule
from plumbline.curation.language import UNDETERMINED
from plumbline.curation.pii.detector import PiiDetector
from plumbline.curation.view import DocumentView
from plumbline.data.records import Document, Record

BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 1 << 20
"""Bound of a batch's text, so that long documents are measured few at a time."""
_UNSPACED = re.compile(rf"[{HAN}\u3040-\u30ff]")


class TextScorer(Protocol):
    """A trained filter: the probability that a text is of its kind."""

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class DocumentFigures(Record):
    """One document, measured."""

    id: str
    source: str
    language: str
    """BCP 47 primary tag as detected; `und` where that cannot be said."""
    characters: int
    words: int
    """Words of scripts that put spaces between them."""
    tokens: int
    """Words, and each Han or kana character."""
    pii: Mapping[str, int] = field(default_factory=dict)
    """Pieces of personal data by type."""
    toxicity: Mapping[str, float] = field(default_factory=dict)
    """Score by trained filter; that of the worst passage where the document is long."""
    lexicon: bool = False
    """Whether the lexicon rule, judging alone, objects."""
    pronouns: tuple[str, ...] = ()
    identity_axes: tuple[str, ...] = ()
    identity_terms: tuple[str, ...] = ()
    """`axis/bucket/term`."""
    ambiguous_terms: tuple[str, ...] = ()
    """Terms that occur only where they need not describe a person; no axis counts them."""
    digest: bytes = b""
    """8 bytes that exact copies share."""
    exact_duplicate: bool = False
    """Copy of a document whose id comes earlier."""
    rule: str = ""
    """Id of the rule that would drop it; empty where it would stay."""
    code: str = ""
    """Reason code of that rule."""

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("language", pa.string()),
            ("characters", pa.int64()),
            ("words", pa.int64()),
            ("tokens", pa.int64()),
            ("pii", pa.map_(pa.string(), pa.int64())),
            ("toxicity", pa.map_(pa.string(), pa.float64())),
            ("lexicon", pa.bool_()),
            ("pronouns", pa.list_(pa.string())),
            ("identity_axes", pa.list_(pa.string())),
            ("identity_terms", pa.list_(pa.string())),
            ("ambiguous_terms", pa.list_(pa.string())),
            ("digest", pa.binary()),
            ("exact_duplicate", pa.bool_()),
            ("rule", pa.string()),
            ("code", pa.string()),
        ]
    )


class DocumentAnalyzer:
    """Measures documents in batches; what one document gets does not depend on the others."""

    def __init__(
        self,
        config: AnalyzeConfig,
        matcher: IdentityMatcher,
        filters: Mapping[str, TextScorer] | None = None,
    ) -> None:
        """
        Args:
            filters: trained filters by name.
        """
        curation = config.curation
        self._config = curation
        self._engine = CurationEngine(curation)
        self._pii = PiiDetector(curation.anonymize)
        self._lexicon = LexiconRule(curation.lexicon) if curation.lexicon.enabled else None
        self._matcher = matcher
        self._filters = dict(sorted((filters or {}).items()))

    def measure(
        self, documents: Iterable[Document]
    ) -> Iterator[tuple[DocumentFigures, Sketch | None]]:
        """Figures of a stream of documents, and what near copies are found by."""
        for batch in cut_batches(documents):
            yield from self.measure_batch(batch)

    def measure_batch(
        self, documents: Sequence[Document]
    ) -> list[tuple[DocumentFigures, Sketch | None]]:
        """Figures of some documents, in order."""
        views = [DocumentView(document.text, self._config.language) for document in documents]
        objections = self._engine.judge(views)
        # A document that is far too long is not read at all.
        read = [index for index, view in enumerate(views) if not self._is_too_long(view)]
        texts = [documents[index].text for index in read]
        pii = dict(zip(read, self._pii.find_all(texts), strict=True))
        toxicity = dict(zip(read, self._toxicity(texts), strict=True))
        lexicon = dict(zip(read, self._lexicon_hits([views[i] for i in read]), strict=True))
        measured: list[tuple[DocumentFigures, Sketch | None]] = []
        for index, (document, view) in enumerate(zip(documents, views, strict=True)):
            objection = objections[index]
            rule, code = (objection[0].id, objection[1].code) if objection else ("", "")
            if index not in pii:
                measured.append((_unread(document, rule, code), None))
                continue
            pieces = Counter(span.type for span in pii[index])
            figures = self._figures(
                document, view, pieces, toxicity[index], lexicon[index], rule, code
            )
            measured.append((figures, self._engine.sketch(view)))
        return measured

    def _figures(
        self,
        document: Document,
        view: DocumentView,
        pii: Mapping[str, int],
        toxicity: Mapping[str, float],
        lexicon: bool,
        rule: str,
        code: str,
    ) -> DocumentFigures:
        text = view.normalized.text
        mentioned = self._matcher.find(view.tokens)
        unspaced = 0 if text.isascii() else len(_UNSPACED.findall(text))
        return DocumentFigures(
            id=document.id,
            source=document.source,
            language=view.language,
            characters=len(document.text),
            words=len(view.tokens) - unspaced,
            tokens=len(view.tokens),
            pii=pii,
            toxicity=toxicity,
            lexicon=lexicon,
            pronouns=pronoun_groups(text, view.tokens, view.language),
            identity_axes=mentioned.axes,
            identity_terms=tuple(term.key for term in mentioned.terms),
            ambiguous_terms=tuple(term.key for term in mentioned.ambiguous),
            digest=digest(text)[:8],
            rule=rule,
            code=code,
        )

    def _is_too_long(self, view: DocumentView) -> bool:
        return len(view.text) > self._config.length.max_characters

    def _lexicon_hits(self, views: Sequence[DocumentView]) -> list[bool]:
        if self._lexicon is None:
            return [False] * len(views)
        return [objection is not None for objection in self._lexicon.judge(views)]

    def _toxicity(self, texts: Sequence[str]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = [{} for _ in texts]
        for name, scorer in self._filters.items() if texts else ():
            for scores, score in zip(found, scorer.scores(texts).tolist(), strict=True):
                # Rounded, because the last digits of an exponential depend on the processor.
                scores[name] = round(score, 6)
        return found


def cut_batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in order, at most so many and so much text at a time; none is too long alone."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        full = len(batch) == BATCH_DOCUMENTS
        if batch and (full or characters + len(document.text) > BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(document)
        characters += len(document.text)
    if batch:
        yield batch


def _unread(document: Document, rule: str, code: str) -> DocumentFigures:
    raw = hashlib.blake2b(document.text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return DocumentFigures(
        id=document.id,
        source=document.source,
        language=UNDETERMINED,
        characters=len(document.text),
        words=0,
        tokens=0,
        digest=raw,
        rule=rule,
        code=code,
    )
