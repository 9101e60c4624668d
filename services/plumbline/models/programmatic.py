"""Programmatic rewards: functions of a response's text, for which no reward model is needed.

The configurations load without torch, so that those of trainer and evaluation can hold them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_WORD = re.compile(r"\w+(?:'\w+)?")


class SentimentReward(BaseModel):
    """VADER's compound sentiment of the response, -1 to 1, less a penalty on missing a length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["sentiment"] = "sentiment"
    target_words: int | None = Field(None, gt=0)
    """Responses of this many words are not penalised; None ignores length."""
    length_coef: float = Field(0.01, ge=0)
    """Penalty per word away from target_words."""


class LengthReward(BaseModel):
    """Nearness of the response's length to a target: minus the share by which it misses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["length"] = "length"
    target_words: int = Field(20, gt=0)


class WordShareReward(BaseModel):
    """Share of the response's words that are among the given ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["word_share"] = "word_share"
    words: tuple[str, ...] = Field(min_length=1)
    """Compared in lower case."""


ProgrammaticReward = SentimentReward | LengthReward | WordShareReward
AnyProgrammaticReward = Annotated[ProgrammaticReward, Field(discriminator="kind")]
"""The field type: configurations tell the rewards apart by `kind`."""

ResponseReward = Callable[[str], float]


def response_reward(reward: ProgrammaticReward) -> ResponseReward:
    """The function that scores a response's text; higher is better."""
    match reward:
        case SentimentReward():
            return _sentiment(reward)
        case LengthReward():
            return _length(reward)
        case WordShareReward():
            return _word_share(reward)


def words(text: str) -> list[str]:
    """Words in lower case."""
    return _WORD.findall(text.lower())


def _sentiment(config: SentimentReward) -> ResponseReward:
    polarity = _vader().polarity_scores

    def reward(text: str) -> float:
        score = float(polarity(text)["compound"])
        if config.target_words is not None:
            score -= config.length_coef * abs(len(words(text)) - config.target_words)
        return score

    return reward


def _length(config: LengthReward) -> ResponseReward:
    return lambda text: -abs(len(words(text)) - config.target_words) / config.target_words


def _word_share(config: WordShareReward) -> ResponseReward:
    wanted = {word.lower() for word in config.words}

    def reward(text: str) -> float:
        found = words(text)
        return sum(word in wanted for word in found) / max(len(found), 1)

    return reward


@cache
def _vader() -> Any:
    # Source: Hutto and Gilbert 2014, "VADER: a parsimonious rule-based model for sentiment
    # analysis of social media text".
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()
