"""A reward model's scores of token ids, without the package that trained it.

`export-triton` copies this file beside `model.py`, so it imports torch, transformers and
safetensors alone. It computes what `plumbline.models.reward.RewardModel` computes.

Legend: B batch, T tokens, H hidden size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

_DTYPE_SINCE = (4, 56)
"""From this version of transformers the argument is `dtype`, before it `torch_dtype`."""
_ROWS = 8
"""A linear layer on a CPU gives a row the same bits in any number of rows that is a multiple of
this."""


class RewardScorer:
    """A reward model in memory.

    Args:
        directory: backbone, `reward_head.safetensors` and `reward_model.json`.
        dtype: of the backbone; the head works in float32 or better.
        pad_id: token that fills rows up; no score depends on which.
        length_multiple: rows are padded to a multiple of this many tokens. On a CPU only rows of
            one padded length are computed together, and a score's bits depend on nothing else.
        tokens_per_batch: padded tokens of one forward pass.
    """

    def __init__(
        self,
        directory: Path,
        *,
        dtype: str,
        pad_id: int,
        device: str,
        length_multiple: int,
        tokens_per_batch: int,
    ) -> None:
        card = json.loads((directory / "reward_model.json").read_text(encoding="utf-8"))
        version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
        options: dict[str, Any] = {
            "dtype" if version >= _DTYPE_SINCE else "torch_dtype": getattr(torch, dtype)
        }
        backbone = transformers.AutoModel.from_pretrained(
            directory,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
        head = load_file(directory / "reward_head.safetensors", device=device)
        precision = torch.promote_types(getattr(torch, dtype), torch.float32)
        self._backbone = backbone.eval().to(device)
        self._weight = head["weight"].to(precision)
        self._bias = head["bias"].to(precision)
        self._pooling = str(card["pooling"])
        self._device = torch.device(device)
        self._pad_id = pad_id
        self._multiple = length_multiple
        self._tokens_per_batch = tokens_per_batch
        self._longest = getattr(backbone.config, "max_position_embeddings", None)

    @torch.inference_mode()
    def score(self, texts: Sequence[Sequence[int]], response_lengths: Sequence[int]) -> Tensor:
        """Scores [N] in float32 on the CPU, in the order of the texts.

        Args:
            texts: token ids of N texts, none empty.
            response_lengths: how many of each text's last tokens are its response.
        """
        scores = torch.zeros(len(texts))
        widths = [self._padded(len(text)) for text in texts]
        for batch in self._batches(widths):
            width = max(widths[i] for i in batch)
            ids = torch.full((len(batch), width), self._pad_id)
            mask = torch.zeros(len(batch), width, dtype=torch.bool)
            counted = torch.zeros(len(batch), width, dtype=torch.bool)
            for row, i in enumerate(batch):
                length = len(texts[i])
                ids[row, :length] = torch.as_tensor(texts[i], dtype=torch.long)
                mask[row, :length] = True
                counted[row, max(length - response_lengths[i], 0) : length] = True
            if self._pooling != "response":
                counted = mask
            inputs = (part.to(self._device) for part in (ids, mask, counted))
            scores[batch] = self._forward(*inputs).cpu()
        return scores

    def _forward(self, ids: Tensor, mask: Tensor, counted: Tensor) -> Tensor:
        """Scores [B] of ids [B, T], padded on the right."""
        # No token of a decoder sees padding on the right; without a mask the kernel is faster.
        options: dict[str, Any] = (
            {"use_cache": False} if self._pooling == "last" else {"attention_mask": mask.long()}
        )
        hidden = self._backbone(input_ids=ids, **options).last_hidden_state
        pooled = pool(hidden, counted, self._pooling).to(self._weight.dtype)
        rows = len(pooled)
        pooled = torch.nn.functional.pad(pooled, (0, 0, 0, -rows % _ROWS))
        scores = torch.nn.functional.linear(pooled, self._weight, self._bias)
        return scores[:rows, 0].float()

    def _padded(self, length: int) -> int:
        width = -(-length // self._multiple) * self._multiple
        return width if self._longest is None else max(min(width, self._longest), length)

    def _batches(self, widths: Sequence[int]) -> list[list[int]]:
        """Indices of rows to be computed together, longest first."""
        order = sorted(range(len(widths)), key=lambda i: -widths[i])
        batches: list[list[int]] = []
        width = 0
        for i in order:
            fits = bool(batches) and (len(batches[-1]) + 1) * width <= self._tokens_per_batch
            if fits and (self._device.type != "cpu" or widths[i] == width):
                batches[-1].append(i)
            else:
                batches.append([i])
                width = widths[i]
        return batches


def pool(hidden: Tensor, counted: Tensor, pooling: str) -> Tensor:
    """One vector [B, H] for each row of hidden states [B, T, H] under a mask [B, T].

    Args:
        pooling: last, cls, mean or response; the last two are the mean under the mask.
    """
    if pooling in ("mean", "response"):
        weights = counted.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)
    rows = torch.arange(len(hidden), device=hidden.device)
    if pooling == "cls":
        return hidden[rows, 0]
    columns = torch.arange(hidden.shape[1], device=hidden.device).expand(counted.shape)
    return hidden[rows, columns.masked_fill(~counted, -1).amax(dim=1)]
