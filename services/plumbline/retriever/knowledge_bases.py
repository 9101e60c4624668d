"""Knowledge bases of a store: their names and history, and states held in memory for search.

A state of a knowledge base is an artifact and never changes; `kb/NAME@latest` moves from one to
the next, and each names the one before it. A tag is looked up for every call, so that what is
revoked has no effect from the moment the tag moves.
"""

from __future__ import annotations

import itertools
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from plumbline.core.artifacts import ArtifactStore, Lineage, is_artifact_id
from plumbline.core.errors import (
    ConflictError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
)
from plumbline.retriever.search.config import EmbedderConfig
from plumbline.retriever.search.stores import VectorStore
from plumbline.retriever.snapshots import Snapshot, load_knowledge_base, write_knowledge_base
from plumbline.retriever.values.importing import ValueSet

KIND: Final = "knowledge-base"
LATEST: Final = "latest"
IMPORT_STAGE: Final = "retriever.import"
_BASE: Final = "base"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class State:
    """One state in a knowledge base's history."""

    artifact_id: str
    values: int
    """Rows: every version of every value."""
    created_at: str
    """RFC 3339; empty where the store does not know."""
    tags: tuple[str, ...]
    """Tags that are on it now."""


def knowledge_base_tag(name: str, tag: str = LATEST) -> str:
    """The store's tag of a knowledge base.

    Raises:
        InvalidInputError: a name that is not accepted.
    """
    for what, given in (("name", name), ("tag", tag)):
        if not _NAME.fullmatch(given):
            raise InvalidInputError(
                f"knowledge base {what} {given!r} is refused; accepted: up to 63 of a-z, 0-9, _ "
                "and -, starting with a letter or digit",
                field="knowledge_base" if what == "name" else "tag",
            )
    return f"kb/{name}@{tag}"


