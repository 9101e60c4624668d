"""Configuration of the training methods.

Names of the curves in `training.json`, streamed while a job runs (one entry per logged step):

    loss                mean loss of the step's counted tokens or pairs
    learning_rate       of the step just taken
    gradient_norm       before clipping
    accuracy            share of the step's pairs ranked right (reward_model, dpo)
    margin              mean implicit reward margin (dpo)
    score.mean          mean score of the iteration's rollouts, before whitening (ppo, also .std)
    score.<head>        mean score by head (ppo, rejection_sampling)
    kl                  mean KL from the reference per response, nats (ppo, also .upper: the end of
                        its 95 % interval)
    kl_coef             weight of the KL penalty (ppo)
    clip_share          share of response tokens whose ratio was clipped (ppo)
    policy_loss, value_loss
    response_tokens     mean response length
    finished_share      share of responses that end with the end-of-sequence token
    sampler_gap         largest difference between the sampler's and the trainer's logprobs, nats

Metrics of the artifacts (manifests):

    pretrain            loss, documents, tokens, parameters
    sft                 loss, steps, examples, examples.cut, examples.left_out, records.refused
    reward_model        loss, pairs.train, pairs.test, records.refused; on held-out pairs accuracy
                        (.low, .high: 95 % interval; .unanimous, .split: by the annotators'
                        agreement; .grade.<grade>, .kind.<kind>), baseline.length and
                        baseline.majority. Accuracies and baselines are published for the run as
                        <head>_rm.<name>, for example safety_rm.accuracy.unanimous
    rejection_sampling  loss, score.mean, score.best, prompts, prompts.kept
    ppo                 score.initial, score.initial_std, score.final, kl, kl.upper, iterations,
                        rolled_back (1 when max_kl ended the run)
    dpo                 loss, margin, accuracy, pairs, records.refused
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumbline.data.template import Template
from plumbline.models.programmatic import LengthReward, SentimentReward, WordShareReward

Head = Literal["helpfulness", "safety", "preference"]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingConfig(_Config):
    """What every method has: optimizer, seed, checkpoints."""

    seed: int = Field(0, ge=0, lt=2**32)
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
    """Padded tokens in one forward pass; results do not depend on it beyond rounding."""
    checkpoint_every: int = Field(0, ge=0)
    """Steps (PPO: iterations) between checkpoints; 0 keeps none."""
    log_every: int = Field(10, gt=0)
    """Steps (PPO: iterations) between entries of the curves."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _betas_are_decay_rates(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={self.betas}; accepted: two numbers from 0 to below 1")
        return self


class PretrainConfig(TrainingConfig):
    """A byte-level BPE tokenizer and a small Llama, from text."""

    learning_rate: float = Field(3e-3, gt=0)
    vocab_size: int = Field(1024, ge=262)
    """Tokens: 6 control tokens, 256 bytes, and merges up to this number."""
    hidden_size: int = Field(128, gt=0)
    intermediate_size: int = Field(384, gt=0)
    layers: int = Field(4, gt=0)
    heads: int = Field(4, gt=0)
    context_length: int = Field(512, gt=1)
    """Longest sequence that the model accepts, tokens."""
    initializer_range: float = Field(0.02, gt=0)
    sequence_length: int = Field(128, gt=1)
    """Tokens in one packed training sequence."""
    batch_size: int = Field(32, gt=0)
    """Sequences in one step."""
    steps: int = Field(400, gt=0)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"hidden_size={self.hidden_size} must be a multiple of 2 * heads={2 * self.heads}, "
                "because rotary positions turn pairs of dimensions"
            )
        if self.sequence_length > self.context_length:
            raise ValueError(
                f"sequence_length={self.sequence_length} exceeds "
                f"context_length={self.context_length}"
            )
        return self


