"""`curate`, `anonymize`: text and corpora."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import (
    ConfigFile,
    Json,
    Out,
    Sets,
    assignments,
    emit,
    load_settings,
    parse_yaml,
    read_configuration,
    read_text,
    reference,
    say,
)
from plumbline.core.errors import InvalidInputError, PlumblineError

if TYPE_CHECKING:
    from plumbline.curation.pii.config import AnonymizeOptions
    from plumbline.data.containers import Row
    from plumbline.v1 import curation_pb2

_PROGRESS_S = 5.0


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(curate)
    app.command(rich_help_panel="Services")(anonymize)


def curate(
    corpus: Annotated[str, typer.Argument(help="A data file, or a corpus by artifact id or tag.")],
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="A trained filter that judges too; may repeat."),
    ] = None,
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
        {"corpus": [reference(corpus)], "filters": list(map(reference, filters or ()))},
        out=out,
        tag=tag,
        json_output=json_output,
    )


def anonymize(
    file: Annotated[str, typer.Argument(help="A text file, or `-` for standard input.")] = "-",
    records: Annotated[
        Path | None,
        typer.Option("--input", help="A data file of records (.jsonl, also .gz), not of lines."),
    ] = None,
    text_field: Annotated[str, typer.Option(help="The records' field with the text.")] = "text",
    out: Annotated[
        Path | None, typer.Option("--output", "--out", "-o", help="Write here (.gz compresses).")
    ] = None,
    spans: Annotated[
        bool, typer.Option("--spans", help="Add a field `spans` with what was found where.")
    ] = False,
    action: Annotated[
        str | None, typer.Option(help="redact (<EMAIL>), mask (*****), keep or pseudonymise.")
    ] = None,
    action_for: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE=ACTION", help="Another action for a type; may be repeated."),
    ] = None,
    types: Annotated[
        str | None, typer.Option(help="Types to look for, separated by commas.")
    ] = None,
    min_confidence: Annotated[
        float | None, typer.Option(help="Leave pieces of lower confidence alone.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Name of the pseudonyms' key.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose pseudonyms they are.")] = None,
    scope: Annotated[str | None, typer.Option(help="What they hold for.")] = None,
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Remove personal data from text, line by line, or from one field of records."""
    from plumbline.cli.local_services import service_client

    flags = {
        "action": action,
        "actions": assignments(action_for, option="--action-for") or None,
        "types": [name.strip() for name in types.split(",")] if types else None,
        "min_confidence": min_confidence,
        "key": key,
        "tenant": tenant,
        "scope": scope,
    }
    options = _options(config, flags)
    if records is not None and file != "-":
        raise InvalidInputError(f"--input {records} and the text file {file} are given; one is")
    with service_client("curation", load_settings()) as client:
        if records is None:
            _anonymize_lines(client, file, options, out, json_output)
        else:
            _anonymize_records(client, records, text_field, options, out, spans)


def _options(config: Path | None, flags: dict[str, Any]) -> AnonymizeOptions:
    """Options from a YAML file with the command line's over them."""
    from plumbline.core.validation import parse_config
    from plumbline.curation.pii.config import AnonymizeOptions

    values = parse_yaml(read_text(config), where=str(config)) if config else None
    if values is not None and not isinstance(values, dict):
        raise InvalidInputError(f"{config}: holds a {type(values).__name__}; a map is accepted")
    given = {name: value for name, value in flags.items() if value is not None}
    return parse_config(AnonymizeOptions, {**(values or {}), **given}, where="anonymize")


def _anonymize_lines(
    client: Any, file: str, options: AnonymizeOptions, out: Path | None, json_output: bool
) -> None:
    lines = _read_lines(file)
    requests = (_request(str(number), line, options) for number, line in enumerate(lines, start=1))
    answers = list(client.StreamAnonymizeText(requests))
    if json_output:
        emit(
            [
                {"line": int(answer.document_id), "text": answer.text, "spans": _described(answer)}
                for answer in answers
            ]
        )
        return
    result = "".join(f"{answer.text}\n" for answer in answers)
    if out is None:
        sys.stdout.write(result)
        return
    with _whole_file(out) as stream:
        stream.write(result)
    say(f"{sum(len(answer.spans) for answer in answers)} pieces replaced; written to {out}")


def _read_lines(file: str) -> list[str]:
    if file == "-":
        return sys.stdin.read().splitlines()
    if not file.endswith(".gz"):
        return read_text(Path(file)).splitlines()
    try:
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            return stream.read().splitlines()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot read {file}: {error}") from error


