"""The sampling benchmark's models: two random Llamas, and one that writes stories for children."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from public_data import REPOSITORY
from training_work import Shape, new_model, new_tokenizer

CONTEXT_LENGTH = 512
LLAMA_5M = Shape("Llama, 5 M", 256, 688, 5, 8, 4, 4096)
LLAMA_60M = Shape("Llama, 60 M", 512, 1408, 9, 8, 4, 32_000, tied=False)
TINY = Shape("tiny", 32, 64, 2, 4, 2, 128)
STORIES = "stories260K"
MODELS_VARIABLE = "PLUMBLINE_PUBLIC_MODELS"
SHAPES: dict[str, Shape | str] = {
    "5m": LLAMA_5M,
    "60m": LLAMA_60M,
    "stories": STORIES,
    "tiny": TINY,
}


class NoModelError(Exception):
    """A public model is not on this machine."""


def prepare_model(name: str, directory: Path) -> tuple[str, int]:
    """Put weights and tokenizer into a directory.

    Args:
        name: one of `SHAPES`.
    Returns:
        What the model is called, and the size of its vocabulary.
    Raises:
        NoModelError: it is a public model that is not here.
    """
    shape = SHAPES[name]
    if isinstance(shape, Shape):
        new_model(shape, context_length=CONTEXT_LENGTH).save_pretrained(directory)
        new_tokenizer(shape).save_pretrained(directory)
        return shape.name, shape.vocabulary
    source = public_model(shape)
    shutil.copytree(source, directory)
    from transformers import AutoConfig

    return shape, int(AutoConfig.from_pretrained(directory).vocab_size)


def public_model(name: str) -> Path:
    """
    Raises:
        NoModelError: it is not on this machine.
    """
    default = REPOSITORY.parent / "shared" / "models"
    path = Path(os.environ.get(MODELS_VARIABLE, default)) / name
    if not path.is_dir():
        raise NoModelError(
            f"the public model {name} is not at {path.parent}; set {MODELS_VARIABLE}"
        )
    return path


def greedy_gap(directory: Path, prefix: Sequence[int], ours: int, theirs: int) -> float:
    """How much likelier one token is than the other after a prefix, in logits: about 1e-6 is a tie
    that rounding decides."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
    with torch.no_grad():
        logits = model(torch.tensor([list(prefix)])).logits[0, -1]
    return abs(float(logits[ours] - logits[theirs]))
