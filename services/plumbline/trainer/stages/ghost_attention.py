"""Stage: Ghost Attention data, to be learned by supervised fine-tuning."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import GhostAttentionConfig
from plumbline.trainer.stages.common import (
    context_length,
    load_policy,
    new_sampler,
    on_device,
    read_conversations,
)

STAGE = Stage(
    name="trainer.ghost_attention",
    version=1,
    config=GhostAttentionConfig,
    inputs={
        "policy": InputSpec(kinds=("policy",), description="the newest policy: it replies"),
        "conversations": InputSpec(
            kinds=("conversations", "corpus"),
            many=True,
            description="dialogues of several turns; their user turns are asked again",
        ),
    },
    output_kind="conversations",
    queue="training",
    run="plumbline.trainer.stages.ghost_attention:run_ghost_attention",
    description="Make conversations that keep an instruction of the first turn",
)


def run_ghost_attention(
    config: GhostAttentionConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.core.errors import FailedPreconditionError
    from plumbline.data.records import Conversation
    from plumbline.data.tables import write_records
    from plumbline.trainer.batches import draw_some
    from plumbline.trainer.recipes.ghost_attention import make_ghost_attention

    dialogues, _ = read_conversations(inputs, "conversations")
    dialogues = draw_some(dialogues, config.max_conversations, seed=config.seed)
    with on_device(config, context) as device:
        model, chat = load_policy(inputs, "policy", config.template, device)
        made = make_ghost_attention(
            dialogues,
            new_sampler(config, inputs, context, model, chat),
            chat,
            config,
            max_tokens=context_length(model),
            progress=context.progress,
        )
    if not made.conversations:
        raise FailedPreconditionError(
            f"none of {made.dialogues} dialogues came to its end within max_response_tokens="
            f"{config.max_response_tokens} a turn and the policy's context",
            reason="NOTHING_KEPT",
        )
    write_records(context.output_dir / "conversations.parquet", made.conversations, Conversation)
    return StageResult(
        metrics={
            "conversations": float(len(made.conversations)),
            "dialogues": float(made.dialogues),
            "dialogues.cut_short": float(made.cut_short),
        }
    )
