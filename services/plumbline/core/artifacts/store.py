"""The artifact store: one logic over any backend.

Key layout:
    artifacts/<id>/files/<sha256>    content, under its own digest
    artifacts/<id>/run.json          when, where and how long; outside the digest
    artifacts/<id>/manifest.json     last and only if absent: it makes the artifact visible
    tags/<name>@<label>              movable names, changed by compare-and-set
    outputs/<stage key>              which artifact a stage's work ended in
    checkpoints/...                  see checkpoints.py
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from plumbline.core.artifacts.backend import ObjectBackend
from plumbline.core.artifacts.cache import LocalCache
from plumbline.core.artifacts.checkpoints import Checkpoints
from plumbline.core.artifacts.disk import disk_errors, hash_file
from plumbline.core.artifacts.file_backend import FileBackend
from plumbline.core.artifacts.files import directory_files
from plumbline.core.artifacts.keys import (
    check_artifact_id,
    check_key,
    check_tag,
    is_artifact_id,
)
from plumbline.core.artifacts.manifest import (
    Artifact,
    FileEntry,
    Lineage,
    Manifest,
    canonical_json,
    check_file_names,
    check_metrics,
    media_type,
)
from plumbline.core.errors import (
    ConfigError,
    ConflictError,
    CorruptArtifactError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
)
from plumbline.core.settings import Settings

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000
_TAG_ATTEMPTS: Final = 8


class _Any(enum.Enum):
    ANY = "any"


ANY: Final = _Any.ANY
"""For `tag`: whatever the tag names now."""


@dataclass(frozen=True, slots=True)
class ArtifactPage:
    """One page of a listing; an empty token marks the end."""

    artifacts: tuple[Artifact, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class LineageGraph:
    """An artifact's ancestry."""

    nodes: Mapping[str, Artifact | None]
    """By id; None where an ancestor was deleted."""
    edges: tuple[tuple[str, str, str], ...]
    """(input artifact id, input name, output artifact id)."""


