"""What every training method has."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Head = Literal["helpfulness", "safety", "preference"]


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoRAConfig(Config):
    """Low-rank adapters; the artifact holds the policy with them merged in.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4.
    """

    rank: int = Field(8, gt=0)
    alpha: float = Field(16.0, gt=0)
    """The update is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    """Names of linear layers, for example q_proj; empty takes all but the vocabulary's."""


class LISAConfig(Config):
    """A few decoder layers at a time learn, beside embeddings, head and last norm.

    Source: Pan et al. 2024, arXiv:2403.17919, algorithm 1.
    """

    layers: int = Field(2, gt=0)
    """That learn at a time."""
    every: int = Field(20, gt=0)
    """Optimizer steps after which they are drawn anew."""


class EarlyStopConfig(Config):
    """Stop where held-out data show no gain, and keep the weights that were best on them."""

    every: int = Field(gt=0)
    """Steps (on-policy methods: iterations) between measurements."""
    patience: int = Field(3, gt=0)
    """Measurements without a gain after which training stops."""
    minimum_gain: float = Field(0.0, ge=0)
    """What counts as one, in units of the figure."""


class ComputeConfig(Config):
    """What decides on the bytes that come out, beside inputs and method."""

    seed: int = Field(0, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products (autocast); weights, optimizer and losses stay float32."""


class TrainingConfig(ComputeConfig):
    """What every method has: what is trained, optimizer, checkpoints."""

    lora: LoRAConfig | None = None
    lisa: LISAConfig | None = None
    freeze: tuple[str, ...] = ()
    """Patterns of parameter names that stay as they are, for example *.embed_tokens.*"""

    learning_rate: float = Field(gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    minimum_learning_rate_share: float = Field(0.1, ge=0, le=1)
    """Where the cosine ends, as a share of learning_rate."""
    warmup_share: float = Field(0.03, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from 0."""
    minimum_warmup_steps: int = Field(0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.1, ge=0)
    """Of matrices only; norms and biases do not decay."""
    max_gradient_norm: float = Field(1.0, gt=0)
    tokens_per_microbatch: int = Field(16384, gt=0)
    """Tokens in one forward pass; results do not depend on it beyond rounding."""
    checkpoint_every: int = Field(0, ge=0)
    """Steps (PPO: iterations) between checkpoints; 0 keeps none."""
    keep_checkpoints: int = Field(2, gt=0)
    """The newest so many stay while the job runs; all go once its artifact is there. Two survive
    damage to the newest."""
    early_stop: EarlyStopConfig | None = None
    """Needs held-out data; the method says which figure it watches."""
    log_every: int = Field(10, gt=0)
    """Steps (PPO: iterations) between entries of the curves."""
    activation_checkpointing: bool = False
    """Keep only what enters a layer and compute the rest again going backwards: the same
    gradients for less memory and about a third more work."""
    compile: bool = False
    """Compile the layers' forward and backward passes; needs a C++ compiler on a CPU."""

    @model_validator(mode="after")
    def _one_way_to_train_less(self) -> Self:
        if self.lora is not None and self.lisa is not None:
            raise ValueError("lora and lisa are both given; accepted: one of them, or neither")
        return self

    @model_validator(mode="after")
    def _betas_are_decay_rates(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas}; accepted: two numbers from 0 to below 1")
        return self
