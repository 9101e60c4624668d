"""Self-BLEU against hand-worked values, NLTK's and a slow computation of its definition."""

from __future__ import annotations

import math
import random

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.evaluation.temperatures.self_bleu import bleu_tokens, self_bleu


def slow_bleu(hypothesis: list[str], references: list[list[str]]) -> float:
    """Sentence BLEU by its definition: no counts are shared, nothing is remembered."""
    if not hypothesis:
        return float([] in references)
    product, orders = 1.0, min(4, len(hypothesis))
    for n in range(1, orders + 1):
        grams = [hypothesis[i : i + n] for i in range(len(hypothesis) - n + 1)]
        matched = 0
        for number, gram in enumerate(grams):
            allowed = max(
                sum(reference[i : i + n] == gram for i in range(len(reference)))
                for reference in references
            )
            matched += grams[:number].count(gram) < allowed
        if n == 1 and not matched:
            return 0.0
        product *= (matched or 0.1) / len(grams)
    gaps = sorted((abs(len(r) - len(hypothesis)), len(r)) for r in references)
    ratio = gaps[0][1] / len(hypothesis)
    return math.exp(min(0.0, 1 - ratio)) * product ** (1 / orders)


def test_hand_worked_values() -> None:
    """Twice "a b" and once "a c". The first two are among their references: 1 each. The third
    shares 1 of 2 words and none of 1 pair: sqrt(1/2 * 0.1/1) = 0.223607. Mean 0.741202."""
    assert self_bleu(["a b", "a b", "a c"]) == pytest.approx(0.741202, abs=1e-6)


def test_short_hypotheses_pay_for_brevity_and_long_ones_in_precision() -> None:
    """4 words of 6: all matched, exp(1 - 6/4) = 0.606531. 6 words against 4: precisions 4/6, 3/5,
    2/4, 1/3, their product 1/15, its fourth root 0.508133. Mean 0.557332."""
    assert self_bleu(["a b c d", "a b c d e f"]) == pytest.approx(0.557332, abs=1e-6)


@pytest.mark.parametrize(
    ("responses", "expected"),
    [
        (
            (
                "the cat sat on the mat",
                "the cat sat on a mat with the other cat",
                "a dog ran to the old house",
            ),
            0.27247688658338,
        ),
        (("今天天气很好", "今天的天气不好", "明天会下雨吗"), 0.09145983374239),
        (
            (
                "Paris is the capital of France.",
                "The capital of France is Paris.",
                "It is Paris, the capital of France.",
            ),
            0.46574626607777,
        ),
    ],
    ids=["english", "chinese", "punctuation"],
)
def test_nltk_gives_the_same(responses: tuple[str, ...], expected: float) -> None:
    """Of NLTK 3.10: the mean of sentence_bleu with SmoothingFunction().method1, over our tokens."""
    assert self_bleu(responses) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_a_slow_computation_gives_the_same(seed: int) -> None:
    rng = random.Random(seed)
    responses = [
        " ".join(rng.choices("abcd", k=rng.randrange(0, 12))) for _ in range(rng.randrange(2, 7))
    ]
    tokens = [response.split() for response in responses]

    slow = [slow_bleu(words, tokens[:i] + tokens[i + 1 :]) for i, words in enumerate(tokens)]

    assert self_bleu(responses) == pytest.approx(sum(slow) / len(slow), abs=1e-12)


@pytest.mark.parametrize("text", ["Paris.", "yes", "", "好", "the same long sentence every time"])
def test_equal_responses_are_not_diverse_however_short(text: str) -> None:
    assert self_bleu([text] * 3) == pytest.approx(1.0)


def test_responses_without_a_common_word_are_wholly_diverse() -> None:
    assert self_bleu(["one two three", "four five", ""]) == 0.0


def test_the_order_of_responses_does_not_matter() -> None:
    responses = ["a b c a b", "b c a", "a b", "c c c a b c"]

    assert self_bleu(responses) == pytest.approx(self_bleu(responses[::-1]), abs=1e-15)


def test_han_and_kana_count_by_character_and_marks_by_themselves() -> None:
    assert bleu_tokens("我爱GPT-4,かな。It's") == [
        *("我", "爱", "GPT", "-", "4", ",", "か", "な", "。", "It", "'", "s")
    ]


def test_one_response_has_nothing_to_repeat() -> None:
    with pytest.raises(InvalidInputError, match="Self-BLEU of 1 responses; accepted: 2 or more"):
        self_bleu(["alone"])
