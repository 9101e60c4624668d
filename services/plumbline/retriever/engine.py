"""Knowledge bases in the artifact store, search over them, and the composed prompt."""

from __future__ import annotations

import datetime
import json
import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plumbline.core.artifacts import ArtifactStore, Lineage
from plumbline.core.errors import ConflictError, InvalidInputError, NotFoundError
from plumbline.data.records import Message, Role, ValueSpec, system
from plumbline.data.tables import read_records, write_records
from plumbline.retriever.config import EmbedderConfig, RetrieverConfig
from plumbline.retriever.embedders import build_embedder
from plumbline.retriever.index import Hit, ValueIndex, governs, searchable_text
from plumbline.retriever.values import ImportPlan, parse_date, plan_import

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_ARTIFACT_ID = re.compile(r"[0-9a-f]{64}")
_IMPORT_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class ValueQuery:
    """Which values are looked at."""

    as_of: str = ""
    """ISO date; empty means today (UTC)."""
    jurisdiction: str = ""
    tenant: str = ""

    @property
    def day(self) -> datetime.date:
        return parse_date(self.as_of, "filter.as_of") or datetime.datetime.now(datetime.UTC).date()


def write_knowledge_base(
    directory: Path, values: Sequence[ValueSpec], embedder: EmbedderConfig
) -> None:
    """Write values, their vectors and the embedder's description: an artifact's files."""
    vectors = build_embedder(embedder).embed([searchable_text(value) for value in values])
    write_records(directory / "values.parquet", values, ValueSpec)
    np.save(directory / "vectors.npy", vectors, allow_pickle=False)
    (directory / "embedder.json").write_text(embedder.model_dump_json(indent=2) + "\n")


def load_knowledge_base(directory: Path) -> ValueIndex:
    """The index of a knowledge base's files."""
    embedder = EmbedderConfig(**json.loads((directory / "embedder.json").read_text()))
    vectors = np.load(directory / "vectors.npy", allow_pickle=False)
    values = read_records(directory / "values.parquet", ValueSpec)
    return ValueIndex(values, vectors, build_embedder(embedder))


def last_user_message(messages: Sequence[Message]) -> str:
    """What retrieval searches for.

    Raises:
        InvalidInputError: there is no message, or the last one is not the user's.
    """
    if not messages or messages[-1].role is not Role.USER:
        last = messages[-1].role if messages else "none"
        raise InvalidInputError(
            f"the prompt's last message is from {last}; accepted: a prompt that ends with a user "
            "message",
            field="prompt.messages",
        )
    return messages[-1].content


