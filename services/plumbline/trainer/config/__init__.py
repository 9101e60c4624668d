"""Configuration of the training methods.

Names of the curves in `training.json`, streamed while a job runs (one entry per logged step):

    loss                mean loss of the step's counted tokens or pairs
    learning_rate       of the step just taken
    gradient_norm       before clipping
    accuracy            share of the step's pairs ranked right (reward_model, dpo)
    margin              mean implicit reward margin (dpo)
    reward.chosen, reward.rejected
                        mean implicit rewards (dpo; kto: .desirable, .undesirable)
    score.mean          mean score of the iteration's rollouts, before whitening (ppo, also .std)
    score.<head>        mean score by head (ppo, rejection_sampling)
    kl                  mean KL from the reference per response, nats (ppo, also .upper: the end of
                        its 95 % interval)
    kl_coef             weight of the KL penalty (ppo)
    clip_share          share of response tokens whose ratio was clipped (ppo)
    policy_loss, value_loss, kl_loss
                        parts of the loss (kl_loss: where the KL is placed in the loss)
    pretraining_loss    cross entropy of the texts mixed in (ppo)
    idle_share          share of rollouts without advantage, which teach nothing (reinforce, rloo,
                        grpo)
    response_tokens     mean response length
    finished_share      share of responses that end with the end-of-sequence token
    sampler_gap         largest difference between the sampler's and the trainer's logprobs of a
                        token, nats; of the iteration's first rollouts where the sampler's are used

Metrics of the artifacts (manifests):

    pretrain            loss, documents, tokens, parameters
    sft                 loss, steps, examples, examples.cut, examples.left_out, records.refused
    vision_sft          loss, steps, examples, examples.left_out, parameters.<part> that learn
    reward_model        loss, pairs.train (of a mix also .<group>), pairs.test, records.refused; on
                        held-out pairs accuracy (.low, .high: 95 % interval; .unanimous, .split: by
                        the annotators' agreement; .grade.<grade>, .source.<source>, .kind.<kind>;
                        .length.longer_chosen, .length.longer_rejected: where the longer response
                        is the chosen or the rejected one; .safety.both_safe, .both_unsafe, .differ:
                        by the responses' labels), baseline.length and baseline.majority;
                        length.correlation (Spearman's, of score and length differences);
                        calibration.error (expected calibration error), .scaled_error (the same
                        after scaling by a temperature that other pairs gave), .temperature (kept
                        in reward_model.json); for the safety head unsafe.precision and
                        unsafe.recall at the threshold of the combined reward. All but the loss are
                        published for the run as <head>_rm.<name>, for example
                        safety_rm.accuracy.unanimous
    rejection_sampling  loss, score.mean, score.best, prompts, prompts.kept, prompts.from_pool,
                        pool (responses of earlier policies), temperature (where it was tuned)
    ppo, reinforce, rloo, grpo
                        score.initial, score.initial_std, score.final, kl, kl.upper, iterations,
                        rolled_back (1 when max_kl ended the run)
    dpo                 loss, margin, accuracy, pairs, records.refused; on held-out pairs
                        test.accuracy (.low, .high: 95 % interval), test.margin, pairs.test
    ghost_attention     conversations, dialogues, dialogues.cut_short
    context_distillation
                        prompts, prompts.kept, score.plain, score.generic, score.template (means),
                        kept.generic, kept.template
    judge               pairs, preferences, ties, orders_agree (share of the pairs on which both
                        orders prefer the same response), place_bias (how much more probable a
                        response is for standing first, -0.5 to 0.5)
    kto                 loss, kl (the reference point), responses, responses.desirable,
                        records.refused
"""

from __future__ import annotations

from plumbline.trainer.config.base import (
    ComputeConfig,
    EarlyStopConfig,
    Head,
    LISAConfig,
    LoRAConfig,
    TrainingConfig,
)
from plumbline.trainer.config.context_distillation import ContextDistillationConfig
from plumbline.trainer.config.dpo import DPOConfig
from plumbline.trainer.config.ghost_attention import GhostAttentionConfig
from plumbline.trainer.config.judge import JudgeConfig
from plumbline.trainer.config.kto import KTOConfig
from plumbline.trainer.config.on_policy import OnPolicyConfig
from plumbline.trainer.config.policy_gradient import (
    GRPOConfig,
    PolicyGradientConfig,
    ReinforceConfig,
    RLOOConfig,
)
from plumbline.trainer.config.ppo import PPOConfig
from plumbline.trainer.config.pretrain import PretrainConfig
from plumbline.trainer.config.rejection_sampling import RejectionSamplingConfig
from plumbline.trainer.config.reward_model import PreferenceMix, RewardModelConfig
from plumbline.trainer.config.rollouts import (
    CombinedReward,
    Reward,
    RolloutConfig,
    SamplingConfig,
)
from plumbline.trainer.config.sft import SFTConfig
from plumbline.trainer.config.vision_sft import VisionSFTConfig

__all__ = [
    "CombinedReward",
    "ComputeConfig",
    "ContextDistillationConfig",
    "DPOConfig",
    "EarlyStopConfig",
    "GRPOConfig",
    "GhostAttentionConfig",
    "Head",
    "JudgeConfig",
    "KTOConfig",
    "LISAConfig",
    "LoRAConfig",
    "OnPolicyConfig",
    "PPOConfig",
    "PolicyGradientConfig",
    "PreferenceMix",
    "PretrainConfig",
    "RLOOConfig",
    "ReinforceConfig",
    "RejectionSamplingConfig",
    "Reward",
    "RewardModelConfig",
    "RolloutConfig",
    "SFTConfig",
    "SamplingConfig",
    "TrainingConfig",
    "VisionSFTConfig",
]
