"""Reward models."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.data.template import Template
from plumbline.trainer.config.base import Config, Head, TrainingConfig

OTHER = "other"
"""The group of a mix that holds whatever no other group names."""


class PreferenceMix(Config):
    """Several groups of preferences in proportion; nothing is repeated.

    Source: Llama 2, arXiv:2307.09288, section 3.2.2, data composition.
    """

    by: Literal["head", "source"] = "head"
    """What makes a group: the head that a preference is marked for, or its source."""
    weights: dict[str, float] = Field(min_length=1)
    """Proportions by group. `other` is every preference of no named group, those without a mark
    included; without `other` they are left out."""
    whole: str
    """The group that is used whole. Of the others as much as their weight beside its weight
    allows is drawn by seed, or all where there is less."""

    @model_validator(mode="after")
    def _whole_has_a_weight(self) -> Self:
        if self.whole not in self.weights:
            raise ValueError(
                f"whole={self.whole!r} has no weight; accepted: {', '.join(self.weights)}"
            )
        wrong = {name: weight for name, weight in self.weights.items() if not weight > 0}
        if wrong:
            raise ValueError(f"weights {wrong}; accepted: numbers above 0")
        return self


LLAMA2_MIXES = {
    "helpfulness": PreferenceMix(weights={"helpfulness": 0.5, OTHER: 0.5}, whole="helpfulness"),
    "safety": PreferenceMix(weights={"safety": 0.9, OTHER: 0.1}, whole="safety"),
}
"""By head: all of its own data, and of the rest so much that it makes up a half or a tenth."""


class RewardModelConfig(TrainingConfig):
    """A Bradley-Terry reward model.

    An early stop watches the loss of the held-out pairs, which then have had a say in the weights
    that their accuracy is reported of.
    """

    learning_rate: float = Field(1e-5, gt=0)
    warmup_share: float = Field(0.03, ge=0, lt=1)
    minimum_warmup_steps: int = Field(5, ge=0)
    head: Head = "preference"
    """Preferences marked for another head are left out; `preference` takes all."""
    mix: Literal["llama2"] | PreferenceMix | None = None
    """Training pairs of several heads or sources in proportion, in place of leaving out those of
    another head. `llama2`: the paper's recipe of the head. Held-out pairs stay the head's own."""
    margin: Literal["small", "large", "off"] = "small"
    """Lead demanded by grade, best to worst: small 1, 2/3, 1/3, 0; large 3, 2, 1, 0.
    Source: Llama 2, arXiv:2307.09288, table 27."""
    safety_loss_coef: float = Field(0.0, ge=0)
    """Weight of a binary cross entropy on the pairs' safety labels, for the safety head.
    Source: Llama 2, arXiv:2307.09288, appendix A.3.3."""
    pooling: Literal["auto", "last", "cls", "mean", "response"] = "auto"
    """`auto`: last for decoders, mean for encoders. `response`: the mean of the response alone."""
    head_init: Literal["normal", "zero"] = "normal"
    """Weights of the fresh head. `zero` begins with equal scores, where a short training would not
    outgrow the ranking that random weights begin with."""
    epochs: int = Field(1, gt=0)
    batch_size: int = Field(64, gt=0)
    """Pairs in one step."""
    max_steps: int | None = Field(None, gt=0)
    max_length: int = Field(512, gt=1)
    """Tokens; longer input loses its beginning."""
    max_pairs: int | None = Field(None, gt=0)
    """Training pairs used at most, drawn by seed before they are mixed; None uses all."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the prompts held out, chosen by the digest of the prompt, so that no prompt is on
    both sides; unused when a `test` input is given."""
    template: Template = "chat"
    on_error: Literal["skip", "fail"] = "fail"

    @model_validator(mode="after")
    def _recipe_of_a_head(self) -> Self:
        if self.mix == "llama2" and self.head not in LLAMA2_MIXES:
            raise ValueError(
                f"mix='llama2' has no recipe for head={self.head!r}; accepted: "
                f"{', '.join(LLAMA2_MIXES)}, or a mix of one's own"
            )
        return self

    @property
    def preference_mix(self) -> PreferenceMix | None:
        """The mix, by its proportions."""
        return LLAMA2_MIXES[self.head] if self.mix == "llama2" else self.mix
