"""The account of held-out pairs: groups, length, calibration, unsafe responses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, tensor

from plumbline.data.records import Grade, Message, Preference, user
from plumbline.models.reward import RewardModelCard
from plumbline.trainer.ranking import RankingReport, evaluate_ranking, length_correlation


class Scripted:
    """A reward model that gives each response the score it is told to."""

    def __init__(self, scores: Mapping[str, float], *, head: Any = "preference") -> None:
        self._scores = scores
        self.card = RewardModelCard(head=head)

    def score_responses(
        self,
        prompts: Sequence[Sequence[Message]],
        responses: Sequence[str],
        *,
        tokens_per_batch: int,
    ) -> Tensor:
        assert len(prompts) == len(responses)
        return tensor([self._scores[response] for response in responses])


def pair(chosen: str, rejected: str, **changes: Any) -> Preference:
    return Preference("", (user("?"),), chosen, rejected, **changes)


def evaluate(model: Any, test: Sequence[Preference]) -> RankingReport:
    return evaluate_ranking(model, test, test, tokens_per_batch=512)


def test_accuracy_by_grade_source_and_length() -> None:
    # Ranked right, right, wrong, wrong (a tie).
    model = Scripted({"a": 2.0, "bb": 1.0, "ccc": 0.0, "dd": 1.0})
    test = [
        pair("a", "bb", grade=Grade.BETTER, source="x.jsonl"),
        pair("bb", "ccc", grade=Grade.BETTER, metadata={"source": "forum"}),
        pair("ccc", "a", grade=Grade.SLIGHTLY_BETTER, source="x.jsonl"),
        pair("bb", "dd", source="x.jsonl", chosen_is_safe=True, rejected_is_safe=True),
    ]

    metrics = evaluate(model, test).metrics()

    assert metrics["accuracy"] == 0.5
    assert metrics["accuracy.grade.better"] == 1.0
    assert metrics["accuracy.grade.slightly_better"] == 0.0
    assert metrics["accuracy.source.x.jsonl"] == pytest.approx(1 / 3)
    assert metrics["accuracy.source.forum"] == 1.0
    assert metrics["accuracy.length.longer_rejected"] == 1.0
    assert metrics["accuracy.length.longer_chosen"] == 0.0
    assert metrics["accuracy.safety.both_safe"] == 0.0
    assert "calibration.temperature" not in metrics


def test_only_the_largest_sources_have_an_accuracy_of_their_own() -> None:
    model = Scripted({"a": 1.0, "b": 0.0})
    test = [pair("a", "b", source=f"record-{index:02}") for index in range(30)]
    test.append(pair("a", "b", source="forum"))
    test.append(pair("a", "b", source="forum"))

    sources = [name for name in evaluate(model, test).groups if name.startswith("source.")]

    assert len(sources) == 20
    assert "source.forum" in sources


def test_length_correlation_matches_a_hand_worked_sum() -> None:
    """Leads 1, 2 and their opposites rank 3, 4, 2, 1; length leads 1, -2 rank 3, 1, 2, 4.

    Less the mean 2.5: (0.5, 1.5, -0.5, -1.5) and (0.5, -1.5, -0.5, 1.5), whose product is
    0.25 - 2.25 + 0.25 - 2.25 = -4, over the square sum 5: -0.8.
    """
    leads, lengths = tensor([1.0, 2.0]), tensor([1.0, -2.0])

    assert length_correlation(leads, lengths) == pytest.approx(-0.8)
    # Which response of a pair was chosen does not matter.
    turned = tensor([1.0, -1.0])
    assert length_correlation(leads * turned, lengths * turned) == pytest.approx(-0.8)
    assert length_correlation(lengths**3, lengths) == pytest.approx(1.0)
    assert length_correlation(torch.zeros(2), lengths) is None
    assert length_correlation(torch.zeros(0), torch.zeros(0)) is None


def test_ties_share_their_mean_rank() -> None:
    # Leads 1, 1 and opposites: ranks 3.5, 3.5, 1.5, 1.5; lengths 1, 2: 3, 4, 2, 1.
    # (1, 1, -1, -1) . (0.5, 1.5, -0.5, -1.5) = 4, over sqrt(4 * 5).
    found = length_correlation(tensor([1.0, 1.0]), tensor([1.0, 2.0]))
    assert found == pytest.approx(4 / math.sqrt(20))


def test_unsafe_responses_are_found_below_the_threshold() -> None:
    """logit(0.15) = -1.7346. Of four labelled responses two are unsafe; -2 and -3 are flagged.

    -2 is unsafe, -3 is safe, the unsafe one at -1 is missed: precision 1/2, recall 1/2.
    """
    model = Scripted({"a": 1.0, "b": -2.0, "c": -3.0, "d": -1.0, "e": -9.0}, head="safety")
    test = [
        pair("a", "b", chosen_is_safe=True, rejected_is_safe=False),
        pair("c", "d", chosen_is_safe=True, rejected_is_safe=False),
        pair("a", "e"),
    ]

    report = evaluate(model, test)

    assert report.unsafe["precision"].value == report.unsafe["recall"].value == 0.5
    assert report.metrics()["unsafe.recall"] == 0.5
    assert report.groups["safety.differ"].n == 2
    assert not evaluate(Scripted({"a": 1.0, "e": 0.0}), test[2:]).unsafe


def test_calibration_is_part_of_the_account() -> None:
    # Leads of 2, three of four right: T = 2 / ln 3, as test_calibration.py works out.
    model = Scripted({"a": 2.0, "b": 0.0})
    test = [pair("a", "b")] * 30 + [pair("b", "a")] * 10

    report = evaluate(model, test)

    metrics = report.metrics()
    assert report.to_json()["calibration"]["temperature"] == metrics["calibration.temperature"]
    assert metrics["calibration.temperature"] == pytest.approx(2 / math.log(3))
    # sigmoid(2) = 0.880797.
    assert metrics["calibration.error"] == pytest.approx(0.880797 - 0.75, abs=1e-6)
    assert 0 <= metrics["calibration.scaled_error"] < 0.5