class SFTConfig(TrainingConfig):
    """Supervised fine-tuning on the assistant turns of conversations."""

    learning_rate: float = Field(2e-5, gt=0)
    epochs: int = Field(2, gt=0)
    batch_size: int = Field(64, gt=0)
    """Examples in one step."""
    max_steps: int | None = Field(None, gt=0)
    max_length: int = Field(512, gt=1)
    """Tokens; longer examples lose their beginning, or are left out where no response would
    remain in full."""
    template: Template = "chat"
    on_error: Literal["skip", "fail"] = "fail"
    """What a broken record of a data file does."""


class RewardModelConfig(TrainingConfig):
    """A Bradley-Terry reward model."""

    learning_rate: float = Field(1e-5, gt=0)
    warmup_share: float = Field(0.03, ge=0, lt=1)
    minimum_warmup_steps: int = Field(5, ge=0)
    head: Head = "preference"
    """Preferences marked for another head are left out; `preference` takes all."""
    margin: Literal["small", "large", "off"] = "small"
    """Lead demanded by grade, best to worst: small 1, 2/3, 1/3, 0; large 3, 2, 1, 0.
    Source: Llama 2, arXiv:2307.09288, table 27."""
    safety_loss_coef: float = Field(0.0, ge=0)
    """Weight of a binary cross entropy on the pairs' safety labels, for the safety head.
    Source: Llama 2, arXiv:2307.09288, appendix A.3.3."""
    pooling: Literal["auto", "last", "cls", "mean"] = "auto"
    """`auto`: last for decoders, mean for encoders."""
    epochs: int = Field(1, gt=0)
    batch_size: int = Field(64, gt=0)
    """Pairs in one step."""
    max_steps: int | None = Field(None, gt=0)
    max_length: int = Field(512, gt=1)
    """Tokens; longer input loses its beginning."""
    max_pairs: int | None = Field(None, gt=0)
    """Training pairs used, drawn by seed; None uses all."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the prompts held out, chosen by the digest of the prompt, so that no prompt is on
    both sides; unused when a `test` input is given."""
    template: Template = "chat"
    on_error: Literal["skip", "fail"] = "fail"


class DPOConfig(TrainingConfig):
    """Direct preference optimisation."""

    learning_rate: float = Field(1e-6, gt=0)
    beta: float = Field(0.1, gt=0)
    """Pull towards the reference policy."""
    head: Head = "preference"
    """Preferences marked for another head are left out; `preference` takes all."""
    epochs: int = Field(1, gt=0)
    batch_size: int = Field(64, gt=0)
    max_steps: int | None = Field(None, gt=0)
    max_length: int = Field(1024, gt=1)
    """Prompt plus response, tokens; longer prompts lose their beginning."""
    template: Template = "chat"
    on_error: Literal["skip", "fail"] = "fail"


class CombinedReward(_Config):
    """Score by the reward models given; both heads are combined as in Llama 2."""

    kind: Literal["reward_models"] = "reward_models"
    safety_threshold: float = Field(0.15, gt=0, lt=1)
    """Probability of being safe below which a response is judged by safety alone."""
    risky_kinds: tuple[str, ...] = ("harmful",)
    """Kinds of prompts that are judged by safety alone."""


Reward = Annotated[
    CombinedReward | SentimentReward | LengthReward | WordShareReward, Field(discriminator="kind")
]


class RolloutConfig(TrainingConfig):
    """What on-policy methods share: how responses are drawn and scored."""

    rollout: Literal["colocated", "remote"] = "colocated"
    """`remote` draws and scores through SamplerService and RewardService."""
    reward: Reward = CombinedReward()
    temperature: float = Field(1.0, gt=0, le=10)
    max_response_tokens: int = Field(128, gt=0)
    rows_per_batch: int = Field(256, gt=0)
    """Responses that are drawn together."""
    template: Template = "chat"
    split: str = "rl"
    """Reads `prompts_<split>.parquet`, where the prompts' artifact has splits."""
    prompt_kinds: tuple[str, ...] = ()
    """Kinds of prompts used; empty uses all."""
    keep_rollouts: Literal["last", "all"] = "last"
    """Which rollouts the artifact holds: those of the last round or iteration, or all."""


