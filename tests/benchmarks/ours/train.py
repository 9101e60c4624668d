"""Plumbline's recipes over given weights, token ids and batch order."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from measured_run import Measured, arguments

from plumbline.models.chat import EncodedConversation
from plumbline.models.checkpoint import load_causal_lm, load_encoder_or_decoder
from plumbline.models.packing import PromptGroup, group_pair
from plumbline.models.reward import RewardModel, RewardModelCard
from plumbline.trainer.config import DPOConfig, RewardModelConfig, SFTConfig, TrainingConfig
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.recipes.dpo import train_dpo
from plumbline.trainer.recipes.reward_model import EncodedPair, train_reward_model
from plumbline.trainer.recipes.sft import train_sft

torch.set_num_threads(2)


class Context:
    """A stage's context that keeps nothing."""

    work_dir = Path()

    def progress(self, done: int, total: int, message: str = "") -> None:
        return None

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        return None

    def save_checkpoint(self, directory: Path, step: int, *, keep: int) -> None:
        return None

    def newest_checkpoint(self) -> None:
        return None


def optimizer(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "learning_rate": given["learning_rate"],
        "schedule": "constant",
        "warmup_share": 0.0,
        "weight_decay": 0.0,
        "log_every": 1,
    }


def new_run(module: Any, config: TrainingConfig, plan: Sequence[Any]) -> TrainingRun:
    return TrainingRun({"trained": module}, config, total_steps=len(plan), context=Context())


def main() -> None:
    given = arguments()
    rows = json.loads(Path(given["data"]).read_text(encoding="utf-8"))
    size, method, base = given["batch_size"], given["method"], Path(given["model"])
    plan = [list(range(start, start + size)) for start in range(0, len(rows), size)]
    measured = Measured()
    if method == "reward":
        config = RewardModelConfig(
            **{**optimizer(given), "minimum_warmup_steps": 0, "margin": "off"}
        )
        backbone, tokenizer = load_encoder_or_decoder(base)
        model = RewardModel.create(backbone, tokenizer, RewardModelCard(template="plain"), seed=0)
        torch.nn.init.zeros_(model.head.weight)
        model.head.bias.requires_grad_(False)
        pairs = [
            EncodedPair(
                group_pair(row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]),
                (len(row["chosen"]), len(row["rejected"])),
                0.0,
                None,
                None,
            )
            for row in rows
        ]
        run = new_run(model, config, plan)
        with measured.block():
            train_reward_model(model, pairs, run, config, plan)
    elif method == "dpo":
        policy, _ = load_causal_lm(base)
        dpo = DPOConfig(**optimizer(given), beta=0.1)
        groups = [PromptGroup(row["prompt"], (row["chosen"], row["rejected"])) for row in rows]
        run = new_run(policy, dpo, plan)
        with measured.block():
            train_dpo(policy, groups, run, dpo, plan, pad_id=0)
    else:
        policy, _ = load_causal_lm(base)
        examples = [
            EncodedConversation(
                row["prompt"] + row["chosen"],
                [False] * len(row["prompt"]) + [True] * len(row["chosen"]),
            )
            for row in rows
        ]
        run = new_run(policy, SFTConfig(**optimizer(given)), plan)
        with measured.block():
            train_sft(policy, examples, run, plan, pad_id=0)
    losses = [entry["loss"] for entry in run.curves]
    measured.report(documents=given["tokens"], size_bytes=0, losses=losses)


if __name__ == "__main__":
    main()