class ArtifactStore:
    """Artifacts, tags, stage outputs and checkpoints in one backend, with a local cache.

    Safe for use by many threads and processes at once.
    """

    def __init__(self, backend: ObjectBackend, cache: LocalCache) -> None:
        self._backend = backend
        self._cache = cache
        self.checkpoints = Checkpoints(backend)

    @property
    def url(self) -> str:
        return self._backend.url

    def put(
        self,
        kind: str,
        files: Mapping[str, Path | bytes] | Path,
        *,
        lineage: Lineage,
        metrics: Mapping[str, float] | None = None,
        published: Mapping[str, float] | None = None,
        run_info: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Publish files as an artifact; the same content again gives the same artifact.

        Args:
            files: by name, or a directory whose files are taken all.
            lineage: what made it; part of the id.
            metrics, published: deterministic figures; part of the id.
            run_info: facts about this run (times, host); kept beside, outside the id.
        Raises:
            InvalidInputError: a name, symbolic link or metric that is refused.
            StorageFullError, StorageUnavailableError: nothing became visible.
        """
        check_key(kind, what="kind")
        sources = directory_files(files) if isinstance(files, Path) else dict(files)
        if not sources:
            raise InvalidInputError("an artifact needs at least one file", field="files")
        check_file_names(list(sources))
        manifest = Manifest(
            kind=kind,
            files=tuple(_entry(name, sources[name]) for name in sorted(sources)),
            lineage=lineage,
            metrics=check_metrics(metrics or {}, what="metric"),
            published=check_metrics(published or {}, what="published metric"),
        )
        artifact = Artifact(id=manifest.artifact_id, manifest=manifest)
        self._upload_files(artifact, sources)
        self._publish(artifact, run_info or {})
        return artifact

    def get(self, reference: str) -> Artifact:
        """The artifact that an id or a tag names.

        Raises:
            NotFoundError: there is none.
            CorruptArtifactError: its manifest was altered.
        """
        artifact_id = self.resolve(reference)
        try:
            data, _ = self._backend.get(_manifest_key(artifact_id))
        except NotFoundError:
            raise NotFoundError(
                f"there is no artifact {reference} in {self.url}",
                metadata={"artifact_id": artifact_id},
            ) from None
        return Artifact(id=artifact_id, manifest=Manifest.from_bytes(data, artifact_id))

    def exists(self, artifact_id: str) -> bool:
        """Whether an artifact is visible; its content is not looked at."""
        key = _manifest_key(check_artifact_id(artifact_id))
        return self._backend.size_bytes(key) is not None

    def materialise(self, reference: str) -> Path:
        """Local directory with the artifact's verified files, read-only.

        A later call may evict it when the cache is full; `pinned` holds it.

        Raises:
            CorruptArtifactError: stored bytes do not match the manifest.
            StorageFullError: no room on the local disk.
        """
        artifact = self.get(reference)
        return self._cache.materialise(artifact, self._fetch(artifact.id))

    @contextmanager
    def pinned(self, reference: str) -> Iterator[Path]:
        """As `materialise`; the directory stays until the block ends."""
        artifact = self.get(reference)
        with self._cache.pinned(artifact, self._fetch(artifact.id)) as path:
            yield path

    def read_bytes(self, reference: str, name: str) -> bytes:
        """One small file of an artifact, verified.

        Raises:
            NotFoundError: the artifact has no such file.
            CorruptArtifactError: stored bytes do not match the manifest.
        """
        artifact = self.get(reference)
        entry = artifact.manifest.file(check_key(name, what="file name"))
        if entry is None:
            names = ", ".join(entry.name for entry in artifact.manifest.files[:20])
            raise NotFoundError(f"artifact {reference} has no file {name!r}; it has: {names}")
        try:
            data, _ = self._backend.get(_file_key(artifact.id, entry.sha256))
        except NotFoundError as error:
            raise _corrupt(artifact.id, entry, "is missing from the store") from error
        found = hashlib.sha256(data).hexdigest()
        if found != entry.sha256:
            raise _corrupt(artifact.id, entry, f"has sha256 {found}; its bytes were altered")
        return data

    def run_info(self, reference: str) -> dict[str, Any]:
        """When, where and how long: what `put` was told about the run that made the artifact."""
        try:
            data, _ = self._backend.get(f"{_prefix(self.resolve(reference))}run.json")
        except NotFoundError:
            return {}
        return dict(json.loads(data))

    def verify(self, reference: str) -> Artifact:
        """Read every byte of an artifact anew, past the cache.

        Raises:
            CorruptArtifactError: for the first file that does not match.
        """
        artifact = self.get(reference)
        self._cache.discard(artifact.id)
        with self.pinned(artifact.id):
            return artifact

    def delete(self, reference: str) -> None:
        """Remove an artifact that no tag names. Other artifacts' lineage keeps its id.

        Raises:
            FailedPreconditionError: a tag names it.
        """
        artifact_id = self.resolve(reference)
        holders = [name for name, held in self.tags().items() if held == artifact_id]
        if holders:
            raise FailedPreconditionError(
                f"artifact {artifact_id} is named by the tag {holders[0]}; untag it first"
            )
        # The manifest first, so that nobody sees the artifact without its files.
        self._backend.delete(_manifest_key(artifact_id))
        for key in list(self._backend.keys(_prefix(artifact_id))):
            self._backend.delete(key)
        self._cache.discard(artifact_id)

    def tag(self, name: str, artifact_id: str, *, expected: str | _Any | None = ANY) -> None:
        """Point a tag at an artifact.

        Args:
            expected: the id that the tag must name now; None where it must not exist; ANY
                (default) moves it from wherever it is.
        Raises:
            NotFoundError: there is no such artifact.
            ConflictError: the tag is not where it was expected.
        """
        tag = check_tag(name)
        if not self.exists(artifact_id):
            raise NotFoundError(f"there is no artifact {artifact_id} in {self.url}")
        for attempt in range(_TAG_ATTEMPTS):
            current, version = self._pointer(f"tags/{tag}")
            if expected is not ANY and current != expected:
                raise ConflictError(
                    f"tag {tag} names {current or 'nothing'}, expected {expected or 'nothing'}",
                    metadata={"tag": tag, "current": current or ""},
                )
            if current == artifact_id:
                return
            try:
                self._backend.put_if(f"tags/{tag}", _pointer_bytes(artifact_id), expected=version)
            except ConflictError:
                if attempt == _TAG_ATTEMPTS - 1:
                    raise
            else:
                return

    def untag(self, name: str) -> None:
        """Remove a tag; absent is fine."""
        self._backend.delete(f"tags/{check_tag(name)}")

    def resolve(self, reference: str) -> str:
        """The artifact id that an id or a tag names; the artifact itself is not looked up.

        Raises:
            InvalidInputError: neither an id nor a valid tag.
            NotFoundError: there is no such tag.
        """
        if is_artifact_id(reference):
            return reference
        tag = check_tag(reference)
        artifact_id, _ = self._pointer(f"tags/{tag}")
        if artifact_id is None:
            raise NotFoundError(f"there is no tag {tag} in {self.url}", metadata={"tag": tag})
        return artifact_id

    def tags(self) -> dict[str, str]:
        """Artifact id by tag, sorted."""
        found = {}
        for key in self._backend.keys("tags/"):
            artifact_id, _ = self._pointer(key)
            if artifact_id is not None:
                found[key.removeprefix("tags/")] = artifact_id
        return found

    def find_output(self, key: str) -> str | None:
        """Id of the artifact that a stage key's work ended in, if it is still there."""
        artifact_id, _ = self._pointer(_output_key(key))
        return artifact_id if artifact_id is not None and self.exists(artifact_id) else None

    def record_output(self, key: str, artifact_id: str) -> str:
        """Record a stage's output. The first to finish wins.

        Returns:
            the id that stands: another one than given where the same work was recorded before
            with other bytes, which a deterministic stage never does.
        """
        for _ in range(_TAG_ATTEMPTS):
            current, version = self._pointer(_output_key(key))
            if current is not None and self.exists(current):
                return current
            try:
                self._backend.put_if(
                    _output_key(key), _pointer_bytes(artifact_id), expected=version
                )
            except ConflictError:
                continue
            return artifact_id
        raise ConflictError(f"the output of stage key {key} keeps changing")

    def list(
        self,
        *,
        kind: str | None = None,
        page_size: int = DEFAULT_PAGE_SIZE,
        page_token: str = "",
    ) -> ArtifactPage:
        """Artifacts in the order of ids.

        Args:
            page_size: at most; 0 means the default, larger than 1000 is taken as 1000.
            page_token: `next_page_token` of the page before.
        Raises:
            InvalidInputError: a negative page size, or a token from nowhere.
        """
        if page_size < 0:
            raise InvalidInputError(
                f"page_size is {page_size}; accepted: 0 or more", field="page_size"
            )
        if page_token and not is_artifact_id(page_token):
            raise InvalidInputError(
                f"page_token {page_token[:80]!r} did not come from a listing", field="page_token"
            )
        size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        found = list(itertools.islice(self._iterate(kind, after=page_token), size + 1))
        more = len(found) > size
        return ArtifactPage(tuple(found[:size]), found[size - 1].id if more else "")

    def lineage(self, reference: str) -> LineageGraph:
        """All ancestors of an artifact, itself included."""
        nodes: dict[str, Artifact | None] = {}
        edges: list[tuple[str, str, str]] = []
        waiting = [self.get(reference).id]
        while waiting:
            artifact_id = waiting.pop(0)
            if artifact_id in nodes:
                continue
            try:
                artifact = self.get(artifact_id)
            except NotFoundError:
                nodes[artifact_id] = None
                continue
            nodes[artifact_id] = artifact
            for name, input_id in artifact.manifest.lineage.input_ids():
                edges.append((input_id, name, artifact_id))
                waiting.append(input_id)
        return LineageGraph(nodes, tuple(edges))

    def _iterate(self, kind: str | None, *, after: str) -> Iterator[Artifact]:
        for artifact_id in self._backend.children("artifacts/", after=after):
            if not is_artifact_id(artifact_id):
                continue
            try:
                artifact = self.get(artifact_id)
            except NotFoundError:
                continue  # files without a manifest: an upload under way, or one that was cut off
            if kind is None or artifact.kind == kind:
                yield artifact

    def _upload_files(self, artifact: Artifact, sources: Mapping[str, Path | bytes]) -> None:
        """Files that are there already are not sent again: an earlier try, or equal content."""
        for entry in artifact.manifest.files:
            key = _file_key(artifact.id, entry.sha256)
            if self._backend.size_bytes(key) != entry.size_bytes:
                self._backend.put(key, sources[entry.name], sha256=entry.sha256)

    def _publish(self, artifact: Artifact, run_info: Mapping[str, Any]) -> None:
        run_key = f"{_prefix(artifact.id)}run.json"
        if self._backend.size_bytes(run_key) is None:
            data = canonical_json(run_info)
            self._backend.put(run_key, data, sha256=hashlib.sha256(data).hexdigest())
        try:
            self._backend.put_if(
                _manifest_key(artifact.id), artifact.manifest.to_bytes(), expected=None
            )
        except ConflictError:
            # The id is the digest of these bytes, so whoever was first wrote the same ones;
            # reading them back says so if they were altered since.
            self.get(artifact.id)

    def _fetch(self, artifact_id: str) -> Any:
        def fetch(entry: FileEntry, destination: Path) -> str:
            return self._backend.download(_file_key(artifact_id, entry.sha256), destination)

        return fetch

    def _pointer(self, key: str) -> tuple[str | None, str | None]:
        """(artifact id, version) of a tag or an output record; (None, None) where absent."""
        try:
            data, version = self._backend.get(key)
        except NotFoundError:
            return None, None
        try:
            return check_artifact_id(json.loads(data)["artifact_id"]), version
        except (ValueError, KeyError, TypeError, InvalidInputError) as error:
            raise CorruptArtifactError(f"{key} in {self.url} is not readable: {error}") from error


def open_store(
    url: str, *, cache_dir: Path, cache_bytes: int, settings: Settings | None = None
) -> ArtifactStore:
    """Open the store at a URL.

    Args:
        url: `file:///directory` or `s3://bucket/prefix`.
        cache_dir: local copies; processes of one machine may share it.
        cache_bytes: bound of the local copies.
        settings: S3 endpoint and keys; from the environment unless given.
    Raises:
        ConfigError: the URL is not accepted.
        StorageUnavailableError: the directory cannot be used. An S3 store is asked at first use.
    """
    return ArtifactStore(_open_backend(url, settings), LocalCache(cache_dir, cache_bytes))


def open_configured_store(settings: Settings) -> ArtifactStore:
    """Open the store that the settings name."""
    return open_store(
        settings.store_url,
        cache_dir=settings.cache_dir,
        cache_bytes=settings.cache_bytes,
        settings=settings,
    )


def _open_backend(url: str, settings: Settings | None) -> ObjectBackend:
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return FileBackend(Path(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        # Imported here: a machine that uses file:// need not wait for the S3 client.
        from plumbline.core.artifacts.s3_backend import S3Backend

        access = (settings or Settings.from_environment()).s3_access
        prefix = parts.path.strip("/")
        return S3Backend(
            parts.netloc, check_key(prefix, what="store prefix") if prefix else "", access=access
        )
    raise ConfigError(
        f"store {url!r} is not accepted; accepted: file:///directory or s3://bucket/prefix",
        field="store",
    )


def _entry(name: str, source: Path | bytes) -> FileEntry:
    if isinstance(source, bytes):
        digest, size = hashlib.sha256(source).hexdigest(), len(source)
    else:
        with disk_errors(f"reading {source}"):
            digest, size = hash_file(source)
    return FileEntry(name=name, sha256=digest, size_bytes=size, media_type=media_type(name))


def _prefix(artifact_id: str) -> str:
    return f"artifacts/{artifact_id}/"


def _manifest_key(artifact_id: str) -> str:
    return f"{_prefix(artifact_id)}manifest.json"


def _file_key(artifact_id: str, sha256: str) -> str:
    return f"{_prefix(artifact_id)}files/{check_artifact_id(sha256)}"


def _output_key(key: str) -> str:
    return f"outputs/{check_artifact_id(key)}"


def _pointer_bytes(artifact_id: str) -> bytes:
    return canonical_json({"artifact_id": check_artifact_id(artifact_id)})


def _corrupt(artifact_id: str, entry: FileEntry, what: str) -> CorruptArtifactError:
    return CorruptArtifactError(
        f"file {entry.name!r} of artifact {artifact_id} {what}",
        metadata={"artifact_id": artifact_id, "file": entry.name},
    )
