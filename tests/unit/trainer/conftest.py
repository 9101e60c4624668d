"""A stage context in memory, so that recipes run and resume without a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest


class Interrupted(Exception):
    """Stands for a worker that dies."""


@dataclass
class FakeContext:
    """Keeps what a recipe reports; can interrupt it after a step."""

    work_dir: Path
    checkpoint_dir: Path
    interrupt_at: int | None = None
    figures: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)

    def progress(self, done: int, total: int, message: str = "") -> None:
        if self.interrupt_at is not None and done > self.interrupt_at:
            raise Interrupted

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.figures.append((step, dict(values)))

    def save_checkpoint(self, directory: Path, step: int, *, keep: int) -> None:
        shutil.rmtree(self.checkpoint_dir, ignore_errors=True)
        shutil.copytree(directory, self.checkpoint_dir)
        self.saved.append(step)

    def newest_checkpoint(self) -> tuple[Path, int] | None:
        return (self.checkpoint_dir, self.saved[-1]) if self.saved else None


@pytest.fixture
def make_context(tmp_path: Path) -> Callable[..., FakeContext]:
    def make(name: str = "run", *, interrupt_at: int | None = None) -> FakeContext:
        work_dir = tmp_path / name
        work_dir.mkdir()
        return FakeContext(work_dir, tmp_path / f"{name}-checkpoint", interrupt_at)

    return make


@pytest.fixture
def interrupted() -> type[Interrupted]:
    return Interrupted
