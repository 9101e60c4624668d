"""TRL's sampling: the function with which GRPOTrainer draws completions from transformers."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers
import trl
from datasets import Dataset
from measured_run import arguments
from sampling_generate import RowLimits, batches
from sampling_program import Responses, serve
from sampling_work import MOST_LENGTH, Options, Request
from transformers import AutoTokenizer, LlamaForCausalLM, StoppingCriteriaList

NO_END = -1


class BoundedLlama(LlamaForCausalLM):
    """Ends each row at its own length: the trainer's call has no place for that."""

    row_limits: Sequence[int] = ()

    def _get_stopping_criteria(self, generation_config: Any, *given: Any, **named: Any) -> Any:
        criteria = super()._get_stopping_criteria(generation_config, *given, **named)
        prompt_tokens = generation_config.max_length - generation_config.max_new_tokens
        return StoppingCriteriaList([*criteria, RowLimits(self.row_limits, prompt_tokens)])


def make_trainer(model: BoundedLlama, tokenizer: Any, directory: str) -> Any:
    """Set up to sample; it never trains."""
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=trl.GRPOConfig(
            output_dir=directory,
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=MOST_LENGTH,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
        ),
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 2),
        processing_class=tokenizer,
    )
    # No token ends a response; three places know of one.
    trainer.generation_config.eos_token_id = None
    model.generation_config.eos_token_id = None
    trainer.eos_token_ids = [NO_END]
    return trainer


def run_closed(trainer: Any, requests: Sequence[Request], options: Options) -> Responses:
    """A prompt is repeated for each of its completions, as the trainer's loader does."""
    torch.manual_seed(requests[0].seed)
    config = trainer.generation_config
    config.do_sample = options.temperature > 0
    config.temperature, config.top_p = options.temperature, options.top_p
    found: dict[int, list[list[int]]] = {}
    for batch in batches(requests, options):
        chosen = [requests[index] for index in batch]
        limits = [length for request in chosen for length in request.lengths]
        config.max_new_tokens = max(limits)
        trainer.model.row_limits = limits
        prompts = [list(request.prompt) for request in chosen for _ in request.lengths]
        drawn, _ = trainer._generate_single_turn(prompts, None, {}, chosen[0].k)
        rows = iter(drawn)
        for index, request in zip(batch, chosen, strict=True):
            found[index] = [next(rows)[:length] for length in request.lengths]
    return [found[index] for index in range(len(requests))]


def main() -> None:
    given = arguments()
    torch.set_num_threads(given["threads"])
    model = BoundedLlama.from_pretrained(given["model"])
    tokenizer = AutoTokenizer.from_pretrained(given["model"], padding_side="left")
    with tempfile.TemporaryDirectory(prefix="bench-sampling-trl-") as directory:
        trainer = make_trainer(model, tokenizer, directory)
        version = f"{trl.__version__} on transformers {transformers.__version__}"
        serve(trainer, run_closed=run_closed, version=version)


if __name__ == "__main__":
    main()
