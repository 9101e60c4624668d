"""Low-rank adapters: found in a model, merged into it, and added to a policy that is loaded."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from plumbline.core.errors import CheckpointError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def adapted_layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """Parent, name within it, and layer, of every layer with an adapter."""
    for parent in model.modules():
        for name, child in parent.named_children():
            # By its methods, so that nothing of peft is imported where there are no adapters.
            if hasattr(child, "lora_A") and hasattr(child, "get_base_layer"):
                yield parent, name, child


def merge_adapters(model: nn.Module) -> None:
    """Add adapters to the weights that they adapt, and take them out; nothing without any."""
    for parent, name, layer in list(adapted_layers(model)):
        layer.merge(safe_merge=True)
        setattr(parent, name, layer.get_base_layer())


def save_adapters(model: Any, directory: Path, *, base: str) -> None:
    """Write a model's adapters alone, as peft reads them; same adapters, same bytes.

    Args:
        model: with adapters of peft, which are added to its own weights and change nothing else.
        base: reference of the policy with these weights, for those who load the adapters.
    """
    import peft

    (config,) = model.peft_config.values()
    # Sets, whose order differs from run to run, stand for several names.
    values = {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in config.to_dict().items()
    }
    values |= {"base_model_name_or_path": base, "inference_mode": True}
    # An adapted head would have the embeddings go along, which the base has.
    tensors = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    (directory / CONFIG).write_text(text, encoding="utf-8")
    save_file({name: t.contiguous().cpu() for name, t in tensors.items()}, directory / WEIGHTS)


def holds_adapters(path: Path) -> bool:
    """Whether a directory holds adapters rather than a whole policy."""
    return (path / CONFIG).is_file() and not (path / "config.json").is_file()


def adapter_base(path: Path) -> str:
    """Reference of the policy that adapters were trained on, as their configuration names it.

    Raises:
        CheckpointError: it names none.
    """
    try:
        base = json.loads((path / CONFIG).read_text(encoding="utf-8")).get(
            "base_model_name_or_path"
        )
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{CONFIG} of {path.name} is damaged: {error}") from error
    if not base:
        raise CheckpointError(
            f"{CONFIG} of {path.name} names no base_model_name_or_path; name a base in LoadPolicy",
            reason="BASE_UNKNOWN",
        )
    return str(base)


def with_adapters(base: Any, path: Path) -> Any:
    """A model whose adapted weights are its own and whose others are those of `base`.

    Raises:
        CheckpointError: there are no weights in safetensors form, or they do not fit the base.
    """
    import peft

    if not (path / WEIGHTS).is_file():
        raise CheckpointError(
            f"{WEIGHTS} is missing from {path.name}; adapters are read from safetensors only",
            reason="CHECKPOINT_INCOMPLETE",
        )
    # Tensors that the copy finds in the memo are shared, not copied.
    shared = {id(tensor): tensor for tensor in (*base.parameters(), *base.buffers())}
    model = copy.deepcopy(base, shared)
    try:
        config = peft.PeftConfig.from_pretrained(str(path))
        peft.inject_adapter_in_model(config, model)
        loaded = peft.set_peft_model_state_dict(model, load_file(path / WEIGHTS))
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(f"the adapters {path.name} do not fit their base: {error}") from error
    if loaded.unexpected_keys:
        raise CheckpointError(
            f"the adapters {path.name} do not fit their base: it has no layer for "
            f"{loaded.unexpected_keys[0]}"
        )
    for _, _, layer in adapted_layers(model):
        weight = layer.get_base_layer().weight
        # Merging writes into the weight, which the base goes on using.
        layer.get_base_layer().weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    merge_adapters(model)
    return model.eval()
