"""A plain training loop, as one would write it in an afternoon: padded batches, the vocabulary
projected at completion tokens only, the reference's logprobs computed once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from measured_run import Measured, arguments
from transformers import AutoModelForCausalLM

torch.set_num_threads(2)


def padded(rows: list[list[int]], prompts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    marks = torch.zeros_like(ids, dtype=torch.bool)
    for index, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        marks[index, prompt : len(row)] = True
    return ids, marks


def logprobs(model: Any, ids: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    """Summed over each row's marked tokens."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][marks[:, 1:]]
    found = -F.cross_entropy(model.lm_head(hidden), ids[:, 1:][marks[:, 1:]], reduction="none")
    owners = torch.arange(len(ids))[:, None].expand(-1, ids.shape[1] - 1)[marks[:, 1:]]
    return torch.zeros(len(ids)).index_add(0, owners, found)


def main() -> None:
    given = arguments()
    rows = json.loads(Path(given["data"]).read_text(encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(given["model"])
    head = torch.nn.Linear(model.config.hidden_size, 1, bias=False)
    torch.nn.init.zeros_(head.weight)
    method, size = given["method"], given["batch_size"]
    trained = [*model.model.parameters(), *head.parameters()]
    trained = trained if method == "reward" else list(model.parameters())
    optimizer = torch.optim.AdamW(
        trained, lr=given["learning_rate"], betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    sides = ("chosen",) if method == "sft" else ("chosen", "rejected")
    losses = []

    def batch(start: int) -> tuple[torch.Tensor, torch.Tensor]:
        part = rows[start : start + size]
        texts = [row["prompt"] + row[side] for side in sides for row in part]
        return padded(texts, [len(row["prompt"]) for _ in sides for row in part])

    measured = Measured()
    with measured.block():
        references = []
        if method == "dpo":
            with torch.no_grad():
                references = [logprobs(model, *batch(start)) for start in range(0, len(rows), size)]
        for step, start in enumerate(range(0, len(rows), size)):
            ids, marks = batch(start)
            if method == "sft":
                loss = -logprobs(model, ids, marks).sum() / marks.sum()
            elif method == "dpo":
                gained = logprobs(model, ids, marks) - references[step]
                chosen, rejected = gained.chunk(2)
                loss = -F.logsigmoid(0.1 * (chosen - rejected)).mean()
            else:
                hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
                ends = (marks * torch.arange(ids.shape[1])).amax(dim=1)
                scores = head(hidden[torch.arange(len(ids)), ends]).squeeze(1)
                chosen, rejected = scores.chunk(2)
                loss = -F.logsigmoid(chosen - rejected).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    measured.report(documents=given["tokens"], size_bytes=0, losses=losses)


if __name__ == "__main__":
    main()
