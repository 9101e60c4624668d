"""Losses and gradients of TRL's own trainers over given models and token ids, in float64.

Run in TRL's environment with a directory that holds `case.json`, `policy`, `reference` and
`classifier`; writes `losses.json` and `gradients.safetensors` (`<case>/<parameter>`) into it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference
from trl.trainer.reward_trainer import DataCollatorForPreference as DataCollatorForRanking

torch.set_num_threads(1)


class ExactProjection:
    """In place of TRL's projection onto the vocabulary, which rounds to 32 bits."""

    @staticmethod
    def apply(
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        temperature: float,
        *_: Any,
    ) -> tuple[torch.Tensor, ...]:
        logits = torch.nn.functional.linear(hidden, weight, bias) / temperature
        logprobs = logits.log_softmax(-1)
        seen = logprobs.detach()
        return (
            logprobs.gather(-1, labels[:, None]).squeeze(-1),
            -(seen.exp() * seen).sum(-1),
            (2 * seen).logsumexp(-1),
            logits.detach().mean(-1),
            seen.argmax(-1) == labels,
        )


trl.trainer.utils._ChunkedLogProbFunction = ExactProjection


class Oracle:
    """Trainers over the case's models; each call of `take` keeps a loss and its gradients."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.case = json.loads((directory / "case.json").read_text(encoding="utf-8"))
        self.tokenizer = AutoTokenizer.from_pretrained(directory / "policy")
        self.losses: dict[str, float] = {}
        self.values: dict[str, list[float]] = {}
        self.gradients: dict[str, torch.Tensor] = {}

    def model(self, name: str) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.directory / name, dtype=torch.float64)

    def settings(self, **more: Any) -> dict[str, Any]:
        quiet = {"report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True}
        plain = {"gradient_checkpointing": False, "remove_unused_columns": False}
        return {"output_dir": str(self.directory / "trl"), **quiet, **plain, **more}

    def take(self, name: str, trainer: Any, inputs: dict[str, Any], **options: Any) -> None:
        model = trainer.model
        model.zero_grad()
        loss = trainer.compute_loss(model, inputs, **options)
        loss.backward()
        self.losses[name] = loss.item()
        for parameter_name, parameter in model.named_parameters():
            if parameter.grad is not None:
                self.gradients[f"{name}/{parameter_name}"] = parameter.grad.clone()

    def write(self) -> None:
        found = {"version": trl.__version__, "losses": self.losses, "values": self.values}
        (self.directory / "losses.json").write_text(json.dumps(found), encoding="utf-8")
        save_file(self.gradients, self.directory / "gradients.safetensors")


def take_sft(oracle: Oracle) -> None:
    rows = [
        {
            "input_ids": pair["prompt"] + pair["chosen"],
            "completion_mask": [0] * len(pair["prompt"]) + [1] * len(pair["chosen"]),
        }
        for pair in oracle.case["pairs"]
    ]
    trainer = trl.SFTTrainer(
        oracle.model("policy"),
        args=trl.SFTConfig(**oracle.settings(), completion_only_loss=True),
        train_dataset=Dataset.from_list(rows),
        processing_class=oracle.tokenizer,
    )
    oracle.take("sft", trainer, trainer.data_collator(list(trainer.train_dataset)))


def take_dpo(oracle: Oracle) -> None:
    text = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    rows = [
        {f"{name}_ids": pair[name] for name in ("prompt", "chosen", "rejected")}
        for pair in oracle.case["pairs"]
    ]
    collate = DataCollatorForPreference(pad_token_id=oracle.tokenizer.pad_token_id)
    # Its conservative loss bears the name of a loss that sorts a batch: of one pair it is the same.
    for name, loss_type, chosen_rows in (
        ("dpo_sigmoid", "sigmoid", rows),
        ("dpo_ipo", "ipo", rows),
        ("dpo_conservative", "aot", rows[:1]),
    ):
        trainer = trl.DPOTrainer(
            oracle.model("policy"),
            ref_model=oracle.model("reference"),
            args=trl.DPOConfig(
                **oracle.settings(),
                beta=oracle.case["beta"],
                loss_type=loss_type,
                label_smoothing=oracle.case["label_smoothing"],
            ),
            train_dataset=text,
            processing_class=oracle.tokenizer,
        )
        oracle.take(name, trainer, collate(chosen_rows))


def take_kto(oracle: Oracle) -> None:
    text = Dataset.from_list([{"prompt": "a", "completion": "b", "label": True}] * 2)
    trainer = trl.KTOTrainer(
        oracle.model("policy"),
        ref_model=oracle.model("reference"),
        args=trl.KTOConfig(
            **oracle.settings(per_device_train_batch_size=2),
            beta=oracle.case["beta"],
            desirable_weight=oracle.case["desirable_weight"],
            undesirable_weight=oracle.case["undesirable_weight"],
        ),
        train_dataset=text,
        processing_class=oracle.tokenizer,
    )
    pairs = oracle.case["pairs"]
    rows = [
        {
            "prompt_ids": pair["prompt"],
            "completion_ids": pair[side],
            "KL_completion_ids": pairs[index - 1][side],
            "label": side == "chosen",
        }
        for index, pair in enumerate(pairs)
        for side in ("chosen", "rejected")
    ]
    collate = DataCollatorForUnpairedPreference(pad_token_id=oracle.tokenizer.pad_token_id)
    oracle.take("kto", trainer, collate(rows))


def take_reward(oracle: Oracle) -> None:
    rows = [
        {
            "chosen_ids": pair["prompt"] + pair["chosen"],
            "rejected_ids": pair["prompt"] + pair["rejected"],
            "margin": margin,
        }
        for pair, margin in zip(oracle.case["pairs"], oracle.case["margins"], strict=True)
    ]
    model = AutoModelForSequenceClassification.from_pretrained(
        oracle.directory / "classifier", num_labels=1, dtype=torch.float64
    )
    model.config.pad_token_id = oracle.tokenizer.pad_token_id
    trainer = trl.RewardTrainer(
        model,
        args=trl.RewardConfig(**oracle.settings(), max_length=None),
        train_dataset=Dataset.from_list(rows),
        processing_class=oracle.tokenizer,
    )
    collate = DataCollatorForRanking(pad_token_id=oracle.tokenizer.pad_token_id)
    for name, given in (
        ("reward_margin", rows),
        ("reward", [{k: v for k, v in row.items() if k != "margin"} for row in rows]),
    ):
        oracle.take(name, trainer, collate(given))


def _on_policy(oracle: Oracle, trainer_class: Any, config_class: Any, **more: Any) -> Any:
    rollouts = oracle.case["rollouts"]
    prompts = [{"prompt": f"t{index}"} for index in range(len(rollouts["rewards"]))]

    def reward(completions: list[str], **_: Any) -> list[float]:
        return list(rollouts["rewards"][: len(completions)])

    trainer = trainer_class(
        model=oracle.model("policy"),
        reward_funcs=reward,
        args=config_class(
            **oracle.settings(per_device_train_batch_size=len(prompts)),
            num_generations=rollouts["k"],
            max_completion_length=rollouts["length"],
            beta=oracle.case["beta"],
            epsilon=oracle.case["clip_range"],
            **more,
        ),
        train_dataset=Dataset.from_list(prompts),
        processing_class=oracle.tokenizer,
    )
    trainer.ref_model.double().load_state_dict(oracle.model("reference").state_dict())
    return trainer, prompts


def _scored(oracle: Oracle, trainer: Any, prompts: list[Any], extra: tuple[Any, ...]) -> Any:
    """What the trainer makes of the case's responses, as if it had drawn them itself."""
    rollouts = oracle.case["rollouts"]
    texts = ["x"] * len(rollouts["responses"])
    trainer._generate = lambda _: (
        rollouts["prompts"],
        rollouts["responses"],
        *((None, texts, *extra) if extra else (texts,)),
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer._generate_and_score_completions(prompts)


def take_rloo(oracle: Oracle) -> None:
    trainer, prompts = _on_policy(oracle, trl.RLOOTrainer, trl.RLOOConfig)
    inputs = _scored(oracle, trainer, prompts, ())
    oracle.values["rloo_advantages"] = inputs["advantages"].tolist()
    # An older policy drew the responses, so that some ratios leave the range.
    inputs["old_logps"] = torch.tensor(oracle.case["rollouts"]["old_sums"], dtype=torch.float64)
    oracle.take("rloo", trainer, inputs)


def take_grpo(oracle: Oracle) -> None:
    for name, loss_type, scale in (
        ("grpo_response", "grpo", "group"),
        ("grpo_token", "bnpo", "group"),
        ("grpo_length", "dr_grpo", "none"),
    ):
        trainer, prompts = _on_policy(
            oracle,
            trl.GRPOTrainer,
            trl.GRPOConfig,
            loss_type=loss_type,
            scale_rewards=scale,
            # The paper's own KL.
            use_bias_correction_kl=False,
        )
        inputs = _scored(oracle, trainer, prompts, (None, {}, None, None))
        oracle.values[f"{name}_advantages"] = inputs["advantages"].tolist()
        old = torch.tensor(oracle.case["rollouts"]["old"], dtype=torch.float64)
        inputs["old_per_token_logps"] = old
        oracle.take(name, trainer, inputs)


def main() -> None:
    oracle = Oracle(Path(sys.argv[1]))
    for take in (take_sft, take_dpo, take_kto, take_reward, take_rloo, take_grpo):
        take(oracle)
    oracle.write()


if __name__ == "__main__":
    main()
