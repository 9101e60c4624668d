"""`import-values`, `retrieve`, `respond`: values that apply at inference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import Json, emit, load_settings, reference, say, show_table

if TYPE_CHECKING:
    from plumbline.v1 import retriever_pb2

KnowledgeBase = Annotated[
    str, typer.Option("--knowledge-base", "--kb", help="Name, tag or id of a knowledge base.")
]
AsOf = Annotated[str, typer.Option(help="Values in force on this ISO date; today when unset.")]
Jurisdiction = Annotated[str, typer.Option(help="Also values of this jurisdiction.")]
Tenant = Annotated[str, typer.Option(help="Also values of this tenant.")]


def register(app: typer.Typer) -> None:
    app.command("import-values", rich_help_panel="Services")(import_values)
    app.command(rich_help_panel="Services")(retrieve)
    app.command(rich_help_panel="Services")(respond)


def import_values(
    file: Annotated[Path, typer.Argument(help="Values as JSON lines.")],
    knowledge_base: KnowledgeBase = "default",
    replace_all: Annotated[
        bool, typer.Option(help="Drop values that are not in the file.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Check and report; change nothing.")] = False,
    json_output: Json = False,
) -> None:
    """Add or replace values; replies follow them from the next request on."""
    from plumbline.cli.local_services import service_client
    from plumbline.retriever.convert import value_to_wire
    from plumbline.retriever.values import read_values
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.ImportValuesRequest(
        knowledge_base=knowledge_base,
        values=[value_to_wire(value) for value in read_values(file)],
        dry_run=dry_run,
        replace_all=replace_all,
    )
    with service_client("retriever", load_settings()) as client:
        answer = client.ImportValues(request)
    counts = {name: getattr(answer, name) for name in ("added", "changed", "unchanged", "removed")}
    if json_output:
        emit({"artifact": answer.artifact or None, **counts})
    else:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        say(f"{knowledge_base}: {told}{' (dry run)' if dry_run else ''}")


def retrieve(
    query: Annotated[str, typer.Argument(help="The request that values may govern.")],
    knowledge_base: KnowledgeBase = "default",
    k: Annotated[int, typer.Option("-k", min=1, help="Most values shown.")] = 3,
    as_of: AsOf = "",
    jurisdiction: Jurisdiction = "",
    tenant: Tenant = "",
    json_output: Json = False,
) -> None:
    """Find the values that govern a request, most relevant first."""
    from plumbline.cli.local_services import service_client
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.RetrieveValuesRequest(
        knowledge_base=knowledge_base,
        query=query,
        filter=_filter(as_of, jurisdiction, tenant),
        k=k,
    )
    with service_client("retriever", load_settings()) as client:
        found = client.RetrieveValues(request).values
    if json_output:
        emit([_described(item) for item in found])
        return
    rows = [(item.value.id, f"{item.score:.4f}", item.value.text) for item in found]
    show_table("", ("value", "score", "text"), rows)


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
    json_output: Json = False,
) -> None:
    """Answer a prompt under the values that govern it, and cite them."""
    from plumbline.cli.local_services import service_client
    from plumbline.v1 import retriever_pb2, types_pb2

    request = retriever_pb2.RespondRequest(
        knowledge_base=knowledge_base,
        policy=reference(policy),
        prompt=types_pb2.Prompt(
            messages=[types_pb2.Message(role=types_pb2.ROLE_USER, content=prompt)]
        ),
        filter=_filter(as_of, jurisdiction, tenant),
        parameters=types_pb2.SamplingParameters(
            temperature=temperature, seed=seed, max_response_tokens=max_tokens
        ),
    )
    reply, citations = "", []
    settings = load_settings()
    with service_client("retriever", settings, needs=("sampler",)) as client:
        for piece in client.Respond(request):
            reply += piece.delta
            citations += list(piece.citations)
            if not json_output:
                sys.stdout.write(piece.delta)
                sys.stdout.flush()
    cited = [
        {"value_id": one.value_id, "version": one.version, "verdict": one.verdict}
        for one in citations
    ]
    if json_output:
        emit({"reply": reply, "citations": cited})
        return
    sys.stdout.write("\n")
    for one in cited:
        say(f"  {one['value_id']} (version {one['version']}): {one['verdict']}")


def _filter(as_of: str, jurisdiction: str, tenant: str) -> retriever_pb2.ValueFilter:
    from plumbline.v1 import retriever_pb2

    return retriever_pb2.ValueFilter(as_of=as_of, jurisdiction=jurisdiction, tenant=tenant)


def _described(item: retriever_pb2.RetrievedValue) -> dict[str, Any]:
    return {
        "id": item.value.id,
        "text": item.value.text,
        "version": item.value.version,
        "score": item.score,
        "dense_score": item.dense_score,
        "lexical_score": item.lexical_score,
    }
