"""`generate` of transformers, batched and left-padded, over given prompts and lengths."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import transformers
from measured_run import arguments
from sampling_program import Responses, serve
from sampling_work import Options, Request, waiting_batches
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)

PAD_ID = 0


class RowLimits(StoppingCriteria):
    """Ends each row at its own length, and notes when each step's tokens were there."""

    def __init__(self, limits: Sequence[int], prompt_tokens: int) -> None:
        self._limits, self._prompt_tokens = torch.tensor(limits), prompt_tokens
        self.times: list[float] = []

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self.times.append(time.perf_counter())
        return self._limits <= input_ids.shape[1] - self._prompt_tokens


def padded(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [B, T], filled on the left."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), PAD_ID)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask


def sampling_config(options: Options, longest: int) -> GenerationConfig:
    """No token ends a response; `top_k` is 50 unless it is set."""
    drawn = {"temperature": options.temperature, "top_p": options.top_p, "top_k": 0}
    sampled = options.temperature > 0
    return GenerationConfig(
        do_sample=sampled,
        max_new_tokens=longest,
        pad_token_id=PAD_ID,
        eos_token_id=None,
        **(drawn if sampled else {}),
    )


def generate(
    model: Any, requests: Sequence[Request], options: Options
) -> tuple[list[list[list[int]]], list[float]]:
    """One batch of requests of as many responses each: their tokens, and when each step ended."""
    limits = [length for request in requests for length in request.lengths]
    ids, mask = padded([request.prompt for request in requests])
    ends = RowLimits(limits, ids.shape[1])
    config = sampling_config(options, max(limits))
    config.num_return_sequences = requests[0].k
    # The model's own end of a response would come back in place of the None.
    model.generation_config = config
    drawn = model.generate(
        ids,
        attention_mask=mask,
        generation_config=config,
        stopping_criteria=StoppingCriteriaList([ends]),
    )
    rows = iter(drawn[:, ids.shape[1] :].tolist())
    responses = [[next(rows)[:length] for length in r.lengths] for r in requests]
    return responses, ends.times


def batches(requests: Sequence[Request], options: Options) -> Iterator[list[int]]:
    """Positions of requests of at most `rows` responses together, sorted by length or not."""
    order = list(range(len(requests)))
    if options.settings.get("sort", True):
        order.sort(key=lambda index: len(requests[index].prompt))
    size = max(int(options.settings.get("rows", 64)) // requests[0].k, 1)
    for first in range(0, len(order), size):
        yield order[first : first + size]


def run_closed(model: Any, requests: Sequence[Request], options: Options) -> Responses:
    torch.manual_seed(requests[0].seed)
    found: dict[int, list[list[int]]] = {}
    for batch in batches(requests, options):
        responses, _ = generate(model, [requests[index] for index in batch], options)
        found.update(zip(batch, responses, strict=True))
    return [found[index] for index in range(len(requests))]


def run_arrivals(
    model: Any, requests: Sequence[Request], arrivals: Sequence[float], options: Options
) -> list[list[float]]:
    """What waits when the last batch has ended is the next one."""
    torch.manual_seed(requests[0].seed)
    start = time.perf_counter()
    found: dict[int, list[float]] = {}
    for batch in waiting_batches(arrivals, int(options.settings.get("rows", 64))):
        _, times = generate(model, [requests[index] for index in batch], options)
        for index in batch:
            found[index] = [moment - start for moment in times[: requests[index].lengths[0]]]
    return [found[index] for index in range(len(requests))]


def main() -> None:
    given = arguments()
    torch.set_num_threads(given["threads"])
    model = AutoModelForCausalLM.from_pretrained(given["model"]).eval()
    serve(
        model,
        run_closed=run_closed,
        run_arrivals=run_arrivals,
        version=transformers.__version__,
    )


if __name__ == "__main__":
    main()
