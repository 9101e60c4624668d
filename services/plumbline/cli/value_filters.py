"""What the commands about values share: their options, and how a value is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.core.errors import InvalidInputError

if TYPE_CHECKING:
    from plumbline.v1 import retriever_pb2

KnowledgeBase = Annotated[
    str, typer.Option("--knowledge-base", "--kb", help="Name, NAME@TAG or id of a knowledge base.")
]
AsOf = Annotated[str, typer.Option(help="Values in force on this ISO date; today when unset.")]
Jurisdiction = Annotated[
    str, typer.Option(help="Also values of this place, and of those that it lies in: CN-11, CN.")
]
Tenant = Annotated[str, typer.Option(help="Also values of this tenant.")]
Audience = Annotated[str, typer.Option(help="Also values for this audience, for example minors.")]
Categories = Annotated[
    list[str] | None, typer.Option("--category", help="Only this category; may be repeated.")
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Only fixed, customisable or changing values; may be repeated."),
]
PAGE = 500


def value_filter(
    as_of: str = "",
    jurisdiction: str = "",
    tenant: str = "",
    audience: str = "",
    categories: list[str] | None = None,
    kinds: list[str] | None = None,
) -> retriever_pb2.ValueFilter:
    """The filter that the options name.

    Raises:
        InvalidInputError: a kind that is none.
    """
    from plumbline.v1 import retriever_pb2

    return retriever_pb2.ValueFilter(
        as_of=as_of,
        jurisdiction=jurisdiction,
        tenant=tenant,
        audience=audience,
        categories=categories or (),
        kinds=[_kind(kind) for kind in kinds or ()],
    )


def _kind(name: str) -> retriever_pb2.ValueKind:
    from plumbline.data.records import ValueKind
    from plumbline.v1 import retriever_pb2

    if name not in tuple(ValueKind):
        raise InvalidInputError(
            f"--kind {name!r} is unknown; accepted: {', '.join(ValueKind)}", field="kind"
        )
    wire: retriever_pb2.ValueKind = retriever_pb2.ValueKind.Value(f"VALUE_KIND_{name.upper()}")
    return wire


def every(call: Callable[[Any], Any], request: Any, field: str, limit: int = 0) -> Iterator[Any]:
    """The items of a paged call, page after page; at most `limit`, or all where that is 0."""
    request.page_size = min(PAGE, limit) if limit else PAGE
    found = 0
    while True:
        page = call(request)
        for item in getattr(page, field):
            yield item
            found += 1
            if found == limit:
                return
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def described(value: retriever_pb2.ValueSpec) -> dict[str, Any]:
    """A value for JSON; fields left at their default are left out, but for the title."""
    from plumbline.retriever.convert import value_from_wire
    from plumbline.retriever.values.validation import content

    return {
        "id": value.id,
        "version": value.version,
        "title": value.title,
        **content(value_from_wire(value)),
        "content_digest": value.content_digest,
    }


def described_change(change: retriever_pb2.ValueChange) -> dict[str, Any]:
    return {
        "action": action_of(change),
        "id": change.value_id,
        "version_before": change.version_before or None,
        "version_after": change.version_after or None,
        "fields": list(change.fields),
        "text_diff": change.text_diff,
    }


def action_of(change: retriever_pb2.ValueChange) -> str:
    name: str = type(change).Action.Name(change.action)
    return name.removeprefix("ACTION_").lower()


def change_lines(change: retriever_pb2.ValueChange) -> Iterator[str]:
    """A change for people: what happened, and the lines of the text that differ."""
    versions = [str(number) for number in (change.version_before, change.version_after) if number]
    fields = f" ({', '.join(change.fields)})" if change.fields else ""
    yield f"  {action_of(change)} {change.value_id} version {' -> '.join(versions)}{fields}"
    for line in change.text_diff.splitlines():
        # The names of the two versions stand in the line above.
        if not line.startswith(("--- ", "+++ ", "@@")):
            yield f"      {line}"
