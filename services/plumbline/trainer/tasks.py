"""Stages of the trainer: load the inputs, train, write the artifact's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from plumbline.core.errors import ConfigError
from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import (
    CombinedReward,
    DPOConfig,
    PPOConfig,
    PretrainConfig,
    RejectionSamplingConfig,
    RewardModelConfig,
    RolloutConfig,
    SFTConfig,
    TrainingConfig,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from plumbline.data.records import Conversation, Preference
    from plumbline.models.chat import ChatFormat
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.rollout import Sampler, Scorer

_BASE = InputSpec(kinds=("policy",), description="policy that training starts from")
_PREFERENCES = InputSpec(
    kinds=("preferences",), many=True, description="pairs of responses, one preferred"
)
_REWARD_INPUTS = {
    "prompts": InputSpec(
        kinds=("corpus", "conversations", "rollouts", "preferences"),
        description="prompts_<split>.parquet, a file of prompts, or what holds prompts",
    ),
    "helpfulness": InputSpec(
        kinds=("reward-model",), required=False, description="scores helpfulness"
    ),
    "safety": InputSpec(kinds=("reward-model",), required=False, description="scores safety"),
}

STAGES = (
    Stage(
        name="trainer.pretrain",
        version=1,
        config=PretrainConfig,
        inputs={
            "corpus": InputSpec(kinds=("corpus",), description="text to learn from"),
            "conversations": InputSpec(
                kinds=("conversations", "corpus"),
                required=False,
                many=True,
                description="conversations to learn from in chat form, beside the corpus",
            ),
        },
        output_kind="policy",
        queue="training",
        run="plumbline.trainer.tasks:run_pretrain",
        description="Train a tokenizer and pre-train a small Llama on text",
    ),
    Stage(
        name="trainer.sft",
        version=1,
        config=SFTConfig,
        inputs={
            "base": _BASE,
            "conversations": InputSpec(
                kinds=("conversations", "corpus"),
                many=True,
                description="demonstrations; assistant turns are learned",
            ),
        },
        output_kind="policy",
        queue="training",
        run="plumbline.trainer.tasks:run_sft",
        description="Supervised fine-tuning on conversations",
    ),
    Stage(
        name="trainer.reward_model",
        version=1,
        config=RewardModelConfig,
        inputs={
            "base": InputSpec(
                kinds=("policy",), description="backbone: a policy or any encoder or decoder"
            ),
            "preferences": _PREFERENCES,
            "test": InputSpec(
                kinds=("preferences",),
                required=False,
                description="held-out preferences, in place of a split",
            ),
        },
        output_kind="reward-model",
        queue="training",
        run="plumbline.trainer.tasks:run_reward_model",
        description="Train a Bradley-Terry reward model and measure it on held-out pairs",
    ),
    Stage(
        name="trainer.rejection_sampling",
        version=1,
        config=RejectionSamplingConfig,
        inputs={
            "policy": _BASE,
            **_REWARD_INPUTS,
            "replay": InputSpec(
                kinds=("conversations", "corpus"),
                required=False,
                description="demonstrations mixed in, against forgetting",
            ),
        },
        output_kind="policy",
        queue="training",
        run="plumbline.trainer.tasks:run_rejection_sampling",
        description="Fine-tune on the best of K sampled responses",
    ),
    Stage(
        name="trainer.ppo",
        version=1,
        config=PPOConfig,
        inputs={
            "policy": _BASE,
            **_REWARD_INPUTS,
            "reference": InputSpec(
                kinds=("policy",),
                required=False,
                description="what KL is measured from; absent means the policy itself",
            ),
        },
        output_kind="policy",
        queue="training",
        run="plumbline.trainer.tasks:run_ppo",
        description="Proximal policy optimisation against a reward, bounded by KL",
    ),
    Stage(
        name="trainer.dpo",
        version=1,
        config=DPOConfig,
        inputs={"policy": _BASE, "preferences": _PREFERENCES},
        output_kind="policy",
        queue="training",
        run="plumbline.trainer.tasks:run_dpo",
        description="Direct preference optimisation",
    ),
)


def run_pretrain(config: PretrainConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.data.records import Document
    from plumbline.models.checkpoint import save_model
    from plumbline.trainer.datasets import read_input
    from plumbline.trainer.engine import TrainingRun, write_curves
    from plumbline.trainer.recipes.pretrain import (
        encode_documents,
        new_model,
        train_language_model,
        train_tokenizer,
    )

    documents = read_input(inputs.one("corpus").path, Document).records
    conversations, _ = _conversations(inputs, "conversations")
    with _device(config, context) as device:
        texts = [d.text for d in documents]
        texts += [message.content for c in conversations for message in c.messages]
        tokenizer = train_tokenizer(
            texts, vocab_size=config.vocab_size, context_length=config.context_length
        )
        model = new_model(config, tokenizer).to(device)
        encoded = encode_documents(documents, conversations, tokenizer)
        run = TrainingRun({"policy": model}, config, total_steps=config.steps, context=context)
        train_language_model(model, encoded, run, config)
        save_model(model, tokenizer, context.output_dir)
    write_curves(context.output_dir, run.curves)
    return StageResult(
        metrics={
            "loss": run.curves[-1]["loss"],
            "documents": float(len(documents)),
            "tokens": float(sum(map(len, encoded))),
            "parameters": float(sum(p.numel() for p in model.parameters())),
        }
    )


def run_sft(config: SFTConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.recipes.sft import encode_conversations, plan_steps, train_sft

    conversations, refused = _conversations(inputs, "conversations", config.on_error)
    with _device(config, context) as device:
        model, chat = _load_policy(inputs, "base", config.template, device)
        limit = min(config.max_length, _context_length(model))
        dataset = encode_conversations(conversations, chat, max_length=limit)
        plan = plan_steps(
            dataset.examples,
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            max_steps=config.max_steps,
        )
        run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
        train_sft(model, dataset.examples, run, plan, pad_id=chat.pad_id, start=run.resume())
        _save_policy(model, chat, run, context)
    return StageResult(
        metrics={
            "loss": run.curves[-1]["loss"],
            "examples": float(len(dataset.examples)),
            "examples.cut": float(dataset.cut),
            "examples.left_out": float(dataset.left_out),
            "records.refused": float(refused),
            "steps": float(len(plan)),
        }
    )


def run_reward_model(
    config: RewardModelConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.models.checkpoint import is_decoder, load_encoder_or_decoder
    from plumbline.models.reward import RewardModel, RewardModelCard
    from plumbline.trainer.engine import TrainingRun, write_curves
    from plumbline.trainer.recipes.reward_model import (
        encode_pairs,
        evaluate_ranking,
        plan_steps,
        train_reward_model,
    )

    train, test, refused = _preference_split(config, inputs)
    with _device(config, context) as device:
        backbone, tokenizer = load_encoder_or_decoder(inputs.one("base").path)
        pooling = config.pooling
        if pooling == "auto":
            pooling = "last" if is_decoder(backbone) else "mean"
        card = RewardModelCard(
            head=config.head,
            pooling=pooling,
            max_length=min(
                config.max_length, _context_length(backbone), tokenizer.model_max_length
            ),
            template=config.template,
        )
        model = RewardModel.create(backbone, tokenizer, card, seed=config.seed).to(device)
        pairs = encode_pairs(model, train, margin=config.margin)
        plan = plan_steps(pairs, config)
        run = TrainingRun({"reward": model}, config, total_steps=len(plan), context=context)
        train_reward_model(model, pairs, run, config, plan)
        report = evaluate_ranking(model, train, test, tokens_per_batch=config.tokens_per_microbatch)
        model.save(context.output_dir)
    write_curves(context.output_dir, run.curves, evaluation=report.to_json())
    metrics = {
        "loss": run.curves[-1]["loss"],
        "pairs.train": float(len(train)),
        "records.refused": float(refused),
    }
    if test:
        metrics.update(report.metrics())
    published = {
        f"{config.head}_rm.{name}": value
        for name, value in metrics.items()
        if name.startswith(("accuracy", "baseline", "pairs", "records"))
    }
    return StageResult(metrics=metrics, published=published)


def run_rejection_sampling(
    config: RejectionSamplingConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.data.prompts import read_prompts
    from plumbline.data.records import Rollout
    from plumbline.data.tables import write_records
    from plumbline.trainer.batches import draw_some
    from plumbline.trainer.recipes.rejection_sampling import train_rejection_sampling

    prompts = read_prompts(
        inputs.one("prompts").path, split=config.split, kinds=config.prompt_kinds
    )
    prompts = draw_some(prompts, config.max_prompts, seed=config.seed)
    replay, _ = _conversations(inputs, "replay")
    with _device(config, context) as device:
        model, chat = _load_policy(inputs, "policy", config.template, device)
        sampler, scorer = _rollout_parts(config, inputs, context, model, chat, device)
        run, selections, rollouts = train_rejection_sampling(
            model, prompts, sampler, scorer, config, context, chat=chat, replay=replay
        )
        _save_policy(model, chat, run, context)
    write_records(context.output_dir / "rollouts.parquet", rollouts, Rollout)
    return StageResult(
        metrics={
            "loss": run.curves[-1]["loss"],
            "score.mean": selections[-1].mean_score,
            "score.best": selections[-1].best_score,
            "prompts": float(len(prompts)),
            "prompts.kept": float(selections[-1].prompts),
        }
    )


def run_ppo(config: PPOConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.data.prompts import read_prompts
    from plumbline.data.records import Rollout
    from plumbline.data.tables import write_records
    from plumbline.trainer.recipes.ppo import PPO

    prompts = read_prompts(
        inputs.one("prompts").path, split=config.split, kinds=config.prompt_kinds
    )
    with _device(config, context) as device:
        model, chat = _load_policy(inputs, "policy", config.template, device)
        sampler, scorer = _rollout_parts(config, inputs, context, model, chat, device)
        reference = None
        if inputs.optional("reference") is not None:
            reference, _ = _load_policy(inputs, "reference", config.template, device)
            _check_same_vocabulary(model, reference)
        ppo = PPO(model, chat, sampler, scorer, config, context, reference=reference)
        outcome = ppo.train(prompts)
        _save_policy(model, chat, ppo.run, context)
    write_records(context.output_dir / "rollouts.parquet", outcome.rollouts, Rollout)
    return StageResult(
        metrics={
            "score.initial": outcome.initial_scores.value,
            "score.initial_std": outcome.initial_score_std,
            "score.final": outcome.final_scores.value,
            "kl": outcome.final_kl.value,
            "kl.upper": outcome.final_kl.high,
            "iterations": float(outcome.iterations),
            "rolled_back": float(outcome.rolled_back),
        }
    )


def run_dpo(config: DPOConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.trainer.datasets import preferences_for
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.recipes.dpo import (
        encode_pairs,
        plan_steps,
        reference_logprobs,
        train_dpo,
    )

    found, refused = _preferences(inputs, "preferences", config.on_error)
    preferences = preferences_for(found, config.head)
    with _device(config, context) as device:
        model, chat = _load_policy(inputs, "policy", config.template, device)
        limit = min(config.max_length, _context_length(model))
        pairs = encode_pairs(preferences, chat, max_length=limit)
        plan = plan_steps(pairs, config)
        reference = reference_logprobs(
            model, pairs, pad_id=chat.pad_id, tokens_per_batch=config.tokens_per_microbatch
        )
        run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
        train_dpo(model, pairs, reference, run, config, plan, pad_id=chat.pad_id)
        _save_policy(model, chat, run, context)
    last = run.curves[-1]
    return StageResult(
        metrics={
            "loss": last["loss"],
            "margin": last["margin"],
            "accuracy": last["accuracy"],
            "pairs": float(len(pairs)),
            "records.refused": float(refused),
        }
    )


@contextmanager
def _device(config: TrainingConfig, context: StageContext) -> Iterator[torch.device]:
    """The configured device, with arithmetic that repeats itself."""
    from plumbline.trainer.engine import deterministic, pick_device

    with deterministic(seed=config.seed, threads=context.settings.threads):
        yield pick_device(config.device)


def _load_policy(
    inputs: StageInputs, name: str, template: Any, device: torch.device
) -> tuple[PreTrainedModel, ChatFormat]:
    from plumbline.models.chat import ChatFormat
    from plumbline.models.checkpoint import load_causal_lm

    model, tokenizer = load_causal_lm(inputs.one(name).path)
    return model.to(device), ChatFormat(tokenizer, template=template)


def _save_policy(
    model: PreTrainedModel, chat: ChatFormat, run: TrainingRun, context: StageContext
) -> None:
    from plumbline.models.chat import PLAIN_TEMPLATE
    from plumbline.models.checkpoint import save_model
    from plumbline.trainer.engine import write_curves

    tokenizer: PreTrainedTokenizerBase = chat.tokenizer
    if chat.template == "plain" and not tokenizer.chat_template:
        # The policy carries the layout that it was trained with.
        tokenizer.chat_template = PLAIN_TEMPLATE
    save_model(model, tokenizer, context.output_dir)
    write_curves(context.output_dir, run.curves)


def _check_same_vocabulary(model: PreTrainedModel, reference: PreTrainedModel) -> None:
    sizes = [int(m.config.get_text_config().vocab_size) for m in (model, reference)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"the reference knows {sizes[1]} tokens and the policy {sizes[0]}; accepted: a "
            "reference with the policy's tokenizer",
            field="inputs.reference",
        )


def _context_length(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().max_position_embeddings)


def _conversations(
    inputs: StageInputs, name: str, on_error: Any = "fail"
) -> tuple[list[Conversation], int]:
    """Conversations of an input, and how many records were refused."""
    from plumbline.data.records import Conversation
    from plumbline.trainer.datasets import read_all

    names = ("conversations.parquet", "demonstrations.parquet")
    paths = [artifact.path for artifact in inputs.many(name)]
    return read_all(paths, Conversation, names=names, on_error=on_error)


def _preferences(inputs: StageInputs, name: str, on_error: Any) -> tuple[list[Preference], int]:
    """Preferences of an input, and how many records were refused."""
    from plumbline.data.records import Preference
    from plumbline.trainer.datasets import read_all

    paths = [artifact.path for artifact in inputs.many(name)]
    return read_all(paths, Preference, on_error=on_error)


def _preference_split(
    config: RewardModelConfig, inputs: StageInputs
) -> tuple[list[Preference], list[Preference], int]:
    """Training and test preferences for the configured head, and how many were refused."""
    from plumbline.trainer.batches import draw_some
    from plumbline.trainer.datasets import preferences_for, split_by_prompt

    found, refused = _preferences(inputs, "preferences", config.on_error)
    train = preferences_for(found, config.head)
    if inputs.optional("test") is not None:
        held_out, more_refused = _preferences(inputs, "test", config.on_error)
        test = preferences_for(held_out, config.head)
        refused += more_refused
    else:
        train, test = split_by_prompt(train, test_fraction=config.test_fraction)
        if not train:
            raise ConfigError(
                f"test_fraction={config.test_fraction} leaves none of {len(test)} preferences "
                "to train on",
                field="test_fraction",
            )
    return draw_some(train, config.max_pairs, seed=config.seed), test, refused


def _rollout_parts(
    config: RolloutConfig,
    inputs: StageInputs,
    context: StageContext,
    model: PreTrainedModel,
    chat: ChatFormat,
    device: torch.device,
) -> tuple[Sampler, Scorer]:
    """Sampler and scorer, in this process or as services."""
    from plumbline.trainer.rollout import ColocatedSampler

    policy_id = inputs.one("policy").id
    if config.rollout == "colocated":
        sampler: Sampler = ColocatedSampler(model, chat, policy_id=policy_id)
    else:
        from plumbline.trainer.remote import RemoteSampler

        sampler = RemoteSampler(
            context.connect("sampler"),
            chat.tokenizer,
            policy_id=policy_id,
            template=config.template,
            publish=_publisher(config, inputs, context),
            work_dir=context.work_dir,
        )
    return sampler, _scorer(config, inputs, context, device)


def _scorer(
    config: RolloutConfig, inputs: StageInputs, context: StageContext, device: torch.device
) -> Scorer:
    given = {
        head: artifact
        for head in ("helpfulness", "safety")
        if (artifact := inputs.optional(head)) is not None
    }
    if not isinstance(config.reward, CombinedReward):
        if given:
            raise ConfigError(
                f"reward.kind={config.reward.kind!r} needs no reward model, but the inputs "
                f"{', '.join(given)} were given",
                field="reward.kind",
            )
        from plumbline.trainer.rewards import ProgrammaticScorer

        return ProgrammaticScorer(config.reward)
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
    return RewardModelScorer(loaded, tokens_per_batch=config.tokens_per_microbatch)


def _publisher(config: RolloutConfig, inputs: StageInputs, context: StageContext) -> Any:
    """Publishes an iteration's weights to the store, with the run that made them as lineage."""
    from plumbline.core.artifacts import Lineage, open_configured_store

    store = open_configured_store(context.settings)
    ids: Mapping[str, tuple[str, ...]] = {"policy": (inputs.one("policy").id,)}
    lineage = Lineage(
        stage="trainer.iteration", version=1, config=config.model_dump(mode="json"), inputs=ids
    )
    return lambda directory: store.put("policy", directory, lineage=lineage).id
