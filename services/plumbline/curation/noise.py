"""How well curation found noise that was planted on purpose.

Documents of synthetic worlds say in their metadata which noise they are (`noise`) and which
personal data they hold (`pii`). The rules never look there; only this evaluation does, afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from plumbline.curation.engine import CurationResult
from plumbline.data.records import Document

_DUPLICATES = ("exact_duplicate", "near_duplicate")


def evaluate_noise_removal(documents: Sequence[Document], result: CurationResult) -> dict[str, Any]:
    """Recall by noise kind, and how many clean documents were lost.

    A planted duplicate counts as found when it was dropped, or kept in place of the twin that was
    dropped as its copy. Planted personal data counts as found when it is no longer in the text.

    Returns:
        {"planted": kind -> n, "found": kind -> n, "recall": kind -> share, "clean": n,
        "clean_removed": n, "clean_removed_share": share}; empty dict where nothing is labelled.
    """
    kept = {document.id: document for document in result.kept}
    twins = Counter(item.decision.duplicate_of for item in result.removed)
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for document in documents:
        kind = document.metadata.get("noise", "")
        if kind:
            planted[kind] += 1
            found[kind] += _is_found(document, kind, kept.get(document.id), twins)
    if not planted:
        return {}
    clean = len(documents) - planted.total()
    lost = sum(
        _is_clean_loss(item.document, item.decision.duplicate_of, kept) for item in result.removed
    )
    return {
        "planted": dict(sorted(planted.items())),
        "found": {kind: found[kind] for kind in sorted(planted)},
        "recall": {kind: found[kind] / planted[kind] for kind in sorted(planted)},
        "clean": clean,
        "clean_removed": lost,
        "clean_removed_share": lost / clean if clean else 0.0,
    }


def _is_found(document: Document, kind: str, kept: Document | None, twins: Counter[str]) -> bool:
    if kept is None:
        return True
    if kind in _DUPLICATES:
        return twins[document.id] > 0
    return kind == "pii" and document.metadata.get("pii", document.text) not in kept.text


def _is_clean_loss(document: Document, duplicate_of: str, kept: dict[str, Document]) -> bool:
    """A clean document was dropped, and not in favour of its planted copy."""
    if document.metadata.get("noise"):
        return False
    twin = kept.get(duplicate_of)
    return twin is None or twin.metadata.get("noise") not in _DUPLICATES
