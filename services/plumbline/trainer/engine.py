"""The machinery that all methods share: optimizer, schedule, curves, checkpoints, determinism.

A method is a loop of its own (`recipes/`); `TrainingRun` is what it holds in its hands. The batch
of a step is a function of the seed and the step's number, so a step number is a data position, and
a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from plumbline.core.errors import CheckpointError, FailedPreconditionError
from plumbline.trainer.config import TrainingConfig
from plumbline.trainer.lisa import LayerSampler
from plumbline.trainer.trackers import EVENTS_FILE, write_events

CURVES_FILE = "training.json"

_STATE, _WEIGHTS, _OPTIMIZER, _EXTRA = (
    "state.json",
    "weights.safetensors",
    "optimizer.safetensors",
    "extra.safetensors",
)
_RNG, _DEVICE_RNG = "rng", "rng.device"


class RunContext(Protocol):
    """What a method needs of its stage's context."""

    work_dir: Path

    def progress(self, done: int, total: int, message: str = "") -> None: ...
    def log_metrics(self, step: int, values: Mapping[str, float]) -> None: ...
    def save_checkpoint(self, directory: Path, step: int, *, keep: int) -> None: ...
    def newest_checkpoint(self) -> tuple[Path, int] | None: ...


def learning_rate_at(step: int, total_steps: int, config: TrainingConfig) -> float:
    """Learning rate of a step: linear warm-up from above 0, then constant or cosine."""
    warmup = max(round(config.warmup_share * total_steps), config.minimum_warmup_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup) / max(total_steps - warmup, 1)
    low = config.minimum_learning_rate_share
    share = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.learning_rate * share


class TrainingRun:
    """One run's trained modules, optimizer, curves and resumable state.

    Args:
        modules: what is trained, by a name that stays the same when the run resumes.
        total_steps: optimizer steps planned, for the schedule.
        context: where progress, figures and checkpoints go.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        config: TrainingConfig,
        *,
        total_steps: int,
        context: RunContext,
    ) -> None:
        self.config = config
        self.context = context
        self.total_steps = total_steps
        self.saves = True
        """Whether this process writes checkpoints; of several ranks one does."""
        self.optimizer_steps = 0
        self.curves: list[dict[str, float]] = []
        self.state: dict[str, Any] = {}
        """The method's own resumable state; JSON values."""
        self.tensors: dict[str, Tensor] = {}
        """The method's own resumable tensors."""
        self.files: dict[str, Path] = {}
        """The method's own resumable files."""
        self._parameters = _named_parameters(modules)
        self._optimizer = _adamw(self._parameters, config)
        self._layers = (
            LayerSampler(modules.values(), config.lisa, seed=config.seed) if config.lisa else None
        )
        self._select_layers()

    def resume(self) -> int:
        """Take up the newest checkpoint; returns its unit number, 0 where there is none.

        Raises:
            CheckpointError: the checkpoint is of another model or was made with another config.
        """
        found = self.context.newest_checkpoint()
        if found is None:
            return 0
        directory, unit = found
        state = json.loads((directory / _STATE).read_text(encoding="utf-8"))
        _check_same_config(state["config"], self.config.model_dump(mode="json"), unit=unit)
        weights = load_file(directory / _WEIGHTS)
        if {name: list(w.shape) for name, w in weights.items()} != {
            name: list(p.shape) for name, p in self._parameters.items()
        }:
            raise CheckpointError(
                f"the checkpoint at step {unit} holds other weights than the model being trained"
            )
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._placed(weights[name], parameter))
        self._load_optimizer(load_file(directory / _OPTIMIZER))
        extra = load_file(directory / _EXTRA)
        torch.set_rng_state(extra.pop(_RNG))
        device_state = extra.pop(_DEVICE_RNG, None)
        if device_state is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(device_state)
        self.tensors = extra
        self.optimizer_steps = state["optimizer_steps"]
        self.curves, self.state = state["curves"], state["state"]
        self.files = {name: directory / name for name in state["files"]}
        self._select_layers()
        return unit

    def apply_gradients(self) -> float:
        """Clip, step and clear; returns the gradients' norm before clipping.

        Raises:
            FailedPreconditionError: the norm is not finite; the weights are as they were.
        """
        rate = learning_rate_at(self.optimizer_steps, self.total_steps, self.config)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        norm = float(
            nn.utils.clip_grad_norm_(list(self._parameters.values()), self.config.max_gradient_norm)
        )
        if not math.isfinite(norm):
            # A finite loss may have such gradients, and a checkpoint would keep what they spoil.
            raise FailedPreconditionError(
                f"the norm of the gradients is {norm} at optimizer step {self.optimizer_steps}; "
                "training stopped before it. A lower learning_rate usually helps",
                reason="GRADIENT_NOT_FINITE",
                metadata={"optimizer_step": str(self.optimizer_steps)},
            )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.optimizer_steps += 1
        self._select_layers()
        return norm

    @property
    def learning_rate(self) -> float:
        """Of the step just taken."""
        return float(self._optimizer.param_groups[0]["lr"])

    def end_unit(
        self, done: int, total: int, metrics: Mapping[str, float], *, keep: bool = False
    ) -> None:
        """Note the end of a step (PPO: of an iteration): curves, progress, checkpoint.

        Args:
            done: units done, this one included.
            metrics: figures of this unit; kept when it is a logged or the last one.
            keep: whatever its number is.
        """
        config = self.config
        if keep or done % config.log_every == 0 or done == total or done == 1:
            self.curves.append({"step": done, **metrics})
            self.context.log_metrics(done, metrics)
        headline = next(iter(metrics.items()), None)
        message = f"{headline[0]} {headline[1]:.4f}" if headline else ""
        self.context.progress(done, total, message)
        if config.checkpoint_every and done % config.checkpoint_every == 0 and done < total:
            self.save(done)

    def save(self, unit: int) -> None:
        """Write a checkpoint from which `resume` continues after this unit."""
        weights = {name: self._whole(p) for name, p in self._parameters.items()}
        optimizer = self._optimizer_tensors()
        if not self.saves:
            return
        directory = self.context.work_dir / "saving"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        save_file(weights, directory / _WEIGHTS)
        save_file(optimizer, directory / _OPTIMIZER)
        save_file({**self.tensors, **_random_states()}, directory / _EXTRA)
        for name, path in self.files.items():
            shutil.copyfile(path, directory / name)
        state = {
            "config": self.config.model_dump(mode="json"),
            "optimizer_steps": self.optimizer_steps,
            "curves": self.curves,
            "state": self.state,
            "files": sorted(self.files),
        }
        (directory / _STATE).write_text(json.dumps(state), encoding="utf-8")
        self.context.save_checkpoint(directory, unit, keep=self.config.keep_checkpoints)
        shutil.rmtree(directory)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the trained weights."""
        return {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Put back weights that `snapshot` copied."""
        for name, parameter in self._parameters.items():
            parameter.copy_(snapshot[name])

    def _select_layers(self) -> None:
        """Where few layers learn at a time: those of the coming step, the others' state dropped."""
        if self._layers is None:
            return
        for parameter in self._layers.select(self.optimizer_steps):
            self._optimizer.state.pop(parameter, None)
            parameter.grad = None

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": self._whole(value)
            for name, parameter in self._parameters.items()
            for key, value in self._optimizer.state.get(parameter, {}).items()
        }

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        for path, value in tensors.items():
            name, _, key = path.rpartition("/")
            parameter = self._parameters[name]
            self._optimizer.state[parameter][key] = self._placed(value, parameter)

    def _whole(self, tensor: Tensor) -> Tensor:
        """What a checkpoint holds of a parameter or of its optimizer's state."""
        return tensor.detach().cpu().contiguous()

    def _placed(self, value: Tensor, parameter: Tensor) -> Tensor:
        """What `_whole` made, where and as the parameter is."""
        return value.to(parameter.device)


