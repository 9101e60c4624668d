"""PPO of the last TRL that has it, rollouts included, over given weights and prompts."""

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
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer

torch.set_num_threads(2)


def main() -> None:
    given = arguments()
    texts = json.loads(Path(given["data"]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(given["model"], padding_side="left")

    def classifier() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(given["model"], num_labels=1)

    # Ours opens every prompt with this token by itself.
    rows = [{"input_ids": tokenizer(f"t1 {text}")["input_ids"]} for text in texts]
    trainer = PPOTrainer(
        args=PPOConfig(
            output_dir=given["work"],
            per_device_train_batch_size=given["rollouts"],
            local_rollout_forward_batch_size=given["rollouts"],
            num_mini_batches=1,
            num_ppo_epochs=2,
            total_episodes=given["rollouts"] * given["iterations"],
            response_length=given["response_tokens"],
            kl_coef=0.05,
            num_sample_generations=0,
            temperature=1.0,
            missing_eos_penalty=None,
            learning_rate=given["learning_rate"],
            lr_scheduler_type="constant",
            adam_beta2=0.95,
            weight_decay=0.0,
            optim="adamw_torch_fused",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        ),
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(given["model"]),
        ref_model=AutoModelForCausalLM.from_pretrained(given["model"]),
        reward_model=classifier(),
        value_model=classifier(),
        train_dataset=Dataset.from_list(rows),
    )
    measured = Measured()
    with measured.block():
        trainer.train()
    measured.report(
        documents=given["tokens"],
        size_bytes=0,
        losses=[],
        # Two passes over each iteration's rollouts, in one step each.
        optimizer_steps=2 * trainer.state.global_step,
        drawn=float(given["response_tokens"]),
        version=trl.__version__,
    )


if __name__ == "__main__":
    main()
