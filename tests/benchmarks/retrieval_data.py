"""Made-up rules, queries and filters of the retrieval benchmark, and exact search as the oracle.

Every engine searches the same vectors: those that our importer made of the rules' texts, which
belong to topics, so that they cluster. What matches a filter has nothing to do with the topic, the
hard case for a graph that is walked by similarity.

NumPy and the standard library only, because the peers' environment imports it too.
Shapes: N rules, D dimensions, Q queries, K neighbours.
"""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHARES = (1.0, 0.5, 0.1, 0.025, 0.005)
"""Of the rules, how many a filter keeps."""
CATEGORIES = 200
EARLY, LATE = "2015-01-01", "2025-01-01"
"""First days of rules: of every other one the later."""
BEFORE, AFTER = "2020-01-01", "2026-01-01"
"""Days that queries ask about: half the rules are in force on the first, all on the second."""
_TOPIC_WORDS, _COMMON_WORDS = 24, 600
_BLOCK = 4096
_SYLLABLES = ("ba", "de", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va", "xe", "yo", "zi")

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it is imported."""

    id: str
    title: str
    text: str
    category: str
    effective_from: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rules a query looks at: in force on a day, and of some categories."""

    as_of: str
    categories: tuple[str, ...] = ()
    """Empty means all."""

    @property
    def day(self) -> int:
        return datetime.date.fromisoformat(self.as_of).toordinal()


def filter_of(share: float) -> Filter:
    """The filter that keeps a share of the rules: half by the day, less by category."""
    if share == 1.0:
        return Filter(AFTER)
    if share == 0.5:
        return Filter(BEFORE)
    return Filter(AFTER, tuple(category(i) for i in range(round(share * CATEGORIES))))


def category(number: int) -> str:
    return f"category-{number:03d}"


def make_rules(count: int, *, seed: int = 7) -> list[Rule]:
    """Rules in order of id, of which every so many share a topic's words."""
    rng = random.Random(seed)
    topics = _topics(count, seed)
    common = _words(_COMMON_WORDS, random.Random(seed + 1))
    rules = []
    for number in range(count):
        topic = topics[rng.randrange(len(topics))]
        own, shared = rng.choices(topic, k=14), rng.choices(common, k=10)
        words = [*own, *shared]
        rng.shuffle(words)
        rules.append(
            Rule(
                id=f"rule-{number:06d}",
                title=" ".join(own[:2]),
                text=" ".join(words) + ".",
                # Drawn apart from the topic, and in turn, so that shares are exact.
                category=category(number * 67 % CATEGORIES),
                effective_from=(EARLY, LATE)[number // CATEGORIES % 2],
            )
        )
    return rules


def make_queries(count: int, rules: int, *, seed: int = 7) -> list[str]:
    """Queries that differ, each of a few words of one topic."""
    rng = random.Random(seed + 2)
    topics = _topics(rules, seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(rng.sample(topics[rng.randrange(len(topics))], k=6))] = None
    return list(found)


def _topics(rules: int, seed: int) -> list[list[str]]:
    rng = random.Random(seed + 3)
    return [_words(_TOPIC_WORDS, rng) for _ in range(max(rules // 50, 2))]


def _words(count: int, rng: random.Random) -> list[str]:
    return ["".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))) for _ in range(count)]


@dataclass(frozen=True)
class Data:
    """What a directory of the benchmark holds; row i of everything is one rule.

    Attributes:
        vectors: [N, D] unit rows.
        queries: texts, and [Q, D] `query_vectors` of them.
    """

    directory: Path
    rules: tuple[Rule, ...]
    queries: tuple[str, ...]

    @cached_property
    def vectors(self) -> Vectors:
        found: Vectors = np.load(self.directory / "vectors.npy", mmap_mode="r")
        return found

    @cached_property
    def query_vectors(self) -> Vectors:
        found: Vectors = np.load(self.directory / "query_vectors.npy")
        return found

    @cached_property
    def first_days(self) -> NDArray[np.int64]:
        """[N] ordinals."""
        days = [datetime.date.fromisoformat(rule.effective_from) for rule in self.rules]
        return np.array([day.toordinal() for day in days])

    @cached_property
    def categories(self) -> NDArray[np.str_]:
        """[N]"""
        return np.array([rule.category for rule in self.rules])

    def allowed(self, where: Filter) -> NDArray[np.bool_]:
        """[N]: does a rule match the filter?"""
        mask = self.first_days <= where.day
        if where.categories:
            mask &= np.isin(self.categories, where.categories)
        return mask


def save_data(
    directory: Path,
    rules: Sequence[Rule],
    vectors: Vectors,
    queries: Sequence[str],
    query_vectors: Vectors,
) -> None:
    np.save(directory / "vectors.npy", vectors)
    np.save(directory / "query_vectors.npy", query_vectors)
    (directory / "queries.json").write_text(json.dumps(queries), encoding="utf-8")
    with (directory / "rules.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(rule)) + "\n" for rule in rules)


def load_data(directory: Path) -> Data:
    with (directory / "rules.jsonl").open(encoding="utf-8") as file:
        rules = tuple(Rule(**json.loads(line)) for line in file)
    queries = json.loads((directory / "queries.json").read_text(encoding="utf-8"))
    return Data(directory, rules, tuple(queries))


@dataclass(frozen=True)
class Truth:
    """What exact search in float64 finds at one filter.

    Attributes:
        allowed: [N], does a rule match?
        last: [Q] cosine of the last of the k nearest.
        count: of the k nearest: k, or as many as match.
    """

    data: Data
    allowed: NDArray[np.bool_]
    last: NDArray[np.float64]
    count: int

    def recall(self, query: int, found: Sequence[int]) -> float:
        """The share of the k nearest that an engine found.

        A rule as near as the last of them counts for it, to a millionth: which of two texts that
        an engine cannot tell apart comes first is its own affair. A rule that does not match
        counts as one that is missing.
        """
        vector = self.data.query_vectors[query].astype(np.float64)
        good = [
            row
            for row in set(found)
            if self.allowed[row]
            and float(self.data.vectors[row].astype(np.float64) @ vector) >= self.last[query] - 1e-6
        ]
        return min(len(good), self.count) / self.count


def truth(data: Data, where: Filter, queries: int, k: int) -> Truth:
    """Exact search for the first queries, block by block of rules."""
    allowed = data.allowed(where)
    rows = np.flatnonzero(allowed)
    wanted = data.query_vectors[:queries].astype(np.float64)
    scores = np.empty((len(wanted), len(rows)))
    for start in range(0, len(rows), _BLOCK):
        block = data.vectors[rows[start : start + _BLOCK]].astype(np.float64)
        scores[:, start : start + _BLOCK] = wanted @ block.T
    count = min(k, len(rows))
    last = np.partition(scores, len(rows) - count, axis=1)[:, len(rows) - count]
    return Truth(data, allowed, last, count)
