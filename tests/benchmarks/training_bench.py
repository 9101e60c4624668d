"""`make bench PART=training`: SFT, DPO and reward models beside TRL and beside a plain loop.

All three get the same weights, token ids and batch order, on two threads, one process at a time in
the order A B B A. The gate: the losses of all steps agree. The losses of a step differ by rounding
only; their agreement over a run shows that the gradients do as well.

Tokens are those of prompts and completions without padding, a prompt counted once for each of its
completions, the same for all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework import (
    HERE,
    OURS_PYTHON,
    REPOSITORY,
    BenchmarkError,
    Row,
    Run,
    in_turn,
    show_rows,
    write_rows,
)
from measured_run import RESULT_MARK

TRL_PYTHON = REPOSITORY / ".venv-trl" / "bin" / "python"
THREADS = 2
TOLERANCE = 2e-3
"""Largest difference of a step's losses, relative."""
METHODS = ("sft", "dpo", "reward")
SPEED, MEMORY = "tokens/s, wall time", "peak memory, MiB"


@dataclass(frozen=True, slots=True)
class Size:
    """The shape of the random Llama that is trained."""

    hidden: int
    layers: int
    vocabulary: int
    heads: int

    def __str__(self) -> str:
        return f"hidden {self.hidden}, {self.layers} layers, vocabulary {self.vocabulary:,}"


SIZES = (Size(256, 4, 32_000, 4), Size(512, 8, 8_000, 8))


def make_model(size: Size, directory: Path) -> None:
    """Save random weights and a tokenizer that nobody's tokens come from."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.hidden * 8 // 3,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    words = {f"t{i}": i for i in range(size.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="t0", bos_token="t1", eos_token="t2"
    ).save_pretrained(directory)


def make_rows(size: Size, count: int) -> list[dict[str, list[int]]]:
    """Prompts of 20 to 100 tokens with two completions of 10 to 80; a completion ends with 2."""
    rng = random.Random(size.vocabulary)

    def text(least: int, most: int) -> list[int]:
        return [rng.randrange(4, size.vocabulary) for _ in range(rng.randint(least, most))]

    return [
        {
            "prompt": text(20, 100),
            "chosen": [*text(10, 79), 2],
            "rejected": [*text(10, 79), 2],
        }
        for _ in range(count)
    ]


def run_program(python: Path, script: str, given: dict[str, Any]) -> Run:
    """Run a script of this directory on two threads.

    Raises:
        BenchmarkError: it failed, or printed no result.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [python, HERE / script, json.dumps(given)],
        env={**os.environ, **threads, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    results = [line for line in done.stdout.splitlines() if line.startswith(RESULT_MARK)]
    if done.returncode or not results:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BenchmarkError(f"{script} ended with {done.returncode}:\n{tail}")
    return Run(**json.loads(results[-1].removeprefix(RESULT_MARK)))


def largest_gap(own: Sequence[float], other: Sequence[float]) -> float:
    """Of the losses of all steps, relative.

    Raises:
        BenchmarkError: not as many steps.
    """
    if len(own) != len(other):
        raise BenchmarkError(f"{len(own)} steps of ours and {len(other)} of the peer's")
    return max(abs(a - b) / max(abs(b), 1e-9) for a, b in zip(own, other, strict=True))


def rows_beside(
    method: str, size: Size, given: dict[str, Any], peer: str, pairs: int
) -> Iterator[Row]:
    """A row for speed and one for memory."""
    python, script = {
        "TRL": (TRL_PYTHON, "peers/trl_training.py"),
        "plain loop": (OURS_PYTHON, "peers/plain_training.py"),
    }[peer]
    ours: Callable[[], Run] = lambda: run_program(OURS_PYTHON, "ours/train.py", given)  # noqa: E731
    other: Callable[[], Run] = lambda: run_program(python, script, given)  # noqa: E731
    runs = in_turn(ours, other, pairs)
    gap = max(largest_gap(own.facts["losses"], two.facts["losses"]) for own, two in runs)
    holds = gap <= TOLERANCE
    gate = f"{'losses agree' if holds else 'FAILED: losses differ'} to {gap:.1e}"
    version = runs[0][1].facts.get("version", "")
    speeds = [(own.documents / own.wall_s, two.documents / two.wall_s) for own, two in runs]
    # Less memory is better, so its ratio is the other way round.
    memory = [(own.peak_rss_bytes / 2**20, two.peak_rss_bytes / 2**20) for own, two in runs]
    for unit, values, better in (
        (SPEED, speeds, [own / two for own, two in speeds]),
        (MEMORY, memory, [two / own for own, two in memory]),
    ):
        yield Row(
            method,
            str(size),
            unit,
            statistics.median(own for own, _ in values),
            statistics.median(two for _, two in values),
            f"{peer} {version}".strip(),
            statistics.median(better) if holds else None,
            min(better) if holds else None,
            max(better) if holds else None,
            len(runs),
            gate,
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=5, help="Neighbouring runs of each peer.")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    arguments = parser.parse_args(argv)
    peers = ["plain loop"]
    if TRL_PYTHON.exists():
        peers.append("TRL")
    else:
        print("TRL's environment .venv-trl is missing; `make setup-bench` makes it")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-training-") as scratch:
        for size in SIZES:
            directory = Path(scratch) / f"{size.hidden}"
            make_model(size, directory / "model")
            data = make_rows(size, 8 * arguments.steps)
            (directory / "data.json").write_text(json.dumps(data), encoding="utf-8")
            for method in arguments.methods:
                sides = ("chosen",) if method == "sft" else ("chosen", "rejected")
                given = {
                    "method": method,
                    "model": str(directory / "model"),
                    "data": str(directory / "data.json"),
                    "work": str(directory / "work"),
                    "batch_size": 8,
                    "learning_rate": 1e-4,
                    "tokens": sum(len(r["prompt"]) + len(r[s]) for r in data for s in sides),
                }
                for peer in peers:
                    rows += rows_beside(method, size, given, peer, arguments.pairs)
    show_rows("training", rows)
    print(f"written to {write_rows('training', rows)}")
    return int("TRL" not in peers or any("FAILED" in row.gate for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
