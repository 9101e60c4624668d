"""What a place that keeps bytes must be able to do.

The store is written once against this interface. Keys have been checked by the caller; each
backend still refuses a key that would leave its root.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class ObjectBackend(Protocol):
    """Objects by key: whole or absent, never half-written.

    Every method raises StorageUnavailableError where the place does not answer, and
    PermissionDeniedError where it refuses; writes raise StorageFullError where there is no room.
    """

    @property
    def url(self) -> str:
        """For messages; holds no secret."""
        ...

    def put(self, key: str, source: Path | bytes, *, sha256: str) -> None:
        """Write an object durably, replacing what is there.

        Raises:
            CorruptArtifactError: the bytes read from `source` do not have the digest (the file
                changed since it was hashed); nothing is left behind.
        """
        ...

    def put_if(self, key: str, data: bytes, *, expected: str | None) -> str:
        """Compare-and-set: write only if the object's version is `expected`.

        Args:
            expected: a version from `get` or `put_if`; None means that the object must be absent.
        Returns:
            the new version.
        Raises:
            ConflictError: another version is there.
        """
        ...

    def get(self, key: str) -> tuple[bytes, str]:
        """Content and version of a small object.

        Raises:
            NotFoundError: there is no such object.
        """
        ...

    def download(self, key: str, destination: Path) -> str:
        """Copy an object into a new file; returns the sha256 of the bytes that were written.

        Raises:
            NotFoundError: there is no such object.
        """
        ...

    def size_bytes(self, key: str) -> int | None:
        """Size of an object, or None where there is none."""
        ...

    def children(self, prefix: str, *, after: str = "") -> Iterator[str]:
        """Names directly under `prefix` (which ends in a slash) that sort after `after`,
        ascending; what holds further objects counts as one name, without its slash."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys under `prefix`, which ends in a slash, ascending."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; absent is fine."""
        ...
