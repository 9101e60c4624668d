"""Stage: proximal policy optimisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumbline.core.errors import ConfigError
from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import PPOConfig
from plumbline.trainer.stages.common import read_conversations
from plumbline.trainer.stages.on_policy import INPUTS, run_on_policy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plumbline.models.chat import ChatFormat
    from plumbline.trainer.recipes.on_policy import Learner

STAGE = Stage(
    name="trainer.ppo",
    version=3,
    config=PPOConfig,
    inputs={
        **INPUTS,
        "pretraining": InputSpec(
            kinds=("conversations", "corpus"),
            required=False,
            many=True,
            description="conversations mixed in against forgetting, with pretraining_coef",
        ),
    },
    output_kind="policy",
    queue="training",
    run="plumbline.trainer.stages.ppo:run_ppo",
    description="Proximal policy optimisation against a reward, bounded by KL",
)


def run_ppo(config: PPOConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.trainer.recipes.ppo import PPO

    given = bool(inputs.many("pretraining"))
    if given != bool(config.pretraining_coef):
        raise ConfigError(
            f"pretraining_coef={config.pretraining_coef} and {'an' if given else 'no'} input "
            "pretraining; accepted: both or neither",
            field="pretraining_coef",
        )
    conversations = read_conversations(inputs, "pretraining")[0] if given else []

    def new_learner(model: PreTrainedModel, chat: ChatFormat) -> Learner:
        texts = [
            example.token_ids
            for conversation in conversations
            for example in chat.encode_conversation(conversation.messages)
        ]
        return PPO(model, chat, config, pretraining=texts)

    return run_on_policy(config, inputs, context, new_learner)
