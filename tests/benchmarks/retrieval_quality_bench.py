"""How often search finds the right article of Chinese law: recall at 5 and mean reciprocal rank.

    make bench PART=retrieval_quality

The values are every article of the public statutes (cn_laws_kb); the queries are those of
tests/oracles/law_queries.jsonl, written from the articles before any search had seen them: 40 in
the law's own words, 60 as somebody would ask who does not know these words. Each names the
articles that answer it and says why, so that anybody can check it with the law in hand.

Recall at 5 is the share of a query's right articles among the first five hits, averaged over
queries; the reciprocal rank is that of the first right article, 0 beyond the first hundred.
Intervals are 95 % percentile intervals of a bootstrap over queries, and differences are paired.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from framework import REPOSITORY, BenchmarkError
from public_data import VARIABLE, public_data

from plumbline.core.statistics import Estimate
from plumbline.data.records import ValueSpec
from plumbline.retriever.readers.folders import read_values
from plumbline.retriever.search.config import EmbedderConfig, SearchConfig
from plumbline.retriever.search.embedders import build_embedder
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.search.index import SearchMode, ValueIndex, searchable_text

QUERIES = REPOSITORY / "tests" / "oracles" / "law_queries.jsonl"
LAWS = "cn_laws_kb/laws.jsonl.gz"
AS_OF = "2026-01-01"
"""A fixed day, so that the figures do not change when the next law comes into force."""
FOUND_WITHIN = 5
DEPTH = 100
_RESAMPLES = 10_000
KINDS = ("all", "heading", "paraphrase")


@dataclass(frozen=True, slots=True)
class Question:
    """A query, and the articles that answer it."""

    query: str
    kind: str
    """heading or paraphrase."""
    articles: tuple[str, ...]
    reason: str


Ranks = Sequence[Sequence[int | None]]
"""Of each query's right articles, from 1; None where not found."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What one way of searching finds."""

    recall: Estimate
    reciprocal_rank: Estimate

    @classmethod
    def of(cls, ranks: Ranks) -> Quality:
        return cls(bootstrap_mean(recalls(ranks)), bootstrap_mean(reciprocal_ranks(ranks)))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report."""

    search: str
    kind: str
    quality: Quality


def recalls(ranks: Ranks) -> list[float]:
    """Of each query the share of its right articles among the first five."""
    return [
        sum(rank is not None and rank <= FOUND_WITHIN for rank in found) / len(found)
        for found in ranks
    ]


def reciprocal_ranks(ranks: Ranks) -> list[float]:
    return [max((1 / rank for rank in found if rank is not None), default=0.0) for found in ranks]


def bootstrap_mean(values: Sequence[float]) -> Estimate:
    """Mean with the percentile interval of resampled queries; the same numbers every time."""
    drawn = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values)[drawn].mean(axis=1), [2.5, 97.5])
    return Estimate(float(np.mean(values)), float(low), float(high), len(values))


def read_questions(path: Path = QUERIES) -> list[Question]:
    """The queries, in the file's order."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Question(**{**row, "articles": tuple(row["articles"])}) for row in rows]


def read_articles(root: Path) -> tuple[ValueSpec, ...]:
    """Every article of the statutes as a value."""
    return read_values([root / LAWS])


def build_index(values: Sequence[ValueSpec], embedder: EmbedderConfig) -> ValueIndex:
    model = build_embedder(embedder)
    return ValueIndex.build(
        values, model.embed([searchable_text(value) for value in values]), model
    )


def ranks_by_mode(
    index: ValueIndex, questions: Sequence[Question], config: SearchConfig | None = None
) -> dict[SearchMode, Ranks]:
    """The ranks of every query's right articles among the first hundred hits of each search."""
    where = ValueQuery(as_of=AS_OF)
    found: dict[SearchMode, Ranks] = {}
    for mode in SearchMode:
        ranks = []
        for question in questions:
            hits = index.search(question.query, where, k=DEPTH, mode=mode, config=config)
            order = {hit.value.id: rank for rank, hit in enumerate(hits, start=1)}
            ranks.append([order.get(article) for article in question.articles])
        found[mode] = ranks
    return found


def of_kind(ranks: Ranks, questions: Sequence[Question], kind: str) -> Ranks:
    """The ranks of one kind of query; `all` takes every one."""
    return [
        found
        for question, found in zip(questions, ranks, strict=True)
        if kind in ("all", question.kind)
    ]


def table(found: Mapping[SearchMode, Ranks], questions: Sequence[Question]) -> list[Row]:
    """Quality by search and kind of query, then what fusion gains over each search."""
    rows = [
        Row(mode.value, kind, Quality.of(of_kind(ranks, questions, kind)))
        for mode, ranks in found.items()
        for kind in KINDS
    ]
    fused = found[SearchMode.FUSED]
    for mode in (SearchMode.DENSE, SearchMode.LEXICAL):
        gain = Quality(
            _paired(recalls(fused), recalls(found[mode])),
            _paired(reciprocal_ranks(fused), reciprocal_ranks(found[mode])),
        )
        rows.append(Row(f"fused - {mode.value}", "all", gain))
    return rows


def _paired(one: Sequence[float], other: Sequence[float]) -> Estimate:
    return bootstrap_mean([a - b for a, b in zip(one, other, strict=True)])


def show(rows: Sequence[Row]) -> None:
    print(f"{'search':<17}{'queries':<12}{'n':>4}  {'recall@5':<27}MRR")
    for row in rows:
        recall, mrr = _interval(row.quality.recall), _interval(row.quality.reciprocal_rank)
        print(f"{row.search:<17}{row.kind:<12}{row.quality.recall.n:>4}  {recall:<27}{mrr}")


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--embedder", default="hashed", help="hashed, minilm or a directory.")
    arguments = parser.parse_args(argv)
    root = public_data()
    if root is None:
        raise BenchmarkError(f"no public data sets; set {VARIABLE} to their directory")
    begin = time.perf_counter()
    values = read_articles(root)
    read = time.perf_counter()
    index = build_index(values, EmbedderConfig(model=arguments.embedder))
    built = time.perf_counter()
    questions = read_questions()
    rows = table(ranks_by_mode(index, questions), questions)
    asked = time.perf_counter()
    print(
        f"{len(values)} articles read in {read - begin:.1f} s, indexed in {built - read:.1f} s; "
        f"{len(questions)} queries in 3 modes in {asked - built:.1f} s\n"
    )
    show(rows)
    path = REPOSITORY / ".plumbline" / "bench" / "retrieval_quality.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [
        {
            "search": row.search,
            "queries": row.kind,
            "recall_at_5": row.quality.recall.to_dict(),
            "mrr": row.quality.reciprocal_rank.to_dict(),
        }
        for row in rows
    ]
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
