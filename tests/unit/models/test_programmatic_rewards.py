"""Rewards that are functions of a response's text."""

from __future__ import annotations

import subprocess
import sys

import pytest

from plumbline.models.programmatic import (
    LengthReward,
    SentimentReward,
    WordShareReward,
    response_reward,
)


def test_they_load_without_torch() -> None:
    code = "import plumbline.models.programmatic, sys; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_word_share_counts_whole_words() -> None:
    reward = response_reward(WordShareReward(words=("Happy",)))

    # One of four words, none ("unhappy" is another word), none of nothing.
    scores = [reward(text) for text in ("happy little cats ran", "unhappy", "")]
    assert scores == [0.25, 0.0, 0.0]


def test_length_reward_is_the_relative_miss() -> None:
    reward = response_reward(LengthReward(target_words=4))

    scores = [reward(text) for text in ("one two three four", "one two", "a b c d e f g h")]
    assert scores == [0.0, -0.5, -1.0]


def test_sentiment_orders_texts_and_minds_length() -> None:
    happy, neutral, sad = (
        "They were happy and loved it.",
        "They went home.",
        "They hated the horrible day.",
    )
    plain = response_reward(SentimentReward())
    measured = response_reward(SentimentReward(target_words=3, length_coef=0.1))

    assert plain(happy) > plain(neutral) == 0.0 > plain(sad)
    # Six words, three over: 0.3 less.
    assert measured(happy) == pytest.approx(plain(happy) - 0.3)
