"""Plumbline's sampling over given weights, prompts, lengths and arrivals."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers
from measured_run import arguments
from sampling_program import Responses, serve
from sampling_work import Options, Request

from plumbline.models.checkpoint import load_causal_lm
from plumbline.sampler.generation import context_length, run_requests
from plumbline.sampler.requests import (
    DrawingParameters,
    DrawnToken,
    GenerationRequest,
    ResponseSpec,
)
from plumbline.sampler.scheduler import Scheduler
from plumbline.sampler.seeds import derive_seed


def asked(
    request: Request,
    options: Options,
    on_token: Callable[[int, DrawnToken], None] | None = None,
) -> GenerationRequest:
    """A request as the engine takes it; nothing but its length ends a response."""
    parameters = DrawingParameters(temperature=options.temperature, top_p=options.top_p)
    responses = tuple(
        ResponseSpec(derive_seed(request.seed, index), parameters, length)
        for index, length in enumerate(request.lengths)
    )
    return GenerationRequest(request.prompt, responses, on_token=on_token)


def run_closed(model: Any, requests: Sequence[Request], options: Options) -> Responses:
    """All requests wait at the start."""
    given = [asked(request, options) for request in requests]
    run_requests(model, given, eos_id=())
    return [[sampled.token_ids for sampled in request.drawn] for request in given]


def run_arrivals(
    model: Any, requests: Sequence[Request], arrivals: Sequence[float], options: Options
) -> list[list[float]]:
    """A request is handed over before the first step after its arrival."""
    scheduler = Scheduler(model, eos_ids=(), context_length=context_length(model))
    times: list[list[float]] = [[] for _ in requests]
    start = time.perf_counter()

    def noting(index: int) -> Callable[[int, DrawnToken], None]:
        return lambda _, token: times[index].append(time.perf_counter() - start)

    handed_over = 0
    while handed_over < len(requests) or scheduler.has_work:
        now = time.perf_counter() - start
        while handed_over < len(requests) and arrivals[handed_over] <= now:
            scheduler.submit(asked(requests[handed_over], options, noting(handed_over)))
            handed_over += 1
        if scheduler.has_work:
            scheduler.step()
        else:
            time.sleep(arrivals[handed_over] - now)
    return times


def main() -> None:
    given = arguments()
    torch.set_num_threads(given["threads"])
    model, _ = load_causal_lm(Path(given["model"]))
    serve(
        model,
        run_closed=run_closed,
        run_arrivals=run_arrivals,
        version=f"transformers {transformers.__version__}",
    )


if __name__ == "__main__":
    main()
