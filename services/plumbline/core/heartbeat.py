"""The file that a worker writes each time it polls its queues.

Imports nothing of the product: the probe that reads it runs every few seconds, and starting Python
is most of what it costs.
"""

from __future__ import annotations

from pathlib import Path

_DIRECTORY = "health"
_PREFIX = "worker-"


def heartbeat_file(state_dir: Path, worker: str) -> Path:
    """The file whose modification time and content tell when a worker last polled its queues."""
    return state_dir / _DIRECTORY / f"{_PREFIX}{worker.replace('/', '_')}"


def heartbeat_files(state_dir: Path) -> list[Path]:
    """Those of all workers that keep their state here, by name."""
    found = (state_dir / _DIRECTORY).glob(f"{_PREFIX}*")
    return sorted(path for path in found if path.suffix != ".partial")
