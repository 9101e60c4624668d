"""Artifacts: the only durable truth.

An artifact is an immutable set of files plus a manifest; its id is the manifest's sha256. Files go
up first, the manifest last and only if absent, so a reader sees all of an artifact or nothing.

    store = open_store("file:///var/lib/plumbline/store", cache_dir=..., cache_bytes=2**34)
    artifact = store.put("corpus", {"documents.parquet": path}, lineage=Lineage(stage="import"))
    store.tag("corpus/mine", artifact.id)
    with store.pinned("corpus/mine") as directory: ...
"""

from __future__ import annotations

from plumbline.core.artifacts.checkpoints import Checkpoints
from plumbline.core.artifacts.keys import check_key, check_tag, is_artifact_id
from plumbline.core.artifacts.manifest import (
    KINDS,
    Artifact,
    FileEntry,
    Lineage,
    Manifest,
    canonical_json,
    check_metrics,
)
from plumbline.core.artifacts.store import (
    ANY,
    ArtifactPage,
    ArtifactStore,
    LineageGraph,
    open_configured_store,
    open_store,
)

__all__ = [
    "ANY",
    "KINDS",
    "Artifact",
    "ArtifactPage",
    "ArtifactStore",
    "Checkpoints",
    "FileEntry",
    "Lineage",
    "LineageGraph",
    "Manifest",
    "canonical_json",
    "check_key",
    "check_metrics",
    "check_tag",
    "is_artifact_id",
    "open_configured_store",
    "open_store",
]
