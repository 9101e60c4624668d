"""`curate`, `anonymize`: text and corpora."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from plumbline.cli.console import (
    ConfigFile,
    Json,
    Out,
    Sets,
    emit,
    load_settings,
    read_configuration,
    read_text,
    reference,
    say,
)
from plumbline.core.errors import InvalidInputError

if TYPE_CHECKING:
    from plumbline.v1 import curation_pb2

Action = Literal["redact", "mask"]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(curate)
    app.command(rich_help_panel="Services")(anonymize)


def curate(
    corpus: Annotated[str, typer.Argument(help="A data file, or a corpus by artifact id or tag.")],
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Annotated[str | None, typer.Option(help="Tag the curated corpus.")] = None,
    json_output: Json = False,
) -> None:
    """Filter, de-duplicate and anonymize a corpus; the report says what was removed and why."""
    from plumbline.cli.stage_runs import run_verb

    run_verb(
        "curation.curate",
        read_configuration(config, sets),
        {"corpus": [reference(corpus)]},
        out=out,
        tag=tag,
        json_output=json_output,
    )


def anonymize(
    file: Annotated[str, typer.Argument(help="A text file, or `-` for standard input.")] = "-",
    action: Annotated[str, typer.Option(help="redact (<EMAIL>) or mask (*****).")] = "redact",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here.")] = None,
    json_output: Json = False,
) -> None:
    """Remove personal data from text, line by line."""
    from plumbline.cli.local_services import service_client

    text = sys.stdin.read() if file == "-" else read_text(Path(file))
    lines = text.splitlines()
    with service_client("curation", load_settings()) as client:
        answers = list(client.StreamAnonymizeText(_requests(lines, action)))
    if json_output:
        emit([_described(answer) for answer in answers])
        return
    result = "".join(f"{answer.text}\n" for answer in answers)
    if out is None:
        sys.stdout.write(result)
    else:
        out.write_text(result, encoding="utf-8")
        say(f"{sum(len(answer.spans) for answer in answers)} pieces replaced; written to {out}")


def _requests(lines: list[str], action: str) -> Iterator[curation_pb2.StreamAnonymizeTextRequest]:
    from plumbline.v1 import curation_pb2

    actions = {
        "redact": curation_pb2.ANONYMIZE_ACTION_REDACT,
        "mask": curation_pb2.ANONYMIZE_ACTION_MASK,
    }
    if action not in actions:
        raise InvalidInputError(f"action {action!r} is unknown; accepted: {', '.join(actions)}")
    return (
        curation_pb2.StreamAnonymizeTextRequest(
            document_id=str(number), text=line, action=actions[action]
        )
        for number, line in enumerate(lines, start=1)
    )


def _described(answer: curation_pb2.StreamAnonymizeTextResponse) -> dict[str, Any]:
    return {
        "line": int(answer.document_id),
        "text": answer.text,
        "spans": [
            {
                "start": span.start,
                "end": span.end,
                "type": span.type,
                "confidence": round(span.confidence, 4),
                "replacement": span.replacement,
            }
            for span in answer.spans
        ],
    }
