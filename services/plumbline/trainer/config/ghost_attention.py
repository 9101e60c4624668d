"""Ghost Attention: data that teach a policy to keep an instruction over many turns."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.trainer.config.base import Config
from plumbline.trainer.config.rollouts import SamplingConfig


class Constraint(Config):
    """One kind of instruction that holds for a whole conversation."""

    kind: str = Field(min_length=1)
    instruction: str
    """As it is said in full; `{value}` is replaced."""
    short: str
    """The same in few words."""
    values: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _value_is_used(self) -> Self:
        for name in ("instruction", "short"):
            if "{value}" not in getattr(self, name):
                raise ValueError(f"{name}={getattr(self, name)!r} has no place for {{value}}")
        return self


DEFAULT_CONSTRAINTS = (
    Constraint(
        kind="hobby",
        instruction="You enjoy {value} and like to bring it up.",
        short="Hobby: {value}.",
        values=("tennis", "gardening", "chess", "hiking", "photography", "baking", "sailing"),
    ),
    Constraint(
        kind="language",
        instruction="Always answer in {value}, whatever language you are asked in.",
        short="Language: {value}.",
        values=("French", "Spanish", "German", "Italian", "Chinese", "Japanese", "Portuguese"),
    ),
    Constraint(
        kind="figure",
        instruction="From now on, always act as {value} would.",
        short="Figure: {value}.",
        values=(
            "Napoleon",
            "Marie Curie",
            "Leonardo da Vinci",
            "Ada Lovelace",
            "Confucius",
            "Cleopatra",
        ),
    ),
)
"""Hobbies, languages and public figures, as in the paper, which lets the policy name its own so
that it knows them; give `constraints` where yours knows others."""


class GhostAttentionConfig(SamplingConfig):
    """Conversations whose replies all follow an instruction that only the first turn holds.

    Source: Llama 2, arXiv:2307.09288, section 3.3.
    """

    constraints: tuple[Constraint, ...] = Field(DEFAULT_CONSTRAINTS, min_length=1)
    max_combined: int = Field(2, gt=0)
    """Up to so many kinds of constraints are joined in one instruction."""
    short_share: float = Field(0.5, ge=0, le=1)
    """Share of the instructions that training sees in their short form."""
    placement: Literal["user", "system"] = "system"
    """Where training sees the instruction: before the first user turn, or as a system message."""
    max_turns: int = Field(6, gt=1)
    """User turns taken from a dialogue, from its beginning."""
    max_conversations: int | None = Field(None, gt=0)
    """Dialogues used, drawn by seed; None uses all."""
    top_p: float = Field(0.9, gt=0, le=1)
