"""Continuous batching of transformers, over given prompts, lengths and arrivals.

It is written for accelerators, and runs on a CPU with `sdpa` or `eager` attention over the pages
of all requests at once: its cost grows with the square of a batch, so that the best batch is small.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers
from measured_run import arguments
from sampling_generate import sampling_config
from sampling_program import Responses, serve
from sampling_work import MOST_LENGTH, Options, Request
from transformers import AutoModelForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig

WAIT_S = 120.0
"""For any one result."""
NO_END = -1


class NoResultError(Exception):
    """A request failed, or its result did not come."""


@dataclass
class Engine:
    """A model, and the manager that serves it; kept while nothing about it changes."""

    model: Any
    _manager: Any = None
    _made_for: tuple[Any, ...] = field(default_factory=tuple)

    def manager(self, options: Options, k: int) -> Any:
        wanted = (options.temperature, options.top_p, k, tuple(sorted(options.settings.items())))
        if self._manager is None or wanted != self._made_for:
            self.close()
            self._manager, self._made_for = self._start(options, k), wanted
        return self._manager

    def close(self) -> None:
        if self._manager is not None:
            self._manager.stop(block=True)
            self._manager = None

    def _start(self, options: Options, k: int) -> Any:
        settings = {"page": 32, "requests": 16, "tokens": 512, "attention": "sdpa"}
        settings.update(options.settings)
        self.model.set_attn_implementation(settings["attention"])
        config = sampling_config(options, MOST_LENGTH)
        config.num_return_sequences, config.eos_token_id = k, NO_END
        context = self.model.config.max_position_embeddings
        pages = -(-context // int(settings["page"])) * int(settings["requests"])
        manager = self.model.init_continuous_batching(
            generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=settings["page"],
                num_blocks=pages,
                max_batch_tokens=settings["tokens"],
                max_requests_per_batch=settings["requests"],
                seed=0,
            ),
        )
        manager.start()
        return manager


def submit(manager: Any, request: Request, position: int) -> list[str]:
    """Hand over a request.

    Returns:
        The names under which its responses come.
    """
    if len(set(request.lengths)) == 1:
        name = f"{position}"
        add(manager, request.prompt, name, request.lengths[0])
        return [name, *(f"{name}__child#{child}" for child in range(request.k - 1))]
    # Responses to a prompt share one bound, so those of several bounds are requests of their own.
    names = [f"{position}-{index}" for index in range(request.k)]
    for name, length in zip(names, request.lengths, strict=True):
        add(manager, request.prompt, name, length)
    return names


def add(manager: Any, prompt: Sequence[int], name: str, length: int) -> None:
    manager.add_request(
        list(prompt),
        request_id=name,
        max_new_tokens=length,
        eos_token_id=NO_END,
        record_timestamps=True,
    )


def results(manager: Any, count: int) -> dict[str, Any]:
    """The outputs of so many responses.

    Raises:
        NoResultError: one failed or did not come.
    """
    found: dict[str, Any] = {}
    while len(found) < count:
        output = manager.get_result(timeout=WAIT_S)
        if output is None:
            raise NoResultError(f"{len(found)} of {count} responses came in {WAIT_S:g} s")
        if output.error is not None:
            raise NoResultError(f"{output.request_id}: {output.error}")
        found[output.request_id] = output
    return found


def run_closed(engine: Engine, requests: Sequence[Request], options: Options) -> Responses:
    together = all(len(set(request.lengths)) == 1 for request in requests)
    manager = engine.manager(options, requests[0].k if together else 1)
    names = [submit(manager, request, index) for index, request in enumerate(requests)]
    found = results(manager, sum(map(len, names)))
    return [[found[name].generated_tokens for name in row] for row in names]


def run_arrivals(
    engine: Engine, requests: Sequence[Request], arrivals: Sequence[float], options: Options
) -> list[list[float]]:
    manager = engine.manager(options, 1)
    start = time.perf_counter()

    def feed() -> None:
        for index, (request, arrival) in enumerate(zip(requests, arrivals, strict=True)):
            time.sleep(max(arrival - (time.perf_counter() - start), 0))
            submit(manager, request, index)

    feeder = threading.Thread(target=feed)
    feeder.start()
    found = results(manager, len(requests))
    feeder.join()
    return [
        [moment - start for moment in found[f"{index}"].timestamps]
        for index in range(len(requests))
    ]


def main() -> None:
    given = arguments()
    torch.set_num_threads(given["threads"])
    engine = Engine(AutoModelForCausalLM.from_pretrained(given["model"]).eval())
    serve(
        engine,
        run_closed=run_closed,
        run_arrivals=run_arrivals,
        version=transformers.__version__,
    )
    engine.close()


if __name__ == "__main__":
    main()