def _random_states() -> dict[str, Tensor]:
    """State of the generators that dropout draws from."""
    states = {_RNG: torch.get_rng_state()}
    if torch.cuda.is_available():
        states[_DEVICE_RNG] = torch.cuda.get_rng_state()
    return states


def _check_same_config(saved: Mapping[str, Any], own: Mapping[str, Any], *, unit: int) -> None:
    missing = object()
    differing = [
        f"{key}={saved.get(key, 'absent')!r} there, {own.get(key, 'absent')!r} here"
        for key in sorted({*saved, *own})
        if saved.get(key, missing) != own.get(key, missing)
    ]
    if differing:
        raise CheckpointError(
            f"the checkpoint at step {unit} was made with another config: {'; '.join(differing)}; "
            "accepted: the same config, or a run of its own"
        )


def check_finite(loss: float, *, step: int, batch: str) -> None:
    """Stop a diverged run before it spoils the weights.

    Args:
        batch: names the examples of the step.
    Raises:
        FailedPreconditionError: the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise FailedPreconditionError(
            f"the loss is {loss} at step {step}, on {batch}; training stopped. A lower "
            "learning_rate or max_gradient_norm usually helps",
            reason="LOSS_NOT_FINITE",
            metadata={"step": str(step), "batch": batch},
        )


def write_curves(directory: Path, curves: list[dict[str, float]], **summary: Any) -> None:
    """Write `training.json`, the curves and what else a method has to report, and the curves
    as a TensorBoard event file."""
    content = {"curves": curves, **summary}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (directory / CURVES_FILE).write_text(text, encoding="utf-8")
    write_events(directory / EVENTS_FILE, curves)


def _named_parameters(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    named: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for module_name, module in modules.items():
        for name, parameter in module.named_parameters():
            # Modules may share a backbone, and embeddings may be tied to the head.
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                named[f"{module_name}.{name}"] = parameter
    return named


def _adamw(parameters: Mapping[str, nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    decayed = [p for p in parameters.values() if p.ndim >= 2]
    others = [p for p in parameters.values() if p.ndim < 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,
    )
