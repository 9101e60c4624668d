"""Objects in a local or shared directory: the embedded default.

Layout: `<root>/<key>` holds an object; `<root>/.incoming` holds files being written, which a
rename or a link makes visible at once; `<root>/.locks` serialises compare-and-set between
processes.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from plumbline.core.artifacts.disk import (
    disk_errors,
    file_lock,
    flush_directory,
    open_regular,
    remove_stale,
    write_new,
)
from plumbline.core.errors import (
    ConflictError,
    CorruptArtifactError,
    InvalidInputError,
    NotFoundError,
)

_LOCK_TIMEOUT_S = 30.0


class FileBackend:
    """ObjectBackend over a directory that all processes of the platform can reach."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._incoming = self._root / ".incoming"
        self._locks = self._root / ".locks"
        with disk_errors(f"opening the store {self.url}"):
            self._incoming.mkdir(parents=True, exist_ok=True)
            self._locks.mkdir(exist_ok=True)
            remove_stale(self._incoming)
            # Symbolic links above the root are the operator's business; below it none is followed.
            self._root = self._root.resolve()

    @property
    def url(self) -> str:
        return f"file://{self._root}"

    def put(self, key: str, source: Path | bytes, *, sha256: str) -> None:
        with disk_errors(f"writing {key} to {self.url}"), self._staged(source) as (staged, found):
            if found != sha256:
                raise CorruptArtifactError(
                    f"{source if isinstance(source, Path) else key} has sha256 {found}, "
                    f"expected {sha256}: it changed while it was being stored"
                )
            path = self._path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(staged, path)
            flush_directory(path.parent)

    def put_if(self, key: str, data: bytes, *, expected: str | None) -> str:
        path = self._path(key)
        with (
            disk_errors(f"writing {key} to {self.url}"),
            self._staged(data) as (staged, version),
            self._locked(key),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            if expected is None:
                try:
                    os.link(staged, path)
                except FileExistsError:
                    raise _lost(key, "it exists already") from None
            else:
                if self._version(path) != expected:
                    raise _lost(key, "it changed meanwhile")
                os.replace(staged, path)
            flush_directory(path.parent)
        return version

    def get(self, key: str) -> tuple[bytes, str]:
        with disk_errors(f"reading {key} from {self.url}"):
            data = self._read(self._path(key), key)
        return data, hashlib.sha256(data).hexdigest()

    def download(self, key: str, destination: Path) -> str:
        path = self._path(key)
        with disk_errors(f"copying {key} from {self.url} to {destination}"):
            if not path.exists():
                raise _absent(key, self.url)
            return write_new(destination, path)

    def size_bytes(self, key: str) -> int | None:
        with disk_errors(f"looking up {key} in {self.url}"):
            try:
                return self._path(key).stat().st_size
            except FileNotFoundError:
                return None

    def children(self, prefix: str, *, after: str = "") -> Iterator[str]:
        with disk_errors(f"listing {prefix} in {self.url}"):
            try:
                names = os.listdir(self._path(prefix.rstrip("/")))
            except FileNotFoundError:
                names = []
        yield from sorted(name for name in names if name > after)

    def keys(self, prefix: str) -> Iterator[str]:
        found: list[str] = []
        with disk_errors(f"listing {prefix} in {self.url}"):
            for directory, _, names in os.walk(self._path(prefix.rstrip("/"))):
                relative = Path(directory).relative_to(self._root)
                found.extend((relative / name).as_posix() for name in names)
        yield from sorted(found)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with disk_errors(f"deleting {key} from {self.url}"):
            path.unlink(missing_ok=True)
            self._remove_empty_directories(path.parent)

    def _remove_empty_directories(self, directory: Path) -> None:
        # A writer may fill a directory in the same moment; then it is not empty and stays.
        with suppress(OSError):
            while directory != self._root:
                directory.rmdir()
                directory = directory.parent

    def _path(self, key: str) -> Path:
        path = self._root / key
        # A link planted inside the store could lead a checked key out of it.
        if path.parent.resolve() != path.parent or path.is_symlink():
            raise InvalidInputError(
                f"key {key!r} passes through a symbolic link in {self.url}; accepted: plain files",
                reason="INVALID_KEY",
                field="key",
            )
        return path

    @staticmethod
    def _read(path: Path, key: str) -> bytes:
        try:
            with open_regular(path) as file:
                return file.read()
        except (NotFoundError, NotADirectoryError):
            raise _absent(key, "the store") from None

    @staticmethod
    def _version(path: Path) -> str | None:
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            return None

    @contextmanager
    def _staged(self, source: Path | bytes) -> Iterator[tuple[Path, str]]:
        """A flushed copy in `.incoming` and its digest; gone afterwards unless it was moved."""
        staged = self._incoming / uuid.uuid4().hex
        digest = write_new(staged, source)
        try:
            yield staged, digest
        finally:
            staged.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        # 256 lock files for all keys: a lock file per key could never be removed safely.
        name = hashlib.sha256(key.encode()).hexdigest()[:2]
        with file_lock(self._locks / name, timeout_s=_LOCK_TIMEOUT_S):
            yield


def _lost(key: str, why: str) -> ConflictError:
    return ConflictError(f"{key} was not written: {why}", metadata={"key": key})


def _absent(key: str, where: str) -> NotFoundError:
    return NotFoundError(f"there is no {key} in {where}")
