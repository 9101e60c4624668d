"""Model directories in the Hugging Face layout: checked before loading, saved to the same bytes.

Only safetensors weights are read; a directory that offers nothing but pickles is refused, and
code that a checkpoint brings along is never run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from plumbline.core.errors import CheckpointError

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_LOCAL: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_EMBEDDINGS = (
    "embed_tokens.weight",
    "word_embeddings.weight",
    "wte.weight",
    "tok_embeddings.weight",
)
# Progress is reported by jobs; bars of the library would only fill their logs.
transformers_logging.disable_progress_bar()
# Larger headers than this do not occur; a length field that claims more is damage.
_MAX_HEADER_BYTES = 100 * 1024 * 1024


def check_model_directory(path: Path) -> None:
    """Raise CheckpointError, naming the file, unless the directory can be loaded safely.

    Checked: config.json; every weight shard present and of the length that its header declares;
    no weights in pickle form only; a tokenizer; and a vocabulary that the embeddings hold.
    """
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is not a directory; a Hugging Face model directory is needed",
            reason="CHECKPOINT_NOT_FOUND",
        )
    config = _read_json(path / "config.json")
    shapes: dict[str, list[int]] = {}
    for shard in _weight_files(path):
        shapes.update(_tensor_shapes(shard))
    _check_vocabulary(path, config, shapes)


def load_causal_lm(
    path: Path, dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in evaluation mode.

    Raises:
        CheckpointError: the directory is incomplete, unsafe, or no causal language model.
    """
    return _load(AutoModelForCausalLM, Path(path), dtype)


def load_encoder_or_decoder(
    path: Path, dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a backbone without its language-model head, in evaluation mode."""
    return _load(AutoModel, Path(path), dtype)


def load_sequence_classifier(
    path: Path, dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model with a classification head over whole sequences, in evaluation mode."""
    return _load(AutoModelForSequenceClassification, Path(path), dtype)


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory, whose weights are checked but not loaded.

    Raises:
        CheckpointError: the directory is incomplete or unsafe.
    """
    check_model_directory(Path(path))
    return load_bare_tokenizer(path)


def load_bare_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """A tokenizer whose directory need not hold a model.

    Raises:
        CheckpointError: the directory holds no tokenizer, or brings code with it.
    """
    path = Path(path)
    _check_tokenizer_files(path)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, **_LOCAL)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path.name} cannot be loaded: {error}") from error
    return tokenizer


def is_decoder(model: PreTrainedModel) -> bool:
    """True when a position sees only what stands before it, so that the last one sees all."""
    config = model.config
    if getattr(config, "is_decoder", False):
        return True
    encoders = ("bert", "roberta", "electra", "mpnet", "albert", "distil", "nomic", "xlm-r", "esm")
    return not any(name in config.model_type for name in encoders)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write weights (safetensors), configuration and tokenizer; same model, same bytes."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # The directory that a model was loaded from would otherwise be written into its files.
    model.config._name_or_path = ""
    tokenizer.name_or_path = ""
    for name in ("name_or_path", "is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _load(loader: Any, path: Path, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype is {dtype!r}; accepted: {', '.join(DTYPES)}")
    tokenizer = load_tokenizer(path)
    try:
        model = loader.from_pretrained(path, dtype=DTYPES[dtype], use_safetensors=True, **_LOCAL)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path.name} cannot be loaded: {error}") from error
    model.eval()
    return model, tokenizer


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.name} is missing from the model directory {path.parent.name}",
            reason="CHECKPOINT_INCOMPLETE",
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds {type(content).__name__}; an object is needed")
    return content


def _weight_files(path: Path) -> list[Path]:
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS]
    if (path / WEIGHTS_INDEX).is_file():
        shards = sorted(set(_read_json(path / WEIGHTS_INDEX).get("weight_map", {}).values()))
        missing = [name for name in shards if not (path / name).is_file()]
        if missing or not shards:
            raise CheckpointError(
                f"weight shard {', '.join(missing) or '(none listed)'} is missing; "
                f"{WEIGHTS_INDEX} names {len(shards)} shards",
                reason="CHECKPOINT_INCOMPLETE",
            )
        return [path / name for name in shards]
    pickles = sorted(file.name for file in path.iterdir() if file.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run code when opened; convert the weights to "
            f"{WEIGHTS}",
            reason="CHECKPOINT_PICKLE",
        )
    raise CheckpointError(
        f"{WEIGHTS} is missing from the model directory {path.name}",
        reason="CHECKPOINT_INCOMPLETE",
    )


def _tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Shapes by tensor name from a safetensors header; the file must be as long as it says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _MAX_HEADER_BYTES + 1
        if length > min(size - 8, _MAX_HEADER_BYTES):
            raise CheckpointError(f"{path.name} is cut off or not safetensors ({size} bytes)")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise CheckpointError(f"{path.name} has a damaged safetensors header") from error
    header.pop("__metadata__", None)
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path.name} has {size} bytes; its header declares {8 + length + end}",
            reason="CHECKPOINT_INCOMPLETE",
        )
    return {name: entry["shape"] for name, entry in header.items()}


def _check_tokenizer_files(path: Path) -> None:
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise CheckpointError(
            f"no tokenizer in {path.name}; one of {', '.join(TOKENIZER_FILES)} is needed",
            reason="CHECKPOINT_INCOMPLETE",
        )


def _check_vocabulary(
    path: Path, config: Mapping[str, Any], shapes: Mapping[str, list[int]]
) -> None:
    _check_tokenizer_files(path)
    rows = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    for name, shape in shapes.items():
        if name.endswith(_EMBEDDINGS):
            if rows is not None and shape[0] != rows:
                raise CheckpointError(
                    f"config.json says vocab_size={rows}, but {name} has {shape[0]} rows"
                )
            rows = shape[0]
            break
    largest = _largest_token_id(path / "tokenizer.json")
    if rows is not None and largest is not None and largest >= rows:
        raise CheckpointError(
            f"tokenizer.json holds token id {largest}, but the embeddings have {rows} rows; "
            "the tokenizer belongs to another model",
            reason="TOKENIZER_MISMATCH",
        )


def _largest_token_id(path: Path) -> int | None:
    if not path.is_file():
        return None
    content = _read_json(path)
    vocabulary = (content.get("model") or {}).get("vocab") or {}
    # Unigram vocabularies are lists of (piece, score), whose position is the id.
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    ids += [token["id"] for token in content.get("added_tokens") or []]
    return max(ids, default=None)
