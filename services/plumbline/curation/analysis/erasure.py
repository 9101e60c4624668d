"""The erasure check: which groups lose more documents than average to a filter.

A filter that takes documents *about* a group for harmful ones makes the group vanish from what a
model learns. Each document counts once for each group that it mentions and at most once as
removed, by the rule that objected first; groups are compared with all documents of the same
language, because rules and word lists both differ by language.

Source: the risk is named in Llama 2 (arXiv:2307.09288), sections 4.1 and 5.2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from plumbline.core.statistics import Estimate, proportion
from plumbline.curation.analysis.config import ErasureConfig

ANY_RULE = "any rule"
"""The row that sums up all rules."""


@dataclass(frozen=True, slots=True)
class ErasureRow:
    """How one rule treats the documents of one language that mention one group."""

    language: str
    rule: str
    group: str
    """An axis, `axis/bucket` or `axis/bucket/term`."""
    mentions: int
    """Documents that mention the group."""
    mentions_removed: int
    documents: int
    """All documents of the language, those that mention the group among them."""
    documents_removed: int
    difference: float
    """Removal rate where the group is mentioned, less the rate of all documents; a share."""
    low: float
    high: float
    """95 % interval of the difference."""
    p_value: float
    """One-sided Fisher's exact test of more removals than chance would bring."""
    adjusted_p_value: float
    """After Benjamini and Hochberg, over all rows of the report."""
    flagged: bool
    """The interval lies above 0: the group loses more documents than average."""
    significant: bool
    """It still does when all comparisons of the report are taken into account."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class ErasureCounter:
    """Counts documents, mentions and removals; counters of several shards add up."""

    def __init__(self, config: ErasureConfig | None = None) -> None:
        self._config = config or ErasureConfig()
        self._documents: Counter[str] = Counter()
        self._removed: Counter[tuple[str, str]] = Counter()
        self._mentions: Counter[tuple[str, str]] = Counter()
        self._mentions_removed: Counter[tuple[str, str, str]] = Counter()

    def add(self, axes: Iterable[str], language: str, rule: str) -> None:
        """Count one document.

        Args:
            axes: the groups that it mentions, see `ErasureRow.group`; repeats count once.
            rule: id of the rule that removed it; empty where it was kept.
        """
        groups = set(axes)
        self._documents[language] += 1
        for group in groups:
            self._mentions[language, group] += 1
        for name in (rule, ANY_RULE) if rule else ():
            self._removed[language, name] += 1
            for group in groups:
                self._mentions_removed[language, name, group] += 1

    def __add__(self, other: ErasureCounter) -> ErasureCounter:
        total = ErasureCounter(self._config)
        total._documents = self._documents + other._documents
        total._removed = self._removed + other._removed
        total._mentions = self._mentions + other._mentions
        total._mentions_removed = self._mentions_removed + other._mentions_removed
        return total

    def to_json(self) -> dict[str, Any]:
        """The counts alone, for a shard's file; sorted, so that the same counts look the same."""
        return {
            "documents": dict(sorted(self._documents.items())),
            "removed": [[*key, n] for key, n in sorted(self._removed.items())],
            "mentions": [[*key, n] for key, n in sorted(self._mentions.items())],
            "mentions_removed": [[*key, n] for key, n in sorted(self._mentions_removed.items())],
        }

    @classmethod
    def from_json(cls, counts: Mapping[str, Any], config: ErasureConfig | None = None) -> Self:
        """What `to_json` wrote."""
        counter = cls(config)
        counter._documents.update(counts["documents"])
        counter._removed.update({(a, b): n for a, b, n in counts["removed"]})
        counter._mentions.update({(a, b): n for a, b, n in counts["mentions"]})
        counter._mentions_removed.update(
            {(a, b, c): n for a, b, c, n in counts["mentions_removed"]}
        )
        return counter

    def report(self) -> list[ErasureRow]:
        """Every rule that removed anything of a language, against every group with support.

        Returns:
            largest difference first.
        """
        rows = [
            self._row(language, rule, group)
            for language, rule in sorted(self._removed)
            for spoken, group in sorted(self._mentions)
            if spoken == language and self._is_compared(language, group)
        ]
        adjusted = benjamini_hochberg([row.p_value for row in rows])
        rows = [
            replace(
                row,
                adjusted_p_value=q,
                significant=row.flagged and q <= self._config.false_discovery_rate,
            )
            for row, q in zip(rows, adjusted, strict=True)
        ]
        return sorted(rows, key=lambda row: (-row.difference, row.language, row.rule, row.group))

    def _is_compared(self, language: str, group: str) -> bool:
        """Groups with support; one that covers the same documents as its parent says nothing."""
        mentions = self._mentions[language, group]
        parent = "/".join(group.split("/", 2)[:-1])
        return mentions >= self._config.min_mentions and mentions != self._mentions.get(
            (language, parent)
        )

    def _row(self, language: str, rule: str, group: str) -> ErasureRow:
        mentions = self._mentions[language, group]
        mentions_removed = self._mentions_removed[language, rule, group]
        documents = self._documents[language]
        removed = self._removed[language, rule]
        difference = rate_difference(mentions_removed, mentions, removed, documents)
        p_value = fisher_upper_tail(mentions_removed, mentions, removed, documents)
        return ErasureRow(
            language=language,
            rule=rule,
            group=group,
            mentions=mentions,
            mentions_removed=mentions_removed,
            documents=documents,
            documents_removed=removed,
            difference=difference.value,
            low=difference.low,
            high=difference.high,
            p_value=p_value,
            adjusted_p_value=p_value,
            flagged=difference.low > 0,
            significant=False,
        )


