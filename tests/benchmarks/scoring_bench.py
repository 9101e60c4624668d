"""`make bench PART=scoring`: pairs a second through RewardService, by Triton and in its process.

2,000 pairs of mixed length are scored by 16 concurrent clients that send one pair a call, as online
callers do, and beside it by one client that waits for each score. The reward server, Triton and the
clients are processes of their own on the same two cores; Triton scores a run's pairs with as many
threads as the reward server does. Runs go in the order A B B A, after one run of each that is not
counted. The gate, before anything is timed: all ways give the same scores to 1e-5.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framework import OURS_PYTHON, BenchmarkError, Row, in_turn, show_rows, write_rows
from triton_server import TritonServer

from plumbline.core.rpc import connect
from plumbline.data.records import user
from plumbline.reward.client import score_pairs

CLIENTS = 16
TOLERANCE = 1e-5
UNIT = "pairs/s, wall time"
WORDS = (
    *("the", "a", "cat", "dog", "sat", "ran", "on", "under", "to", "from", "old", "new"),
    *("house", "sea", "mat", "tree", "and", "or", "was", "is"),
)
SHAPES = {"small": (256, 4, 4), "large": (512, 8, 8)}
"""Hidden size, layers, heads."""
STARTUP_S = 120.0

Pair = tuple[Any, str]


def make_pairs(count: int) -> list[Pair]:
    """Prompts of 4 to 60 words and responses of 1 to 120, more short ones than long ones."""
    generator = random.Random(5)

    def words(least: int, most: int) -> str:
        many = min(most, least + int(generator.expovariate(4 / most)))
        return " ".join(generator.choices(WORDS, k=many))

    return [((user(words(4, 60)),), words(1, 120)) for _ in range(count)]


def make_model(shape: str, directory: Path) -> None:
    """Save a reward model of random weights with a tokenizer for the words above."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    from plumbline.models.chat import BEGIN, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS
    from plumbline.models.reward import RewardModel, RewardModelCard

    hidden, layers, heads = SHAPES[shape]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, "<unknown>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (BEGIN, END, PAD)],
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8000,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=512,
    )
    card = RewardModelCard(head="helpfulness", max_length=512)
    RewardModel.create(LlamaModel(config), fast, card, seed=0).save(directory)


