"""Sums figures of documents up to those of a corpus; sums of several shards add up.

Everything is a count, so the order of documents and the way they were sharded change nothing.
Memory is bounded by the number of terms, languages and distinct lengths, not of documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plumbline.core.statistics import Estimate, proportion
from plumbline.curation.analysis.erasure import ErasureCounter
from plumbline.curation.analysis.figures import DocumentFigures
from plumbline.curation.analysis.identity import IdentityTerm, Mentions
from plumbline.curation.analysis.pronouns import GENDERED, LANGUAGES, PERSONS
from plumbline.curation.config import AnalyzeConfig

MAX_SOURCES = 1000
"""More are not told apart: then a source is likely an address of each document."""
_PERCENTILES = (0, 5, 25, 50, 75, 95, 99, 100)


@dataclass(slots=True)
class _LanguageCounts:
    """Documents of one language."""

    documents: int = 0
    characters: int = 0
    pronouns: Counter[str] = field(default_factory=Counter)
    with_gendered: int = 0
    with_person: int = 0
    groups: Counter[str] = field(default_factory=Counter)
    """Axes, buckets and terms."""
    with_mention: int = 0
    ambiguous: Counter[str] = field(default_factory=Counter)
    """Terms."""

    def merge(self, other: _LanguageCounts) -> None:
        self.documents += other.documents
        self.characters += other.characters
        self.with_gendered += other.with_gendered
        self.with_person += other.with_person
        self.with_mention += other.with_mention
        self.pronouns.update(other.pronouns)
        self.groups.update(other.groups)
        self.ambiguous.update(other.ambiguous)


class CorpusSummary:
    """Figures of a corpus."""

    def __init__(self, config: AnalyzeConfig, terms: Iterable[IdentityTerm]) -> None:
        """
        Args:
            terms: what mentions were looked for.
        """
        self._config = config
        self._terms = {term.key: term for term in terms}
        self._languages: dict[str, _LanguageCounts] = {}
        self._sources: Counter[str] = Counter()
        self._lengths: dict[str, Counter[int]] = {"characters": Counter(), "tokens": Counter()}
        self._words = 0
        self._pii_pieces: Counter[str] = Counter()
        self._pii_documents: Counter[str] = Counter()
        self._with_pii = 0
        self._scores: dict[str, Counter[int]] = {}
        self._toxic: Counter[str] = Counter()
        self._lexicon = 0
        self._exact = 0
        self._removed: Counter[tuple[str, str]] = Counter()
        self._erasure = ErasureCounter(config.erasure)

    def add(self, figures: DocumentFigures) -> None:
        """Count one document."""
        language = self._languages.setdefault(figures.language, _LanguageCounts())
        groups = Mentions(tuple(self._terms[key] for key in figures.identity_terms)).groups
        language.documents += 1
        language.characters += figures.characters
        language.pronouns.update(figures.pronouns)
        language.with_gendered += not set(GENDERED).isdisjoint(figures.pronouns)
        language.with_person += bool(figures.pronouns)
        language.groups.update(groups)
        language.with_mention += bool(groups)
        language.ambiguous.update(figures.ambiguous_terms)
        if len(self._sources) <= MAX_SOURCES:
            self._sources[figures.source] += 1
        self._lengths["characters"][figures.characters] += 1
        self._lengths["tokens"][figures.tokens] += 1
        self._words += figures.words
        self._pii_pieces.update(figures.pii)
        self._pii_documents.update(figures.pii.keys())
        self._with_pii += bool(figures.pii)
        self._add_scores(figures.toxicity)
        self._lexicon += figures.lexicon
        self._exact += figures.exact_duplicate
        if figures.rule:
            self._removed[figures.rule, figures.code] += 1
        self._erasure.add(groups, figures.language, figures.rule)

    def merge(self, other: CorpusSummary) -> None:
        """Take in the counts of another shard of the corpus."""
        for language, counts in other._languages.items():
            self._languages.setdefault(language, _LanguageCounts()).merge(counts)
        for name, lengths in other._lengths.items():
            self._lengths[name].update(lengths)
        for name, scores in other._scores.items():
            self._scores.setdefault(name, Counter()).update(scores)
        self._sources.update(other._sources)
        self._words += other._words
        self._pii_pieces.update(other._pii_pieces)
        self._pii_documents.update(other._pii_documents)
        self._with_pii += other._with_pii
        self._toxic.update(other._toxic)
        self._lexicon += other._lexicon
        self._exact += other._exact
        self._removed.update(other._removed)
        self._erasure = self._erasure + other._erasure

    def finish(self) -> dict[str, Any]:
        """The report, JSON-compatible; shares come as {value, low, high, n} with 95 % intervals."""
        documents = sum(counts.documents for counts in self._languages.values())
        spoken = dict(
            sorted(self._languages.items(), key=lambda item: (-item[1].documents, item[0]))
        )
        return {
            "type": "analysis",
            "documents": documents,
            "characters": sum(counts.characters for counts in spoken.values()),
            "words": self._words,
            "tokens": _total(self._lengths["tokens"]),
            "sources": self._describe_sources(),
            "languages": {
                language: {
                    "documents": counts.documents,
                    "characters": counts.characters,
                    "share": _share(counts.documents, documents),
                }
                for language, counts in spoken.items()
            },
            "lengths": {name: _distribution(values) for name, values in self._lengths.items()},
            "pronouns": {
                language: _pronoun_shares(counts)
                for language, counts in spoken.items()
                if language in LANGUAGES
            },
            "identity": {
                language: self._identity_shares(counts)
                for language, counts in spoken.items()
                if counts.groups or counts.ambiguous
            },
            "toxicity": self._describe_toxicity(documents),
            "pii": self._describe_pii(documents),
            "exact_copies": _share(self._exact, documents),
            "rules": [
                {"rule": rule, "code": code, "removed": _share(removed, documents)}
                for (rule, code), removed in sorted(
                    self._removed.items(), key=lambda item: (-item[1], item[0])
                )
            ],
            "erasure": self._describe_erasure(),
        }

    def _add_scores(self, toxicity: Mapping[str, float]) -> None:
        bins = self._config.toxicity.bins
        for name, score in toxicity.items():
            self._scores.setdefault(name, Counter())[min(int(score * bins), bins - 1)] += 1
            self._toxic[name] += score >= self._config.toxicity.threshold

    def _describe_sources(self) -> dict[str, int] | None:
        """Documents by source; None where there are too many sources to be told apart."""
        return dict(sorted(self._sources.items())) if len(self._sources) <= MAX_SOURCES else None

    def _identity_shares(self, counts: _LanguageCounts) -> dict[str, Any]:
        """Llama 2 table 9b: axes as shares of all documents, terms as shares of their axis."""
        axes: list[dict[str, Any]] = []
        for axis in sorted({term.axis for term in self._terms.values()}):
            documents = counts.groups[axis]
            terms = [term for term in self._terms.values() if term.axis == axis]
            terms.sort(key=lambda term: (-counts.groups[term.key], term.key))
            axes.append(
                {
                    "axis": axis,
                    "share": _share(documents, counts.documents),
                    "buckets": {
                        bucket: _share(counts.groups[f"{axis}/{bucket}"], counts.documents)
                        for bucket in sorted({term.bucket for term in terms})
                        if counts.groups[f"{axis}/{bucket}"]
                    },
                    "terms": [
                        {
                            "bucket": term.bucket,
                            "term": term.term,
                            "preference": term.preference,
                            "share_of_axis": _share(counts.groups[term.key], documents),
                        }
                        for term in terms
                        if counts.groups[term.key]
                    ],
                }
            )
        return {
            "documents": counts.documents,
            "any_axis": _share(counts.with_mention, counts.documents),
            "axes": sorted(axes, key=lambda row: (-row["share"]["value"], row["axis"])),
            "ambiguous_terms": [
                {"axis": self._terms[key].axis, "term": self._terms[key].term, "documents": found}
                for key, found in sorted(
                    counts.ambiguous.items(), key=lambda item: (-item[1], item[0])
                )
            ],
        }

    def _describe_toxicity(self, documents: int) -> dict[str, Any]:
        bins = self._config.toxicity.bins
        return {
            "threshold": self._config.toxicity.threshold,
            "lexicon": _share(self._lexicon, documents),
            "filters": {
                name: {
                    "at_least_threshold": _share(self._toxic[name], scores.total()),
                    "histogram": [scores[position] for position in range(bins)],
                }
                for name, scores in sorted(self._scores.items())
            },
        }

    def _describe_pii(self, documents: int) -> dict[str, Any]:
        characters = _total(self._lengths["characters"])
        return {
            "documents": _share(self._with_pii, documents),
            "types": {
                name: {
                    "pieces": pieces,
                    "documents": _share(self._pii_documents[name], documents),
                    "per_1000_characters": 1000 * pieces / characters,
                    "per_1000_documents": 1000 * pieces / documents,
                }
                for name, pieces in sorted(self._pii_pieces.items())
            },
        }

    def _describe_erasure(self) -> dict[str, Any]:
        rows = self._erasure.report()
        return {
            "min_mentions": self._config.erasure.min_mentions,
            "false_discovery_rate": self._config.erasure.false_discovery_rate,
            "compared": len(rows),
            "flagged": sum(row.flagged for row in rows),
            "significant": sum(row.significant for row in rows),
            "rows": [row.to_json() for row in rows],
        }


def percentile(counts: Mapping[int, int], percent: int) -> int:
    """The smallest value that so many per cent of the counted values do not exceed; exact."""
    total = sum(counts.values())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if 100 * seen >= percent * total:
            return value
    return 0


def octaves(counts: Mapping[int, int]) -> list[tuple[int, int]]:
    """Counts of values from 2**k to below 2**(k + 1), as (2**k, count); zeros join ones."""
    binned: Counter[int] = Counter()
    for value, count in counts.items():
        binned[max(value, 1).bit_length() - 1] += count
    if not binned:
        return []
    return [(1 << power, binned[power]) for power in range(min(binned), max(binned) + 1)]


def _distribution(counts: Mapping[int, int]) -> dict[str, Any]:
    documents = sum(counts.values())
    return {
        "mean": _total(counts) / documents if documents else 0.0,
        "percentiles": {str(p): percentile(counts, p) for p in _PERCENTILES if documents},
        "octaves": [list(pair) for pair in octaves(counts)],
    }


def _pronoun_shares(counts: _LanguageCounts) -> dict[str, Any]:
    """Llama 2 table 9a; there each group is a share of the documents with any such pronoun."""
    return {
        "documents": counts.documents,
        "gendered": _share(counts.with_gendered, counts.documents),
        "any_person": _share(counts.with_person, counts.documents),
        "of_all": {
            group: _share(counts.pronouns[group], counts.documents)
            for group in (*GENDERED, *PERSONS)
        },
        "of_those_with_any": {
            **_shares_of(counts.pronouns, GENDERED, counts.with_gendered),
            **_shares_of(counts.pronouns, PERSONS, counts.with_person),
        },
    }


def _shares_of(counts: Mapping[str, int], names: Sequence[str], n: int) -> dict[str, Any]:
    return {name: _share(counts[name], n) for name in names}


def _share(count: int, n: int) -> dict[str, float]:
    # Nothing measured is no share; NaN has no place in JSON.
    estimate = proportion(count, n) if n else Estimate(0.0, 0.0, 1.0, 0)
    return {**estimate.to_dict(), "count": count}


def _total(counts: Mapping[int, int]) -> int:
    return sum(value * count for value, count in counts.items())
