"""`respond` and `reply-record`: replies that follow the values in force, and why they did."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import Json, emit, load_settings, say, served_reference, short
from plumbline.cli.value_filters import (
    AsOf,
    Audience,
    Jurisdiction,
    KnowledgeBase,
    Tenant,
    described,
    value_filter,
)

if TYPE_CHECKING:
    from plumbline.v1 import retriever_pb2


class CheckMode(StrEnum):
    """When a reply is checked, as `--check-mode` takes it."""

    REPLY = "reply"
    SENTENCES = "sentences"


class ClaimKind(StrEnum):
    """Claims that tools check, as `--check-claims` takes them."""

    KNOWLEDGE = "knowledge"
    ARITHMETIC = "arithmetic"
    CODE = "code"
    CITATION = "citation"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(respond)
    app.command("reply-record", rich_help_panel="Services")(reply_record)


def respond(
    prompt: Annotated[str, typer.Argument(help="What the user asks.")],
    policy: Annotated[str, typer.Option(help="Policy: directory, artifact id or tag.")],
    knowledge_base: KnowledgeBase = "default",
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    max_tokens: Annotated[int, typer.Option(min=1, help="Bound on the reply.")] = 128,
    as_of: AsOf = "",
    jurisdiction: Jurisdiction = "",
    tenant: Tenant = "",
    audience: Audience = "",
    system_message: Annotated[
        str, typer.Option(help="Name of a system message; `none` uses none.")
    ] = "",
    check_mode: Annotated[
        CheckMode, typer.Option(help="Check the whole reply first, or show it by sentence.")
    ] = CheckMode.REPLY,
    best_of: Annotated[int, typer.Option(min=1, help="Draw so many; take the best.")] = 1,
    max_revisions: Annotated[
        int | None, typer.Option(min=0, help="Attempts to mend a reply that breaks a rule.")
    ] = None,
    check_claims: Annotated[
        list[ClaimKind] | None, typer.Option(help="Check claims of this kind; repeatable.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Answer a prompt under the values that govern it, and cite them."""
    from plumbline.cli.local_services import service_client
    from plumbline.retriever.client import whole_reply
    from plumbline.v1 import retriever_pb2, types_pb2

    request = retriever_pb2.RespondRequest(
        knowledge_base=knowledge_base,
        policy=served_reference(policy),
        prompt=types_pb2.Prompt(
            messages=[types_pb2.Message(role=types_pb2.ROLE_USER, content=prompt)]
        ),
        filter=value_filter(as_of, jurisdiction, tenant, audience),
        parameters=types_pb2.SamplingParameters(
            temperature=temperature, seed=seed, max_response_tokens=max_tokens
        ),
        system_message=system_message,
        best_of=best_of,
        max_revisions=max_revisions,
        check_mode=(
            retriever_pb2.CHECK_MODE_SENTENCES
            if check_mode is CheckMode.SENTENCES
            else retriever_pb2.CHECK_MODE_UNSPECIFIED
        ),
        claim_kinds=[
            retriever_pb2.ClaimKind.Value(f"CLAIM_KIND_{kind.name}") for kind in check_claims or ()
        ],
    )
    needs = ("sampler", "reward") if best_of > 1 else ("sampler",)
    with service_client("retriever", load_settings(), needs=needs) as client:
        pieces = client.Respond(request)
        reply, last = whole_reply(pieces if json_output else _shown(pieces))
    if json_output:
        emit({"reply": reply, **_decision(last)})
    else:
        for line in _lines(last):
            say(line)
    if last.outcome == retriever_pb2.REPLY_OUTCOME_FAILED_CLOSED:
        raise typer.Exit(1)


def reply_record(
    reply_id: Annotated[str, typer.Argument(help="As `respond` gives it.")],
    json_output: Json = False,
) -> None:
    """What was asked, known and decided when a reply was given."""
    from plumbline.cli.local_services import service_client
    from plumbline.core.paging import MAX_PAGE_SIZE
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.GetReplyRecordRequest(reply_id=reply_id, page_size=MAX_PAGE_SIZE)
    with service_client("retriever", load_settings()) as client:
        record = client.GetReplyRecord(request)
        in_force = list(record.values_in_force)
        while record.next_page_token:
            request.page_token = record.next_page_token
            record = client.GetReplyRecord(request)
            in_force += record.values_in_force
    if json_output:
        emit(
            {
                "reply_id": record.reply_id,
                "responded_at": record.responded_at,
                "filter": _filter(record.filter),
                "prompt": [
                    {"role": _name(one, "role"), "content": one.content}
                    for one in record.prompt.messages
                ],
                "reply": record.reply,
                **_decision(record.decision),
                "values_in_force": [described(value) for value in in_force],
            }
        )
        return
    sys.stdout.write(f"{record.reply}\n")
    say(f"given {record.responded_at} to: {record.prompt.messages[-1].content}")
    for line in _lines(record.decision):
        say(line)
    say(f"  in force on {record.filter.as_of}:")
    for value in in_force:
        say(f"    {value.id} version {value.version} {short(value.content_digest)}")


