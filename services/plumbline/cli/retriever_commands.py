"""`import-values`, `retrieve`: values that apply at inference, written and found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import Json, assignments, emit, load_settings, say, show_table
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
    value_filter,
)
from plumbline.core.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plumbline.core.settings import Settings
    from plumbline.data.records import ValueSpec
    from plumbline.v1 import retriever_pb2

_IMPORT_TIMEOUT_S = 3600
"""An import embeds every new text; a sentence model takes minutes for thousands of articles."""
_MOST_BYTES = 8 * 1024 * 1024
"""Of the values in one message: half of what a message may have."""
_COUNTS = ("added", "changed", "unchanged", "removed", "ended")
_MODES = ("fused", "dense", "lexical")


def register(app: typer.Typer) -> None:
    app.command("import-values", rich_help_panel="Services")(import_values)
    app.command(rich_help_panel="Services")(retrieve)


def import_values(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH...",
            help="JSON lines, CSV, Markdown with front matter, laws in Markdown; or folders.",
        ),
    ] = None,
    knowledge_base: KnowledgeBase = "default",
    dry_run: Annotated[bool, typer.Option(help="Check and report; change nothing.")] = False,
    replace_all: Annotated[
        bool, typer.Option(help="Drop values that are not in these files.")
    ] = False,
    complete: Annotated[
        bool,
        typer.Option(
            help="The files hold their documents whole: an article that the new edition of a law "
            "lacks ends on that edition's first day."
        ),
    ] = False,
    revoke: Annotated[
        list[str] | None, typer.Option(help="Id of a value to drop; may be repeated.")
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A field of the values that leave it out, such as jurisdiction=CN; may repeat.",
        ),
    ] = None,
    expect: Annotated[
        str, typer.Option(help="Fail unless the knowledge base is at this artifact now.")
    ] = "",
    max_changes: Annotated[int, typer.Option(min=1, help="Most changes described.")] = 100,
    json_output: Json = False,
) -> None:
    """Add or change values; replies follow them from the next request on.

    CSV and JSON rows have the fields of a value: id, text, kind, title, category, triggers,
    priority, jurisdiction, tenant, audience, language, effective_from, effective_to, supersedes,
    source, checkers; lists in CSV are split at |. Rows with title, text, category and date only
    are laws, and split into their articles.
    """
    from plumbline.cli.local_services import service_client
    from plumbline.retriever.readers.folders import read_values
    from plumbline.retriever.readers.rows import SHARED, filled, typed_fields
    from plumbline.v1 import retriever_pb2

    if not paths and not revoke:
        raise InvalidInputError("nothing to import; accepted: files or folders, or --revoke ID")
    fields = typed_fields(assignments(field, option="--field"), "--field", accepted=SHARED)
    values = [filled(value, fields) for value in read_values(paths or ())]
    sources = sorted({value.source for value in values} - {""})
    if complete and not sources:
        raise InvalidInputError(
            "--complete is about documents, and none of these values names a source"
        )
    request = retriever_pb2.ImportValuesRequest(
        knowledge_base=knowledge_base,
        dry_run=dry_run,
        replace_all=replace_all,
        expected_artifact=expect,
        complete_sources=sources if complete else (),
        revoked=revoke or (),
        max_changes=max_changes,
    )
    settings = load_settings()
    _enclose(request, values, settings)
    with service_client("retriever", settings) as client:
        answer = client.ImportValues(request, timeout=_IMPORT_TIMEOUT_S)
    if json_output:
        emit(_outcome(answer, dry_run))
    else:
        _tell(answer, knowledge_base, dry_run)


def _enclose(
    request: retriever_pb2.ImportValuesRequest, values: Sequence[ValueSpec], settings: Settings
) -> None:
    """Put values into a request; more than a message takes go by way of the store."""
    from plumbline.retriever.convert import value_to_wire

    request.values.extend(value_to_wire(value) for value in values)
    if request.ByteSize() > _MOST_BYTES:
        del request.values[:]
        request.values_artifact = _stored(values, settings)


def _stored(values: Sequence[ValueSpec], settings: Settings) -> str:
    import tempfile

    from plumbline.core.artifacts import Lineage, open_configured_store
    from plumbline.data.records import ValueSpec
    from plumbline.data.tables import write_records

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "values.parquet"
        write_records(file, values, ValueSpec)
        store = open_configured_store(settings)
        return store.put("corpus", {file.name: file}, lineage=Lineage(stage="import")).id


def _outcome(answer: retriever_pb2.ImportValuesResponse, dry_run: bool) -> dict[str, Any]:
    return {
        "artifact": answer.artifact or None,
        "previous_artifact": answer.previous_artifact or None,
        "dry_run": dry_run,
        **{name: getattr(answer, name) for name in _COUNTS},
        "changes": [described_change(change) for change in answer.changes],
        "changes_omitted": answer.changes_omitted,
    }


def _tell(answer: retriever_pb2.ImportValuesResponse, name: str, dry_run: bool) -> None:
    for change in answer.changes:
        for line in change_lines(change):
            typer.echo(line)
    if answer.changes_omitted:
        say(f"{answer.changes_omitted} further changes are not shown; see --max-changes")
    told = ", ".join(f"{getattr(answer, name)} {name}" for name in _COUNTS)
    say(f"{name}: {told}{' (dry run)' if dry_run else ''}")
    if answer.artifact and not dry_run:
        say(f"knowledge-base {answer.artifact}")


def retrieve(
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="The request that values may govern.")
    ] = None,
    query_option: Annotated[
        str | None, typer.Option("--query", help="The same, as an option.")
    ] = None,
    knowledge_base: KnowledgeBase = "default",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Most values shown.")] = 3,
    as_of: AsOf = "",
    jurisdiction: Jurisdiction = "",
    tenant: Tenant = "",
    audience: Audience = "",
    category: Categories = None,
    kind: Kinds = None,
    mode: Annotated[str, typer.Option(help="fused, dense or lexical.")] = "fused",
    rerank: Annotated[
        bool, typer.Option(help="Order the best by the service's cross-encoder.")
    ] = False,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, help="0 ranks by relevance alone, 1 by difference.")
    ] = 0.0,
    json_output: Json = False,
) -> None:
    """Find the values that govern a request, most relevant first."""
    from plumbline.cli.local_services import service_client
    from plumbline.v1 import retriever_pb2

    if (query is None) == (query_option is None):
        raise InvalidInputError("one query is needed: as the argument, or by --query")
    if mode not in _MODES:
        raise InvalidInputError(f"--mode {mode!r} is unknown; accepted: {', '.join(_MODES)}")
    wire_modes = (
        retriever_pb2.SEARCH_MODE_UNSPECIFIED,
        retriever_pb2.SEARCH_MODE_DENSE,
        retriever_pb2.SEARCH_MODE_LEXICAL,
    )
    request = retriever_pb2.RetrieveValuesRequest(
        knowledge_base=knowledge_base,
        query=query or query_option,
        filter=value_filter(as_of, jurisdiction, tenant, audience, category, kind),
        k=k,
        mode=wire_modes[_MODES.index(mode)],
        rerank=rerank,
        diversity=diversity,
    )
    with service_client("retriever", load_settings()) as client:
        found = client.RetrieveValues(request).values
    if json_output:
        emit([_hit(item) for item in found])
        return
    rows = [
        (
            item.value.id,
            item.value.version,
            f"{item.score:.4f}",
            f"{item.value.title}\n{item.value.text}".strip(),
        )
        for item in found
    ]
    show_table("", ("value", "version", "score", "text"), rows)


def _hit(item: retriever_pb2.RetrievedValue) -> dict[str, Any]:
    scores = {"score": item.score, "dense_score": item.dense_score}
    scores["lexical_score"] = item.lexical_score
    if item.HasField("rerank_score"):
        scores["rerank_score"] = item.rerank_score
    return {**described(item.value), **scores}
