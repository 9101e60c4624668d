"""Checkpoints of unfinished stages, in the object store so that any worker can resume.

Key layout: `checkpoints/<stage key>/<step>/files/<sha256>` and, last and only if absent,
`checkpoints/<stage key>/<step>/manifest.json`. A checkpoint without a manifest was cut off and is
never found. The newest few are kept, and all go once the stage's output is recorded.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from plumbline.core.artifacts.backend import ObjectBackend
from plumbline.core.artifacts.disk import disk_errors, hash_file
from plumbline.core.artifacts.files import directory_files
from plumbline.core.artifacts.keys import check_artifact_id, check_key
from plumbline.core.artifacts.manifest import canonical_json
from plumbline.core.errors import (
    ConflictError,
    CorruptArtifactError,
    InvalidInputError,
    NotFoundError,
)

KEPT: Final = 2
"""Two, so that one survives when the newest turns out to be damaged."""
_STEP_DIGITS: Final = 12

logger = logging.getLogger(__name__)


class Checkpoints:
    """Checkpoints by stage key and step."""

    def __init__(self, backend: ObjectBackend) -> None:
        self._backend = backend

    def put(self, key: str, step: int, directory: Path, *, keep: int = KEPT) -> None:
        """Store the directory's files as the checkpoint of a step, then drop the oldest.

        The same step twice is fine: the first stays, since a resumed stage repeats its steps
        exactly.

        Args:
            keep: how many checkpoints of this key there are afterwards at most; 1 or more.
        Raises:
            InvalidInputError: a negative step, none to keep, an empty directory, a symbolic link
                in it.
            StorageFullError: no room; the older checkpoints are untouched.
        """
        if not 0 <= step < 10**_STEP_DIGITS:
            raise InvalidInputError(
                f"checkpoint step {step} is not accepted; accepted: 0 to {10**_STEP_DIGITS - 1}",
                field="step",
            )
        if keep < 1:
            raise InvalidInputError(
                f"keep={keep} is not accepted; accepted: 1 or more", field="keep"
            )
        files = directory_files(directory)
        prefix = f"{self._prefix(key)}{step:0{_STEP_DIGITS}d}/"
        entries: dict[str, dict[str, Any]] = {}
        for name, path in files.items():
            digest, size = hash_file(path)
            entries[name] = {"sha256": digest, "size_bytes": size}
            if self._backend.size_bytes(f"{prefix}files/{digest}") != size:
                self._backend.put(f"{prefix}files/{digest}", path, sha256=digest)
        manifest = canonical_json({"format": 1, "step": step, "files": entries})
        try:
            self._backend.put_if(f"{prefix}manifest.json", manifest, expected=None)
        except ConflictError:
            logger.info("checkpoint of step %d exists already", step)
        self._drop_old(key, keep)

    def newest(self, key: str, destination: Path) -> tuple[Path, int] | None:
        """Copy the newest complete and undamaged checkpoint into `destination`.

        Returns:
            the directory and the step, or None where there is none.
        """
        for step in self.steps(key):
            try:
                self.copy(key, step, destination)
            except (CorruptArtifactError, NotFoundError) as error:
                logger.warning("checkpoint of step %d is skipped: %s", step, error)
                continue
            return destination, step
        return None

    def copy(self, key: str, step: int, destination: Path) -> None:
        """Copy the checkpoint of one step into `destination`.

        Raises:
            NotFoundError: there is none.
            CorruptArtifactError: a file is not what the checkpoint says.
        """
        prefix = self._step_prefix(key, step)
        data, _ = self._backend.get(f"{prefix}manifest.json")
        shutil.rmtree(destination, ignore_errors=True)
        for name, entry in _entries(data).items():
            path = destination / name
            with disk_errors(f"copying a checkpoint to {destination}"):
                path.parent.mkdir(parents=True, exist_ok=True)
            digest = check_artifact_id(entry["sha256"])
            found = self._backend.download(f"{prefix}files/{digest}", path)
            if found != digest:
                raise CorruptArtifactError(
                    f"file {name!r} of checkpoint {step} has sha256 {found}, expected {digest}"
                )

    def steps(self, key: str) -> list[int]:
        """Steps with a complete checkpoint, newest first."""
        found = [
            step
            for step in self._all_steps(key)
            if self._backend.size_bytes(f"{self._step_prefix(key, step)}manifest.json") is not None
        ]
        return sorted(found, reverse=True)

    def delete(self, key: str) -> None:
        """Remove all checkpoints of a stage key."""
        for step in list(self._all_steps(key)):
            self._delete_step(key, step)

    def _drop_old(self, key: str, keep: int) -> None:
        kept = self.steps(key)[:keep]
        for step in list(self._all_steps(key)):
            # A newer, incomplete one may be another worker's upload; it is left alone.
            if kept and step < kept[-1]:
                self._delete_step(key, step)

    def _delete_step(self, key: str, step: int) -> None:
        prefix = self._step_prefix(key, step)
        # The manifest first: a checkpoint half removed must not look complete.
        self._backend.delete(f"{prefix}manifest.json")
        for name in list(self._backend.keys(prefix)):
            self._backend.delete(name)

    def _all_steps(self, key: str) -> Iterator[int]:
        for name in self._backend.children(self._prefix(key)):
            if name.isdecimal():
                yield int(name)

    def _step_prefix(self, key: str, step: int) -> str:
        return f"{self._prefix(key)}{step:0{_STEP_DIGITS}d}/"

    @staticmethod
    def _prefix(key: str) -> str:
        return f"checkpoints/{check_artifact_id(key)}/"


def _entries(data: bytes) -> dict[str, dict[str, Any]]:
    """Files of a checkpoint manifest, names checked.

    Raises:
        CorruptArtifactError: it is not the JSON that `put` writes.
    """
    try:
        files = json.loads(data)["files"]
        return {check_key(name, what="file name"): dict(entry) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptArtifactError(f"a checkpoint manifest is not readable: {error}") from error
