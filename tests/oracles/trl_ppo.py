"""TRL's own PPO over given models and responses, in float64: two gradient steps of one iteration.

Run in the environment of the last TRL that has PPO, with a directory that holds `case.json`,
`policy`, `reference`, `classifier` (what scores) and `value`. Writes what each step's gradients
were (`gradients.safetensors`, `<step>/<parameter>`) and the weights that they were taken at
(`weights.safetensors`): between the two steps the weights are moved a little, so that ratios and
values leave their ranges.
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
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

torch.set_num_threads(1)


class Recorder(torch.optim.SGD):
    """Keeps gradients and weights, and moves the weights by given amounts."""

    def __init__(self, parameters: dict[str, torch.nn.Parameter], scale: float) -> None:
        super().__init__(parameters.values(), lr=0.0)
        self.names, self.scale = parameters, scale
        self.gradients: dict[str, torch.Tensor] = {}
        self.weights: dict[str, torch.Tensor] = {}
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        generator = torch.Generator().manual_seed(self.steps)
        for name, parameter in self.names.items():
            self.weights[f"{self.steps}/{name}"] = parameter.clone()
            if parameter.grad is not None:
                self.gradients[f"{self.steps}/{name}"] = parameter.grad.clone()
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(self.scale * noise)
        self.steps += 1


def main() -> None:
    directory = Path(sys.argv[1])
    case = json.loads((directory / "case.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(directory / "policy")
    prompts, responses = (torch.tensor(case[name]) for name in ("prompts", "responses"))
    texts = torch.cat([prompts, responses], dim=1)

    def given_responses(policy: Any, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The case's responses, with the logits of the policy as it is."""
        logits = policy(texts).logits[:, prompts.shape[1] - 1 : -1]
        return texts, logits

    ppo_trainer.batch_generation = given_responses
    models = {
        name: AutoModelForCausalLM.from_pretrained(directory / name, dtype=torch.float64)
        for name in ("policy", "reference")
    } | {
        name: AutoModelForSequenceClassification.from_pretrained(
            directory / name, num_labels=1, dtype=torch.float64
        )
        for name in ("classifier", "value")
    }
    parameters = {
        f"{name}.{key}": parameter
        for name in ("policy", "value")
        for key, parameter in models[name].named_parameters()
    }
    recorder = Recorder(parameters, case["move"])
    count = len(prompts)
    trainer = PPOTrainer(
        args=PPOConfig(
            output_dir=str(directory / "trl"),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            per_device_train_batch_size=count,
            num_mini_batches=1,
            num_ppo_epochs=2,
            total_episodes=count,
            num_sample_generations=0,
            response_length=responses.shape[1],
            # It adds this much to whatever is given.
            temperature=1 - 1e-7,
            missing_eos_penalty=None,
            **case["settings"],
        ),
        processing_class=tokenizer,
        model=models["policy"],
        ref_model=models["reference"],
        reward_model=models["classifier"],
        value_model=models["value"],
        train_dataset=Dataset.from_list([{"input_ids": row} for row in case["prompts"]]),
        optimizers=(recorder, torch.optim.lr_scheduler.LambdaLR(recorder, lambda _: 1.0)),
    )
    trainer.dataloader = [{"input_ids": prompts}]
    trainer.train()
    save_file(recorder.gradients, directory / "gradients.safetensors")
    save_file(recorder.weights, directory / "weights.safetensors")
    (directory / "version.json").write_text(json.dumps(trl.__version__), encoding="utf-8")


if __name__ == "__main__":
    main()
