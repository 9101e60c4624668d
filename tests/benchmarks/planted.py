"""What a generated corpus is known to hold, and what a pipeline made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

MIN_JUNK_REMOVED = 0.95
MIN_COPIES_REMOVED = 0.98
MIN_PII_REMOVED = 0.99
MIN_PLAIN_KEPT = 0.98


@dataclass(frozen=True, slots=True)
class Planted:
    """Ids of documents by what they are; see `generate`."""

    plain: frozenset[str]
    """Without any planted kind; some are originals of copies."""
    junk: frozenset[str]
    copies: Mapping[str, str]
    """Id of the original by id of the copy, exact and near."""
    pii: Mapping[str, str]
    """The planted value by id."""

    @classmethod
    def of(cls, table: pa.Table) -> Self | None:
        """From the metadata of a corpus; None where nothing is planted."""
        plain: set[str] = set()
        junk: set[str] = set()
        copies: dict[str, str] = {}
        pii: dict[str, str] = {}
        columns = (table.column("id").to_pylist(), table.column("metadata").to_pylist())
        for document_id, entries in zip(*columns, strict=True):
            held = dict(entries or ())
            kind = held.get("planted", "")
            if kind == "junk":
                junk.add(document_id)
            elif kind == "pii":
                pii[document_id] = held["pii"].split(" ", 1)[1]
            elif kind:
                copies[document_id] = held["original"]
            else:
                plain.add(document_id)
        if not junk and not copies and not pii:
            return None
        return cls(frozenset(plain), frozenset(junk), copies, pii)


@dataclass(frozen=True, slots=True)
class Shares:
    """Of each planted kind; 1 is perfect."""

    plain_kept: float
    """Of plain documents and documents with personal data, up to one for each set of copies."""
    junk_removed: float
    copies_removed: float
    pii_removed: float
    """Of planted values in kept documents."""

    def failures(self) -> list[str]:
        """Shares below what our pipeline must reach."""
        floors = (
            ("plain documents kept", self.plain_kept, MIN_PLAIN_KEPT),
            ("junk removed", self.junk_removed, MIN_JUNK_REMOVED),
            ("copies removed", self.copies_removed, MIN_COPIES_REMOVED),
            ("personal data removed", self.pii_removed, MIN_PII_REMOVED),
        )
        return [
            f"{name} {share:.1%} < {floor:.0%}" for name, share, floor in floors if share < floor
        ]

    def __str__(self) -> str:
        return (
            f"plain kept {self.plain_kept:.1%}, junk removed {self.junk_removed:.1%}, "
            f"copies removed {self.copies_removed:.1%}, planted PII removed {self.pii_removed:.1%}"
        )


def judge(planted: Planted, kept: Mapping[str, str]) -> Shares:
    """
    Args:
        kept: text by id. Of an original and its copies any one may be kept.
    """
    sets: dict[str, set[str]] = {}
    for copy, original in planted.copies.items():
        sets.setdefault(original, {original}).add(copy)
    in_sets = set().union(*sets.values())
    alone = (planted.plain | planted.pii.keys()) - in_sets
    survived = sum(not members.isdisjoint(kept) for members in sets.values())
    further = sum(max(0, len(members & kept.keys()) - 1) for members in sets.values())
    leaked = [
        document for document, value in planted.pii.items() if value in kept.get(document, "")
    ]
    return Shares(
        plain_kept=_share(len(alone & kept.keys()) + survived, len(alone) + len(sets)),
        junk_removed=1 - _share(len(planted.junk & kept.keys()), len(planted.junk), empty=0.0),
        copies_removed=1 - _share(further, len(planted.copies), empty=0.0),
        pii_removed=1 - _share(len(leaked), len(planted.pii.keys() & kept.keys()), empty=0.0),
    )


def _share(part: int, whole: int, *, empty: float = 1.0) -> float:
    return part / whole if whole else empty