class RejectionSamplingConfig(RolloutConfig):
    """Best of K: sample, keep the best response to each prompt, fine-tune on it."""

    learning_rate: float = Field(1e-5, gt=0)
    split: str = "train"
    responses_per_prompt: int = Field(8, gt=1)
    """K."""
    temperatures: tuple[Annotated[float, Field(gt=0, le=10)], ...] = ()
    """Response k is drawn at temperatures[k mod length]; empty means all at `temperature`."""
    top_p: float = Field(1.0, gt=0, le=1)
    rounds: int = Field(1, gt=0)
    """Times that sampling and fine-tuning repeat, each from the newest policy."""
    keep_unfinished: bool = False
    """Whether a response without end-of-sequence token may be kept."""
    minimum_score: float | None = None
    """Prompts whose best score is lower teach nothing; None keeps all."""
    epochs: int = Field(2, gt=0)
    batch_size: int = Field(64, gt=0)
    max_length: int = Field(512, gt=1)
    max_prompts: int | None = Field(None, gt=0)
    """Prompts used, drawn by seed; None uses all."""


class PPOConfig(RolloutConfig):
    """Proximal policy optimisation against a reward, with a KL penalty."""

    learning_rate: float = Field(1e-6, gt=0)
    schedule: Literal["cosine", "constant"] = "constant"
    epsilon: float = Field(1e-5, gt=0)
    iterations: int = Field(30, gt=0)
    prompts_per_iteration: int = Field(128, gt=0)
    responses_per_prompt: int = Field(1, gt=0)
    epochs: int = Field(2, gt=0)
    """Passes over an iteration's rollouts."""
    minibatch_size: int = Field(64, gt=0)
    """Rollouts in one gradient step."""
    gamma: float = Field(1.0, ge=0, le=1)
    lam: float = Field(0.95, ge=0, le=1)
    clip_range: float = Field(0.2, gt=0, lt=1)
    value_clip_range: float = Field(0.2, gt=0)
    value_coef: float = Field(0.1, ge=0)
    """Weight of the value loss."""
    value_model: Literal["shared", "separate"] = "shared"
    """`shared`: a head on the policy's backbone. `separate`: a backbone of its own."""
    value_warmup_iterations: int = Field(0, ge=0)
    """First iterations in which only the values learn."""
    kl_coef: float = Field(0.05, ge=0)
    kl_estimator: Literal["k1", "k2", "k3"] = "k1"
    kl_controller: Literal["fixed", "adaptive"] = "fixed"
    target_kl: float = Field(6.0, gt=0)
    """Nats per response; for the adaptive controller. Source: arXiv:1909.08593, section 2.2."""
    kl_horizon: int = Field(10000, gt=0)
    """Rollouts; how slowly the adaptive controller moves."""
    max_kl: float | None = Field(None, gt=0)
    """Hard bound, nats per response. Training stops once the upper end of the KL's 95 % interval
    passes it, and the policy goes back to the last one seen within it."""
    whiten_scores: bool = True
    """Scale each iteration's scores to mean 0 and variance 1."""
    score_clip: float | None = Field(None, gt=0)
    """Scores beyond +- this are cut, after whitening."""
    missing_eos_penalty: float = Field(0.0, ge=0)
    """Taken off the score, after whitening, where a response has no end-of-sequence token."""
    missing_eos_score: float | None = None
    """Replaces such a response's score altogether, after whitening."""
    whiten_advantages: bool = True

    @model_validator(mode="after")
    def _minibatch_fits(self) -> Self:
        rollouts = self.prompts_per_iteration * self.responses_per_prompt
        if self.minibatch_size > rollouts:
            raise ValueError(
                f"minibatch_size={self.minibatch_size} exceeds the {rollouts} rollouts of an "
                f"iteration (prompts_per_iteration={self.prompts_per_iteration} times "
                f"responses_per_prompt={self.responses_per_prompt})"
            )
        return self
