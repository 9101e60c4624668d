"""Retriever records to wire messages and back."""

from __future__ import annotations

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueKind, ValueSpec
from plumbline.retriever.engine import ValueQuery
from plumbline.retriever.index import Hit
from plumbline.v1 import retriever_pb2 as pb

_KINDS = {
    pb.VALUE_KIND_FIXED: ValueKind.FIXED,
    pb.VALUE_KIND_CUSTOMISABLE: ValueKind.CUSTOMISABLE,
    pb.VALUE_KIND_CHANGING: ValueKind.CHANGING,
}
_WIRE_KINDS = {kind.value: wire for wire, kind in _KINDS.items()}


def value_from_wire(value: pb.ValueSpec) -> ValueSpec:
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
    )


def hit_to_wire(hit: Hit) -> pb.RetrievedValue:
    return pb.RetrievedValue(
        value=value_to_wire(hit.value),
        score=hit.score,
        dense_score=hit.dense_score,
        lexical_score=hit.lexical_score,
    )


def query_from_wire(where: pb.ValueFilter) -> ValueQuery:
    return ValueQuery(where.as_of, where.jurisdiction, where.tenant)
