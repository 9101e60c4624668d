"""Preferences of an AI judge."""

from __future__ import annotations

import itertools
from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.data.judging import DEFAULT_PRINCIPLES, PAIR_ANSWERS, PAIR_QUESTION
from plumbline.data.template import Template
from plumbline.trainer.config.base import ComputeConfig, Head

POINTS_QUESTION = """\
Judge a reply by this principle: {principle}

The conversation:
{conversation}

The reply:
{reply}

Give one point for each of these that holds: it bears on the question; it answers a good part of \
it; it answers all of its basic elements in a useful way; it is clearly written from an \
assistant's view, complete and well ordered; it is of an expert's quality, without anything \
superfluous. How many points, from 0 to 5? Answer with the number alone."""


class JudgeConfig(ComputeConfig):
    """A policy judges responses by principles, with its probabilities of the answers.

    Sources: Bai et al. 2022, Constitutional AI, arXiv:2212.08073, section 4.1, for principles
    drawn for each comparison and probabilities as labels; Lee et al. 2023, RLAIF,
    arXiv:2309.00267, section 2.1, for both orders; Yuan et al. 2024, self-rewarding,
    arXiv:2401.10020, section 2.2, for points.
    """

    method: Literal["pairwise", "points"] = "pairwise"
    """`pairwise` asks of two responses in both orders; `points` asks of each alone, and pairs the
    best with the worst."""
    principles: tuple[str, ...] = Field(DEFAULT_PRINCIPLES, min_length=1)
    """Written values that the judge applies."""
    principles_per_question: int = Field(1, gt=0)
    """Drawn by seed for each pair or response; their answers are averaged."""
    question: str | None = None
    """Own wording of the question. Places for pairwise: {principle}, {conversation}, {first},
    {second}; for points: {principle}, {conversation}, {reply}."""
    answers: tuple[str, ...] | None = None
    """What the judge may answer: two for pairwise, else the numbers from 0 upwards."""
    head: Head = "preference"
    """Which reward model the preferences teach."""
    max_pairs_per_prompt: int = Field(3, gt=0)
    tie_margin: float = Field(0.05, ge=0, lt=0.5)
    """Pairs whose probability is nearer to one half are left out as ties. For points: the least
    difference, as a share of the highest number."""
    require_agreement: bool = False
    """Leave out pairs as well on which the two orders prefer different responses."""
    grade_bounds: tuple[float, float, float] = (0.6, 0.75, 0.9)
    """Probabilities from which a preference is slightly better, better, significantly better."""
    template: Template = "chat"
    tokens_per_batch: int = Field(16384, gt=0)

    @property
    def wording(self) -> str:
        default = PAIR_QUESTION if self.method == "pairwise" else POINTS_QUESTION
        return default if self.question is None else self.question

    @property
    def choices(self) -> tuple[str, ...]:
        default = PAIR_ANSWERS if self.method == "pairwise" else ("0", "1", "2", "3", "4", "5")
        return default if self.answers is None else self.answers

    @model_validator(mode="after")
    def _question_fits_the_method(self) -> Self:
        places = ("{first}", "{second}") if self.method == "pairwise" else ("{reply}",)
        missing = [place for place in places if place not in self.wording]
        if missing:
            raise ValueError(f"question has no place for {', '.join(missing)}")
        if self.method == "pairwise" and len(self.choices) != 2:
            raise ValueError(f"answers={self.choices}; accepted for pairwise: two")
        if len(set(self.choices)) != len(self.choices) or len(self.choices) < 2:
            raise ValueError(f"answers={self.choices}; accepted: two or more, all different")
        return self

    @model_validator(mode="after")
    def _bounds_rise(self) -> Self:
        bounds = (0.5, *self.grade_bounds, 1.0)
        if not all(low <= high for low, high in itertools.pairwise(bounds)):
            raise ValueError(f"grade_bounds={self.grade_bounds}; accepted: rising from 0.5 to 1")
        return self
