"""Stored documents as evidence: corpora, and the values in force of knowledge bases."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from plumbline.core.artifacts import ArtifactStore
from plumbline.core.errors import InvalidInputError
from plumbline.data.readers import open_artifact_dataset
from plumbline.data.records import Document as StoredDocument
from plumbline.data.records import ValueSpec
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.tools.citations import Library
from plumbline.retriever.tools.config import ToolsConfig
from plumbline.retriever.tools.evidence import DocumentIndex, EvidenceSource
from plumbline.retriever.tools.records import Document


@dataclass(frozen=True, slots=True)
class OpenCorpus:
    """A corpus ready to be searched and looked up in."""

    source: EvidenceSource
    library: Library


class Corpora(Protocol):
    """Opens what a request names as its corpus."""

    def open(self, corpus: str) -> OpenCorpus: ...


class StoredCorpora:
    """Corpora of the artifact store. Safe for use by many threads."""

    def __init__(self, store: ArtifactStore, values: RetrieverEngine, config: ToolsConfig) -> None:
        self._store = store
        self._values = values
        self._config = config
        self._open: OrderedDict[str, OpenCorpus] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, corpus: str) -> OpenCorpus:
        """A corpus or knowledge base by name, tag or artifact id.

        Raises:
            NotFoundError: there is none of this name.
            InvalidInputError: it holds neither documents nor values, or too many.
        """
        is_stored_name = "/" in corpus or len(corpus) == 64
        if is_stored_name and self._store.get(corpus).kind != "knowledge-base":
            artifact_id = self._store.resolve(corpus)
            return self._kept(artifact_id, lambda: self._open_documents(artifact_id))
        where = ValueQuery()
        values, artifact_id = self._values.values_in_force(corpus, where)
        day = where.day.isoformat()
        return self._kept(
            f"{artifact_id} on {day}", lambda: self._open_values(artifact_id, day, values)
        )

    def _kept(self, key: str, make: Callable[[], OpenCorpus]) -> OpenCorpus:
        with self._lock:
            if key in self._open:
                self._open.move_to_end(key)
                return self._open[key]
        # Outside the lock: an index of a large corpus takes seconds. Made twice it is the same.
        made = make()
        with self._lock:
            self._open[key] = made
            while len(self._open) > self._config.cached_corpora:
                self._open.popitem(last=False)
        return made

    def _open_documents(self, artifact_id: str) -> OpenCorpus:
        limit = self._config.max_corpus_documents
        documents: list[Document] = []
        with self._store.pinned(artifact_id) as directory:
            for stored in open_artifact_dataset(directory, StoredDocument):
                if len(documents) == limit:
                    raise InvalidInputError(
                        f"corpus {artifact_id[:12]} has more than {limit} documents; up to "
                        f"{limit} are searched",
                        field="corpus",
                    )
                title = stored.metadata.get("title", "")
                documents.append(Document(stored.id, stored.text, title))
        return OpenCorpus(DocumentIndex(documents), Library(documents))

    def _open_values(self, artifact_id: str, day: str, values: Sequence[ValueSpec]) -> OpenCorpus:
        source = _KnowledgeBase(self._values, artifact_id, day)
        return OpenCorpus(source, Library([_document(value) for value in values]))


class _KnowledgeBase:
    """Values in force on a day, found by the knowledge base's own search."""

    def __init__(self, values: RetrieverEngine, artifact_id: str, day: str) -> None:
        self._values = values
        self._artifact_id = artifact_id
        self._day = day

    def find(self, query: str, k: int) -> Sequence[Document]:
        hits, _ = self._values.retrieve(self._artifact_id, query, ValueQuery(self._day), k=k)
        return [_document(hit.value) for hit in hits]


def _document(value: ValueSpec) -> Document:
    return Document(value.id, value.text, value.title)
