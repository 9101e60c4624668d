"""Stage: a reward model, measured on held-out pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from plumbline.core.stages import InputSpec, Stage, StageContext, StageInputs, StageResult
from plumbline.trainer.config import RewardModelConfig
from plumbline.trainer.stages.common import (
    PREFERENCES,
    TEST_PREFERENCES,
    check_early_stop,
    context_length,
    on_device,
    split_preferences,
)

if TYPE_CHECKING:
    from plumbline.data.records import Preference
    from plumbline.models.reward import RewardModel

STAGE = Stage(
    name="trainer.reward_model",
    version=4,
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
    from plumbline.models.adapters import merge_adapters
    from plumbline.trainer.engine import TrainingRun, write_curves
    from plumbline.trainer.ranking import evaluate_ranking
    from plumbline.trainer.recipes.reward_model import (
        encode_pairs,
        plan_steps,
        train_reward_model,
    )

    train, test, refused, mixed = _read_pairs(config, inputs)
    check_early_stop(config, len(test))
    with on_device(config, context) as device:
        model = _new_model(config, inputs.one("base").path).to(device)
        pairs = encode_pairs(model, train, margin=config.margin)
        plan = plan_steps(pairs, config)
        run = TrainingRun({"reward": model}, config, total_steps=len(plan), context=context)
        held_out = encode_pairs(model, test, margin=config.margin) if config.early_stop else []
        train_reward_model(model, pairs, run, config, plan, held_out=held_out)
        report = evaluate_ranking(model, train, test, tokens_per_batch=config.tokens_per_microbatch)
        if report.calibration is not None:
            found = {
                "temperature": report.calibration.temperature,
                "score_deciles": report.deciles,
            }
            model.card = model.card.model_copy(update=found)
        merge_adapters(model)
        model.save(context.output_dir)
    write_curves(context.output_dir, run.curves, evaluation=report.to_json())
    metrics = {
        "loss": run.curves[-1]["loss"],
        "pairs.train": float(len(train)),
        "records.refused": float(refused),
        **{f"pairs.train.{name}": float(count) for name, count in mixed.items()},
    }
    if test:
        metrics.update(report.metrics())
    published = {
        f"{config.head}_rm.{name}": value for name, value in metrics.items() if name != "loss"
    }
    return StageResult(metrics=metrics, published=published)


def _new_model(config: RewardModelConfig, base: Path) -> RewardModel:
    """A reward model with a fresh head, in which what is to be frozen is."""
    from plumbline.models.checkpoint import is_decoder, load_encoder_or_decoder
    from plumbline.models.reward import RewardModel, RewardModelCard
    from plumbline.trainer.adapters import choose_parameters
    from plumbline.trainer.execution import prepare_layers

    backbone, tokenizer = load_encoder_or_decoder(base)
    pooling = config.pooling
    if pooling == "auto":
        pooling = "last" if is_decoder(backbone) else "mean"
    choose_parameters(backbone, config)
    prepare_layers(backbone, config)
    card = RewardModelCard(
        head=config.head,
        pooling=pooling,
        max_length=min(config.max_length, context_length(backbone), tokenizer.model_max_length),
        template=config.template,
    )
    zero_head = config.head_init == "zero"
    return RewardModel.create(backbone, tokenizer, card, seed=config.seed, zero_head=zero_head)


def _read_pairs(
    config: RewardModelConfig, inputs: StageInputs
) -> tuple[list[Preference], list[Preference], int, dict[str, int]]:
    """Training and test preferences, how many records were refused, and the mix by group."""
    from plumbline.trainer.batches import draw_some
    from plumbline.trainer.datasets import preferences_for
    from plumbline.trainer.preference_mix import mix_preferences

    mix = config.preference_mix
    if mix is None:
        train, test, refused = split_preferences(config, inputs)
        return draw_some(train, config.max_pairs, seed=config.seed), test, refused, {}
    # Those of other heads are split alike, so that none of their held-out prompts is trained on.
    whole = config.model_copy(update={"head": "preference"})
    train, test, refused = split_preferences(whole, inputs)
    train = draw_some(train, config.max_pairs, seed=config.seed)
    train, counts = mix_preferences(train, mix, seed=config.seed)
    return train, preferences_for(test, config.head) if test else [], refused, counts
