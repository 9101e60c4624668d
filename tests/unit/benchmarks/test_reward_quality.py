"""The cross-validation of reward models: folds, labels, pooled shares, and one small run."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reward_quality import (
    WORK,
    Fold,
    hold_out,
    in_folds,
    pooled,
    read_alpaca_eval,
    train_and_rank,
)

from plumbline.data.records import Preference, assistant, user
from plumbline.models.checkpoint import save_model
from plumbline.trainer.config import RewardModelConfig


def preference(index: int, *, opening: int | None = None) -> Preference:
    prompt = (
        user(f"opening {index if opening is None else opening}"),
        assistant("yes"),
        user(f"more {index}"),
    )
    return Preference(str(index), prompt, "the cat sat on the mat", "dog")


def test_what_begins_alike_is_in_one_fold() -> None:
    preferences = [preference(index, opening=index % 40) for index in range(200)]

    folds = in_folds(preferences, 5)

    openings = [{p.prompt[0] for p in fold} for fold in folds]
    assert sum(len(found) for found in openings) == 40
    assert all(openings)
    assert sorted(p.id for fold in folds for p in fold) == sorted(p.id for p in preferences)


def test_judgements_become_pairs_and_ties_are_left_out(tmp_path: Path) -> None:
    directory = tmp_path / "alpaca_eval_pairs"
    directory.mkdir()
    shared = {"instruction": "?", "dataset": "koala", "output_1": "one", "output_2": "two"}
    records: list[dict[str, Any]] = [
        {**shared, "preference": preference} for preference in (1, 2, 0, 1.5, None)
    ]
    records += [{**shared, "output_2": " ", "preference": 1}]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (directory / "pairs.jsonl.gz").write_bytes(gzip.compress(lines.encode()))

    found = read_alpaca_eval(tmp_path)

    assert [(p.chosen, p.rejected) for p in found] == [("one", "two"), ("two", "one")]
    assert found[0].source == "koala"
    assert found[0].grade is None


def test_shares_are_pooled_over_pairs_not_over_folds() -> None:
    # 3 of 4 and 2 of 6 are 5 of 10.
    folds = [
        Fold({"accuracy": 0.75, "pairs.test": 4.0}, 1.0),
        Fold({"accuracy": 1 / 3, "pairs.test": 6.0}, 1.0),
    ]

    share = pooled(folds, "accuracy")

    assert (share.value, share.n) == (0.5, 10)
    # Wilson's interval of 5 out of 10.
    assert (share.low, share.high) == (
        pytest.approx(0.2366, abs=1e-4),
        pytest.approx(0.7634, abs=1e-4),
    )


def test_a_fold_is_trained_and_ranked(
    tmp_path: Path, tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    save_model(tiny_llama(), tiny_tokenizer, tmp_path)
    preferences = [preference(index) for index in range(24)]
    config = RewardModelConfig(pooling="response", max_length=64, batch_size=8, epochs=3)
    config = config.model_copy(update={"learning_rate": 3e-3})

    fold = train_and_rank(tmp_path, config, preferences[:16], preferences[16:])

    assert fold.metrics["accuracy"] == 1.0
    assert fold.pairs == fold.right("accuracy") == 8


def test_training_folds_alone_choose_the_settings(
    tmp_path: Path, tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    save_model(tiny_llama(), tiny_tokenizer, tmp_path)
    config = RewardModelConfig(
        pooling="response", max_length=64, batch_size=8, epochs=3, minimum_warmup_steps=0
    )
    # The held-out fold prefers the short response, the others the long one.
    parts = [[preference(10 * fold + index) for index in range(8)] for fold in range(3)]
    parts[0] = [replace(p, chosen=p.rejected, rejected=p.chosen) for p in parts[0]]
    candidates = [{"learning_rate": 1e-9}, {"learning_rate": 3e-3}]

    fold = hold_out(tmp_path, config, candidates, parts, 0)

    untrained = train_and_rank(tmp_path, config, parts[1], parts[2]).metrics["accuracy"]
    assert untrained < 1.0
    assert fold.chosen == {"learning_rate": 3e-3}
    assert fold.metrics["accuracy"] == 0.0


def test_public_pairs_are_there(public_data: Callable[[str], Path]) -> None:
    root = public_data("hh_rlhf_harmless").parent
    counts = {name: len(work.read(root)) for name, work in WORK.items()}

    assert counts["hh_rlhf_harmless"] > 1200
    assert counts["alpaca_eval_pairs"] > 7000
