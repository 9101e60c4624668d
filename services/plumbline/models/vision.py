"""Vision-language models of the Hugging Face layout, and which of their parts learn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel

from plumbline.core.errors import CheckpointError, ConfigError
from plumbline.models.checkpoint import check_model_directory

Part = Literal["encoder", "connector", "language"]
# Looked for in this order: some architectures keep the connector within the encoder.
_CONNECTOR = ("projector", "connector", "merger", "resampler", "mm_input_projection")
_ENCODER = ("vision", "visual", "image_encoder")
TRAINED: dict[str, tuple[Part, ...]] = {
    "connector": ("connector",),
    "language": ("connector", "language"),
    "full": ("encoder", "connector", "language"),
}


def load_vision_language(path: Path) -> tuple[PreTrainedModel, Any]:
    """Load a model and its processor, in evaluation mode.

    Raises:
        CheckpointError: the directory is incomplete, unsafe, or holds no such model.
    """
    check_model_directory(path)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoProcessor.from_pretrained(path, **options)
        model = AutoModelForImageTextToText.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise CheckpointError(f"{path.name} is no vision-language model: {error}") from error
    if getattr(processor, "image_processor", None) is None:
        raise CheckpointError(f"{path.name} has no processor of images")
    model.eval()
    return model, processor


def save_vision_language(model: PreTrainedModel, processor: Any, directory: Path) -> None:
    """Write weights (safetensors), configuration and processor."""
    directory.mkdir(parents=True, exist_ok=True)
    # The directory that it was loaded from would otherwise be written into its files.
    model.config._name_or_path = ""
    processor.tokenizer.name_or_path = ""
    for name in ("name_or_path", "is_local", "local_files_only"):
        processor.tokenizer.init_kwargs.pop(name, None)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)


def part_of(parameter: str) -> Part:
    """The part of the model that a parameter's name puts it in."""
    if any(word in parameter for word in _CONNECTOR):
        return "connector"
    return "encoder" if any(word in parameter for word in _ENCODER) else "language"


def train_only(model: PreTrainedModel, trained: str) -> dict[Part, int]:
    """Freeze all other parts; returns the number of parameters that learn, by part.

    Args:
        trained: a key of `TRAINED`.
    Raises:
        ConfigError: nothing would learn.
    """
    counts: Counter[Part] = Counter()
    for name, parameter in model.named_parameters():
        part = part_of(name)
        parameter.requires_grad_(part in TRAINED[trained])
        if parameter.requires_grad:
            counts[part] += parameter.numel()
    if not counts:
        raise ConfigError(
            f"train={trained!r} leaves nothing to learn in {type(model).__name__}; accepted: "
            f"{', '.join(TRAINED)}",
            field="train",
        )
    return dict(counts)
