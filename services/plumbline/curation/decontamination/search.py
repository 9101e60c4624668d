"""Finds what training documents share with evaluation samples.

The evaluation sets are held, as hashes of their runs of n words; documents pass by in batches. A
hit of hashes is compared word by word before it counts. A match is a run of n equal words, as far
as it goes, and what follows it with at most `budget` words that differ; it ends on equal words.

Source: Touvron et al. 2023, Llama 2, arXiv:2307.09288, appendix A.6, which finds the same matches
with suffix arrays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plumbline.curation.decontamination.config import DecontaminateConfig
from plumbline.curation.decontamination.samples import EvaluationSet
from plumbline.curation.word_runs import WordRuns, hash_runs

_SIEVE_BITS = (16, 26)
"""Bounds of the sieve's size: 64 kB to 64 MB."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a document shares with one sample."""

    sample: int
    """Counted through all evaluation sets."""
    start: int
    """First word, in the document."""
    end: int
    """Exclusive."""
    words: int
    """Equal ones; those that differ in between are not counted."""


class ContaminationSearch:
    """Searches documents, and keeps account of what was found of each sample."""

    def __init__(self, sets: Sequence[EvaluationSet], config: DecontaminateConfig) -> None:
        self._config = config
        samples = [sample for given in sets for sample in given.samples]
        self._runs = _KnownRuns([sample.words for sample in samples], config.run_words)
        words = len(self._runs.words)
        self._is_contaminated = np.zeros(words, dtype=bool)
        self._is_marked = np.zeros(self._runs.count, dtype=bool)
        self.documents = np.zeros(len(samples), dtype=np.int64)
        """[samples] how many documents share something with each."""
        self.longest = np.zeros(len(samples), dtype=np.int64)
        """[samples] words of the longest match."""
        self.document_ids: list[list[str]] = [[] for _ in samples]
        """The first documents that share something with each, as many as the config allows."""

    def find(self, ids: Sequence[str], documents: Sequence[Sequence[str]]) -> list[list[Match]]:
        """Each document's matches, in order.

        Args:
            ids: of the documents, for the account.
            documents: the `normalize.tokens` of each.
        """
        found: list[list[Match]] = [[] for _ in documents]
        for index, places, runs in self._runs.hits(documents):
            matches = self._matches(documents[index], places, runs)
            found[index] = sorted(matches, key=lambda match: (match.start, match.sample))
            self._note(ids[index], matches)
        return found

    def shares(self) -> NDArray[np.float64]:
        """[samples] share of each sample's words that are contaminated; 0 for empty ones."""
        counts = self.contaminated_words()
        return counts / np.maximum(self.sample_words(), 1)

    def contaminated_words(self) -> NDArray[np.int64]:
        """[samples]"""
        total = np.concatenate([[0], np.cumsum(self._is_contaminated)])
        bounds = self._runs.bounds
        counts: NDArray[np.int64] = total[bounds[1:]] - total[bounds[:-1]]
        return counts

    def sample_words(self) -> NDArray[np.int64]:
        """[samples]"""
        return np.diff(self._runs.bounds)

    def _note(self, document_id: str, matches: Sequence[Match]) -> None:
        longest: dict[int, int] = {}
        for match in matches:
            longest[match.sample] = max(longest.get(match.sample, 0), match.words)
        for sample, words in longest.items():
            self.documents[sample] += 1
            self.longest[sample] = max(self.longest[sample], words)
            named = self.document_ids[sample]
            if len(named) < self._config.documents_per_sample:
                named.append(document_id)

    def _matches(
        self, document: Sequence[str], places: NDArray[np.int64], runs: NDArray[np.int64]
    ) -> list[Match]:
        """A document's matches, given its hits.

        Args:
            places: [hits] first word of each hit in the document, ascending.
            runs: [hits] which known run it is.
        """
        is_template = self._runs.counts[runs] > self._config.template_places
        return [
            *self._templates(places[is_template], runs[is_template]),
            *self._followed(document, places[~is_template], runs[~is_template]),
        ]

    def _templates(self, places: NDArray[np.int64], runs: NDArray[np.int64]) -> list[Match]:
        """One match with each sample that has any of the templates."""
        size = self._config.run_words
        found: dict[int, Match] = {}
        for place, run in zip(places.tolist(), runs.tolist(), strict=True):
            self._mark_everywhere(run)
            for sample in self._runs.samples_of(run):
                found.setdefault(sample, Match(sample, place, place + size, size))
        return list(found.values())

    def _mark_everywhere(self, run: int) -> None:
        if not self._is_marked[run]:
            self._is_marked[run] = True
            for place in self._runs.places_of(run).tolist():
                self._is_contaminated[place : place + self._config.run_words] = True

    def _followed(
        self, document: Sequence[str], places: NDArray[np.int64], runs: NDArray[np.int64]
    ) -> Iterator[Match]:
        """Matches from every stretch of hits that are one word apart on both sides."""
        counts = self._runs.counts[runs]
        here = np.repeat(places, counts)
        firsts = np.repeat(self._runs.firsts[runs], counts)
        within = np.arange(len(here)) - np.repeat(np.cumsum(counts) - counts, counts)
        there = self._runs.order[firsts + within]
        order = np.lexsort((there, there - here))
        here, there = here[order], there[order]
        is_start = np.ones(len(here), dtype=bool)
        is_start[1:] = (np.diff(here) != 1) | (np.diff(there) != 1)
        starts = np.flatnonzero(is_start)
        lasts = np.r_[starts[1:], len(here)][: len(starts)] - 1
        for start, last in zip(starts.tolist(), lasts.tolist(), strict=True):
            yield self._follow(document, int(here[start]), int(there[start]), int(last - start))

    def _follow(self, document: Sequence[str], here: int, there: int, further: int) -> Match:
        """The match from a stretch of `further` + 1 hits on, and its words marked."""
        equal = further + self._config.run_words
        self._is_contaminated[there : there + equal] = True
        sample = self._runs.sample_at(there)
        end, budget = equal, self._config.budget
        room = min(len(document) - here, int(self._runs.bounds[sample + 1]) - there)
        words = self._runs.words
        for distance in range(equal, room):
            if document[here + distance] == words[there + distance]:
                self._is_contaminated[there + distance] = True
                equal += 1
                end = distance + 1
            elif budget:
                budget -= 1
            else:
                break
        return Match(sample, here, here + end, equal)


