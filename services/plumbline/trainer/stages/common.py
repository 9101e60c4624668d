"""What the training stages share: loading, saving, and the parts of a rollout loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from plumbline.core.errors import ConfigError
from plumbline.core.stages import InputSpec, StageContext, StageInputs
from plumbline.trainer.config import (
    CombinedReward,
    ComputeConfig,
    DPOConfig,
    Reward,
    RewardModelConfig,
    RolloutConfig,
    SamplingConfig,
    SFTConfig,
    TrainingConfig,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from plumbline.data.records import Conversation, Preference
    from plumbline.models.chat import ChatFormat
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.rollout import Sampler, Scorer

BASE = InputSpec(kinds=("policy",), description="policy that training starts from")
PREFERENCES = InputSpec(
    kinds=("preferences",), many=True, description="pairs of responses, one preferred"
)
TEST_PREFERENCES = InputSpec(
    kinds=("preferences",),
    required=False,
    description="held-out preferences, in place of a split",
)
CONVERSATION_FILES = ("conversations.parquet", "demonstrations.parquet")
REWARD_INPUTS = {
    "prompts": InputSpec(
        kinds=("corpus", "conversations", "rollouts", "preferences"),
        description="prompts_<split>.parquet, a file of prompts, or what holds prompts",
    ),
    "helpfulness": InputSpec(
        kinds=("reward-model",), required=False, description="scores helpfulness"
    ),
    "safety": InputSpec(kinds=("reward-model",), required=False, description="scores safety"),
}


@contextmanager
def on_device(config: ComputeConfig, context: StageContext) -> Iterator[torch.device]:
    """The configured device and precision, with arithmetic that repeats itself.

    The stage's figures go to the trackers that the environment names; of several ranks one tells
    them.
    """
    from plumbline.trainer.execution import autocast, deterministic, pick_device
    from plumbline.trainer.trackers import open_trackers

    if context.is_first_rank:
        for tracker in open_trackers(context.settings, run_name=context.run_name):
            context.track(tracker)
    device = pick_device(config.device)
    with (
        deterministic(seed=config.seed, threads=context.settings.threads),
        autocast(config, device),
    ):
        yield device


def load_policy(
    inputs: StageInputs,
    name: str,
    template: Any,
    device: torch.device,
    *,
    trained: TrainingConfig | None = None,
) -> tuple[PreTrainedModel, ChatFormat]:
    """A policy; `trained` says what of it is going to learn."""
    from plumbline.models.chat import ChatFormat
    from plumbline.models.checkpoint import load_causal_lm

    model, tokenizer = load_causal_lm(inputs.one(name).path)
    if trained is not None:
        from plumbline.trainer.adapters import choose_parameters
        from plumbline.trainer.execution import prepare_layers

        choose_parameters(model, trained)
        prepare_layers(model, trained)
    return model.to(device), ChatFormat(tokenizer, template=template)


def save_policy(
    model: PreTrainedModel, chat: ChatFormat, run: TrainingRun, context: StageContext
) -> None:
    """Write the artifact of a trained policy: weights, tokenizer and curves."""
    write_policy(model, chat, run, context.output_dir)


def write_policy(
    model: PreTrainedModel, chat: ChatFormat, run: TrainingRun, directory: Path
) -> None:
    """`save_policy` outside of a stage."""
    from plumbline.models.adapters import merge_adapters
    from plumbline.models.chat import PLAIN_TEMPLATE
    from plumbline.models.checkpoint import save_model
    from plumbline.trainer.engine import write_curves

    merge_adapters(model)
    tokenizer: PreTrainedTokenizerBase = chat.tokenizer
    if chat.template == "plain" and not tokenizer.chat_template:
        # The policy carries the layout that it was trained with.
        tokenizer.chat_template = PLAIN_TEMPLATE
    save_model(model, tokenizer, directory)
    write_curves(directory, run.curves)


def check_same_vocabulary(model: PreTrainedModel, reference: PreTrainedModel) -> None:
    sizes = [int(m.config.get_text_config().vocab_size) for m in (model, reference)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"the reference knows {sizes[1]} tokens and the policy {sizes[0]}; accepted: a "
            "reference with the policy's tokenizer",
            field="inputs.reference",
        )


def context_length(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().max_position_embeddings)


def read_conversations(
    inputs: StageInputs, name: str, on_error: Any = "fail"
) -> tuple[list[Conversation], int]:
    """Conversations of an input, and how many records were refused."""
    from plumbline.data.records import Conversation
    from plumbline.trainer.datasets import read_all

    paths = [artifact.path for artifact in inputs.many(name)]
    return read_all(paths, Conversation, names=CONVERSATION_FILES, on_error=on_error)


def read_preferences(inputs: StageInputs, name: str, on_error: Any) -> tuple[list[Preference], int]:
    """Preferences of an input, and how many records were refused."""
    from plumbline.data.records import Preference
    from plumbline.trainer.datasets import read_all

    paths = [artifact.path for artifact in inputs.many(name)]
    return read_all(paths, Preference, on_error=on_error)


def split_preferences(
    config: RewardModelConfig | DPOConfig, inputs: StageInputs
) -> tuple[list[Preference], list[Preference], int]:
    """Training and test preferences for the configured head, and how many were refused."""
    from plumbline.trainer.datasets import preferences_for, split_by_prompt

    found, refused = read_preferences(inputs, "preferences", config.on_error)
    train = preferences_for(found, config.head)
    if inputs.optional("test") is not None:
        held_out, more_refused = read_preferences(inputs, "test", config.on_error)
        return train, preferences_for(held_out, config.head), refused + more_refused
    train, test = split_by_prompt(train, test_fraction=config.test_fraction)
    if not train:
        raise ConfigError(
            f"test_fraction={config.test_fraction} leaves none of {len(test)} preferences "
            "to train on",
            field="test_fraction",
        )
    return train, test, refused


def split_conversations(
    config: SFTConfig, inputs: StageInputs
) -> tuple[list[list[Conversation]], list[Conversation], int]:
    """Training conversations of each input, test conversations, and how many were refused."""
    from plumbline.data.records import Conversation
    from plumbline.trainer.datasets import read_all, split_by_opening

    train: list[list[Conversation]] = []
    test: list[Conversation] = []
    refused = 0
    given_test = inputs.optional("test") is not None
    fraction = 0.0 if given_test else config.test_fraction
    for artifact in inputs.many("conversations"):
        found, skipped = read_all(
            [artifact.path], Conversation, names=CONVERSATION_FILES, on_error=config.on_error
        )
        kept, held_out = split_by_opening(found, test_fraction=fraction)
        if not kept:
            raise ConfigError(
                f"test_fraction={config.test_fraction} leaves none of {len(held_out)} "
                "conversations to train on",
                field="test_fraction",
            )
        train.append(kept)
        test += held_out
        refused += skipped
    if given_test:
        test, skipped = read_conversations(inputs, "test", config.on_error)
        refused += skipped
    return train, test, refused


def check_early_stop(config: TrainingConfig, held_out: int) -> None:
    """
    Raises:
        ConfigError: an early stop was asked for and nothing is held out.
    """
    if config.early_stop is not None and not held_out:
        raise ConfigError(
            "early_stop watches held-out data and there are none; accepted: a test_fraction that "
            "holds some out, an input 'test', or no early_stop",
            field="early_stop",
        )


def rollout_parts(
    config: RolloutConfig,
    inputs: StageInputs,
    context: StageContext,
    model: PreTrainedModel,
    chat: ChatFormat,
    device: torch.device,
) -> tuple[Sampler, Scorer]:
    """Sampler and scorer, in this process or as services."""
    sampler = new_sampler(config, inputs, context, model, chat)
    tokens = config.tokens_per_microbatch
    scorer = new_scorer(config, config.reward, inputs, context, device, tokens_per_batch=tokens)
    return sampler, scorer


def new_sampler(
    config: SamplingConfig,
    inputs: StageInputs,
    context: StageContext,
    model: PreTrainedModel,
    chat: ChatFormat,
    *,
    policy: str = "policy",
) -> Sampler:
    """Draws from a model, in this process or through SamplerService.

    Args:
        policy: the input that the model was loaded from.
    """
    from plumbline.trainer.rollout import ColocatedSampler

    policy_id = inputs.one(policy).id
    if config.rollout == "colocated":
        return ColocatedSampler(model, chat, policy_id=policy_id)
    from plumbline.trainer.remote import RemoteSampler

    return RemoteSampler(
        context.connect("sampler"),
        chat.tokenizer,
        policy_id=policy_id,
        template=config.template,
        publish=_publisher(config, policy_id, context),
        work_dir=context.work_dir,
    )


def new_scorer(
    config: SamplingConfig,
    reward: Reward,
    inputs: StageInputs,
    context: StageContext,
    device: torch.device,
    *,
    tokens_per_batch: int,
) -> Scorer:
    """Scores by reward models, in this process or through RewardService, or by a programme.

    Raises:
        ConfigError: the reward needs a model that is not given, or none where one is.
    """
    given = {
        head: artifact
        for head in ("helpfulness", "safety")
        if (artifact := inputs.optional(head)) is not None
    }
    if not isinstance(reward, CombinedReward):
        if given:
            raise ConfigError(
                f"reward.kind={reward.kind!r} needs no reward model, but the inputs "
                f"{', '.join(given)} were given",
                field="reward.kind",
            )
        from plumbline.trainer.rewards import ProgrammaticScorer

        return ProgrammaticScorer(reward)
    if not given:
        raise ConfigError(
            "reward.kind='reward_models' needs the input helpfulness, safety or both",
            field="inputs.helpfulness",
        )
    if config.rollout == "remote":
        from plumbline.trainer.remote import RemoteScorer

        models = {head: artifact.id for head, artifact in given.items()}
        return RemoteScorer(context.connect("reward"), models)
    from plumbline.models.reward import RewardModel
    from plumbline.trainer.rollout import RewardModelScorer

    loaded = {head: RewardModel.load(artifact.path).to(device) for head, artifact in given.items()}
    return RewardModelScorer(loaded, tokens_per_batch=tokens_per_batch)


def _publisher(config: SamplingConfig, policy_id: str, context: StageContext) -> Any:
    """Publishes an iteration's weights to the store, with the run that made them as lineage."""
    from plumbline.core.artifacts import Lineage, open_configured_store
    from plumbline.models.adapters import holds_adapters

    store = open_configured_store(context.settings)
    ids: Mapping[str, tuple[str, ...]] = {"policy": (policy_id,)}
    lineage = Lineage(
        stage="trainer.iteration", version=1, config=config.model_dump(mode="json"), inputs=ids
    )

    def publish(directory: Path) -> str:
        # Adapters alone are of a kind of their own: no stage can take them for a policy.
        kind = "adapters" if holds_adapters(directory) else "policy"
        return store.put(kind, directory, lineage=lineage).id

    return publish
