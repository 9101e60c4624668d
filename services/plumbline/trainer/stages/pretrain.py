"""Stage: a tokenizer and a small Llama, from text."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import PretrainConfig
from plumbline.trainer.stages.common import on_device, read_conversations

STAGE = Stage(
    name="trainer.pretrain",
    version=2,
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
    run="plumbline.trainer.stages.pretrain:run_pretrain",
    description="Train a tokenizer and pre-train a small Llama on text",
)


def run_pretrain(config: PretrainConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    from plumbline.data.records import Document
    from plumbline.models.checkpoint import save_model
    from plumbline.trainer.datasets import read_input
    from plumbline.trainer.engine import TrainingRun, write_curves
    from plumbline.trainer.execution import prepare_layers
    from plumbline.trainer.recipes.pretrain import (
        encode_documents,
        new_model,
        train_language_model,
        train_tokenizer,
    )

    documents = read_input(inputs.one("corpus").path, Document).records
    conversations, _ = read_conversations(inputs, "conversations")
    with on_device(config, context) as device:
        texts = [d.text for d in documents]
        texts += [message.content for c in conversations for message in c.messages]
        tokenizer = train_tokenizer(
            texts, vocab_size=config.vocab_size, context_length=config.context_length
        )
        model = new_model(config, tokenizer).to(device)
        prepare_layers(model, config)
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
