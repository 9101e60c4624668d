"""Which files a directory holds, as names for a manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from plumbline.core.artifacts.disk import disk_errors
from plumbline.core.artifacts.manifest import check_file_names
from plumbline.core.errors import InvalidInputError, NotFoundError


def directory_files(directory: Path) -> dict[str, Path]:
    """Regular files below a directory by relative name, sorted.

    Raises:
        NotFoundError: there is no such directory.
        InvalidInputError: it holds no file, a symbolic link, a device, or a name that is refused.
    """
    if not directory.is_dir():
        raise NotFoundError(f"there is no directory {directory}")
    with disk_errors(f"listing {directory}"):
        found = {path.relative_to(directory).as_posix(): path for path in _walk(directory)}
    if not found:
        raise InvalidInputError(
            f"directory {directory} holds no files; accepted: at least one", field="files"
        )
    check_file_names(list(found))
    return {name: found[name] for name in sorted(found)}


def _walk(directory: Path) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink():
                raise InvalidInputError(
                    f"{path} is a symbolic link; accepted: regular files",
                    reason="NOT_A_REGULAR_FILE",
                    field="files",
                )
            if entry.is_dir():
                yield from _walk(path)
            elif entry.is_file():
                yield path
            else:
                raise InvalidInputError(
                    f"{path} is not a regular file; accepted: regular files",
                    reason="NOT_A_REGULAR_FILE",
                    field="files",
                )
