"""Writes reward models as a model repository of Triton Inference Server.

    MODEL_REPOSITORY/
      plumbline-export.json          what was written, so that it may be replaced
      helpfulness/config.pbtxt       one model for each head; safety alike
      helpfulness/1/model.py         what Triton's Python backend runs
      helpfulness/1/reward_scoring.py
      helpfulness/1/weights/         backbone, head and card; safetensors and JSON
      combine/                       Llama 2's rule, when both heads are there
      combined/config.pbtxt          an ensemble: both heads, then the rule

Token ids go in, so tokenisation stays with the caller and nothing of this package is needed where
Triton runs. The same models give the same bytes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plumbline.core.errors import AlreadyExistsError, InvalidInputError
from plumbline.models.chat import ChatFormat
from plumbline.models.checkpoint import load_tokenizer
from plumbline.models.reward import CARD_FILE, RewardModelCard, read_card
from plumbline.reward.config import TritonExportConfig
from plumbline.reward.triton_config import combine_config, ensemble_config, head_config

MARKER_FILE = "plumbline-export.json"
COMBINE, COMBINED = "combine", "combined"
_HEADS = ("helpfulness", "safety")
_PROGRAMS = Path(__file__).parent / "triton_model"


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A reward model and the head that it becomes."""

    model_id: str
    path: Path
    head: str = ""
    """helpfulness or safety; empty takes the head that the model was trained for."""


def export_repository(
    models: Sequence[ExportedModel], output: Path, config: TritonExportConfig | None = None
) -> Mapping[str, str]:
    """Write the repository; what an earlier export wrote there is replaced.

    Returns:
        Model id by the name of the model in Triton, in the order in which they were written.
    Raises:
        InvalidInputError: no models, two for one head, or a head that must be named.
        AlreadyExistsError: the directory holds what no export wrote.
        CheckpointError: a model directory is incomplete or unsafe.
    """
    config = config or TritonExportConfig()
    by_head = _assign_heads(models)
    output = Path(output)
    _check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        made = Path(scratch) / "repository"
        for head, model in by_head.items():
            _write_head(made / head, head, model, config)
        if len(by_head) == len(_HEADS):
            _write_combined(made, config)
        names = sorted(entry.name for entry in made.iterdir())
        marker = {"models": names, "reward_models": {h: m.model_id for h, m in by_head.items()}}
        (made / MARKER_FILE).write_text(json.dumps(marker, indent=2, sort_keys=True) + "\n")
        if output.is_dir():
            shutil.rmtree(output)
        made.rename(output)
    return {head: model.model_id for head, model in by_head.items()}


def _assign_heads(models: Sequence[ExportedModel]) -> dict[str, ExportedModel]:
    if not models:
        raise InvalidInputError("no reward model named; accepted: one for each head")
    by_head: dict[str, ExportedModel] = {}
    for model in models:
        trained_for = read_card(model.path).head
        head = model.head or trained_for
        if head not in _HEADS:
            raise InvalidInputError(
                f"reward model {model.model_id} judges overall {trained_for!r}, which serves as "
                f"either head; name one: {' or '.join(_HEADS)}",
                field="head",
            )
        if trained_for not in (head, "preference"):
            raise InvalidInputError(
                f"reward model {model.model_id} was trained for head {trained_for!r}; head "
                f"{head!r} needs a model trained for it or for overall preference",
                field="head",
            )
        if head in by_head:
            raise InvalidInputError(
                f"{by_head[head].model_id} and {model.model_id} are both for head {head!r}; "
                "accepted: one model a head",
                field="head",
            )
        by_head[head] = model
    return {head: by_head[head] for head in _HEADS if head in by_head}


def _check_output(output: Path) -> None:
    """Nothing may be lost that an export did not write."""
    if output.exists() and not output.is_dir():
        raise AlreadyExistsError(f"{output} is a file; accepted: a new or empty directory")
    present = {entry.name for entry in output.iterdir()} if output.is_dir() else set()
    ours: set[str] = set()
    if MARKER_FILE in present:
        try:
            ours = {MARKER_FILE, *json.loads((output / MARKER_FILE).read_text())["models"]}
        except (ValueError, TypeError, KeyError) as error:
            raise AlreadyExistsError(f"{output / MARKER_FILE} is damaged: {error}") from error
    foreign = sorted(present - ours)
    if foreign:
        raise AlreadyExistsError(
            f"{output} holds {', '.join(foreign[:3])}, which no export wrote; accepted: a new or "
            "empty directory, or one that an export wrote",
            reason="OUTPUT_NOT_EMPTY",
        )


def _write_head(
    directory: Path, head: str, model: ExportedModel, config: TritonExportConfig
) -> None:
    version = directory / "1"
    version.mkdir(parents=True)
    card = read_card(model.path)
    _copy_weights(model.path, version / "weights")
    for name in ("model.py", "reward_scoring.py"):
        shutil.copyfile(_PROGRAMS / name, version / name)
    parameters = _parameters(model, card, config)
    (directory / "config.pbtxt").write_text(head_config(head, parameters, config))


def _copy_weights(source: Path, target: Path) -> None:
    """What scoring reads: weights, configuration, head and card. The tokenizer stays here."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.suffix == ".safetensors" or path.name in (
            "config.json",
            "model.safetensors.index.json",
            CARD_FILE,
        ):
            shutil.copyfile(path, target / path.name)


def _parameters(
    model: ExportedModel, card: RewardModelCard, config: TritonExportConfig
) -> dict[str, str]:
    tokenizer = load_tokenizer(model.path)
    deciles = (
        {} if card.score_deciles is None else {"score_deciles": json.dumps(card.score_deciles)}
    )
    return {
        **deciles,
        "reward_model_id": model.model_id,
        "head": card.head,
        "temperature": repr(card.temperature),
        "max_length": str(card.max_length),
        "pad_id": str(ChatFormat(tokenizer, template=card.template).pad_id),
        "dtype": config.dtype,
        "threads": str(config.threads),
        "length_multiple": str(config.length_multiple),
        "tokens_per_batch": str(config.tokens_per_batch),
    }


def _write_combined(repository: Path, config: TritonExportConfig) -> None:
    version = repository / COMBINE / "1"
    version.mkdir(parents=True)
    shutil.copyfile(_PROGRAMS / "combine.py", version / "model.py")
    (repository / COMBINE / "config.pbtxt").write_text(combine_config(COMBINE, _HEADS, config))
    # An ensemble has no files, but Triton asks for the directory of its version.
    (repository / COMBINED / "1").mkdir(parents=True)
    (repository / COMBINED / "config.pbtxt").write_text(
        ensemble_config(COMBINED, _HEADS, COMBINE, config)
    )
