"""Artifacts on local disk, verified, within a bound of bytes.

Layout of the cache directory:
    entries/<id>/        the artifact's files under their names
    index/<id>.json      per file: size, modification time and inode when it was verified
    locks/<id>           shared while an entry is in use, exclusive while it is made or removed
    incoming/            entries being made, and entries being removed

Several processes may share it. The least recently used entries go first; one that is being made
or is pinned by any process never goes, so the bound can be exceeded by what is in use.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from plumbline.core.artifacts.disk import disk_errors, file_lock, hash_file, remove_stale
from plumbline.core.artifacts.manifest import Artifact, FileEntry
from plumbline.core.errors import ConflictError, CorruptArtifactError, NotFoundError

Fetch = Callable[[FileEntry, Path], str]
"""Copies one file of the artifact to a path; returns the sha256 of what it wrote."""

_MAKE_TIMEOUT_S: Final = 3600.0
_LOOK_AGAIN_S: Final = 0.2
_EVICT_TIMEOUT_S: Final = 60.0


class LocalCache:
    """Local copies of artifacts.

    Args:
        root: directory, shared by the processes of one machine.
        max_bytes: bound on the sum of file sizes.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root.absolute()
        self._max_bytes = max_bytes
        self._entries = self._root / "entries"
        self._index = self._root / "index"
        self._locks = self._root / "locks"
        self._incoming = self._root / "incoming"

    @contextmanager
    def pinned(self, artifact: Artifact, fetch: Fetch) -> Iterator[Path]:
        """The artifact's directory, which stays until the block ends.

        Raises:
            CorruptArtifactError: the store's bytes do not match the manifest.
            StorageFullError: no room on the local disk.
        """
        self._prepare()
        while True:
            self.materialise(artifact, fetch)
            with file_lock(self._lock(artifact.id), shared=True, timeout_s=_MAKE_TIMEOUT_S):
                # Between the two calls another process may have evicted it.
                if self._is_intact(artifact):
                    yield self._entries / artifact.id
                    return

    def materialise(self, artifact: Artifact, fetch: Fetch) -> Path:
        """The artifact's directory; a later call may evict it unless it is pinned.

        Raises: as `pinned`.
        """
        self._prepare()
        deadline = time.monotonic() + _MAKE_TIMEOUT_S
        with disk_errors(f"caching artifact {artifact.id} in {self._root}"):
            while not (self._is_there(artifact) or self._made(artifact, fetch)):
                if time.monotonic() >= deadline:
                    raise ConflictError(
                        f"artifact {artifact.id} was neither there nor free to be made within "
                        f"{_MAKE_TIMEOUT_S:g} s"
                    )
        return self._entries / artifact.id

    def _is_there(self, artifact: Artifact) -> bool:
        with file_lock(self._lock(artifact.id), shared=True, timeout_s=_MAKE_TIMEOUT_S):
            if not self._is_intact(artifact):
                return False
            self._touch(artifact.id)
            return True

    def _made(self, artifact: Artifact, fetch: Fetch) -> bool:
        """Make the entry; False where somebody holds it.

        Whoever made it since it was looked for may have pinned it for hours, so that nobody must
        wait until he lets go: ranks of one job would wait for each other.
        """
        self._evict(room_for=artifact.manifest.size_bytes)
        with ExitStack() as held:
            try:
                held.enter_context(file_lock(self._lock(artifact.id), timeout_s=_LOOK_AGAIN_S))
            except ConflictError:
                return False
            if not self._is_intact(artifact):
                self._make(artifact, fetch)
            self._touch(artifact.id)
            # While this one is locked, the others give way to it.
            self._evict(room_for=0)
        return True

    def discard(self, artifact_id: str) -> None:
        """Drop an entry unless it is in use."""
        self._prepare()
        with (
            suppress(ConflictError),
            disk_errors(f"removing artifact {artifact_id} from {self._root}"),
            file_lock(self._lock(artifact_id), timeout_s=0),
        ):
            self._remove(artifact_id)

    def size_bytes(self) -> int:
        """Bytes held now, by the sizes in the index."""
        return sum(size for _, _, size in self._used())

    def _prepare(self) -> None:
        with disk_errors(f"creating the cache {self._root}"):
            for directory in (self._entries, self._index, self._locks, self._incoming):
                directory.mkdir(parents=True, exist_ok=True)

    def _lock(self, artifact_id: str) -> Path:
        return self._locks / artifact_id

    def _make(self, artifact: Artifact, fetch: Fetch) -> None:
        self._remove(artifact.id)
        incoming = self._incoming / uuid.uuid4().hex
        try:
            stamps = {}
            incoming.mkdir()
            for entry in artifact.manifest.files:
                path = incoming / entry.name
                path.parent.mkdir(parents=True, exist_ok=True)
                self._fetch_verified(artifact.id, entry, path, fetch)
                path.chmod(0o444)
                stamps[entry.name] = _stamp(path)
            # The index first: an entry that is not in it would never be counted or evicted.
            index = self._index / f"{artifact.id}.json"
            index.write_text(json.dumps(stamps), encoding="utf-8")
            os.rename(incoming, self._entries / artifact.id)
        except BaseException:
            shutil.rmtree(incoming, ignore_errors=True)
            raise

    @staticmethod
    def _fetch_verified(artifact_id: str, entry: FileEntry, path: Path, fetch: Fetch) -> None:
        try:
            found = fetch(entry, path)
        except NotFoundError as error:
            raise CorruptArtifactError(
                f"file {entry.name!r} of artifact {artifact_id} is missing from the store",
                metadata={"artifact_id": artifact_id, "file": entry.name},
            ) from error
        if found != entry.sha256:
            raise CorruptArtifactError(
                f"file {entry.name!r} of artifact {artifact_id} has sha256 {found}, its manifest "
                f"says {entry.sha256}; the stored bytes were altered",
                metadata={"artifact_id": artifact_id, "file": entry.name},
            )

    def _is_intact(self, artifact: Artifact) -> bool:
        """Whether the entry is there and holds what was verified.

        A file whose size, modification time and inode are those of its verification is trusted;
        any other is hashed again.
        """
        try:
            text = (self._index / f"{artifact.id}.json").read_text(encoding="utf-8")
            stamps = json.loads(text)
            return all(
                self._file_is_intact(artifact.id, entry, stamps[entry.name])
                for entry in artifact.manifest.files
            )
        except (OSError, ValueError, KeyError, NotFoundError):
            return False

    def _file_is_intact(self, artifact_id: str, entry: FileEntry, stamp: list[int]) -> bool:
        path = self._entries / artifact_id / entry.name
        return _stamp(path) == stamp or hash_file(path)[0] == entry.sha256

    def _touch(self, artifact_id: str) -> None:
        # The file system's own clock ticks in milliseconds, too coarse to order uses by.
        now = time.time_ns()
        os.utime(self._index / f"{artifact_id}.json", ns=(now, now))

    def _used(self) -> list[tuple[int, str, int]]:
        """(last use in ns, id, size in bytes) of each entry, oldest first."""
        used = []
        for path in self._index.glob("*.json"):
            with suppress(FileNotFoundError, ValueError):
                stamps = json.loads(path.read_text(encoding="utf-8"))
                size = sum(stamp[0] for stamp in stamps.values())
                used.append((path.stat().st_mtime_ns, path.stem, size))
        return sorted(used)

    def _evict(self, *, room_for: int) -> None:
        with file_lock(self._locks / "evict", timeout_s=_EVICT_TIMEOUT_S):
            remove_stale(self._incoming)
            used = self._used()
            excess = sum(size for _, _, size in used) + room_for - self._max_bytes
            for _, artifact_id, size in used:
                if excess <= 0:
                    return
                # A zero wait leaves alone what anyone holds.
                with suppress(ConflictError), file_lock(self._lock(artifact_id), timeout_s=0):
                    self._remove(artifact_id)
                    excess -= size

    def _remove(self, artifact_id: str) -> None:
        """Drop an entry whose exclusive lock is held: out of sight first, then file by file."""
        (self._index / f"{artifact_id}.json").unlink(missing_ok=True)
        leaving = self._incoming / uuid.uuid4().hex
        with suppress(FileNotFoundError):
            os.rename(self._entries / artifact_id, leaving)
            shutil.rmtree(leaving)


def _stamp(path: Path) -> list[int]:
    found = path.lstat()
    return [found.st_size, found.st_mtime_ns, found.st_ino]