def rate_difference(removed: int, n: int, all_removed: int, all_n: int) -> Estimate:
    """Removal rate of a part less that of the whole, with a 95 % interval.

    The part is inside the whole, so the two rates are not independent; those of the part and of
    the rest are. With w = n / all_n, part - whole = (1 - w) * (part - rest), and the interval of
    part - rest is Newcombe's.

    Source: Newcombe 1998, Statistics in Medicine 17:873, method 10.
    """
    if n == all_n:
        return Estimate(0.0, 0.0, 0.0, n)
    part = proportion(removed, n)
    rest = proportion(all_removed - removed, all_n - n)
    centre = part.value - rest.value
    below = math.hypot(part.value - part.low, rest.high - rest.value)
    above = math.hypot(part.high - part.value, rest.value - rest.low)
    scale = 1 - n / all_n
    return Estimate(scale * centre, scale * (centre - below), scale * (centre + above), n)


def fisher_upper_tail(removed: int, n: int, all_removed: int, all_n: int) -> float:
    """Probability of at least `removed` among `n` documents drawn from all without replacement.

    Args:
        all_removed: removed among all `all_n` documents.
    """
    highest = min(n, all_removed)
    if removed <= max(0, n + all_removed - all_n):
        return 1.0
    if removed > highest:
        return 0.0
    term = math.exp(
        _log_choose(all_removed, removed)
        + _log_choose(all_n - all_removed, n - removed)
        - _log_choose(all_n, n)
    )
    total = 0.0
    for count in range(removed, highest + 1):
        total += term
        # Past the mode terms only fall; what is left out is below the sum's own rounding.
        if term < 1e-18 * total:
            break
        term *= (all_removed - count) / (count + 1)
        term *= (n - count) / (all_n - all_removed - n + count + 1)
    return min(1.0, total)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: rows at most q hold a share q of false ones.

    Source: Benjamini and Hochberg 1995, JRSS B 57:289.
    """
    order = sorted(range(len(p_values)), key=lambda index: -p_values[index])
    adjusted = [1.0] * len(p_values)
    lowest = 1.0
    for position, index in enumerate(order):
        lowest = min(lowest, p_values[index] * len(p_values) / (len(p_values) - position))
        adjusted[index] = lowest
    return adjusted
