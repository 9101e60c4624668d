"""Requests for replies, pieces, decisions and records: to wire messages and back."""

from __future__ import annotations

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueKind
from plumbline.data.wire import messages_from_wire, prompt_to_wire
from plumbline.retriever.convert import query_from_wire
from plumbline.retriever.respond.decisions import (
    Citation,
    ConflictReport,
    Decision,
    Outcome,
    Piece,
    ReplyRequest,
    Revision,
)
from plumbline.retriever.respond.records import ReplyRecord
from plumbline.retriever.respond.remote import options_from_wire
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.tools.convert import check_to_wire, claim_kind_from_wire
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import types_pb2

_OUTCOMES = {
    Outcome.ANSWERED: pb.REPLY_OUTCOME_ANSWERED,
    Outcome.REVISED: pb.REPLY_OUTCOME_REVISED,
    Outcome.REFUSED: pb.REPLY_OUTCOME_REFUSED,
    Outcome.FAILED_CLOSED: pb.REPLY_OUTCOME_FAILED_CLOSED,
}
_FINISH_REASONS = {
    "stop": types_pb2.FINISH_REASON_STOP,
    "length": types_pb2.FINISH_REASON_LENGTH,
}
_CHECK_MODES = (pb.CHECK_MODE_UNSPECIFIED, pb.CHECK_MODE_SENTENCES)
_WIRE_KINDS = {
    ValueKind.FIXED.value: pb.VALUE_KIND_FIXED,
    ValueKind.CUSTOMISABLE.value: pb.VALUE_KIND_CUSTOMISABLE,
    ValueKind.CHANGING.value: pb.VALUE_KIND_CHANGING,
}


def request_from_wire(request: pb.RespondRequest) -> ReplyRequest:
    """What a caller asks for.

    Raises:
        InvalidInputError: the prompt, the filter, the check mode or a kind is not accepted.
    """
    if request.check_mode not in _CHECK_MODES:
        raise InvalidInputError(
            f"check_mode={request.check_mode} is unknown; accepted: "
            f"{', '.join(map(pb.CheckMode.Name, _CHECK_MODES))}",
            field="check_mode",
        )
    return ReplyRequest(
        knowledge_base=request.knowledge_base,
        messages=messages_from_wire(request.prompt),
        where=query_from_wire(request.filter),
        policy=request.policy,
        options=options_from_wire(request.parameters),
        seed=request.parameters.seed,
        system_message=request.system_message,
        best_of=request.best_of or 1,
        max_revisions=request.max_revisions if request.HasField("max_revisions") else None,
        by_sentence=request.check_mode == pb.CHECK_MODE_SENTENCES,
        claim_kinds=tuple(claim_kind_from_wire(kind) for kind in request.claim_kinds),
    )


def piece_to_wire(piece: Piece, sequence: int) -> pb.RespondResponse:
    """One message of the stream; the last one carries the decision."""
    message = decision_to_wire(piece.decision) if piece.decision else pb.RespondResponse()
    message.sequence = sequence
    message.delta = piece.delta
    message.restart = piece.restart
    return message


def decision_to_wire(decision: Decision) -> pb.RespondResponse:
    """The fields of a reply's last message."""
    message = pb.RespondResponse(
        finish_reason=_FINISH_REASONS.get(decision.finish_reason, types_pb2.FINISH_REASON_STOP),
        citations=[citation_to_wire(one) for one in decision.citations],
        policy_id=decision.policy_id,
        knowledge_base_artifact=decision.knowledge_base_artifact,
        usage=types_pb2.Usage(
            prompt_tokens=decision.prompt_tokens, response_tokens=decision.response_tokens
        ),
        outcome=_OUTCOMES[decision.outcome],
        why=decision.why,
        risk_category=decision.risk_category,
        scores=decision.scores,
        reward_model_ids=decision.reward_model_ids,
        conflicts=[_conflict_to_wire(one) for one in decision.conflicts],
        left_out=[citation_to_wire(one) for one in decision.left_out],
        revisions=[_revision_to_wire(one) for one in decision.revisions],
        claims=[check_to_wire(claim) for claim in decision.claims],
        reply_id=decision.reply_id,
    )
    if decision.system_message is not None:
        message.system_message.CopyFrom(citation_to_wire(decision.system_message))
    return message


def citation_to_wire(citation: Citation) -> pb.Citation:
    return pb.Citation(
        value_id=citation.value_id,
        version=citation.version,
        content_digest=citation.content_digest,
        verdict=citation.verdict,
        why=citation.why,
        title=citation.title,
    )


def record_to_wire(record: ReplyRecord) -> pb.GetReplyRecordResponse:
    """A record without the values in force, which the knowledge base holds."""
    return pb.GetReplyRecordResponse(
        reply_id=record.decision.reply_id,
        responded_at=record.responded_at,
        filter=filter_to_wire(record.request.where),
        prompt=prompt_to_wire(record.request.messages),
        reply=record.reply,
        decision=decision_to_wire(record.decision),
    )


def filter_to_wire(where: ValueQuery) -> pb.ValueFilter:
    return pb.ValueFilter(
        as_of=where.as_of,
        jurisdiction=where.jurisdiction,
        tenant=where.tenant,
        audience=where.audience,
        categories=where.categories,
        kinds=[_WIRE_KINDS[kind] for kind in where.kinds],
    )


def _conflict_to_wire(conflict: ConflictReport) -> pb.ValueConflict:
    return pb.ValueConflict(
        kept=citation_to_wire(conflict.kept),
        dropped=citation_to_wire(conflict.dropped),
        decided_by=conflict.decided_by,
        why=conflict.why,
    )


def _revision_to_wire(revision: Revision) -> pb.Revision:
    return pb.Revision(
        reply=revision.reply,
        broken=[citation_to_wire(one) for one in revision.broken],
        why=revision.why,
    )