class _KnownRuns:
    """The different runs of n words of all samples, and where they stand.

    Args:
        samples: their words.
        size: words of a run.
    """

    def __init__(self, samples: Sequence[Sequence[str]], size: int) -> None:
        self._size = size
        self.words = [word for sample in samples for word in sample]
        self.bounds = np.concatenate([[0], np.cumsum([len(sample) for sample in samples])]).astype(
            np.int64
        )
        """[samples + 1] where each sample's words begin."""
        for salt in itertools.count():
            runs = hash_runs(samples, size, salt=salt)
            self._index(runs)
            if self._all_equal():
                break
        self._salt = salt
        self._sieve, self._sieve_shift = _sieve(self._hashes)

    def _index(self, runs: WordRuns) -> None:
        order = np.argsort(runs.hashes, kind="stable")
        self.order = runs.starts[order]
        """Places of all runs; those of one run lie together."""
        self._hashes, self.firsts, self.counts = np.unique(
            runs.hashes[order], return_index=True, return_counts=True
        )

    def _all_equal(self) -> bool:
        """Whether runs of one hash are of the same words, so that one stands for all."""
        numbers: dict[str, int] = {}
        words = np.fromiter(
            (numbers.setdefault(word, len(numbers)) for word in self.words),
            dtype=np.int64,
            count=len(self.words),
        )
        leaders = np.repeat(self.order[self.firsts], self.counts)
        return all(
            np.array_equal(words[self.order + place], words[leaders + place])
            for place in range(self._size)
        )

    @property
    def count(self) -> int:
        return len(self._hashes)

    def places_of(self, run: int) -> NDArray[np.int64]:
        """First words of a run's occurrences, counted through all samples."""
        first = self.firsts[run]
        return self.order[first : first + self.counts[run]]

    def samples_of(self, run: int) -> list[int]:
        samples = np.searchsorted(self.bounds, self.places_of(run), side="right") - 1
        return [int(sample) for sample in np.unique(samples)]

    def sample_at(self, place: int) -> int:
        return int(np.searchsorted(self.bounds, place, side="right")) - 1

    def hits(
        self, documents: Sequence[Sequence[str]]
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Documents with known runs: index, places of the hits, and which runs they are."""
        if not self.count:
            return
        runs = hash_runs(documents, self._size, salt=self._salt)
        passed = np.flatnonzero(self._sieve[runs.hashes >> self._sieve_shift])
        hashes = runs.hashes[passed]
        known = np.minimum(np.searchsorted(self._hashes, hashes), self.count - 1)
        is_hit = self._hashes[known] == hashes
        owners, known = runs.owners[passed][is_hit], known[is_hit]
        starts = np.concatenate([[0], np.cumsum([len(words) for words in documents])])
        places = runs.starts[passed][is_hit] - starts[owners]
        for index in np.unique(owners).tolist():
            own = owners == index
            document = documents[index]
            same = [
                self._is_run(document, place, run)
                for place, run in zip(places[own].tolist(), known[own].tolist(), strict=True)
            ]
            if any(same):
                yield index, places[own][same], known[own][same]

    def _is_run(self, document: Sequence[str], place: int, run: int) -> bool:
        leader = int(self.order[self.firsts[run]])
        shared = self.words[leader : leader + self._size]
        return list(document[place : place + self._size]) == shared


def _sieve(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], np.uint64]:
    """A table of the leading bits of known hashes: most runs of a corpus end at one look."""
    fewest, most = _SIEVE_BITS
    bits = min(max(fewest, (8 * len(hashes)).bit_length()), most)
    shift = np.uint64(64 - bits)
    table = np.zeros(1 << bits, dtype=bool)
    table[hashes >> shift] = True
    return table, shift
