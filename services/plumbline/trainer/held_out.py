"""Early stop: a run ends where held-out data say that it no longer gets better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plumbline.trainer.engine import TrainingRun

_STATE = "held_out"
_BEST = "held_out/"


@dataclass(frozen=True, slots=True)
class HeldOutFigure:
    """What is measured on held-out data.

    Args:
        name: as in the curves.
        measure: of the weights as they are.
    """

    name: str
    measure: Callable[[], float]
    higher_is_better: bool


class EarlyStop:
    """Watches one figure, says when to stop, and goes back to the weights that were best.

    It does nothing where the config asks for no early stop or nothing is held out. Its state is
    the run's, so a resumed run stops where an undisturbed one does.
    """

    def __init__(self, run: TrainingRun, figure: HeldOutFigure | None) -> None:
        self._run, self._figure = run, figure
        self._config = run.config.early_stop if figure is not None else None

    def check(self, done: int) -> dict[str, float]:
        """Measure, where it is due after this many units; returns the figure for the curves."""
        if self._config is None or self._figure is None or done % self._config.every:
            return {}
        value = self._figure.measure()
        state = self._run.state.get(_STATE)
        if state is None or self._gain(value, state["best"]) > self._config.minimum_gain:
            state = {"best": value, "unit": done, "without_gain": 0}
            self._drop_best()
            self._run.tensors |= {_BEST + name: w for name, w in self._run.snapshot().items()}
        else:
            state = {**state, "without_gain": state["without_gain"] + 1}
        self._run.state[_STATE] = state
        return {self._figure.name: value}

    @property
    def stops(self) -> bool:
        """Whether the figure has not improved for as long as the config's patience lasts."""
        if self._config is None or _STATE not in self._run.state:
            return False
        return bool(self._run.state[_STATE]["without_gain"] >= self._config.patience)

    def restore_best(self) -> int | None:
        """Go back to the best weights; returns the unit after which they stood, if any."""
        if self._config is None or _STATE not in self._run.state:
            return None
        best = {
            name.removeprefix(_BEST): tensor
            for name, tensor in self._run.tensors.items()
            if name.startswith(_BEST)
        }
        self._run.restore(best)
        return int(self._run.state[_STATE]["unit"])

    def _gain(self, value: float, best: float) -> float:
        higher = self._figure is not None and self._figure.higher_is_better
        return value - best if higher else best - value

    def _drop_best(self) -> None:
        for name in [name for name in self._run.tensors if name.startswith(_BEST)]:
            del self._run.tensors[name]
