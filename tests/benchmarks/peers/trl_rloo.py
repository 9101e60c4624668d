"""TRL's RLOO, rollouts included, over given weights and prompts."""

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
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(2)

lengths: list[float] = []


def even_share(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Share of the words whose number is even."""
    lengths.append(sum(map(len, completion_ids)) / len(completion_ids))
    return [
        sum(int(word[1:]) % 2 == 0 for word in text.split()) / max(len(text.split()), 1)
        for text in completions
    ]


def main() -> None:
    given = arguments()
    texts = json.loads(Path(given["data"]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(given["model"], padding_side="left")
    trainer = trl.RLOOTrainer(
        model=AutoModelForCausalLM.from_pretrained(given["model"]),
        reward_funcs=even_share,
        args=trl.RLOOConfig(
            output_dir=given["work"],
            per_device_train_batch_size=given["rollouts"],
            num_generations=given["k"],
            max_steps=given["iterations"],
            max_completion_length=given["response_tokens"],
            beta=0.05,
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
            logging_steps=1,
            disable_tqdm=True,
            shuffle_dataset=False,
        ),
        # Ours opens every prompt with this token by itself.
        train_dataset=Dataset.from_list([{"prompt": f"t1 {text}"} for text in texts]),
        processing_class=tokenizer,
    )
    measured = Measured()
    with measured.block():
        trainer.train()
    measured.report(
        documents=given["tokens"],
        size_bytes=0,
        losses=[],
        optimizer_steps=trainer.state.global_step,
        drawn=sum(lengths) / len(lengths),
        version=trl.__version__,
    )


if __name__ == "__main__":
    main()
