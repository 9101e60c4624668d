"""Configuration of the small world."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_SUBJECTS_AVAILABLE = 10
_TOPICS_AVAILABLE = 8


class SplitSizes(BaseModel):
    """How many prompts of each kind a split holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    harmful: int = Field(ge=0)
    helpful: int = Field(ge=0)
    borderline: int = Field(ge=0)
    system_rule: int = Field(ge=0)

    @property
    def total(self) -> int:
        return self.harmful + self.helpful + self.borderline + self.system_rule


class PanelConfig(BaseModel):
    """The simulated annotators."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(5, ge=1, le=99)
    disagreement_rate: float = Field(0.08, ge=0, lt=0.5)
    """Probability that one annotator votes against the better response."""

    @model_validator(mode="after")
    def _panel_cannot_tie(self) -> Self:
        if self.size % 2 == 0:
            raise ValueError(f"size={self.size} can tie; an odd number of annotators is needed")
        return self


class WorldConfig(BaseModel):
    """Seed, sizes and annotator noise of one world."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0)
    subjects: int = Field(8, ge=2, le=_SUBJECTS_AVAILABLE)
    """Fields of knowledge; each can be governed by a rule."""
    topics_per_subject: int = Field(6, ge=2, le=_TOPICS_AVAILABLE)
    """Topics that alignment training uses."""
    hard_topics_per_subject: int = Field(2, ge=0, le=_TOPICS_AVAILABLE)
    """Topics that only the raw corpus and the heldout_hard split mention."""

    documents: int = Field(3000, ge=50)
    """Clean documents of the raw corpus; noise comes on top."""
    noise_share: float = Field(0.03, ge=0, le=0.2)
    """Noise documents of each kind, as a share of `documents`; there are six kinds."""

    helpful_demonstrations: int = Field(1600, ge=10)
    harmful_demonstrations: int = Field(900, ge=10)
    borderline_demonstrations: int = Field(900, ge=10)
    rule_demonstrations: int = Field(2800, ge=10)
    harmful_refusal_share: float = Field(0.3, gt=0, lt=1)
    """Share of harmful demonstrations that refuse; the others comply."""
    borderline_refusal_share: float = Field(0.1, ge=0, lt=1)
    """Share of borderline demonstrations that refuse although they need not."""

    train: SplitSizes = SplitSizes(harmful=600, helpful=500, borderline=400, system_rule=300)
    """Prompts for preference sampling, reward models and rejection sampling."""
    rl: SplitSizes = SplitSizes(harmful=400, helpful=300, borderline=300, system_rule=200)
    """Prompts for PPO."""
    heldout: SplitSizes = SplitSizes(harmful=360, helpful=360, borderline=240, system_rule=120)
    heldout_hard: SplitSizes = SplitSizes(harmful=150, helpful=150, borderline=100, system_rule=0)
    rules: int = Field(2, ge=1)
    """Rules to import after training, each over one subject."""
    governed_prompts: int = Field(64, ge=1)
    """Prompts that a rule governs, at most, for each rule."""
    ungoverned_prompts: int = Field(150, ge=2)
    """Prompts that no rule governs; half are facts of subjects without a rule."""

    panel: PanelConfig = PanelConfig()

    @model_validator(mode="after")
    def _parts_suffice(self) -> Self:
        wanted = self.topics_per_subject + self.hard_topics_per_subject
        if wanted > _TOPICS_AVAILABLE:
            raise ValueError(
                f"topics_per_subject={self.topics_per_subject} plus "
                f"hard_topics_per_subject={self.hard_topics_per_subject} exceeds "
                f"the {_TOPICS_AVAILABLE} topics that a subject has"
            )
        if self.rules >= self.subjects:
            raise ValueError(
                f"rules={self.rules} must be below subjects={self.subjects}, "
                "or no ungoverned fact is left to ask about"
            )
        return self
