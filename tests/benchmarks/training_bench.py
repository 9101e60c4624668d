"""`make bench PART=training`: training beside TRL, and beside a plain loop.

SFT, DPO and reward models get the same weights, token ids and batch order as TRL and the plain
loop, on two threads, one process at a time in the order A B B A. The gate: the losses of all steps
agree. The losses of a step differ by rounding only; their agreement over a run shows that the
gradients do as well. Tokens are those of prompts and completions without padding, a prompt counted
once for each of its completions, the same for all.

RLOO and PPO (of the last TRL that has it) draw their own responses, so their losses cannot agree.
The gate: as many optimizer steps, and responses of the same mean length to a part in fifty. Tokens
are those of prompts and of the longest responses allowed, for the iterations asked for; ours also
draws once more, to measure the policy that it ends with, which is part of its time.
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
TRL_PPO_PYTHON = REPOSITORY / ".venv-trl-ppo" / "bin" / "python"
THREADS = 2
TOLERANCE = 2e-3
"""Largest difference of a step's losses, relative."""
LENGTH_TOLERANCE = 0.02
"""Largest difference of mean response lengths, relative."""
ON_POLICY = ("rloo", "ppo")
METHODS = ("sft", "dpo", "reward", *ON_POLICY)
PROGRAMS = {
    "TRL": (TRL_PYTHON, "peers/trl_training.py"),
    "TRL rloo": (TRL_PYTHON, "peers/trl_rloo.py"),
    "TRL ppo": (TRL_PPO_PYTHON, "peers/trl_ppo.py"),
    "plain loop": (OURS_PYTHON, "peers/plain_training.py"),
}
ROLLOUTS, RESPONSE_TOKENS, GROUP = 32, 48, 4
"""Of an iteration; tokens of a response; responses to a prompt, for RLOO."""
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
    # No ordinary word may hold the name of a control token.
    words = {f"t{i}" if i < 3 else f"w{i}": i for i in range(size.vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w3"))
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


def make_prompts(size: Size, count: int) -> list[str]:
    """Prompts of 20 to 99 words, each of which is a token."""
    rng = random.Random(size.vocabulary)
    return [
        " ".join(f"w{rng.randrange(4, size.vocabulary)}" for _ in range(rng.randint(20, 99)))
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


def loss_gate(runs: Sequence[tuple[Run, Run]]) -> tuple[bool, str]:
    gap = max(largest_gap(own.facts["losses"], two.facts["losses"]) for own, two in runs)
    holds = gap <= TOLERANCE
    return holds, f"{'losses agree' if holds else 'FAILED: losses differ'} to {gap:.1e}"


def work_gate(runs: Sequence[tuple[Run, Run]]) -> tuple[bool, str]:
    """As many optimizer steps, and responses as long."""
    steps = {run.facts["optimizer_steps"] for pair in runs for run in pair}
    lengths = [run.facts["drawn"] for pair in runs for run in pair]
    gap = max(lengths) / min(lengths) - 1
    if len(steps) > 1 or gap > LENGTH_TOLERANCE:
        return False, f"FAILED: {sorted(steps)} steps, responses differ by {gap:.1%}"
    return True, f"{steps.pop()} steps each, responses as long to {gap:.1%}"


def rows_beside(
    method: str, size: Size, given: dict[str, Any], peer: str, pairs: int
) -> Iterator[Row]:
    """A row for speed and one for memory."""
    python, script = PROGRAMS[f"{peer} {method}" if method in ON_POLICY else peer]
    own_script = "ours/on_policy.py" if method in ON_POLICY else "ours/train.py"
    ours: Callable[[], Run] = lambda: run_program(OURS_PYTHON, own_script, given)  # noqa: E731
    other: Callable[[], Run] = lambda: run_program(python, script, given)  # noqa: E731
    runs = in_turn(ours, other, pairs)
    holds, gate = work_gate(runs) if method in ON_POLICY else loss_gate(runs)
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


def given_work(method: str, size: Size, directory: Path, steps: int) -> dict[str, Any]:
    """SFT, DPO and reward models: token ids in the order of the steps, 8 rows each."""
    data = make_rows(size, 8 * steps)
    (directory / "data.json").write_text(json.dumps(data), encoding="utf-8")
    sides = ("chosen",) if method == "sft" else ("chosen", "rejected")
    return {
        "data": str(directory / "data.json"),
        "batch_size": 8,
        "learning_rate": 1e-4,
        "tokens": sum(len(row["prompt"]) + len(row[side]) for row in data for side in sides),
    }


def on_policy_work(method: str, size: Size, directory: Path, iterations: int) -> dict[str, Any]:
    """RLOO and PPO: prompts, and how much is drawn from them."""
    k = GROUP if method == "rloo" else 1
    prompts = make_prompts(size, ROLLOUTS // k * iterations)
    (directory / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")
    asked = sum(len(prompt.split()) + 1 for prompt in prompts) * k
    return {
        "data": str(directory / "prompts.json"),
        "learning_rate": 1e-5,
        "iterations": iterations,
        "rollouts": ROLLOUTS,
        "k": k,
        "response_tokens": RESPONSE_TOKENS,
        "tokens": asked + ROLLOUTS * RESPONSE_TOKENS * iterations,
    }


def peers_of(method: str) -> list[str]:
    """Peers whose environment is there; says so of others."""
    peers = ["TRL"] if method in ON_POLICY else ["plain loop", "TRL"]
    python = TRL_PPO_PYTHON if method == "ppo" else TRL_PYTHON
    if python.exists():
        return peers
    print(f"{method}: {python.parents[1].name} is missing; `make setup-bench` makes it")
    return [peer for peer in peers if peer != "TRL"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--pairs", type=int, default=5, help="Neighbouring runs of each peer.")
    parser.add_argument("--steps", type=int, default=8, help="Of SFT, DPO and reward models.")
    parser.add_argument("--iterations", type=int, default=4, help="Of RLOO and PPO.")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    arguments = parser.parse_args(argv)
    peers = {method: peers_of(method) for method in arguments.methods}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-training-") as scratch:
        for size in SIZES:
            directory = Path(scratch) / f"{size.hidden}"
            make_model(size, directory / "model")
            for method in arguments.methods:
                if method in ON_POLICY:
                    work = on_policy_work(method, size, directory, arguments.iterations)
                else:
                    work = given_work(method, size, directory, arguments.steps)
                given = {
                    "method": method,
                    "model": str(directory / "model"),
                    "work": str(directory / "work"),
                    **work,
                }
                for peer in peers[method]:
                    rows += rows_beside(method, size, given, peer, arguments.pairs)
    show_rows("training", rows)
    print(f"written to {write_rows('training', rows)}")
    missing = any("TRL" not in found for found in peers.values())
    return int(missing or any("FAILED" in row.gate for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
