"""Claims and verdicts to wire messages and back."""

from __future__ import annotations

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.tools.records import ClaimCheck, ClaimKind, ClaimVerdict, Document
from plumbline.v1 import retriever_pb2 as pb

_KINDS = {
    pb.CLAIM_KIND_KNOWLEDGE: ClaimKind.KNOWLEDGE,
    pb.CLAIM_KIND_ARITHMETIC: ClaimKind.ARITHMETIC,
    pb.CLAIM_KIND_CODE: ClaimKind.CODE,
    pb.CLAIM_KIND_CITATION: ClaimKind.CITATION,
}
_WIRE_KINDS = {kind: wire for wire, kind in _KINDS.items()}
_WIRE_VERDICTS = {
    ClaimVerdict.SUPPORTED: pb.CLAIM_VERDICT_SUPPORTED,
    ClaimVerdict.REFUTED: pb.CLAIM_VERDICT_REFUTED,
    ClaimVerdict.NOT_ENOUGH_EVIDENCE: pb.CLAIM_VERDICT_NOT_ENOUGH_EVIDENCE,
}


def claim_kind_from_wire(kind: pb.ClaimKind) -> ClaimKind:
    """Raises InvalidInputError for a kind that is not specified or not known."""
    if kind not in _KINDS:
        raise InvalidInputError(
            f"claim kind {kind} is not known; accepted: {', '.join(ClaimKind)}", field="kinds"
        )
    return _KINDS[kind]


def claim_kind_to_wire(kind: ClaimKind) -> pb.ClaimKind:
    return _WIRE_KINDS[kind]


def document_from_wire(document: pb.EvidenceDocument) -> Document:
    return Document(document.id, document.text, document.title)


def check_to_wire(check: ClaimCheck) -> pb.ClaimCheck:
    return pb.ClaimCheck(
        kind=_WIRE_KINDS[check.kind],
        claim=check.claim,
        start=check.start,
        end=check.end,
        queries=check.queries,
        evidence=[
            pb.Evidence(document_id=one.document_id, text=one.text, score=one.score)
            for one in check.evidence
        ],
        verdict=_WIRE_VERDICTS[check.verdict],
        why=check.why,
        correction=check.correction,
    )
