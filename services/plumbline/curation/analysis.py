"""What a corpus consists of, without changing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from plumbline.curation.engine import CurationEngine, Progress
from plumbline.curation.normalize import normalize, tokens
from plumbline.data.records import Document

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def analyze_corpus(
    documents: Sequence[Document], engine: CurationEngine, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Languages, lengths, sources, personal data, and what curation would remove.

    Returns:
        JSON-compatible: documents, characters, languages, sources, words (quantile -> words),
        pii (type -> n), documents_with_pii, curation (the report of `CurationEngine.curate`).
    """
    languages: Counter[str] = Counter()
    pii: Counter[str] = Counter()
    with_pii = 0
    for document in documents:
        languages[engine.detect_language(document.text)] += 1
        types = [span.type for span in engine.anonymize(document.text).spans]
        pii.update(types)
        with_pii += bool(types)
    lengths = sorted(len(tokens(normalize(document.text).text)) for document in documents)
    return {
        "documents": len(documents),
        "characters": sum(len(document.text) for document in documents),
        "languages": dict(sorted(languages.items())),
        "sources": dict(sorted(Counter(document.source for document in documents).items())),
        "words": {f"{q:.0%}": _quantile(lengths, q) for q in _QUANTILES} if lengths else {},
        "pii": dict(sorted(pii.items())),
        "documents_with_pii": with_pii,
        "curation": engine.curate(documents, progress=progress).report.to_json(),
    }


def _quantile(ordered: Sequence[int], q: float) -> int:
    """The smallest value that a share `q` of the values does not exceed."""
    return ordered[max(0, -int(-q * len(ordered) // 1) - 1)]