def _anonymize_records(
    client: Any,
    path: Path,
    text_field: str,
    options: AnonymizeOptions,
    out: Path | None,
    with_spans: bool,
) -> None:
    """Each record with its text replaced, as JSON lines; memory does not grow with the file."""
    rows = _SentRows(path, text_field)
    pieces = count = 0
    reported = time.monotonic()
    with _whole_file(out) if out else contextlib.nullcontext(sys.stdout) as stream:
        for answer in client.StreamAnonymizeText(rows.requests(options)):
            record = rows.waiting.popleft()
            record[text_field] = answer.text
            if with_spans:
                record["spans"] = _described(answer)
            stream.write(json.dumps(record, ensure_ascii=False) + "\n")
            count, pieces = count + 1, pieces + len(answer.spans)
            if time.monotonic() - reported > _PROGRESS_S:
                reported = time.monotonic()
                say(f"{count} records, {pieces} pieces of personal data so far")
        if rows.problem is not None:
            raise rows.problem
    say(
        f"{count} records, {pieces} pieces of personal data"
        + (f"; written to {out}" if out else "")
    )


class _SentRows:
    """Records on their way through the service, which answers in order."""

    def __init__(self, path: Path, text_field: str) -> None:
        self._path = path
        self._text_field = text_field
        self.waiting: deque[dict[str, Any]] = deque()
        self.problem: PlumblineError | None = None
        """What ended the records early: an error inside a request stream would be lost."""

    def requests(
        self, options: AnonymizeOptions
    ) -> Iterator[curation_pb2.StreamAnonymizeTextRequest]:
        from plumbline.data.containers import ReadLimits, iter_rows

        try:
            for row in iter_rows(self._path, limits=ReadLimits(), text_unit="line"):
                record = self._record(row)
                request = _request(str(row.line), record[self._text_field], options)
                self.waiting.append(record)
                yield request
        except PlumblineError as error:
            self.problem = error

    def _record(self, row: Row) -> dict[str, Any]:
        place = f"{self._path}:{row.line}"
        if row.problem:
            raise InvalidInputError(f"{place}: {row.problem}", reason=row.reason or None)
        if not isinstance(row.value, dict):
            raise InvalidInputError(
                f"{place}: holds a {type(row.value).__name__}; a JSON object is accepted"
            )
        text = row.value.get(self._text_field)
        if not isinstance(text, str):
            raise InvalidInputError(
                f"{place}: field {self._text_field!r} holds {type(text).__name__}; text is "
                f"accepted; the record's fields: {', '.join(map(str, row.value))}",
                field=self._text_field,
            )
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"{place}: field {self._text_field!r} holds half a character (a lone surrogate) "
                f"at position {error.start}"
            ) from None
        return row.value


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[IO[str]]:
    """A text file that appears when the block ends well, and not at all otherwise."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with contextlib.ExitStack() as files:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                binary: Any = files.enter_context(partial.open("wb"))
            except OSError as error:
                raise InvalidInputError(f"cannot write {path}: {error}") from error
            if path.suffix == ".gz":
                # No name and no time in the header: the same records give the same bytes.
                packed = gzip.GzipFile(filename="", mode="wb", fileobj=binary, mtime=0)
                binary = files.enter_context(packed)
            yield files.enter_context(io.TextIOWrapper(binary, encoding="utf-8"))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _request(
    document_id: str, text: str, options: AnonymizeOptions
) -> curation_pb2.StreamAnonymizeTextRequest:
    from plumbline.v1 import curation_pb2

    wire = curation_pb2.AnonymizeOptions(
        actions={name: _wire_action(action) for name, action in options.actions.items()},
        types=options.types,
        min_confidence=options.min_confidence,
        key=options.key,
        tenant=options.tenant,
        scope=options.scope,
    )
    return curation_pb2.StreamAnonymizeTextRequest(
        document_id=document_id, text=text, action=_wire_action(options.action), options=wire
    )


def _wire_action(action: str | None) -> curation_pb2.AnonymizeAction:
    from plumbline.v1 import curation_pb2

    name = f"ANONYMIZE_ACTION_{(action or 'unspecified').upper()}"
    value: curation_pb2.AnonymizeAction = curation_pb2.AnonymizeAction.Value(name)
    return value


def _described(answer: curation_pb2.StreamAnonymizeTextResponse) -> list[dict[str, Any]]:
    return [
        {
            "start": span.start,
            "end": span.end,
            "type": span.type,
            "confidence": round(span.confidence, 4),
            "replacement": span.replacement,
        }
        for span in answer.spans
    ]
