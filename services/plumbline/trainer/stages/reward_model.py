"""Stage: a reward model, measured on held-out pairs."""

from __future__ import annotations

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import RewardModelConfig
from plumbline.trainer.stages.common import (
    PREFERENCES,
    TEST_PREFERENCES,
    context_length,
    on_device,
    split_preferences,
)

STAGE = Stage(
    name="trainer.reward_model",
    version=2,
    config=RewardModelConfig,
    inputs={
        "base": InputSpec(
            kinds=("policy",), description="backbone: a policy or any encoder or decoder"
        ),
        "preferences": PREFERENCES,
        "test": TEST_PREFERENCES,
    },
    output_kind="reward-model",
    queue="training",
    run="plumbline.trainer.stages.reward_model:run_reward_model",
    description="Train a Bradley-Terry reward model and measure it on held-out pairs",
)


def run_reward_model(
    config: RewardModelConfig, inputs: StageInputs, context: StageContext
) -> StageResult:
    from plumbline.models.checkpoint import is_decoder, load_encoder_or_decoder
    from plumbline.models.reward import RewardModel, RewardModelCard
    from plumbline.trainer.adapters import choose_parameters, merge_adapters
    from plumbline.trainer.batches import draw_some
    from plumbline.trainer.engine import TrainingRun, write_curves
    from plumbline.trainer.recipes.reward_model import (
        encode_pairs,
        evaluate_ranking,
        plan_steps,
        train_reward_model,
    )

    train, test, refused = split_preferences(config, inputs)
    train = draw_some(train, config.max_pairs, seed=config.seed)
    with on_device(config, context) as device:
        backbone, tokenizer = load_encoder_or_decoder(inputs.one("base").path)
        pooling = config.pooling
        if pooling == "auto":
            pooling = "last" if is_decoder(backbone) else "mean"
        choose_parameters(backbone, config)
        card = RewardModelCard(
            head=config.head,
            pooling=pooling,
            max_length=min(config.max_length, context_length(backbone), tokenizer.model_max_length),
            template=config.template,
        )
        model = RewardModel.create(backbone, tokenizer, card, seed=config.seed).to(device)
        pairs = encode_pairs(model, train, margin=config.margin)
        plan = plan_steps(pairs, config)
        run = TrainingRun({"reward": model}, config, total_steps=len(plan), context=context)
        train_reward_model(model, pairs, run, config, plan)
        report = evaluate_ranking(model, train, test, tokens_per_batch=config.tokens_per_microbatch)
        merge_adapters(model)
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
