"""The funnel of a corpus: how many documents each rule saw and removed, and examples of them.

Counts of shards add up to those of the corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True, order=True)
class Example:
    """A removed document as the report quotes it; its text is anonymized."""

    id: str
    text: str
    detail: str


@dataclass(slots=True)
class RuleCount:
    """What one rule removed."""

    codes: Counter[str] = field(default_factory=Counter)
    """Documents by reason code."""
    examples: list[Example] = field(default_factory=list)

    @property
    def removed(self) -> int:
        return self.codes.total()

    def add(self, code: str, example: Example, limit: int) -> None:
        """Count one document; the `limit` smallest examples by id are kept."""
        self.codes[code] += 1
        if len(self.examples) < limit or (limit and example < self.examples[-1]):
            self.examples = sorted([*self.examples, example])[:limit]


@dataclass(slots=True)
class FunnelCounts:
    """Counts of a shard or a corpus, before copies are known."""

    examples_per_rule: int
    documents: int = 0
    characters: int = 0
    quarantined: int = 0
    rules: dict[str, RuleCount] = field(default_factory=dict)
    """By rule id."""

    def remove(self, rule: str, code: str, example: Example) -> None:
        """Count a removed document."""
        self.rules.setdefault(rule, RuleCount()).add(code, example, self.examples_per_rule)

    def merge(self, other: FunnelCounts) -> None:
        """Add another shard's counts."""
        self.documents += other.documents
        self.characters += other.characters
        self.quarantined += other.quarantined
        for rule, theirs in other.rules.items():
            mine = self.rules.setdefault(rule, RuleCount())
            mine.codes.update(theirs.codes)
            mine.examples = sorted([*mine.examples, *theirs.examples])[: self.examples_per_rule]

    def funnel(self, steps: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
        """One row for each step, in the order of work.

        Args:
            steps: (rule id, rule version).
        """
        rows = []
        left = self.documents - self.quarantined
        for rule_id, version in steps:
            count = self.rules.get(rule_id, RuleCount())
            rows.append(
                {
                    "id": rule_id,
                    "version": version,
                    "documents_in": left,
                    "removed": count.removed,
                    "codes": dict(sorted(count.codes.items())),
                    "examples": [
                        {"id": example.id, "detail": example.detail, "text": example.text}
                        for example in count.examples
                    ],
                }
            )
            left -= count.removed
        return rows

    def to_json(self) -> dict[str, Any]:
        return {
            "examples_per_rule": self.examples_per_rule,
            "documents": self.documents,
            "characters": self.characters,
            "quarantined": self.quarantined,
            "rules": {
                rule: {
                    "codes": dict(sorted(count.codes.items())),
                    "examples": [[e.id, e.text, e.detail] for e in count.examples],
                }
                for rule, count in sorted(self.rules.items())
            },
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        rules = {
            rule: RuleCount(Counter(row["codes"]), [Example(*e) for e in row["examples"]])
            for rule, row in value["rules"].items()
        }
        return cls(
            value["examples_per_rule"],
            value["documents"],
            value["characters"],
            value["quarantined"],
            rules,
        )
