"""`python tests/benchmarks/memory_table.py`: what full training, LoRA and LISA keep in memory.

Each way trains the same random Llama by SFT for a few steps in a process of its own. Parameters,
gradients and optimizer state are counted to the byte, at the step where they were largest; the
peak of resident memory holds activations and the process itself besides.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from framework import BenchmarkError
from measured_run import RESULT_MARK
from training_work import SMALL, Shape, TimedContext, new_model, new_texts

from plumbline.trainer.config import LISAConfig, LoRAConfig, SFTConfig

WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, recomputing": {"activation_checkpointing": True},
    "LoRA, rank 8": {"lora": LoRAConfig(rank=8)},
    "LISA, 2 layers": {"lisa": LISAConfig(layers=2, every=2)},
}
STEPS, BATCH, LENGTH = 4, 8, 256
_RETURN_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""The allocator gives freed tensors back, so that the peak is of what was in use together."""


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes that one way of training holds."""

    way: str
    parameters: int
    gradients: int
    optimizer: int
    rss_before: int
    """Resident before the first step: modules, weights and adapters."""
    peak_rss: int

    @property
    def state(self) -> int:
        return self.parameters + self.gradients + self.optimizer


def measure(way: str, shape: Shape, *, steps: int, batch: int, length: int) -> Held:
    """Train and count."""
    from plumbline.trainer.adapters import choose_parameters
    from plumbline.trainer.engine import TrainingRun
    from plumbline.trainer.execution import prepare_layers
    from plumbline.trainer.recipes.sft import train_sft

    class CountingRun(TrainingRun):
        gradients = optimizer = 0

        def apply_gradients(self) -> float:
            held = [p.grad.nbytes for p in self._parameters.values() if p.grad is not None]
            self.gradients = max(self.gradients, sum(held))
            norm = super().apply_gradients()
            states = [t.nbytes for state in self._optimizer.state.values() for t in state.values()]
            self.optimizer = max(self.optimizer, sum(states))
            return norm

    config = SFTConfig(learning_rate=1e-4, tokens_per_microbatch=batch * length, **WAYS[way])
    model = new_model(shape, context_length=length)
    choose_parameters(model, config)
    prepare_layers(model, config)
    run = CountingRun({"policy": model}, config, total_steps=steps, context=TimedContext())
    rss_before = psutil.Process().memory_info().rss
    train_sft(model, new_texts(shape, batch, length), run, [list(range(batch))] * steps, pad_id=0)
    return Held(
        way,
        sum(p.nbytes for p in model.parameters()),
        run.gradients,
        run.optimizer,
        rss_before,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def measure_apart(way: str) -> Held:
    """`measure` at the table's size, in a process of its own."""
    done = subprocess.run(
        [sys.executable, Path(__file__), "--way", way],
        env={**os.environ, **_RETURN_AT_ONCE},
        capture_output=True,
        text=True,
        check=False,
    )
    results = [line for line in done.stdout.splitlines() if line.startswith(RESULT_MARK)]
    if done.returncode or not results:
        raise BenchmarkError(f"{way} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return Held(**json.loads(results[-1].removeprefix(RESULT_MARK)))


def table(rows: Sequence[Held]) -> str:
    """A Markdown table, MiB."""
    lines = [
        "| SFT | parameters | gradients | optimizer | together | resident before | peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        state = (row.parameters, row.gradients, row.optimizer, row.state)
        cells = " | ".join(f"{v / 2**20:,.1f}" for v in (*state, row.rss_before, row.peak_rss))
        lines.append(f"| {row.way} | {cells} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--way", choices=WAYS, help="Measure this one in this process.")
    arguments = parser.parse_args(argv)
    if arguments.way:
        import dataclasses

        import torch

        torch.set_num_threads(2)
        held = measure(arguments.way, SMALL, steps=STEPS, batch=BATCH, length=LENGTH)
        print(RESULT_MARK + json.dumps(dataclasses.asdict(held)))
        return 0
    print(f"{SMALL.name}, {BATCH} texts of {LENGTH} tokens a step; MiB")
    print(table([measure_apart(way) for way in WAYS]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
