"""Records of replies: what was asked, what was known, what was decided.

A record is an artifact, so it cannot be changed, and its id is the reply's id. It names the
knowledge base's artifact and the day, from which the values in force can be read again at any time.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import TypeAdapter, ValidationError

from plumbline.core.artifacts import ArtifactStore, Lineage, canonical_json
from plumbline.core.errors import CorruptArtifactError, InvalidInputError
from plumbline.retriever.respond.decisions import Decision, ReplyRequest

KIND: Final = "reply-record"
_STAGE: Final = "retriever.respond"
_VERSION: Final = 1
_FILE: Final = "record.json"


@dataclass(frozen=True, slots=True)
class ReplyRecord:
    """Everything that tells why a reply was given."""

    responded_at: str
    """RFC 3339, UTC."""
    request: ReplyRequest
    """With its day written out."""
    reply: str
    """The text that was given, a template included."""
    decision: Decision


_ADAPTER = TypeAdapter(ReplyRecord)


class ReplyRecords:
    """Records in an artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def write(self, request: ReplyRequest, reply: str, decision: Decision) -> str:
        """Keep a record.

        Args:
            request: with its day written out.
            reply: the text that is given.
        Returns:
            The reply's id.
        Raises:
            StorageFullError, StorageUnavailableError: nothing was kept.
        """
        responded_at = datetime.now(UTC).isoformat(timespec="microseconds")
        record = ReplyRecord(responded_at, request, reply, decision)
        artifact = self._store.put(
            KIND,
            {_FILE: canonical_json(_ADAPTER.dump_python(record, mode="json"))},
            lineage=Lineage(
                stage=_STAGE,
                inputs={"knowledge_base": (decision.knowledge_base_artifact,)},
                version=_VERSION,
            ),
        )
        return artifact.id

    def read(self, reply_id: str) -> ReplyRecord:
        """The record of a reply, its id among the decision's fields.

        Raises:
            NotFoundError: there is none.
            InvalidInputError: the id is of an artifact that is no record.
            CorruptArtifactError: its bytes were altered.
        """
        artifact = self._store.get(reply_id)
        if artifact.kind != KIND:
            raise InvalidInputError(
                f"artifact {reply_id[:12]} is of kind {artifact.kind!r}; accepted: {KIND}",
                field="reply_id",
            )
        try:
            record = _ADAPTER.validate_json(self._store.read_bytes(artifact.id, _FILE))
        except ValidationError as error:
            raise CorruptArtifactError(
                f"record {reply_id[:12]} is not readable: {error.errors()[0]['msg']}; it was "
                "written by an incompatible version"
            ) from None
        decision = dataclasses.replace(record.decision, reply_id=artifact.id)
        return dataclasses.replace(record, decision=decision)