class KnowledgeBases:
    """Knowledge bases of one store. Safe for use by many threads.

    Args:
        snapshots: most states held in memory.
        embedder: of what is imported; None keeps a knowledge base's own, and takes the default
            for a new one.
        vectors: where vectors are searched; in this process when None.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        snapshots: int,
        embedder: EmbedderConfig | None = None,
        vectors: VectorStore | None = None,
    ) -> None:
        self._store = store
        self._vectors = vectors
        self._embedder = embedder
        self._most = snapshots
        self._snapshots: OrderedDict[str, Snapshot] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def current(self, tag: str) -> str | None:
        """The artifact that a tag of the store is on; None where there is no such tag."""
        try:
            return self._store.resolve(tag)
        except NotFoundError:
            return None

    def resolve(self, knowledge_base: str) -> str:
        """The artifact id of a knowledge base's name, tag or id.

        A tag is written `kb/NAME@TAG`, or `NAME@TAG`.

        Raises:
            NotFoundError: no such knowledge base.
        """
        if is_artifact_id(knowledge_base):
            return knowledge_base
        if "/" in knowledge_base:
            return self._store.resolve(knowledge_base)
        name, _, tag = knowledge_base.partition("@")
        artifact_id = self.current(knowledge_base_tag(name, tag or LATEST))
        if artifact_id is None:
            raise NotFoundError(
                f"knowledge base {knowledge_base!r} does not exist; import values into it first"
            )
        return artifact_id

    def load(self, artifact_id: str) -> Snapshot:
        """A state by its artifact's id, from memory where it is held.

        Raises:
            NotFoundError: there is no such artifact.
            InvalidInputError: it is no knowledge base.
        """
        held = self._held(artifact_id)
        if held is not None:
            return held
        with self._lock:
            loading = self._loading.setdefault(artifact_id, threading.Lock())
        # One thread builds a state's index; those that come meanwhile wait for it.
        try:
            with loading:
                held = self._held(artifact_id)
                return held if held is not None else self._load(artifact_id)
        finally:
            with self._lock:
                self._loading.pop(artifact_id, None)

    def held(self) -> list[str]:
        """Artifact ids of the states in memory, the one used last at the end."""
        with self._lock:
            return list(self._snapshots)

    def _held(self, artifact_id: str) -> Snapshot | None:
        with self._lock:
            if artifact_id in self._snapshots:
                self._snapshots.move_to_end(artifact_id)
            return self._snapshots.get(artifact_id)

    def _load(self, artifact_id: str) -> Snapshot:
        self._check_kind(artifact_id)
        with self._store.pinned(artifact_id) as directory:
            snapshot = load_knowledge_base(directory, artifact_id, store=self._vectors)
        with self._lock:
            self._snapshots[artifact_id] = snapshot
            while len(self._snapshots) > self._most:
                self._snapshots.popitem(last=False)
        return snapshot

    def _check_kind(self, artifact_id: str) -> None:
        kind = self._store.get(artifact_id).kind
        if kind != KIND:
            raise InvalidInputError(
                f"artifact {artifact_id[:12]} is of kind {kind!r}; accepted: {KIND}",
                field="knowledge_base",
            )

    def publish(self, tag: str, contents: ValueSet, base: Snapshot | None) -> str:
        """Make a state an artifact, and move a tag from the state before to it.

        Raises:
            ConflictError: the tag is not on `base` any more; the artifact stays unnamed.
        """
        embedder = self._embedder_for(base)
        with tempfile.TemporaryDirectory() as scratch:
            write_knowledge_base(Path(scratch), contents, embedder, base=base)
            artifact = self._store.put(
                KIND,
                Path(scratch),
                lineage=Lineage(
                    stage=IMPORT_STAGE,
                    version=2,
                    config=embedder.model_dump(mode="json"),
                    inputs={_BASE: (base.artifact_id,)} if base else {},
                ),
                metrics={"values": float(len(contents.values))},
                run_info={"finished_at": time.time()},
            )
        # Loaded before the tag moves: what cannot be read never goes live, and the first request
        # that it answers need not wait.
        self.load(artifact.id)
        self._store.tag(tag, artifact.id, expected=base.artifact_id if base else None)
        return artifact.id

    def _embedder_for(self, base: Snapshot | None) -> EmbedderConfig:
        if self._embedder is not None:
            return self._embedder
        return base.embedder if base else EmbedderConfig()

    def move_tag(self, name: str, tag: str, target: str, *, expected: str = "") -> tuple[str, str]:
        """Put a tag of a knowledge base on one of its states.

        Args:
            target: artifact id, or a tag of the same knowledge base.
            expected: the artifact that the tag must be on now; empty means any.
        Returns:
            the artifact that it is on now, and the one before; empty where the tag is new.
        Raises:
            FailedPreconditionError: the target tag belongs to another knowledge base.
            ConflictError: the tag is not where it was expected.
        """
        moved = knowledge_base_tag(name, tag or LATEST)
        artifact_id = (
            target if is_artifact_id(target) else self.resolve(self._own_tag(name, target))
        )
        self.load(artifact_id)
        before = self.current(moved)
        if expected and before != expected:
            raise ConflictError(
                f"tag {moved} is on {before or 'nothing'}, expected {expected}",
                metadata={"tag": moved, "current": before or ""},
            )
        self._store.tag(moved, artifact_id, expected=before)
        return artifact_id, before or ""

    def _own_tag(self, name: str, target: str) -> str:
        short = target.removeprefix("kb/")
        owner, separator, tag = short.partition("@")
        if not separator:
            owner, tag = name, short
        if owner != name:
            raise FailedPreconditionError(
                f"{target!r} is a state of knowledge base {owner!r}; accepted: a tag of {name!r}, "
                "or an artifact id"
            )
        return f"{name}@{tag}"

    def states(self, knowledge_base: str, start: int = 0, count: int | None = None) -> list[State]:
        """A state and those that it came from, newest first: `count` of them from `start` on."""
        end = None if count is None else start + count
        return list(itertools.islice(self._history(knowledge_base), start, end))

    def _history(self, knowledge_base: str) -> Iterator[State]:
        names: dict[str, list[str]] = {}
        for tag, held in self._store.tags().items():
            names.setdefault(held, []).append(tag)
        artifact_id: str | None = self.resolve(knowledge_base)
        while artifact_id is not None:
            self._check_kind(artifact_id)
            artifact = self._store.get(artifact_id)
            created = _finished_at(self._store.run_info(artifact_id))
            rows = artifact.manifest.metrics.get("values")
            count = int(rows) if rows is not None else len(self.load(artifact_id).contents.values)
            yield State(artifact_id, count, created, tuple(names.get(artifact_id, ())))
            earlier = artifact.manifest.lineage.inputs.get(_BASE, ())
            artifact_id = earlier[0] if earlier and self._store.exists(earlier[0]) else None


def _finished_at(run_info: Mapping[str, Any]) -> str:
    """RFC 3339 time at which an artifact's work ended; empty where nobody noted it."""
    finished = run_info.get("finished_at")
    if not isinstance(finished, int | float):
        return ""
    return datetime.fromtimestamp(finished, UTC).isoformat(timespec="seconds")
