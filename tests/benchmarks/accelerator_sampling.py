"""`python tests/benchmarks/accelerator_sampling.py`: drawing from a Llama of 1.2 billion weights.

On one accelerator, in bfloat16, with random weights: response tokens per second of the native
engine at 1, 64 and 256 responses at a time beside transformers' `generate` on the same prompts, in
turn, and at one response the share of what the device's memory could deliver, since each token then
reads all weights once. `--tiny --device cpu` runs the same code on a small model.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from training_work import LLAMA_1B, TINY, Shape, new_model

BATCHES = (1, 64, 256)
PEAK_BYTES = {"H200": 4.8e12, "H100": 3.35e12, "A100": 2.0e12, "L40S": 0.864e12, "L4": 0.3e12}
"""Memory's bytes a second, of the makers' data sheets."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    shape: Shape
    prompt_tokens: int
    response_tokens: int
    repeats: int


FULL_SIZE = Size(LLAMA_1B, 256, 256, 5)
TINY_SIZE = Size(TINY, 16, 8, 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of one number of responses at a time."""

    batch: int
    ours: float
    """Response tokens a second."""
    peer: float
    roofline: float | None
    """Share of the weights that memory could read in the time; None where it is not known."""


def measure(size: Size, batch: int, *, device: str) -> Figures:
    """Ours and `generate` in turn: A B B A."""
    import torch

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    length = size.prompt_tokens + size.response_tokens
    model = new_model(size.shape, context_length=length).to(device, dtype).eval()
    generator = torch.Generator().manual_seed(batch)
    prompts = torch.randint(
        4, size.shape.vocabulary, (batch, size.prompt_tokens), generator=generator
    )
    ways = (lambda: _ours(model, prompts, size), lambda: _peer(model, prompts, size))
    for way in ways:
        _timed(way, device)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(size.repeats):
        for which in (0, 1, 1, 0):
            times[which].append(_timed(ways[which], device))
    tokens = batch * size.response_tokens
    ours, peer = (tokens / statistics.median(seconds) for seconds in times)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    peak = _peak_bytes() if device == "cuda" and batch == 1 else None
    return Figures(batch, ours, peer, weights * ours / peak if peak else None)


def _ours(model: Any, prompts: Any, size: Size) -> None:
    from plumbline.sampler.generation import run_requests
    from plumbline.sampler.requests import DrawingParameters, GenerationRequest, ResponseSpec

    requests = [
        GenerationRequest(
            tuple(prompt), (ResponseSpec(seed, DrawingParameters(), size.response_tokens),)
        )
        for seed, prompt in enumerate(prompts.tolist())
    ]
    run_requests(model, requests, eos_id=())


def _peer(model: Any, prompts: Any, size: Size) -> None:
    import torch

    ids = prompts.to(model.device)
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=size.response_tokens,
        min_new_tokens=size.response_tokens,
        do_sample=True,
        top_k=0,
        pad_token_id=0,
    )


def _timed(work: Callable[[], None], device: str) -> float:
    import torch

    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    settle()
    started = time.perf_counter()
    work()
    settle()
    return time.perf_counter() - started


def _peak_bytes() -> float | None:
    import torch

    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK_BYTES.items() if part in name), None)


def table(rows: Sequence[Figures]) -> str:
    """A Markdown table."""
    lines = [
        "| responses at a time | tokens/s | generate | ratio | of memory's roofline |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        share = "–" if row.roofline is None else f"{row.roofline:.1%}"
        lines.append(
            f"| {row.batch} | {row.ours:,.0f} | {row.peer:,.0f} | {row.ours / row.peer:.2f} "
            f"| {share} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="A small model, to try the code.")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(
            "torch sees no accelerator, and nothing was measured; "
            "--tiny --device cpu tries the same code on a small model",
            file=sys.stderr,
        )
        return 1
    if arguments.device == "cpu" and not arguments.tiny:
        parser.error("--device cpu needs --tiny: the full model would take hours")
    size = TINY_SIZE if arguments.tiny else FULL_SIZE
    batches = [1, 4] if arguments.tiny else arguments.batches
    rows = [measure(size, batch, device=arguments.device) for batch in batches]
    print(
        f"{size.shape.name}, prompts of {size.prompt_tokens} and responses of "
        f"{size.response_tokens} tokens"
    )
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
