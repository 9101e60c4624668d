"""Configuration of the small world."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig

_SUBJECTS_AVAILABLE = 10
_TOPICS_AVAILABLE = 8
_RULE_ENDINGS = 20

PLAIN = "plain"
TENANTS = "tenants"
JURISDICTIONS = "jurisdictions"
AMENDMENT = "amendment"
AUDIENCE = "audience"
CONFLICT = "conflict"


class SplitSizes(FrozenConfig):
    """How many prompts of each kind a split holds."""

    harmful: int = Field(ge=0)
    helpful: int = Field(ge=0)
    borderline: int = Field(ge=0)
    system_rule: int = Field(ge=0)

    @property
    def total(self) -> int:
        return self.harmful + self.helpful + self.borderline + self.system_rule


class PanelConfig(FrozenConfig):
    """The simulated annotators."""

    size: int = Field(5, ge=1, le=99)
    disagreement_rate: float = Field(0.08, ge=0, lt=0.5)
    """Probability that one annotator votes against the better response."""

    @model_validator(mode="after")
    def _panel_cannot_tie(self) -> Self:
        if self.size % 2 == 0:
            raise ValueError(f"size={self.size} can tie; an odd number of annotators is needed")
        return self


class WorldConfig(FrozenConfig):
    """Seed, sizes and annotator noise of one world."""

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


class RuleSetConfig(FrozenConfig):
    """Stage `curation.synthesize_rules`: rules over a world, and what to ask about them.

    The defaults make 20 rules, three of which are outranked by another; 5 are to be revoked.
    """

    seed: int = Field(0, ge=0)
    conflicts: int = Field(3, ge=0)
    """Pairs of a law and a tenant's wish that cannot both be followed; the law has priority."""
    plain: int = Field(4, ge=0)
    """Rules for every request."""
    tenants: int = Field(2, ge=0)
    """Pairs of two tenants' rules over the same topics."""
    jurisdictions: int = Field(1, ge=0)
    """Pairs of two countries' rules over the same topics."""
    amendments: int = Field(1, ge=0)
    """Pairs of a rule and the later one that supersedes it."""
    audiences: int = Field(2, ge=0)
    """Rules for one audience alone."""
    revoked: int = Field(5, ge=0)
    """Rules that are taken back after the first questions; one of each sort in turn."""
    prompts_per_rule: int = Field(24, ge=1)
    """Questions under each rule that governs some; one that always loses has none of its own."""
    ungoverned_prompts: int = Field(400, ge=2)
    """Questions that no rule governs; half are near misses, the others ask for actions. Without a
    change in 400, fewer than 1 % change (95 % interval)."""

    @property
    def arrangements(self) -> tuple[str, ...]:
        """How each plot under rules is arranged."""
        return (
            *[CONFLICT] * self.conflicts,
            *[PLAIN] * self.plain,
            *[TENANTS] * self.tenants,
            *[JURISDICTIONS] * self.jurisdictions,
            *[AMENDMENT] * self.amendments,
            *[AUDIENCE] * self.audiences,
        )

    @property
    def plots(self) -> int:
        return len(self.arrangements)

    @property
    def rules(self) -> int:
        pairs = self.conflicts + self.tenants + self.jurisdictions + self.amendments
        return 2 * pairs + self.plain + self.audiences

    @model_validator(mode="after")
    def _rules_suffice(self) -> Self:
        if not 1 <= self.rules <= _RULE_ENDINGS:
            raise ValueError(
                f"conflicts, plain, tenants, jurisdictions, amendments and audiences make "
                f"{self.rules} rules; accepted: 1 to {_RULE_ENDINGS}, for each takes an ending "
                "that training never saw"
            )
        revocable = self.rules - self.conflicts - 2 * self.amendments
        if self.revoked > revocable:
            raise ValueError(
                f"revoked={self.revoked} exceeds the {revocable} rules that can be taken back: "
                "those that are neither outranked nor part of an amendment"
            )
        return self
