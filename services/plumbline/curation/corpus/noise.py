"""How well curation found noise that was planted on purpose.

Documents of synthetic worlds say in their metadata which noise they are (`noise`) and which
personal data they hold (`pii`). The rules never look there; only this evaluation does, afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from plumbline.curation.corpus.careful import Quarantined
from plumbline.curation.engine import Processed

_DUPLICATES = ("exact_duplicate", "near_duplicate")


@dataclass(frozen=True, slots=True)
class _Labelled:
    kind: str
    dropped: bool
    leaked: bool
    """Whether its planted personal data is still in the text."""


@dataclass(slots=True)
class PlantedNoise:
    """What became of labelled documents; shards' results merge."""

    documents: int = 0
    clean_removed: int = 0
    """Unlabelled documents that a rule dropped."""
    labelled: dict[str, _Labelled] = field(default_factory=dict)
    """By document id; empty for every corpus but synthetic ones."""

    def add_batch(
        self, table: pa.Table, ids: Sequence[str], judged: Sequence[Processed | Quarantined]
    ) -> None:
        """Count one batch of documents before copies are known."""
        self.documents += len(ids)
        metadata = table.column("metadata").to_pylist()
        for document_id, entries, item in zip(ids, metadata, judged, strict=True):
            held = dict(entries or ())
            kept = isinstance(item, Processed) and item.kept
            if kind := held.get("noise"):
                text = item.text if isinstance(item, Processed) else ""
                leaked = kept and "pii" in held and held["pii"] in text
                self.labelled[document_id] = _Labelled(kind, not kept, leaked)
            elif not kept:
                self.clean_removed += 1

    def merge(self, other: PlantedNoise) -> None:
        """Add another shard's results."""
        self.documents += other.documents
        self.clean_removed += other.clean_removed
        self.labelled.update(other.labelled)

    def evaluate(self, copies: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """Recall by noise kind, and how many clean documents were lost.

        A planted duplicate counts as found when it was dropped, or kept in place of the twin that
        was dropped as its copy. Planted personal data counts as found when it is no longer in the
        text.

        Args:
            copies: (dropped id, id of the kept document that it copies).
        Returns:
            {"planted": kind -> n, "found": kind -> n, "recall": kind -> share, "clean": n,
            "clean_removed": n, "clean_removed_share": share}; empty where nothing is labelled.
        """
        if not self.labelled:
            return {}
        pairs = list(copies)
        dropped = {document_id for document_id, _ in pairs}
        twins = {kept for _, kept in pairs}
        planted: Counter[str] = Counter()
        found: Counter[str] = Counter()
        for document_id, item in self.labelled.items():
            planted[item.kind] += 1
            gone = item.dropped or document_id in dropped
            found[item.kind] += gone or (
                document_id in twins
                if item.kind in _DUPLICATES
                else item.kind == "pii" and not item.leaked
            )
        clean = self.documents - planted.total()
        lost = self.clean_removed + sum(
            document_id not in self.labelled and not self._is_duplicate(kept)
            for document_id, kept in pairs
        )
        return {
            "planted": dict(sorted(planted.items())),
            "found": {kind: found[kind] for kind in sorted(planted)},
            "recall": {kind: found[kind] / planted[kind] for kind in sorted(planted)},
            "clean": clean,
            "clean_removed": lost,
            "clean_removed_share": lost / clean if clean else 0.0,
        }

    def _is_duplicate(self, document_id: str) -> bool:
        """A clean document that gave way to its planted copy is not lost."""
        item = self.labelled.get(document_id)
        return item is not None and item.kind in _DUPLICATES

    def to_json(self) -> dict[str, Any]:
        return {
            "documents": self.documents,
            "clean_removed": self.clean_removed,
            "labelled": {
                document_id: [item.kind, item.dropped, item.leaked]
                for document_id, item in sorted(self.labelled.items())
            },
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        labelled = {key: _Labelled(*row) for key, row in value["labelled"].items()}
        return cls(value["documents"], value["clean_removed"], labelled)
