"""What an artifact is: its manifest, and the canonical bytes that its id is the digest of.

Nothing in a manifest depends on when or where it was made; such facts go to `run.json`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from plumbline.core.artifacts.keys import check_artifact_id, check_key
from plumbline.core.errors import CorruptArtifactError, InvalidInputError

KINDS: Final = (
    "corpus",
    "conversations",
    "preferences",
    "rollouts",
    "policy",
    "adapters",
    "reward-model",
    "knowledge-base",
    "filter",
    "shard",
    "report",
)
"""Kinds that the platform's stages make. The store takes any kind that is a valid name."""

_MEDIA_TYPES: Final = {
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
    ".safetensors": "application/vnd.safetensors",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
    ".zst": "application/zstd",
}


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Relative path with forward slashes."""
    sha256: str
    size_bytes: int = Field(ge=0)
    media_type: str


class Lineage(BaseModel):
    """What made an artifact; together with the inputs' own lineage it is the whole history."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    """For example trainer.sft; `import` for files that came from outside."""
    version: int = 1
    """The stage's code version."""
    config: Mapping[str, Any] = Field(default_factory=dict)
    """Canonical stage config, JSON-compatible."""
    inputs: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Artifact ids by input name."""

    @field_validator("inputs")
    @classmethod
    def _inputs_are_ids(cls, inputs: Mapping[str, tuple[str, ...]]) -> Mapping[str, Any]:
        for artifact_ids in inputs.values():
            for artifact_id in artifact_ids:
                check_artifact_id(artifact_id)
        return inputs

    def input_ids(self) -> Iterator[tuple[str, str]]:
        """(input name, artifact id) pairs, in the order of names."""
        for name in sorted(self.inputs):
            for artifact_id in self.inputs[name]:
                yield name, artifact_id


class Manifest(BaseModel):
    """Content of `manifest.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    kind: str
    files: tuple[FileEntry, ...]
    """Sorted by name."""
    lineage: Lineage
    metrics: Mapping[str, float] = Field(default_factory=dict)
    """Deterministic figures about the content."""
    published: Mapping[str, float] = Field(default_factory=dict)
    """Run metrics that the producing stage publishes; a cached stage still yields them."""

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)

    def file(self, name: str) -> FileEntry | None:
        return next((entry for entry in self.files if entry.name == name), None)

    def to_bytes(self) -> bytes:
        """Canonical JSON, newline-free: the bytes that the id is the digest of."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def artifact_id(self) -> str:
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes, artifact_id: str) -> Manifest:
        """Parse a stored manifest after its digest was checked.

        Raises:
            CorruptArtifactError: the bytes are not those that the id names.
        """
        found = hashlib.sha256(data).hexdigest()
        if found != artifact_id:
            raise CorruptArtifactError(
                f"manifest of artifact {artifact_id} has sha256 {found}; its bytes were altered",
                metadata={"artifact_id": artifact_id, "file": "manifest.json"},
            )
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            raise CorruptArtifactError(
                f"manifest of artifact {artifact_id} is not readable: {error.errors()[0]['msg']}; "
                "it was written by an incompatible version"
            ) from None
        check_file_names([entry.name for entry in manifest.files])
        return manifest


class Artifact(BaseModel):
    """An immutable set of files with its manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    manifest: Manifest

    @property
    def kind(self) -> str:
        return self.manifest.kind


def canonical_json(value: Any) -> bytes:
    """One spelling per value: sorted keys, no spaces, UTF-8, finite numbers only.

    Raises:
        InvalidInputError: the value holds NaN or infinity.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except ValueError as error:
        raise InvalidInputError(f"{error}; accepted: finite numbers") from None
    return text.encode("utf-8")


def check_metrics(metrics: Mapping[str, float], *, what: str) -> dict[str, float]:
    """Metrics as plain floats, in the order of names.

    Raises:
        InvalidInputError: one is not finite; JSON has no spelling for it.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise InvalidInputError(
                f"{what} {name!r} is {value}; accepted: finite numbers", field=name
            )
    return {name: float(metrics[name]) for name in sorted(metrics)}


def check_file_names(names: list[str]) -> None:
    """Refuse names that no directory could hold together.

    Raises:
        InvalidInputError: an invalid name, two names that differ only by case, or a name that is
            also another one's directory.
    """
    seen: dict[str, str] = {}
    for name in names:
        check_key(name, what="file name")
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise InvalidInputError(
                f"file names {other!r} and {name!r} differ only by case", field="files"
            )
    for name in names:
        for parent in PurePosixPath(name).parents:
            if parent.as_posix().casefold() in seen:
                raise InvalidInputError(
                    f"file name {parent.as_posix()!r} is also the directory of {name!r}",
                    field="files",
                )


def media_type(name: str) -> str:
    """From a fixed table: the host's own table would make ids differ between machines."""
    return _MEDIA_TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")
