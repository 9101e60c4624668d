"""Figures of a run in event files and trackers, all offline."""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from plumbline.core.artifacts import open_configured_store
from plumbline.core.errors import ConfigError, FailedPreconditionError
from plumbline.core.settings import Settings
from plumbline.core.stages import NullReporter, StageContext
from plumbline.trainer.config import SFTConfig
from plumbline.trainer.engine import write_curves
from plumbline.trainer.stages.common import on_device
from plumbline.trainer.trackers import EVENTS_FILE, open_trackers, write_events

CURVES = [{"step": 1, "loss": 2.5}, {"step": 10, "loss": 0.125, "gradient_norm": 3.0}]


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum bit by bit, of the reflected polynomial. Source: RFC 3720, B.4."""
    found = 0xFFFFFFFF
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = (found >> 1) ^ (0x82F63B78 if found & 1 else 0)
    return found ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    found = crc32c(data)
    return ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_events(path: Path) -> Iterator[Any]:
    """Events of a file of records: length, its checksum, content, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, start = path.read_bytes(), 0
    while start < len(data):
        length, length_check = struct.unpack_from("<QI", data, start)
        content = data[start + 12 : start + 12 + length]
        (check,) = struct.unpack_from("<I", data, start + 12 + length)
        assert length_check == masked(data[start : start + 8])
        assert check == masked(content)
        yield Event.FromString(content)
        start += 16 + length


def scalars(path: Path) -> dict[tuple[int, str], float]:
    return {
        (event.step, value.tag): value.simple_value
        for event in read_events(path)
        for value in event.summary.value
    }


@pytest.fixture
def make_stage_context(tmp_path: Path) -> Any:
    def make(settings: Settings) -> StageContext:
        return StageContext(
            output_dir=tmp_path / "output",
            work_dir=tmp_path / "work",
            settings=settings,
            reporter=NullReporter(),
            checkpoints=open_configured_store(settings).checkpoints,
            key="ab" * 32,
            stage_name="trainer.sft",
        )

    return make


def test_an_artifact_holds_its_curves_as_an_event_file(tmp_path: Path) -> None:
    write_curves(tmp_path, CURVES)

    first, *_ = read_events(tmp_path / EVENTS_FILE)
    assert first.file_version == "brain.Event:2"
    assert scalars(tmp_path / EVENTS_FILE) == {
        (1, "loss"): 2.5,
        (10, "loss"): 0.125,
        (10, "gradient_norm"): 3.0,
    }


def test_same_curves_give_the_same_bytes(tmp_path: Path) -> None:
    write_events(tmp_path / "a", CURVES)
    write_events(tmp_path / "b", CURVES)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_figures_are_there_while_the_stage_runs(tmp_path: Path, make_stage_context: Any) -> None:
    settings = Settings(state_dir=tmp_path, threads=1, trackers=("tensorboard",))
    context = make_stage_context(settings)

    with on_device(SFTConfig(device="cpu"), context):
        context.log_metrics(3, {"loss": 0.5})
        directory = tmp_path / "tracking" / "tensorboard" / "trainer.sft-abababababab"
        (path,) = directory.iterdir()
        assert scalars(path) == {(3, "loss"): 0.5}
    context.close()


def test_a_stage_computes_in_the_configured_precision(
    tmp_path: Path, make_stage_context: Any
) -> None:
    context = make_stage_context(Settings(state_dir=tmp_path, threads=1))

    with on_device(SFTConfig(device="cpu", precision="bfloat16"), context):
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.bfloat16
    with on_device(SFTConfig(device="cpu"), context):
        assert (torch.eye(2) @ torch.eye(2)).dtype == torch.float32


def test_the_environment_names_the_trackers(tmp_path: Path) -> None:
    environment = {"PLUMBLINE_STATE_DIR": str(tmp_path)}
    assert Settings.from_environment(environment).trackers == ()
    named = Settings.from_environment(environment | {"PLUMBLINE_TRACKERS": "tensorboard, mlflow"})
    assert named.trackers == ("tensorboard", "mlflow")
    with pytest.raises(ConfigError, match="comet"):
        Settings.from_environment(environment | {"PLUMBLINE_TRACKERS": "comet"})


def test_a_tracker_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    settings = Settings(state_dir=tmp_path, trackers=("wandb",))

    with pytest.raises(FailedPreconditionError, match=r"plumbline\[tracking\]") as refused:
        open_trackers(settings, run_name="trainer.sft-1")
    assert refused.value.reason == "MISSING_PACKAGE"


@pytest.mark.filterwarnings("ignore")
def test_mlflow_holds_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs plumbline[tracking]")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tracker,) = open_trackers(Settings(state_dir=tmp_path, trackers=("mlflow",)), run_name="one")

    tracker.log_metrics(1, {"loss": 2.5})
    tracker.log_metrics(2, {"loss": 1.5})
    tracker.close()

    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "tracking" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("plumbline")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "one"
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(entry.step, entry.value) for entry in history] == [(1, 2.5), (2, 1.5)]


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_the_run_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="needs plumbline[tracking]")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tracker,) = open_trackers(Settings(state_dir=tmp_path, trackers=("wandb",)), run_name="one")

    tracker.log_metrics(1, {"loss": 2.5})
    tracker.close()

    # Its own process writes the file, and may still be at it.
    (record,) = (tmp_path / "tracking" / "wandb").rglob("run-*.wandb")
    deadline = time.monotonic() + 10
    while b"loss" not in record.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"loss" in record.read_bytes()
