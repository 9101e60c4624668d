"""Knowledge bases in the artifact store, and search over them."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Collection, Sequence

from plumbline.core.artifacts import ArtifactStore
from plumbline.core.errors import ConflictError, InvalidInputError, NotFoundError
from plumbline.data.records import ValueSpec
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.knowledge_bases import KnowledgeBases, knowledge_base_tag
from plumbline.retriever.readers.folders import read_values
from plumbline.retriever.search.config import EmbedderConfig
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.search.index import Hit, SearchMode
from plumbline.retriever.search.rerank import configured_reranker
from plumbline.retriever.search.stores import VectorStore
from plumbline.retriever.snapshots import Snapshot
from plumbline.retriever.values.changes import Change, changes_between
from plumbline.retriever.values.importing import ImportPlan, ValueSet, plan_import

_IMPORT_ATTEMPTS = 8


class RetrieverEngine:
    """Imports values and searches them."""

    def __init__(
        self,
        store: ArtifactStore,
        config: RetrieverConfig,
        *,
        embedder: EmbedderConfig | None = None,
        vectors: VectorStore | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self.bases = KnowledgeBases(
            store,
            snapshots=config.search.snapshots,
            embedder=embedder or config.search.embedder,
            vectors=vectors,
        )

    @property
    def store(self) -> ArtifactStore:
        """Where the knowledge bases lie."""
        return self._store

    @property
    def config(self) -> RetrieverConfig:
        """What the engine was made with."""
        return self._config

    def import_values(
        self,
        name: str,
        values: Sequence[ValueSpec],
        *,
        replace_all: bool = False,
        dry_run: bool = False,
        complete_sources: Collection[str] = (),
        revoked: Collection[str] = (),
        expected_artifact: str = "",
    ) -> tuple[ImportPlan, str]:
        """Merge values into `kb/NAME@latest`, all or nothing; arguments as `plan_import`.

        Returns:
            The plan, and the id of the knowledge base that is current afterwards.
        Raises:
            InvalidInputError, NotFoundError: a value or the name is refused; nothing has changed.
            ConflictError: other imports kept winning, or `expected_artifact` is not current.
        """
        tag = knowledge_base_tag(name)
        for _ in range(_IMPORT_ATTEMPTS):
            base = self._base(tag, expected_artifact)
            plan = plan_import(
                base.contents if base else ValueSet(),
                values,
                replace_all=replace_all,
                complete_sources=complete_sources,
                revoked=revoked,
            )
            before = base.artifact_id if base else ""
            plan = dataclasses.replace(plan, base=before)
            if dry_run or (base and plan.after == base.contents):
                return plan, before
            try:
                return plan, self.bases.publish(tag, plan.after, base)
            except ConflictError:
                continue
        raise ConflictError(
            f"knowledge base {name!r} changed {_IMPORT_ATTEMPTS} times during this import; "
            "nothing was imported, try again"
        )

    def _base(self, tag: str, expected: str) -> Snapshot | None:
        current = self.bases.current(tag)
        if expected and current != expected:
            raise ConflictError(
                f"{tag} is on {current or 'nothing'}, expected {expected}; nothing was imported",
                metadata={"tag": tag, "current": current or ""},
            )
        return self.bases.load(current) if current else None

    def read_artifact(self, reference: str) -> tuple[ValueSpec, ...]:
        """Values of the files of an artifact; errors as `read_values`."""
        with self._store.pinned(reference) as directory:
            try:
                return read_values([directory])
            except InvalidInputError as error:
                # The caller knows the artifact's files, not where this machine keeps them.
                message = error.message.replace(f"{directory}/", "")
                raise InvalidInputError(
                    f"artifact {reference[:12]}: {message}", reason=error.reason, field=error.field
                ) from None

    def list_values(
        self, knowledge_base: str, *, where: ValueQuery | None = None, source: str = ""
    ) -> tuple[ValueSpec, ...]:
        """Values in order of id and version.

        Args:
            where: only versions in force that a filter admits; None lists every version.
            source: only values of this document; empty means all.
        """
        if where is not None:
            values, _ = self.values_in_force(knowledge_base, where)
        else:
            values = self._snapshot(knowledge_base).contents.values
        return tuple(value for value in values if source in ("", value.source))

    def values_in_force(
        self, knowledge_base: str, where: ValueQuery
    ) -> tuple[tuple[ValueSpec, ...], str]:
        """The values that apply to a query in order of id, and the artifact that answered."""
        snapshot = self._snapshot(knowledge_base)
        return snapshot.index.in_force(where), snapshot.artifact_id

    def get_value(self, knowledge_base: str, value_id: str, version: int = 0) -> ValueSpec:
        """One value by id; version 0 means the newest edition, as corrected last.

        Raises:
            NotFoundError: no such value, or no such version of it.
        """
        values = self._snapshot(knowledge_base).contents.values
        first = bisect.bisect_left(values, value_id, key=lambda value: value.id)
        last = bisect.bisect_right(values, value_id, key=lambda value: value.id)
        versions = values[first:last]
        if not versions:
            raise NotFoundError(f"knowledge base {knowledge_base!r} has no value {value_id!r}")
        found = {value.version: value for value in versions}
        if version and version not in found:
            raise NotFoundError(
                f"value {value_id!r} has no version {version} in knowledge base "
                f"{knowledge_base!r}; it has: {', '.join(map(str, found))}"
            )
        # An older edition that was imported later has a higher version, and is not newer for that.
        newest = max(versions, key=lambda value: (value.effective_from, value.version))
        return found[version] if version else newest

    def diff(self, before: str, after: str) -> tuple[tuple[Change, ...], str, str]:
        """Changes from one state to another, and the artifact ids of both."""
        old, new = self._snapshot(before), self._snapshot(after)
        changes = changes_between(old.contents.values, new.contents.values)
        return changes, old.artifact_id, new.artifact_id

    def _snapshot(self, knowledge_base: str) -> Snapshot:
        return self.bases.load(self.bases.resolve(knowledge_base))

    def retrieve(
        self,
        knowledge_base: str,
        query: str,
        where: ValueQuery,
        *,
        k: int = 0,
        mode: str = SearchMode.FUSED,
        rerank: bool = False,
        diversity: float = 0.0,
    ) -> tuple[list[Hit], str]:
        """The values in force that match a query best, and the artifact that answered.

        Args:
            k: most values; 0 takes the configured number.
            mode: fused, dense or lexical.
            rerank: order the best by the configured cross-encoder.
            diversity: 0 ranks by relevance alone, 1 by difference from those before.
        Raises:
            NotFoundError: no such knowledge base.
            InvalidInputError: an argument is refused.
            FailedPreconditionError: no cross-encoder is configured.
        """
        if not query.strip():
            raise InvalidInputError("query is empty; accepted: some text", field="query")
        if not 0 <= k <= 1000:
            raise InvalidInputError(f"k={k} is refused; accepted: 0 (default) to 1000", field="k")
        snapshot = self._snapshot(knowledge_base)
        hits = snapshot.index.search(
            query,
            where,
            k=k or self._config.search.k,
            mode=mode,
            reranker=configured_reranker(self._config.search) if rerank else None,
            diversity=diversity,
            config=self._config.search,
        )
        return hits, snapshot.artifact_id
