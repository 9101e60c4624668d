"""Plumbline's retriever engine in the process: imports the rules, searches, changes one."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from measured_run import Measured, arguments
from retrieval_data import Filter, Rule, load_data, make_queries, make_rules, save_data
from retrieval_program import Found, answer_commands, resident_bytes, size_of

from plumbline.core.artifacts import open_configured_store
from plumbline.core.settings import Settings
from plumbline.data.records import ValueSpec
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.search.config import EmbedderConfig
from plumbline.retriever.search.filters import ValueQuery

KNOWLEDGE_BASE = "rules"


def value_of(rule: Rule) -> ValueSpec:
    return ValueSpec(
        id=rule.id,
        title=rule.title,
        text=rule.text,
        category=rule.category,
        effective_from=rule.effective_from,
    )


def open_engine(state: Path, dimensions: int) -> RetrieverEngine:
    store = open_configured_store(Settings(state_dir=state))
    return RetrieverEngine(store, RetrieverConfig(), embedder=EmbedderConfig(dimensions=dimensions))


def build(given: Mapping[str, Any]) -> None:
    """Import the rules, which embeds them, and save what the peers need."""
    data, state, dimensions = Path(given["data"]), Path(given["index"]), given["dimensions"]
    rules = make_rules(given["rules"])
    values = [value_of(rule) for rule in rules]
    engine = open_engine(state, dimensions)
    measured = Measured()
    with measured.block():
        _, artifact = engine.import_values(KNOWLEDGE_BASE, values)
    index = engine.bases.load(artifact).index
    queries = make_queries(given["queries"], len(rules))
    query_vectors = np.stack([index.query_vector(query) for query in queries])
    save_data(data, rules, index.vectors, queries, query_vectors)
    files = open_configured_store(Settings(state_dir=state)).materialise(artifact)
    measured.report(documents=len(rules), size_bytes=size_of(files), artifact=artifact)


class Ours:
    """The engine behind RetrieverService; a search includes embedding the query."""

    version = "plumbline"

    def __init__(self, engine: RetrieverEngine, queries: tuple[str, ...], mode: str) -> None:
        self._engine, self._queries, self._mode = engine, queries, mode
        self._changes = itertools.count(1)

    def search(self, query: int, where: Filter, k: int) -> Found:
        hits, _ = self._engine.retrieve(
            KNOWLEDGE_BASE,
            self._queries[query],
            ValueQuery(as_of=where.as_of, categories=where.categories),
            k=k,
            mode=self._mode,
        )
        return [(int(hit.value.id.removeprefix("rule-")), hit.dense_score) for hit in hits]

    def changing(self, rule: Rule) -> Callable[[], Mapping[str, Any]]:
        """Imports a rule again with another text, so that the knowledge base's tag moves."""

        def change() -> Mapping[str, Any]:
            changed = replace(rule, text=f"{rule.text} Change {next(self._changes)}.")
            _, artifact = self._engine.import_values(KNOWLEDGE_BASE, [value_of(changed)])
            return {"artifact": artifact}

        return change


def serve(given: Mapping[str, Any]) -> None:
    data = load_data(Path(given["data"]))
    measured = Measured()
    with measured.block():
        engine = open_engine(Path(given["index"]), given["dimensions"])
        ours = Ours(engine, data.queries, given["mode"])
        ours.search(0, Filter(data.rules[0].effective_from), 1)
    facts = {"version": ours.version, "resident": resident_bytes()}
    measured.report(documents=len(data.rules), size_bytes=0, **facts)
    answer_commands(ours, data, {"change": ours.changing(data.rules[0])})


if __name__ == "__main__":
    given = arguments()
    build(given) if given["do"] == "build" else serve(given)