class RetrieverEngine:
    """Imports values, searches them, and composes prompts that carry them."""

    def __init__(
        self,
        store: ArtifactStore,
        config: RetrieverConfig,
        *,
        embedder: EmbedderConfig | None = None,
    ) -> None:
        self._store = store
        self._config = config
        self._embedder = embedder or EmbedderConfig()
        self._snapshots: OrderedDict[str, ValueIndex] = OrderedDict()
        self._lock = threading.Lock()

    def import_values(
        self,
        name: str,
        values: Sequence[ValueSpec],
        *,
        replace_all: bool = False,
        dry_run: bool = False,
    ) -> tuple[ImportPlan, str]:
        """Merge values into `kb/NAME@latest`, all or nothing.

        Returns:
            The plan, and the id of the knowledge base that is current afterwards.
        Raises:
            InvalidInputError: a value or the name is refused; nothing has changed.
            ConflictError: other imports kept winning.
        """
        tag = knowledge_base_tag(name)
        for _ in range(_IMPORT_ATTEMPTS):
            base = self._current(tag)
            current = self._index(base).values if base else ()
            plan = plan_import(current, values, replace_all=replace_all)
            if dry_run or (base and not (plan.added or plan.changed or plan.removed)):
                return plan, base or ""
            try:
                return plan, self._publish(tag, plan.values, base)
            except ConflictError:
                continue
        raise ConflictError(
            f"knowledge base {name!r} changed {_IMPORT_ATTEMPTS} times during this import; "
            "nothing was imported, try again"
        )

    def _publish(self, tag: str, values: Sequence[ValueSpec], base: str | None) -> str:
        with tempfile.TemporaryDirectory() as scratch:
            write_knowledge_base(Path(scratch), values, self._embedder)
            artifact = self._store.put(
                "knowledge-base",
                Path(scratch),
                lineage=Lineage(
                    stage="retriever.import",
                    config=self._embedder.model_dump(mode="json"),
                    inputs={"base": (base,)} if base else {},
                    version=1,
                ),
            )
        self._store.tag(tag, artifact.id, expected=base)
        return artifact.id

    def _current(self, tag: str) -> str | None:
        try:
            return self._store.resolve(tag)
        except NotFoundError:
            return None

    def resolve(self, knowledge_base: str) -> str:
        """The artifact id of a knowledge base's name, tag or id.

        Raises:
            NotFoundError: no such knowledge base.
        """
        if _ARTIFACT_ID.fullmatch(knowledge_base) or "@" in knowledge_base:
            return self._store.resolve(knowledge_base)
        artifact_id = self._current(knowledge_base_tag(knowledge_base))
        if artifact_id is None:
            raise NotFoundError(
                f"knowledge base {knowledge_base!r} does not exist; import values into it first"
            )
        return artifact_id

    def _index(self, artifact_id: str) -> ValueIndex:
        with self._lock:
            if artifact_id in self._snapshots:
                self._snapshots.move_to_end(artifact_id)
                return self._snapshots[artifact_id]
        artifact = self._store.get(artifact_id)
        if artifact.kind != "knowledge-base":
            raise InvalidInputError(
                f"artifact {artifact_id[:12]} is of kind {artifact.kind!r}; "
                "accepted: knowledge-base",
                field="knowledge_base",
            )
        index = load_knowledge_base(self._store.materialise(artifact_id))
        with self._lock:
            self._snapshots[artifact_id] = index
            while len(self._snapshots) > self._config.snapshots:
                self._snapshots.popitem(last=False)
        return index

    def list_values(self, knowledge_base: str) -> tuple[ValueSpec, ...]:
        """Every value, in order of id."""
        return self._index(self.resolve(knowledge_base)).values

    def get_value(self, knowledge_base: str, value_id: str) -> ValueSpec:
        """One value by id."""
        for value in self.list_values(knowledge_base):
            if value.id == value_id:
                return value
        raise NotFoundError(f"knowledge base {knowledge_base!r} has no value {value_id!r}")

    def retrieve(
        self, knowledge_base: str, query: str, where: ValueQuery, *, k: int = 0
    ) -> tuple[list[Hit], str]:
        """The values in force that match a query best, and the artifact that answered."""
        if not query.strip():
            raise InvalidInputError("query is empty; accepted: some text", field="query")
        if not 0 <= k <= 1000:
            raise InvalidInputError(f"k={k} is refused; accepted: 0 (default) to 1000", field="k")
        artifact_id = self.resolve(knowledge_base)
        hits = self._index(artifact_id).search(
            query,
            k=k or self._config.k,
            as_of=where.day,
            jurisdiction=where.jurisdiction,
            tenant=where.tenant,
            rrf_k=self._config.rrf_k,
        )
        return hits, artifact_id

    def compose(
        self, knowledge_base: str, messages: Sequence[Message], where: ValueQuery
    ) -> tuple[list[Message], list[ValueSpec], str]:
        """The prompt with its governing values in the system message.

        Returns:
            Messages, the values written into them (highest priority first), the artifact's id.
            A prompt that no value governs comes back unchanged.
        """
        query = last_user_message(messages)
        hits, artifact_id = self.retrieve(knowledge_base, query, where, k=1000)
        found = [
            hit.value for hit in hits if governs(hit, query, min_cosine=self._config.min_cosine)
        ]
        # The sort is stable: within one priority the better match stays first.
        governing = sorted(found[: self._config.k], key=lambda value: -value.priority)
        return self._with_rules(messages, governing), governing, artifact_id

    def _with_rules(
        self, messages: Sequence[Message], values: Sequence[ValueSpec]
    ) -> list[Message]:
        if not values:
            return list(messages)
        rules = "\n".join(self._config.rule_template.format(text=value.text) for value in values)
        if messages[0].role is Role.SYSTEM:
            return [system(f"{messages[0].content}\n{rules}"), *messages[1:]]
        return [system(rules), *messages]


def knowledge_base_tag(name: str) -> str:
    """The tag that holds a knowledge base's current artifact."""
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"knowledge base name {name!r} is refused; accepted: up to 63 of a-z, 0-9, _ and -, "
            "starting with a letter or digit",
            field="knowledge_base",
        )
    return f"kb/{name}@latest"