def _shown(
    pieces: Iterator[retriever_pb2.RespondResponse],
) -> Iterator[retriever_pb2.RespondResponse]:
    """The pieces, written to stdout as they come."""
    for piece in pieces:
        if piece.restart:
            sys.stdout.write("\n")
            sys.stdout.flush()
            say("(what stands above broke a rule and is withdrawn)")
        sys.stdout.write(piece.delta)
        sys.stdout.flush()
        yield piece
    sys.stdout.write("\n")


def _lines(decision: retriever_pb2.RespondResponse) -> Iterator[str]:
    """A decision for people."""
    outcome = _name(decision, "outcome")
    yield f"{outcome}: {decision.why}" if decision.why else outcome
    if decision.risk_category:
        yield f"  risk category: {decision.risk_category}"
    if decision.HasField("system_message"):
        yield f"  system message {decision.system_message.title}: {_told(decision.system_message)}"
    for cited in decision.citations:
        yield f"  {_told(cited)}"
    for conflict in decision.conflicts:
        kept, dropped = conflict.kept.value_id, conflict.dropped.value_id
        yield f"  {kept} holds against {dropped} by {conflict.decided_by}: {conflict.why}"
    for cited in decision.left_out:
        yield f"  left out: {_told(cited)}"
    for revision in decision.revisions:
        yield f"  not given: {revision.reply!r} ({revision.why})"
    for head, score in sorted(decision.scores.items()):
        model = decision.reward_model_ids.get(head, "")
        yield f"  {head} {score:.3f}" + (f" by {short(model)}" if model else "")
    for claim in decision.claims:
        yield f"  {_name(claim, 'verdict')}: {claim.claim} ({claim.why})"
    if decision.reply_id:
        yield f"  record {decision.reply_id}"


def _told(cited: retriever_pb2.Citation) -> str:
    name = f"{cited.value_id or cited.title} version {cited.version} {short(cited.content_digest)}"
    why = f" ({cited.why})" if cited.why else ""
    return f"{name}: {cited.verdict}{why}"


def _decision(decision: retriever_pb2.RespondResponse) -> dict[str, Any]:
    """A decision for JSON."""
    message = decision.system_message if decision.HasField("system_message") else None
    return {
        "outcome": _name(decision, "outcome"),
        "why": decision.why,
        "finish_reason": _name(decision, "finish_reason"),
        "risk_category": decision.risk_category,
        "citations": _cited(decision.citations),
        "conflicts": [
            {
                "kept": _cited([conflict.kept])[0],
                "dropped": _cited([conflict.dropped])[0],
                "decided_by": conflict.decided_by,
                "why": conflict.why,
            }
            for conflict in decision.conflicts
        ],
        "left_out": _cited(decision.left_out),
        "revisions": [
            {"reply": one.reply, "broken": _cited(one.broken), "why": one.why}
            for one in decision.revisions
        ],
        "system_message": _cited([message])[0] if message else None,
        "scores": dict(decision.scores),
        "reward_model_ids": dict(decision.reward_model_ids),
        "claims": [
            {
                "kind": _name(claim, "kind"),
                "claim": claim.claim,
                "verdict": _name(claim, "verdict"),
                "why": claim.why,
                "correction": claim.correction,
            }
            for claim in decision.claims
        ],
        "policy_id": decision.policy_id,
        "knowledge_base_artifact": decision.knowledge_base_artifact,
        "prompt_tokens": decision.usage.prompt_tokens,
        "response_tokens": decision.usage.response_tokens,
        "reply_id": decision.reply_id,
    }


def _cited(citations: Sequence[retriever_pb2.Citation]) -> list[dict[str, Any]]:
    return [
        {
            "value_id": one.value_id,
            "version": one.version,
            "content_digest": one.content_digest,
            "title": one.title,
            "verdict": one.verdict,
            "why": one.why,
        }
        for one in citations
    ]


def _filter(where: retriever_pb2.ValueFilter) -> dict[str, Any]:
    return {
        "as_of": where.as_of,
        "jurisdiction": where.jurisdiction,
        "tenant": where.tenant,
        "audience": where.audience,
        "categories": list(where.categories),
        "kinds": [_spoken(_enum(where, "kinds"), kind) for kind in where.kinds],
    }


def _name(message: Any, field: str) -> str:
    """An enum field's value in lower case, without the enum's own name before it."""
    return _spoken(_enum(message, field), getattr(message, field))


def _enum(message: Any, field: str) -> Any:
    return message.DESCRIPTOR.fields_by_name[field].enum_type


def _spoken(enum: Any, number: int) -> str:
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    name: str = enum.values_by_number[number].name
    return name.removeprefix(prefix).lower()
