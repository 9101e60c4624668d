"""`values`: what a knowledge base holds, how it changed, and which state its tags are on."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.console import Json, emit, load_settings, say, short, show_table
from plumbline.cli.value_filters import (
    AsOf,
    Audience,
    Categories,
    Jurisdiction,
    Kinds,
    KnowledgeBase,
    Tenant,
    change_lines,
    described,
    described_change,
    every,
    value_filter,
)
from plumbline.cli.values_plan import plan

State = Annotated[str, typer.Argument(help="Name, NAME@TAG or artifact id of a knowledge base.")]
Limit = Annotated[int, typer.Option(min=1, help="How many.")]
Source = Annotated[str, typer.Option(help="Only values of this document.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Look at values, compare states of a knowledge base, roll back.",
        no_args_is_help=True,
    )
    group.command("list")(list_values)
    group.command("show")(show_value)
    group.command("in-force")(in_force)
    group.command("diff")(diff)
    group.command("states")(states)
    group.command("tag")(tag)
    group.command("plan")(plan)
    app.add_typer(group, name="values", rich_help_panel="Services")


def list_values(
    knowledge_base: KnowledgeBase = "default",
    source: Source = "",
    limit: Limit = 50,
    json_output: Json = False,
) -> None:
    """List values with all their versions."""
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.ListValuesRequest(knowledge_base=knowledge_base, source=source)
    _list(request, limit, json_output)


def in_force(
    knowledge_base: KnowledgeBase = "default",
    as_of: AsOf = "",
    jurisdiction: Jurisdiction = "",
    tenant: Tenant = "",
    audience: Audience = "",
    category: Categories = None,
    kind: Kinds = None,
    source: Source = "",
    limit: Limit = 50,
    json_output: Json = False,
) -> None:
    """List the values that apply on a day, in the version that holds then."""
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.ListValuesRequest(
        knowledge_base=knowledge_base,
        source=source,
        filter=value_filter(as_of, jurisdiction, tenant, audience, category, kind),
    )
    _list(request, limit, json_output)


def show_value(
    value_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a value.")],
    knowledge_base: KnowledgeBase = "default",
    version: Annotated[int, typer.Option(min=0, help="0 shows the newest.")] = 0,
    json_output: Json = False,
) -> None:
    """Show one value with all its fields."""
    from plumbline.cli.local_services import service_client
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.GetValueRequest(
        knowledge_base=knowledge_base, value_id=value_id, version=version
    )
    with service_client("retriever", load_settings()) as client:
        value = described(client.GetValue(request).value)
    if json_output:
        emit(value)
        return
    show_table("", ("field", "value"), list(value.items()))


def diff(before: State, after: State, json_output: Json = False) -> None:
    """Show what changed from one state of a knowledge base to another."""
    from plumbline.cli.local_services import service_client
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.DiffKnowledgeBasesRequest(before=before, after=after)
    with service_client("retriever", load_settings()) as client:
        changes = list(every(client.DiffKnowledgeBases, request, "changes"))
    if json_output:
        emit([described_change(change) for change in changes])
        return
    for change in changes:
        for line in change_lines(change):
            typer.echo(line)
    say(f"{len(changes)} changes")


def states(knowledge_base: State, limit: Limit = 20, json_output: Json = False) -> None:
    """List the states that a knowledge base has gone through, newest first."""
    from plumbline.cli.local_services import service_client
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.ListKnowledgeBaseStatesRequest(knowledge_base=knowledge_base)
    with service_client("retriever", load_settings()) as client:
        found = list(every(client.ListKnowledgeBaseStates, request, "states", limit))
    if json_output:
        emit(
            [
                {
                    "artifact": state.artifact,
                    "values": state.values,
                    "created_at": state.created_at or None,
                    "tags": list(state.tags),
                }
                for state in found
            ]
        )
        return
    rows = [
        (state.artifact, state.values, state.created_at, ", ".join(state.tags)) for state in found
    ]
    show_table("", ("artifact", "values", "created", "tags"), rows)


def tag(
    knowledge_base: Annotated[str, typer.Argument(help="Name of a knowledge base.")],
    target: Annotated[str, typer.Argument(help="Artifact id, or another tag of it.")],
    name: Annotated[str, typer.Option("--tag", help="The tag that is moved.")] = "latest",
    expect: Annotated[str, typer.Option(help="Fail unless the tag is on this artifact now.")] = "",
    json_output: Json = False,
) -> None:
    """Put a tag on a state; `latest` on an earlier one rolls back, for the next request on."""
    from plumbline.cli.local_services import service_client
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.TagKnowledgeBaseRequest(
        knowledge_base=knowledge_base, tag=name, target=target, expected_artifact=expect
    )
    with service_client("retriever", load_settings()) as client:
        answer = client.TagKnowledgeBase(request)
    if json_output:
        previous = answer.previous_artifact or None
        emit({"artifact": answer.artifact, "previous_artifact": previous})
        return
    came = f", was on {short(answer.previous_artifact)}" if answer.previous_artifact else ""
    say(f"{knowledge_base}@{name} is on {answer.artifact}{came}")


def _list(request: object, limit: int, json_output: bool) -> None:
    from plumbline.cli.local_services import service_client

    with service_client("retriever", load_settings()) as client:
        found = list(every(client.ListValues, request, "values", limit + 1))
    values = found[:limit]
    if json_output:
        emit([described(value) for value in values])
        return
    rows = [
        (
            value.id,
            value.version,
            value.effective_from or "always",
            value.effective_to,
            value.title or value.text,
        )
        for value in values
    ]
    show_table("", ("value", "version", "from", "to", "title"), rows)
    if len(found) > limit:
        say(f"there are more than {limit}; --limit shows them")
