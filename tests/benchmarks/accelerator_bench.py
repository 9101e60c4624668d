"""`python tests/benchmarks/accelerator_bench.py`: training a Llama of 1.2 billion random weights.

On one accelerator, under bfloat16 autocast with 32-bit weights and optimizer, as a stage runs it:
tokens per second and share of the device's peak (MFU) of SFT; peak memory of full training, LoRA
and LISA; seconds of a DPO step and of a PPO iteration, rollouts included. Each measurement runs in
a process of its own. `--tiny --device cpu` runs the same code on a small model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from framework import BenchmarkError
from measured_run import RESULT_MARK
from training_work import (
    LLAMA_1B,
    TINY,
    Shape,
    TimedContext,
    new_model,
    new_pairs,
    new_texts,
    new_tokenizer,
)

from plumbline.trainer.config import (
    DPOConfig,
    LISAConfig,
    LoRAConfig,
    PPOConfig,
    SFTConfig,
    TrainingConfig,
)

PEAK_OPERATIONS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bfloat16 operations a second, of the makers' data sheets."""
WARM_UP, STEPS = 2, 6
TOKENS_PER_STEP = 16384
WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "LoRA": {"lora": LoRAConfig(rank=16)},
    "LISA": {"lisa": LISAConfig(layers=2, every=2)},
}
WORK = ("sft full", "sft LoRA", "sft LISA", "dpo", "ppo")


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one measurement."""

    work: str
    length: int
    step_s: float
    tokens_per_s: float
    utilisation: float | None
    """Of the device's peak; None where that is not known, or the work is not all training."""
    peak_memory_bytes: int | None
    """None on a CPU."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    shape: Shape
    tokens_per_step: int
    steps: int


FULL_SIZE = Size(LLAMA_1B, TOKENS_PER_STEP, STEPS)
TINY_SIZE = Size(TINY, 256, 2)


def measure(work: str, size: Size, *, length: int, device: str) -> Figures:
    """Run one piece of work and take the median of its steps."""
    import torch

    from plumbline.trainer.execution import autocast, deterministic, pick_device

    config = _config(work, size, length)
    place = pick_device(device)
    is_accelerator = place.type == "cuda"
    context = TimedContext(torch.cuda.synchronize if is_accelerator else lambda: None)
    with deterministic(seed=0, threads=2), autocast(config, place):
        texts = _RUNS[work.split()[0]](config, size, length, place, context)
    step_s = statistics.median(context.durations(warm_up=WARM_UP))
    speed = texts * length / step_s
    peak = _peak_operations() if is_accelerator and work == "sft full" else None
    return Figures(
        work,
        length,
        step_s,
        speed,
        size.shape.training_operations(length) * speed / peak if peak else None,
        torch.cuda.max_memory_allocated() if is_accelerator else None,
    )


def _config(work: str, size: Size, length: int) -> TrainingConfig:
    texts = max(size.tokens_per_step // length, 1)
    common: dict[str, Any] = {
        "learning_rate": 1e-5,
        "precision": "bfloat16",
        "activation_checkpointing": True,
        "tokens_per_microbatch": size.tokens_per_step,
    }
    if work == "dpo":
        return DPOConfig(**common, batch_size=texts)
    if work == "ppo":
        return PPOConfig(
            **common,
            reward={"kind": "length", "target_words": length // 4},
            iterations=WARM_UP + size.steps,
            prompts_per_iteration=texts,
            minibatch_size=texts,
            max_response_tokens=length // 2,
            template="plain",
        )
    return SFTConfig(**common, batch_size=texts, **WAYS[work.removeprefix("sft ")])


def _prepared(config: TrainingConfig, size: Size, length: int, place: Any) -> Any:
    from plumbline.trainer.adapters import choose_parameters
    from plumbline.trainer.execution import prepare_layers

    model = new_model(size.shape, context_length=length)
    choose_parameters(model, config)
    prepare_layers(model, config)
    return model.to(place)


def _run_sft(config: SFTConfig, size: Size, length: int, place: Any, context: TimedContext) -> int:
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.recipes.sft import train_sft

    model = _prepared(config, size, length, place)
    plan = [list(range(config.batch_size))] * (WARM_UP + size.steps)
    run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
    train_sft(model, new_texts(size.shape, config.batch_size, length), run, plan, pad_id=0)
    return config.batch_size


def _run_dpo(config: DPOConfig, size: Size, length: int, place: Any, context: TimedContext) -> int:
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.recipes.dpo import train_dpo

    model = _prepared(config, size, length, place)
    plan = [list(range(config.batch_size))] * (WARM_UP + size.steps)
    run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
    pairs = new_pairs(size.shape, config.batch_size, length)
    train_dpo(model, pairs, run, config, plan, pad_id=0)
    return 2 * config.batch_size


def _run_ppo(config: PPOConfig, size: Size, length: int, place: Any, context: TimedContext) -> int:
    from plumbline.data.records import Prompt, user
    from plumbline.models.chat import ChatFormat
    from plumbline.trainer.recipes.on_policy import OnPolicyRun
    from plumbline.trainer.recipes.ppo import PPO
    from plumbline.trainer.rewards import ProgrammaticScorer
    from plumbline.trainer.rollout import ColocatedSampler

    model = _prepared(config, size, length, place)
    chat = ChatFormat(new_tokenizer(size.shape), template="plain")
    words = [f"t{4 + i % (size.shape.vocabulary - 4)}" for i in range(length // 2 - 1)]
    prompts = [
        Prompt(str(i), (user(" ".join(words)),), kind="helpful")
        for i in range(config.prompts_per_iteration)
    ]
    sampler = ColocatedSampler(model, chat, policy_id="random")
    scorer = ProgrammaticScorer(config.reward)
    learner = PPO(model, chat, config)
    OnPolicyRun(model, chat, sampler, scorer, learner, config, context).train(prompts)
    return config.rollouts_per_iteration


_RUNS: dict[str, Callable[..., int]] = {"sft": _run_sft, "dpo": _run_dpo, "ppo": _run_ppo}
"""Each returns how many texts of the full length one step holds."""


def _peak_operations() -> float | None:
    import torch

    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK_OPERATIONS.items() if part in name), None)


def has_accelerator() -> bool:
    import torch

    return torch.cuda.is_available()


def table(rows: Sequence[Figures]) -> str:
    """A Markdown table."""
    lines = [
        "| work | tokens | s a step | tokens/s | of peak | peak memory, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        share = "–" if row.utilisation is None else f"{row.utilisation:.1%}"
        held = "–" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**30:.1f}"
        lines.append(
            f"| {row.work} | {row.length} | {row.step_s:.3f} | {row.tokens_per_s:,.0f} "
            f"| {share} | {held} |"
        )
    return "\n".join(lines)


def _measure_apart(work: str, length: int, options: Sequence[str]) -> Figures:
    """`measure` in a process of its own, whose memory nothing else has touched."""
    command = [sys.executable, Path(__file__), *options, "--one", work, "--lengths", str(length)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith(RESULT_MARK)]
    if done.returncode or not results:
        raise BenchmarkError(f"{work} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return Figures(**json.loads(results[-1].removeprefix(RESULT_MARK)))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="A small model, to try the code.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--one", choices=WORK, help="Measure this one in this process.")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not has_accelerator():
        print(
            "torch sees no accelerator, and nothing was measured; "
            "--tiny --device cpu tries the same code on a small model",
            file=sys.stderr,
        )
        return 1
    if arguments.device == "cpu" and not arguments.tiny:
        parser.error("--device cpu needs --tiny: the full model would take hours")
    size = TINY_SIZE if arguments.tiny else FULL_SIZE
    if arguments.one:
        (length,) = arguments.lengths
        figures = measure(arguments.one, size, length=length, device=arguments.device)
        print(RESULT_MARK + json.dumps(asdict(figures)))
        return 0
    options = ["--device", arguments.device, *(["--tiny"] if arguments.tiny else [])]
    lengths = [64] if arguments.tiny else arguments.lengths
    rows = [_measure_apart(work, length, options) for work in arguments.work for length in lengths]
    print(
        f"{size.shape.name}, {size.tokens_per_step} tokens a step, on {_device(arguments.device)}"
    )
    print(table(rows))
    return 0


def _device(name: str) -> str:
    import torch

    return torch.cuda.get_device_name() if name == "cuda" else "a CPU"


if __name__ == "__main__":
    raise SystemExit(main())
