"""What a request names a model by: an artifact id, a tag, or a directory."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from plumbline.core.errors import NotFoundError, PermissionDeniedError

Resolve = Callable[[str], tuple[str, Path]]
"""Reference to (model id, directory). The id says which weights: equal ids, equal weights."""

_PATH_PREFIX = "path:"
_ARTIFACT_ID = re.compile(r"[0-9a-f]{64}")
_MODEL_SUFFIXES = (".safetensors", ".json", ".model", ".txt", ".jinja")


class _Store(Protocol):
    def resolve(self, reference: str) -> str: ...
    def materialise(self, reference: str) -> Path: ...


class ModelReferences:
    """Resolves references against a store; calling it is `Resolve`.

    Artifacts are materialised, and so verified, once. A directory's digest is taken again when a
    file in it has changed.

    Args:
        import_roots: directories that named directories must lie in; None means any.
    """

    def __init__(self, store: _Store, *, import_roots: Sequence[Path] | None = None) -> None:
        self._store = store
        self._import_roots = import_roots
        self._artifacts: dict[str, Path] = {}
        self._digests: dict[Path, tuple[tuple[tuple[str, int, int], ...], str]] = {}

    def __call__(self, reference: str) -> tuple[str, Path]:
        """Model id and directory.

        Raises:
            NotFoundError: no artifact, tag or directory of this name.
            PermissionDeniedError: the directory lies outside the import roots.
        """
        if reference.startswith((_PATH_PREFIX, "/")):
            path = self._allowed(Path(reference.removeprefix(_PATH_PREFIX)))
            return f"dir:{self._digest(path)}", path
        artifact_id = reference
        if not _ARTIFACT_ID.fullmatch(reference):
            artifact_id = self._store.resolve(reference)
        known = self._artifacts.get(artifact_id)
        # The cache that holds it may have dropped it since. No lock is held meanwhile: a download
        # must not keep requests for other models waiting.
        if known is None or not known.is_dir():
            known = self._artifacts[artifact_id] = self._store.materialise(artifact_id)
        return artifact_id, known

    def _allowed(self, path: Path) -> Path:
        real = path.resolve()
        roots = self._import_roots
        if roots is not None and not any(real.is_relative_to(root.resolve()) for root in roots):
            raise PermissionDeniedError(
                f"{path} lies outside the directories that models may come from; "
                f"accepted: {', '.join(map(str, roots)) or 'none'}"
            )
        if not real.is_dir():
            raise NotFoundError(f"{path} is not a directory; a model directory is needed")
        return real

    def _digest(self, path: Path) -> str:
        files = sorted(file for file in path.iterdir() if file.suffix in _MODEL_SUFFIXES)
        stats = [(file, file.stat()) for file in files]
        state = tuple((file.name, stat.st_size, stat.st_mtime_ns) for file, stat in stats)
        known = self._digests.get(path)
        if known is not None and known[0] == state:
            return known[1]
        digest = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{file.name}\0{content}\n".encode())
        self._digests[path] = (state, digest.hexdigest())
        return digest.hexdigest()
