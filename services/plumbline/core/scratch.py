"""Scratch directories that outlive neither their block nor, for long, a killed process."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from plumbline.core.artifacts.disk import disk_errors, file_lock
from plumbline.core.errors import ConflictError


@contextmanager
def scratch_directory(root: Path) -> Iterator[Path]:
    """A new empty directory under `root`, removed when the block ends.

    A process that is killed removes nothing. So each directory has a lock file that its process
    holds, and whoever comes next clears those that nobody holds any more.

    Raises:
        StorageFullError: no room to create it.
    """
    directory = root / uuid.uuid4().hex
    lock = root / f"{directory.name}.lock"
    with ExitStack() as stack:
        with disk_errors(f"creating scratch space in {root}"):
            root.mkdir(parents=True, exist_ok=True)
            with file_lock(root / "scratch"):
                _clear_abandoned(root)
                stack.enter_context(file_lock(lock, timeout_s=0))
                stack.callback(lock.unlink, missing_ok=True)
                stack.callback(shutil.rmtree, directory, ignore_errors=True)
                directory.mkdir()
        yield directory


def _clear_abandoned(root: Path) -> None:
    for lock in root.glob("*.lock"):
        with suppress(ConflictError), file_lock(lock, timeout_s=0):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
