"""Population stability, by hand, and as it is exported."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from plumbline.data.records import user
from plumbline.models.reward import RewardModel
from plumbline.reward.drift import LEAST, WINDOW, ScoreStatistics, population_stability_index
from plumbline.reward.encoding import ScoredItem
from plumbline.reward.engine import RewardEngine

DECILES = tuple(place / 10 for place in range(1, 10))
"""Of scores spread evenly between 0 and 1."""


def test_the_index_matches_hand_worked_numbers() -> None:
    # (0.5 - 0.4) ln(0.5 / 0.4) + (0.5 - 0.6) ln(0.5 / 0.6) = 0.0223144 + 0.0182322 = 0.0405465
    index = population_stability_index([0.4, 0.6], [0.5, 0.5])
    assert index == pytest.approx(0.0405465, abs=1e-7)
    # It does not matter which of the two is the expected one.
    assert population_stability_index([0.5, 0.5], [0.4, 0.6]) == pytest.approx(index)
    assert population_stability_index([0.3, 0.7], [0.3, 0.7]) == 0.0


def test_an_empty_bin_counts_as_a_ten_thousandth() -> None:
    # (1e-4 - 0.5) ln(2e-4) + (1 - 0.5) ln 2
    expected = (1e-4 - 0.5) * math.log(2e-4) + 0.5 * math.log(2)
    assert population_stability_index([0.5, 0.5], [0.0, 1.0]) == pytest.approx(expected)


def test_scores_like_the_held_out_ones_are_stable_and_shifted_ones_are_not() -> None:
    statistics, generator = ScoreStatistics(), random.Random(2)
    same = [generator.random() for _ in range(WINDOW)]
    statistics.observe("safety", "m", same, DECILES)
    stable = statistics.stability_index("safety", "m")

    # Half the window moves up by a half: bins 0 to 4 lose half of their share.
    statistics.observe("safety", "m", [0.5 + score / 2 for score in same[: WINDOW // 2]], DECILES)
    shifted = statistics.stability_index("safety", "m")

    assert stable is not None and shifted is not None
    assert 0 <= stable < 0.02
    # Five bins of 0.05 and five of 0.15: 5 (-0.05 ln 0.5) + 5 (0.05 ln 1.5) = 0.2747
    assert shifted == pytest.approx(0.2747, abs=0.05)


def test_few_scores_say_nothing_and_old_ones_are_forgotten() -> None:
    statistics = ScoreStatistics()
    statistics.observe("safety", "m", [9.0] * (LEAST - 1), DECILES)
    assert statistics.stability_index("safety", "m") is None
    statistics.observe("safety", "m", [(i % 10 + 0.5) / 10 for i in range(WINDOW)], DECILES)
    assert statistics.stability_index("safety", "m") == pytest.approx(0.0, abs=1e-12)
    assert statistics.stability_index("safety", "other") is None


def test_the_engine_exports_scores_and_drift(
    tiny_reward_models: dict[str, Path], tmp_path: Path
) -> None:
    model = RewardModel.load(tiny_reward_models["safety"])
    model.card = model.card.model_copy(update={"score_deciles": tuple(range(100, 109))})
    model.save(tmp_path)
    assert RewardModel.load(tmp_path).card.score_deciles == tuple(range(100, 109))
    engine = RewardEngine(lambda _: ("drifting", tmp_path), device="cpu")
    items = [ScoredItem((user("the cat"),), "the mat")] * LEAST

    engine.score(items, ["safety"], {"safety": "x"})

    labels = {"head": "safety", "reward_model_id": "drifting"}
    assert REGISTRY.get_sample_value("plumbline_reward_score_count", labels) == LEAST
    index = REGISTRY.get_sample_value("plumbline_reward_score_stability_index", labels)
    # All in the first bin: (1 - 0.1) ln 10 + 9 (1e-4 - 0.1) ln(1e-3)
    assert index == pytest.approx(0.9 * math.log(10) + 9 * (1e-4 - 0.1) * math.log(1e-3))
