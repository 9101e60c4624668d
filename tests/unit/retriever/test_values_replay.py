"""A roll-back brings the earlier rankings back, to the last bit of every score."""

from __future__ import annotations

import random
from pathlib import Path

from plumbline.core.artifacts import open_store
from plumbline.data.records import ValueSpec
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.search.filters import ValueQuery

WORDS = "bread oven train ticket refund 护照 公民 食品 安全 合同 租金 学校"
DAYS = ("", "2020-01-01", "2022-01-01")
Ranking = list[tuple[str, int, str, str, str]]
"""Id, version and the three scores in hexadecimal, best first."""


def open_engine(root: Path, cache: str) -> RetrieverEngine:
    store = open_store((root / "store").as_uri(), cache_dir=root / cache, cache_bytes=2**30)
    return RetrieverEngine(store, RetrieverConfig())


def text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS.split(), k=words))


def rankings(
    engine: RetrieverEngine, knowledge_base: str, queries: list[tuple[str, ValueQuery]]
) -> list[Ranking]:
    return [
        [
            (
                hit.value.id,
                hit.value.version,
                hit.score.hex(),
                hit.dense_score.hex(),
                hit.lexical_score.hex(),
            )
            for hit in engine.retrieve(knowledge_base, query, where, k=5)[0]
        ]
        for query, where in queries
    ]


def test_a_thousand_queries_replayed_on_the_old_state(tmp_path: Path) -> None:
    draw = random.Random(7)
    values = [
        ValueSpec(
            id=f"v{n}",
            text=text(draw, 8),
            effective_from=day,
            jurisdiction=draw.choice(["", "CN"]),
        )
        for n in range(150)
        for day in draw.sample(DAYS, draw.randint(1, 3))
    ]
    queries = [
        (
            text(draw, draw.randint(1, 4)),
            ValueQuery(
                as_of=draw.choice(["2019-06-01", "2021-06-01", "2023-06-01"]),
                jurisdiction=draw.choice(["", "CN-11"]),
            ),
        )
        for _ in range(1000)
    ]
    engine = open_engine(tmp_path, "cache")
    _, old = engine.import_values("house", values)

    recorded = rankings(engine, "house", queries)
    changed = [ValueSpec(id=f"v{n}", text=text(draw, 8)) for n in range(0, 150, 7)]
    engine.import_values("house", changed)
    engine.import_values("house", [ValueSpec(id="new", text="bread 护照")], revoked=["v1", "v2"])
    meanwhile = rankings(engine, "house", queries)
    engine.bases.move_tag("house", "", old)
    replica = open_engine(tmp_path, "replica")

    assert meanwhile != recorded
    assert rankings(engine, "house", queries) == recorded
    assert rankings(replica, "house", queries) == recorded, "another replica, with its own files"
