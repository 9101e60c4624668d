"""Stage: supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumbline.core.errors import ConfigError
from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import SFTConfig
from plumbline.trainer.stages.common import (
    BASE,
    check_early_stop,
    context_length,
    load_policy,
    on_device,
    save_policy,
    split_conversations,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from plumbline.data.records import Conversation, Document
    from plumbline.models.chat import ChatFormat, EncodedConversation
    from plumbline.trainer.engine import TrainingRun

STAGE = Stage(
    name="trainer.sft",
    version=2,
    config=SFTConfig,
    inputs={
        "base": BASE,
        "conversations": InputSpec(
            kinds=("conversations", "corpus"),
            many=True,
            description="demonstrations; assistant turns are learned",
        ),
        "pretraining": InputSpec(
            kinds=("corpus",),
            required=False,
            description="documents mixed in against forgetting, with pretraining_share",
        ),
        "test": InputSpec(
            kinds=("conversations", "corpus"),
            required=False,
            description="held-out conversations, in place of a split",
        ),
    },
    output_kind="policy",
    queue="training",
    run="plumbline.trainer.stages.sft:run_sft",
    ranks="plumbline.trainer.stages.sft:run_sft_on_ranks",
    one_rank_settings=("lora", "lisa", "early_stop", "compile", "neftune_alpha"),
    description="Supervised fine-tuning on conversations",
)


@dataclass(frozen=True, slots=True)
class _Sources:
    """What the inputs hold."""

    train: Sequence[Sequence[Conversation]]
    test: Sequence[Conversation]
    refused: int
    documents: Sequence[Document]


@dataclass(frozen=True, slots=True)
class _Examples:
    """The same as token ids, and the plan of the steps."""

    examples: list[EncodedConversation]
    held_out: list[EncodedConversation]
    plan: list[list[int]]
    cut: int
    left_out: int


def run_sft(config: SFTConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.recipes.sft import TEST_LOSS, evaluate_sft, train_sft

    sources = _sources(config, inputs)
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "base", config.template, device, trained=config)
        data = _encoded(config, sources, model, chat)
        run = TrainingRun({"policy": model}, config, total_steps=len(data.plan), context=context)
        train_sft(
            model,
            data.examples,
            run,
            data.plan,
            pad_id=chat.pad_id,
            start=run.resume(),
            held_out=data.held_out,
            neftune_alpha=config.neftune_alpha,
        )
        tested = (
            {
                TEST_LOSS: evaluate_sft(model, data.held_out, config, pad_id=chat.pad_id),
                "examples.test": float(len(data.held_out)),
            }
            if data.held_out
            else {}
        )
        save_policy(model, chat, run, context)
    return _result(run, data, sources, tested)


def run_sft_on_ranks(config: SFTConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    """The same on several ranks; the first one writes what one rank would have written."""
    import torch

    from plumbline.trainer.distributed import SFTData, process_group, train_on_ranks

    sources = _sources(config, inputs)
    with process_group(config.device), on_device(config, context):
        # Whole on the CPU: no accelerator has to hold all of it.
        host = torch.device("cpu")
        model, chat = load_policy(inputs, "base", config.template, host, trained=config)
        data = _encoded(config, sources, model, chat)
        run, tested = train_on_ranks(
            model,
            chat,
            SFTData(examples=data.examples, held_out=data.held_out, plan=data.plan),
            config,
            base=inputs.one("base").path,
            output=context.output_dir,
            context=context,
        )
    return _result(run, data, sources, tested)


def _sources(config: SFTConfig, inputs: StageInputs) -> _Sources:
    train, test, refused = split_conversations(config, inputs)
    check_early_stop(config, len(test))
    return _Sources(train, test, refused, _pretraining(config, inputs))


def _encoded(
    config: SFTConfig, sources: _Sources, model: PreTrainedModel, chat: ChatFormat
) -> _Examples:
    from plumbline.trainer.recipes.sft import encode_conversations, plan_steps

    limit = min(config.max_length, context_length(model))
    datasets = [encode_conversations(part, chat, max_length=limit) for part in sources.train]
    encoded = [part.examples for part in datasets]
    examples = _mixed(config, encoded, sources.documents, chat, limit)
    test = sources.test
    held_out = encode_conversations(test, chat, max_length=limit).examples if test else []
    plan = plan_steps(
        examples,
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        max_steps=config.max_steps,
    )
    cut, left_out = sum(part.cut for part in datasets), sum(part.left_out for part in datasets)
    return _Examples(examples, held_out, plan, cut, left_out)


def _result(
    run: TrainingRun, data: _Examples, sources: _Sources, tested: Mapping[str, float]
) -> StageResult:
    return StageResult(
        metrics={
            "loss": run.curves[-1]["loss"],
            "examples": float(len(data.examples)),
            "examples.cut": float(data.cut),
            "examples.left_out": float(data.left_out),
            "records.refused": float(sources.refused),
            "steps": float(run.optimizer_steps),
            **tested,
        }
    )


def _pretraining(config: SFTConfig, inputs: StageInputs) -> list[Document]:
    """Documents that are mixed in.

    Raises:
        ConfigError: a share without documents, or the other way round.
    """
    from plumbline.data.records import Document
    from plumbline.trainer.datasets import read_input

    given = inputs.optional("pretraining")
    if (given is not None) != bool(config.pretraining_share):
        raise ConfigError(
            f"pretraining_share={config.pretraining_share} and {'an' if given else 'no'} input "
            "pretraining; accepted: both or neither",
            field="pretraining_share",
        )
    return [] if given is None else read_input(given.path, Document).records


def _mixed(
    config: SFTConfig,
    sources: Sequence[Sequence[EncodedConversation]],
    documents: Sequence[Document],
    chat: ChatFormat,
    max_length: int,
) -> list[EncodedConversation]:
    """Examples of all sources, and of documents, in their shares.

    Raises:
        ConfigError: not as many weights as sources.
    """
    from plumbline.trainer.recipes.sft import encode_texts, mix_examples

    if config.mix and len(config.mix) != len(sources):
        raise ConfigError(
            f"mix has {len(config.mix)} weights for {len(sources)} inputs 'conversations'; "
            "accepted: one for each",
            field="mix",
        )
    if not config.mix and not documents:
        return [example for source in sources for example in source]
    weights = config.mix or tuple(float(len(source)) for source in sources)
    rest = (1 - config.pretraining_share) / sum(weights)
    shares = [weight * rest for weight in weights]
    if not documents:
        return mix_examples(sources, shares, seed=config.seed)
    texts = encode_texts(documents, chat, max_length=max_length)
    return mix_examples([*sources, texts], [*shares, config.pretraining_share], seed=config.seed)
