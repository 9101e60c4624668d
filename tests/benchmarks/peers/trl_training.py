"""TRL's trainers over given weights, token ids and batch order."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import trl
from datasets import Dataset
from measured_run import Measured, arguments
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

torch.set_num_threads(2)


def settings(given: dict[str, Any]) -> dict[str, Any]:
    """The optimizer of the comparison, and nothing beside training."""
    return {
        "output_dir": given["work"],
        "per_device_train_batch_size": given["batch_size"],
        "num_train_epochs": 1,
        "learning_rate": given["learning_rate"],
        "lr_scheduler_type": "constant",
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "remove_unused_columns": False,
    }


def make_sft(given: dict[str, Any], rows: list[dict[str, Any]], tokenizer: Any) -> Any:
    data = [
        {
            "input_ids": row["prompt"] + row["chosen"],
            "completion_mask": [0] * len(row["prompt"]) + [1] * len(row["chosen"]),
        }
        for row in rows
    ]
    return trl.SFTTrainer(
        AutoModelForCausalLM.from_pretrained(given["model"]),
        args=trl.SFTConfig(**settings(given), completion_only_loss=True, packing=False),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
    )


def make_dpo(given: dict[str, Any], rows: list[dict[str, Any]], tokenizer: Any) -> Any:
    text = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    trainer = trl.DPOTrainer(
        AutoModelForCausalLM.from_pretrained(given["model"]),
        args=trl.DPOConfig(**settings(given), beta=0.1),
        train_dataset=text,
        processing_class=tokenizer,
    )
    # It takes no token ids, but its collator does.
    trainer.train_dataset = Dataset.from_list(
        [{f"{name}_ids": row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
    )
    return trainer


def make_reward(given: dict[str, Any], rows: list[dict[str, Any]], tokenizer: Any) -> Any:
    data = [
        {
            "chosen_ids": row["prompt"] + row["chosen"],
            "rejected_ids": row["prompt"] + row["rejected"],
        }
        for row in rows
    ]
    model = AutoModelForSequenceClassification.from_pretrained(given["model"], num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id
    torch.nn.init.zeros_(model.score.weight)
    return trl.RewardTrainer(
        model,
        args=trl.RewardConfig(**settings(given), max_length=None),
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
    )


MAKERS = {"sft": make_sft, "dpo": make_dpo, "reward": make_reward}


def main() -> None:
    given = arguments()
    rows = json.loads(Path(given["data"]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(given["model"])
    trainer = MAKERS[given["method"]](given, rows, tokenizer)
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    measured = Measured()
    with measured.block():
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = given["tokens"]
    measured.report(documents=tokens, size_bytes=0, losses=losses, version=trl.__version__)


if __name__ == "__main__":
    main()
