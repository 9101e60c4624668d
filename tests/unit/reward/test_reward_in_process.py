"""Scores of this process: to the bit the same whatever is scored beside them."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from transformers import BertConfig, BertModel

from plumbline.data.records import user
from plumbline.models.reward import RewardModel, RewardModelCard
from plumbline.reward.config import RewardConfig
from plumbline.reward.encoding import ScoredItem
from plumbline.reward.engine import RewardEngine

WORDS = ["the", "cat", "sat", "on", "mat", "and", "dog", "ran", "to", "old", "house", "by", "sea"]


def items(count: int) -> list[ScoredItem]:
    generator = random.Random(3)
    return [
        ScoredItem(
            (user(" ".join(generator.choices(WORDS, k=1 + index % 5))),),
            " ".join(generator.choices(WORDS, k=generator.randint(0, 40))),
        )
        for index in range(count)
    ]


@pytest.fixture(params=["last", "cls", "mean", "response"])
def directory(
    request: pytest.FixtureRequest, tiny_llama: Any, tiny_tokenizer: Any, tmp_path: Path
) -> Path:
    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    backbone = tiny_llama().model if request.param == "last" else BertModel(config).eval()
    card = RewardModelCard(head="helpfulness", pooling=request.param, max_length=90)
    RewardModel.create(backbone, tiny_tokenizer, card, seed=1).save(tmp_path)
    return tmp_path


def make(directory: Path, **config: Any) -> RewardEngine:
    return RewardEngine(lambda _: ("id", directory), RewardConfig(**config), device="cpu")


def scores(engine: RewardEngine, some: list[ScoredItem]) -> tuple[float, ...]:
    return engine.score(some, ["helpfulness"], {"helpfulness": "x"}).by_head["helpfulness"]


def test_bits_do_not_depend_on_batch_order_or_company(directory: Path) -> None:
    everything = items(30)
    engine = make(directory)
    together = scores(engine, everything)

    assert tuple(scores(engine, [one])[0] for one in everything) == together
    assert scores(engine, everything[::-1])[::-1] == together
    assert scores(make(directory, tokens_per_batch=100), everything) == together
    assert len(set(together)) > 25


def test_bits_do_not_depend_on_other_calls(directory: Path) -> None:
    everything = items(24)
    engine = make(directory, max_delay_s=0.05)
    alone = scores(engine, everything)
    found: dict[int, tuple[float, ...]] = {}

    def call(number: int) -> None:
        found[number] = scores(engine, everything[number::8])

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {number: alone[number::8] for number in range(8)}


def test_scores_equal_those_of_the_model_itself(directory: Path) -> None:
    everything = items(12)
    model = RewardModel.load(directory)

    expected = model.score_responses(
        [i.prompt for i in everything], [i.response for i in everything]
    )

    assert scores(make(directory), everything) == pytest.approx(expected.tolist(), abs=1e-5)
