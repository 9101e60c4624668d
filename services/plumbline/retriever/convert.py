"""Values, filters, hits and changes: records to wire messages and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

from plumbline.core.errors import InvalidInputError
from plumbline.core.rpc.limits import MAX_MESSAGE_BYTES
from plumbline.data.records import ValueKind, ValueSpec
from plumbline.retriever.knowledge_bases import State
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.search.index import Hit, SearchMode
from plumbline.retriever.values.changes import Action, Change
from plumbline.retriever.values.importing import ImportPlan
from plumbline.retriever.values.validation import content_digest
from plumbline.v1 import retriever_pb2 as pb

M = TypeVar("M", bound=Message)

_KINDS = {
    pb.VALUE_KIND_FIXED: ValueKind.FIXED,
    pb.VALUE_KIND_CUSTOMISABLE: ValueKind.CUSTOMISABLE,
    pb.VALUE_KIND_CHANGING: ValueKind.CHANGING,
}
_WIRE_KINDS = {kind.value: wire for wire, kind in _KINDS.items()}
_ACTIONS = {
    Action.ADDED: pb.ValueChange.ACTION_ADDED,
    Action.CHANGED: pb.ValueChange.ACTION_CHANGED,
    Action.REMOVED: pb.ValueChange.ACTION_REMOVED,
    Action.ENDED: pb.ValueChange.ACTION_ENDED,
}
_MODES = {
    pb.SEARCH_MODE_UNSPECIFIED: SearchMode.FUSED,
    pb.SEARCH_MODE_DENSE: SearchMode.DENSE,
    pb.SEARCH_MODE_LEXICAL: SearchMode.LEXICAL,
}
_DEFAULT_CHANGES = 100


def value_from_wire(value: pb.ValueSpec) -> ValueSpec:
    """A value as its author wrote it; the version is kept for readers, and set anew by an import.

    Raises:
        InvalidInputError: it has no kind.
    """
    if value.kind not in _KINDS:
        raise InvalidInputError(
            f"value {value.id!r} has no kind; accepted: {', '.join(ValueKind)}", field="kind"
        )
    return ValueSpec(
        id=value.id,
        text=value.text,
        kind=_KINDS[value.kind].value,
        title=value.title,
        category=value.category,
        triggers=tuple(value.triggers),
        priority=value.priority,
        jurisdiction=value.jurisdiction,
        tenant=value.tenant,
        language=value.language or "en",
        effective_from=value.effective_from,
        effective_to=value.effective_to,
        version=value.version or 1,
        audience=value.audience,
        supersedes=tuple(value.supersedes),
        source=value.source,
        checkers=tuple(value.checkers),
    )


def value_to_wire(value: ValueSpec) -> pb.ValueSpec:
    return pb.ValueSpec(
        id=value.id,
        text=value.text,
        kind=_WIRE_KINDS[value.kind],
        title=value.title,
        category=value.category,
        triggers=value.triggers,
        priority=value.priority,
        jurisdiction=value.jurisdiction,
        tenant=value.tenant,
        language=value.language,
        effective_from=value.effective_from,
        effective_to=value.effective_to,
        version=value.version,
        audience=value.audience,
        supersedes=value.supersedes,
        source=value.source,
        checkers=value.checkers,
        content_digest=content_digest(value),
    )


def hit_to_wire(hit: Hit) -> pb.RetrievedValue:
    return pb.RetrievedValue(
        value=value_to_wire(hit.value),
        score=hit.score,
        dense_score=hit.dense_score,
        lexical_score=hit.lexical_score,
        rerank_score=hit.rerank_score,
    )


def mode_from_wire(mode: pb.SearchMode) -> SearchMode:
    """Raises InvalidInputError for a mode that is none."""
    if mode not in _MODES:
        raise InvalidInputError(
            f"search mode {mode} is unknown; accepted: {', '.join(SearchMode)}", field="mode"
        )
    return _MODES[mode]


def query_from_wire(where: pb.ValueFilter) -> ValueQuery:
    """The filter of a request.

    Raises:
        InvalidInputError: an unknown kind.
    """
    for kind in where.kinds:
        if kind not in _KINDS:
            raise InvalidInputError(
                f"filter.kinds has {kind}; accepted: {', '.join(ValueKind)}", field="filter.kinds"
            )
    return ValueQuery(
        as_of=where.as_of,
        jurisdiction=where.jurisdiction,
        tenant=where.tenant,
        audience=where.audience,
        categories=tuple(where.categories),
        kinds=tuple(_KINDS[kind].value for kind in where.kinds),
    )


def change_to_wire(change: Change) -> pb.ValueChange:
    return pb.ValueChange(
        action=_ACTIONS[change.action],
        value_id=change.value_id,
        version_before=change.before.version if change.before else 0,
        version_after=change.after.version if change.after else 0,
        fields=change.fields,
        text_diff=change.text_diff(),
    )


def within_a_message(items: Iterable[M]) -> list[M]:
    """The first items that one answer has room for, and one in any case; a page may be shorter."""
    found: list[M] = []
    room = MAX_MESSAGE_BYTES // 2
    for item in items:
        room -= item.ByteSize()
        if found and room < 0:
            break
        found.append(item)
    return found


def plan_to_wire(plan: ImportPlan, artifact: str, max_changes: int) -> pb.ImportValuesResponse:
    """What an import did, its first changes described.

    Raises:
        InvalidInputError: a negative number of changes.
    """
    if max_changes < 0:
        raise InvalidInputError(
            f"max_changes={max_changes} is negative; accepted: 0 ({_DEFAULT_CHANGES}) or more",
            field="max_changes",
        )
    described = within_a_message(
        change_to_wire(change) for change in plan.changes[: max_changes or _DEFAULT_CHANGES]
    )
    return pb.ImportValuesResponse(
        artifact=artifact,
        added=plan.added,
        changed=plan.changed,
        unchanged=plan.unchanged,
        removed=plan.removed,
        ended=plan.ended,
        changes=described,
        changes_omitted=len(plan.changes) - len(described),
        previous_artifact=plan.base,
    )


def state_to_wire(state: State) -> pb.KnowledgeBaseState:
    return pb.KnowledgeBaseState(
        artifact=state.artifact_id,
        values=state.values,
        created_at=state.created_at,
        tags=state.tags,
    )
