"""Where a run's figures go beside its job: TensorBoard event files, Weights & Biases, MLflow.

Every artifact holds its curves as an event file. While a stage runs, its figures also go to the
trackers that `PLUMBLINE_TRACKERS` names, under `<state>/tracking`; Weights & Biases and MLflow stay
offline there unless their own variables (`WANDB_MODE`, `MLFLOW_TRACKING_URI`) say otherwise.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plumbline.core.errors import FailedPreconditionError
from plumbline.core.settings import Settings
from plumbline.core.stages import Tracker

EVENTS_FILE = "events.out.tfevents.training"
"""TensorBoard finds files by the middle of this name."""
_PROJECT = "plumbline"
_FILE_VERSION = "brain.Event:2"


class TensorBoardTracker:
    """Writes an event file, readable while it grows.

    Args:
        clock: seconds since the epoch, of the first event and by step of the others.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[int], float] = lambda _: time.time()
    ) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import RecordWriter

        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = RecordWriter(str(path))
        self._write(Event(wall_time=clock(0), file_version=_FILE_VERSION))

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        found = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(wall_time=self._clock(step), step=step, summary=Summary(value=found)))

    def close(self) -> None:
        self._writer.close()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()


class WandbTracker:
    """A run of Weights & Biases."""

    def __init__(self, directory: Path, *, run_name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._run = _optional("wandb").init(
            project=_PROJECT,
            name=run_name,
            dir=str(directory),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class MLflowTracker:
    """A run of MLflow."""

    def __init__(self, directory: Path, *, run_name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # Newer versions take plain files only on request; a database would need a larger package.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        tracking = _optional("mlflow.tracking")
        address = os.environ.get("MLFLOW_TRACKING_URI", directory.absolute().as_uri())
        self._client = tracking.MlflowClient(tracking_uri=address)
        found = self._client.get_experiment_by_name(_PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(_PROJECT)
        self._run_id = self._client.create_run(experiment, run_name=run_name).info.run_id

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run_id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._run_id)


def open_trackers(settings: Settings, *, run_name: str) -> list[Tracker]:
    """The trackers that the settings name, each with a run of its own.

    Raises:
        FailedPreconditionError: a tracker's package is not installed.
    """
    return [_open(name, settings.tracking_dir / name, run_name) for name in settings.trackers]


def write_events(path: Path, curves: Sequence[Mapping[str, float]]) -> None:
    """Write curves as an event file; its clock is the step, so that same curves give same bytes."""
    tracker = TensorBoardTracker(path, clock=float)
    for entry in curves:
        values = {name: value for name, value in entry.items() if name != "step"}
        tracker.log_metrics(int(entry["step"]), values)
    tracker.close()


def _open(name: str, directory: Path, run_name: str) -> Tracker:
    if name == "tensorboard":
        # A file for each attempt; TensorBoard shows those of one directory as one run.
        file = f"events.out.tfevents.{int(time.time())}.{os.getpid()}"
        return TensorBoardTracker(directory / run_name / file)
    if name == "wandb":
        return WandbTracker(directory, run_name=run_name)
    return MLflowTracker(directory, run_name=run_name)


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise FailedPreconditionError(
            f"PLUMBLINE_TRACKERS names {package}, and the package {error.name!r} is not installed; "
            "install plumbline[tracking], or leave it out",
            reason="MISSING_PACKAGE",
        ) from error