@contextmanager
def reward_server(directory: Path, threads: int, **variables: str) -> Iterator[str]:
    """A reward server in a process of its own; gives its address."""
    address = directory / f"address-{time.monotonic_ns()}"
    environment = {
        **os.environ,
        "PLUMBLINE_STATE_DIR": str(directory / "state"),
        "PLUMBLINE_THREADS": str(threads),
        "PLUMBLINE_REWARD_ADDRESS_FILE": str(address),
        **variables,
    }
    with (directory / "reward.log").open("ab") as log:
        process = subprocess.Popen(
            [OURS_PYTHON, "-m", "plumbline.reward.server"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + STARTUP_S
        while not address.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError((directory / "reward.log").read_text()[-2000:])
            time.sleep(0.1)
        yield address.read_text().strip()
    finally:
        process.terminate()
        process.wait(timeout=30)


def score_all(address: str, model: str, pairs: Sequence[Pair], clients: int) -> list[float]:
    """Scores of pairs, one pair a call, by concurrent clients."""

    def run(own: Sequence[Pair]) -> list[float]:
        with connect("reward", target=address) as stub:
            return [
                score_pairs(stub, [pair], heads=["helpfulness"], helpfulness=model)[0][
                    "helpfulness"
                ]
                for pair in own
            ]

    with ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(run, [pairs[number::clients] for number in range(clients)]))
    return in_order(parts)


def in_order(parts: Sequence[Sequence[float]]) -> list[float]:
    """Scores of clients that took pairs in turn, in the order of the pairs."""
    rounds = itertools.zip_longest(*parts)
    return [score for some in rounds for score in some if score is not None]


def rate(address: str, model: str, pairs: Sequence[Pair], clients: int) -> Callable[[], float]:
    def measure() -> float:
        began = time.monotonic()
        score_all(address, model, pairs, clients)
        return len(pairs) / (time.monotonic() - began)

    return measure


def compare(
    work: str,
    shape: str,
    peer_name: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    repeats: int,
    note: str,
) -> Row:
    found = in_turn(ours, peer, repeats)
    ratios = [own / other for own, other in found]
    return Row(
        work,
        shape,
        UNIT,
        statistics.median(own for own, _ in found),
        statistics.median(other for _, other in found),
        peer_name,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        len(found),
        f"scores agree to {TOLERANCE:g}",
        note,
    )


def check_gate(scores: dict[str, list[float]]) -> None:
    """
    Raises:
        BenchmarkError: two ways disagree.
    """
    first, *others = scores.items()
    for name, found in others:
        difference = max(abs(a - b) for a, b in zip(first[1], found, strict=True))
        if difference > TOLERANCE:
            raise BenchmarkError(f"{name} differs from {first[0]} by {difference:g}")


def measure_shape(shape: str, arguments: argparse.Namespace, directory: Path) -> list[Row]:
    from plumbline.models.references import ModelReferences
    from plumbline.reward.config import TritonExportConfig
    from plumbline.reward.triton_export import ExportedModel, export_repository

    make_model(shape, directory / "model")
    model = f"path:{directory / 'model'}"
    references = ModelReferences(None)  # type: ignore[arg-type]  # a directory needs no store
    export = ExportedModel(*references(model))
    threads = arguments.threads
    export_repository([export], directory / "repository", TritonExportConfig(threads=threads))
    pairs = make_pairs(arguments.pairs)
    few = pairs[: max(arguments.pairs // 8, 1)]
    with (
        TritonServer(arguments.tritonserver, directory / "repository", directory) as triton,
        reward_server(directory, threads) as own,
        reward_server(
            directory,
            threads,
            PLUMBLINE_REWARD_BACKEND="triton",
            PLUMBLINE_TRITON_TARGET=triton.target,
        ) as through,
    ):
        check_gate(
            {
                "Triton, 16 clients": score_all(through, model, few, CLIENTS),
                "Triton, one by one": score_all(through, model, few, 1),
                "in process, 16 clients": score_all(own, model, few, CLIENTS),
                "in process, one by one": score_all(own, model, few, 1),
            }
        )
        before = triton.counts("helpfulness")
        many = {address: rate(address, model, pairs, CLIENTS) for address in (through, own)}
        alone = {address: rate(address, model, few, 1) for address in (through, own)}
        many[through]()
        after = triton.counts("helpfulness")
        requests, executions = (
            after[name] - before[name]
            for name in ("nv_inference_request_success", "nv_inference_exec_count")
        )
        joined = f"{requests:.0f} requests made {executions:.0f} executions in Triton"
        hidden, layers, _ = SHAPES[shape]
        text = f"hidden {hidden}, {layers} layers, {len(pairs):,} pairs, {threads} threads"
        repeats = arguments.repeats
        return [
            compare(
                "scoring by Triton",
                text,
                "one client, one by one",
                many[through],
                alone[through],
                repeats,
                joined,
            ),
            compare(
                "scoring in process",
                text,
                "one client, one by one",
                many[own],
                alone[own],
                repeats,
                "",
            ),
            compare(
                "scoring by Triton",
                text,
                "in process, 16 clients",
                many[through],
                many[own],
                repeats,
                "the same two cores do Triton's own work, so this shows what it costs, not what "
                "a machine for Triton would give",
            ),
        ]


def main() -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    servers = os.environ.get("PLUMBLINE_SERVERS_DIR") or cache / "plumbline" / "servers"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=["small"])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the server that computes")
    parser.add_argument("--tritonserver", type=Path, default=Path(servers) / "tritonserver")
    arguments = parser.parse_args()
    if not os.access(arguments.tritonserver, os.X_OK):
        sys.exit(f"there is no tritonserver at {arguments.tritonserver}; `make servers` gets it")
    rows = []
    for shape in arguments.shapes:
        with tempfile.TemporaryDirectory() as directory:
            rows += measure_shape(shape, arguments, Path(directory))
    show_rows("Scoring: RewardService, pairs a second", rows)
    print(f"\nwritten to {write_rows('scoring', rows)}")


if __name__ == "__main__":
    main()
