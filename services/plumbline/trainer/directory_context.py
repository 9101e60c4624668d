"""A run's context over one directory, for runs outside of the platform's jobs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CHECKPOINTS = "checkpoints"


@dataclass
class DirectoryContext:
    """A run's context over a directory that all ranks see.

    Args:
        is_first: of the ranks; the others report nothing and write nothing.
    """

    output_dir: Path
    is_first: bool
    work_dir: Path = field(init=False)

    def __post_init__(self) -> None:
        self.work_dir = self.output_dir / "work"

    def progress(self, done: int, total: int, message: str = "") -> None:
        if self.is_first:
            print(f"{done}/{total} {message}".rstrip(), file=sys.stderr, flush=True)

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        return None

    def save_checkpoint(self, directory: Path, step: int, *, keep: int) -> None:
        place = self.output_dir / CHECKPOINTS
        place.mkdir(exist_ok=True)
        shutil.rmtree(place / str(step), ignore_errors=True)
        # Renamed once it is whole, so that one cut off is never taken up.
        directory.rename(place / str(step))
        directory.mkdir()
        for old in self._steps()[:-keep]:
            shutil.rmtree(place / str(old))

    def newest_checkpoint(self) -> tuple[Path, int] | None:
        steps = self._steps()
        return (self.output_dir / CHECKPOINTS / str(steps[-1]), steps[-1]) if steps else None

    def _steps(self) -> list[int]:
        place = self.output_dir / CHECKPOINTS
        names = [path.name for path in place.iterdir()] if place.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())
