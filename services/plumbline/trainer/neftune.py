"""Noise on the embeddings while fine-tuning, against learning the demonstrations by heart.

Source: Jain et al. 2023, NEFTune, arXiv:2310.05914, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plumbline.models.packing import supports_packing


@contextmanager
def noisy_embeddings(
    model: PreTrainedModel, alpha: float, lengths: Sequence[int]
) -> Iterator[None]:
    """Add uniform noise of +- alpha / sqrt(L H) to every embedding of the next forward pass.

    The noise comes from torch's generator of the CPU, whose state checkpoints hold.

    Args:
        alpha: 0 leaves the embeddings alone.
        lengths: L of each text of the pass, tokens. H is the width of the embeddings.
    """
    if not alpha:
        yield
        return
    # Found out by passes of its own, which must not be disturbed; then it is known.
    packed = supports_packing(model)

    def add_noise(_: Any, __: Any, embedded: Tensor) -> Tensor:
        scales = alpha / (torch.tensor(lengths) * embedded.shape[-1]).sqrt()
        # One row that holds all texts, or one for each.
        by_token = scales.repeat_interleave(torch.tensor(lengths))[None] if packed else scales
        by_token = by_token.view(embedded.shape[0], -1, 1)
        noise = (2 * torch.rand(embedded.shape) - 1) * by_token
        return embedded + noise.to(embedded.device, embedded.dtype)

    handle = model.get_input_embeddings().register_forward_hook(add_noise)
    try:
        yield
    finally:
        handle.remove()
