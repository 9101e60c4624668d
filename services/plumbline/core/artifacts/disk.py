"""Writing to a local disk so that a crash, a full disk or another process leaves no half file."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from plumbline.core.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    PlumblineError,
    StorageFullError,
    StorageUnavailableError,
)

CHUNK_BYTES: Final = 2**20

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Give operating system errors their place in the error tree.

    Args:
        doing: what was being done, for the message; for example "writing /store/a".
    """
    try:
        yield
    except PlumblineError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise full_error(doing, error) from error
        cause = error.strerror or str(error)
        if error.errno in _REFUSED:
            raise PermissionDeniedError(f"{doing}: {cause}") from error
        raise StorageUnavailableError(f"{doing}: {cause}") from error


@contextmanager
def full_disk_errors(doing: str) -> Iterator[None]:
    """Only a full disk gets its type; other errors pass as they are."""
    try:
        yield
    except PlumblineError:
        raise
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise full_error(doing, error) from error


def full_error(doing: str, error: OSError) -> StorageFullError:
    return StorageFullError(
        f"{doing}: {error.strerror or error}; free some space and run it again: "
        "nothing was published"
    )


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading; what is not a plain file is refused, symbolic links too.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is a symbolic link, a directory or a device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_regular(path, "a symbolic link") from None
        raise
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _not_regular(path, "not a regular file")
        yield file


def _not_regular(path: Path, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"{path} is {what}; accepted: regular files", reason="NOT_A_REGULAR_FILE", field="files"
    )


def hash_file(path: Path) -> tuple[str, int]:
    """sha256 and size of a regular file."""
    digest = hashlib.sha256()
    size = 0
    with open_regular(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def write_new(destination: Path, source: Path | bytes) -> str:
    """Write a new file and flush it to the disk; removed again if anything fails.

    Returns:
        sha256 of what was written.
    """
    digest = hashlib.sha256()
    try:
        with open(destination, "xb") as file:
            for chunk in _chunks(source):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        destination.unlink(missing_ok=True)
        raise
    return digest.hexdigest()


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with open_regular(source) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def flush_directory(directory: Path) -> None:
    """Make a rename in the directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_stale(directory: Path, *, older_than_s: float = 24 * 3600) -> None:
    """Remove what processes that died left half-written in a directory for incoming files."""
    before = time.time() - older_than_s
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            if path.lstat().st_mtime >= before:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


@contextmanager
def file_lock(path: Path, *, shared: bool = False, timeout_s: float = 600.0) -> Iterator[None]:
    """Hold an advisory lock between processes and threads; released when the holder dies.

    Raises:
        ConflictError: another holder did not let go in time.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
        deadline = time.monotonic() + timeout_s
        pause_s = 0.001
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, operation)
                break
            if time.monotonic() >= deadline:
                raise ConflictError(f"lock {path} was not free within {timeout_s:g} s")
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
        yield
    finally:
        os.close(descriptor)
