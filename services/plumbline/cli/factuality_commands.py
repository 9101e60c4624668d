"""`check-factuality`: the claims of a text, each with a verdict."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import (
    Json,
    emit,
    load_settings,
    read_text,
    say,
    served_reference,
    show_table,
)

if TYPE_CHECKING:
    from plumbline.v1 import retriever_pb2

_TIMEOUT_S = 600.0
_VERDICTS = {1: "supported", 2: "refuted", 3: "not enough evidence"}
"""By number of ClaimVerdict."""


class Kind(StrEnum):
    """Kinds of claims, as `--kind` takes them."""

    KNOWLEDGE = "knowledge"
    ARITHMETIC = "arithmetic"
    CODE = "code"
    CITATION = "citation"


def register(app: typer.Typer) -> None:
    app.command("check-factuality", rich_help_panel="Services")(check_factuality)


def check_factuality(
    file: Annotated[str, typer.Argument(help="File with the text; `-` reads standard input.")],
    kind: Annotated[
        list[Kind] | None, typer.Option(help="Check these kinds of claims; repeatable.")
    ] = None,
    evidence: Annotated[
        list[Path] | None, typer.Option(help="Text file that is evidence; repeatable.")
    ] = None,
    corpus: Annotated[
        str,
        typer.Option("--corpus", "--kb", help="Corpus or knowledge base that holds evidence."),
    ] = "",
    prompt: Annotated[str, typer.Option(help="What the text answers.")] = "",
    policy: Annotated[
        str, typer.Option(help="Policy that judges knowledge claims in place of the rules.")
    ] = "",
    claim: Annotated[
        list[str] | None, typer.Option(help="Check this claim, and not the text's; repeatable.")
    ] = None,
    assertion: Annotated[
        list[str] | None,
        typer.Option(help="`EXPRESSION == VALUE` that programs must keep; repeatable."),
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with 1 when a claim is refuted.")] = False,
    json_output: Json = False,
) -> None:
    """Find the claims of a text and check each: evidence, arithmetic, code, citations."""
    from plumbline.cli.local_services import service_client
    from plumbline.v1 import retriever_pb2

    request = retriever_pb2.CheckFactualityRequest(
        text=sys.stdin.read() if file == "-" else read_text(Path(file)),
        prompt=prompt,
        kinds=[retriever_pb2.ClaimKind.Value(f"CLAIM_KIND_{k.name}") for k in kind or ()],
        documents=[_document(path) for path in evidence or ()],
        corpus=corpus,
        policy=served_reference(policy) if policy else "",
        claims=claim or (),
        assertions=assertion or (),
    )
    needs = ("sampler",) if policy else ()
    with service_client("retriever", load_settings(), needs=needs) as client:
        answer = client.CheckFactuality(request, timeout=_TIMEOUT_S)
    if json_output:
        emit({"factual": answer.factual, "claims": [_described(one) for one in answer.claims]})
    else:
        _show(answer)
    if strict and not answer.factual:
        raise typer.Exit(1)


def _document(path: Path) -> retriever_pb2.EvidenceDocument:
    from plumbline.v1 import retriever_pb2

    return retriever_pb2.EvidenceDocument(id=path.name, title=path.stem, text=read_text(path))


def _described(check: retriever_pb2.ClaimCheck) -> dict[str, Any]:
    from plumbline.v1 import retriever_pb2

    return {
        "kind": retriever_pb2.ClaimKind.Name(check.kind).removeprefix("CLAIM_KIND_").lower(),
        "claim": check.claim,
        "start": check.start,
        "end": check.end,
        "verdict": _VERDICTS[check.verdict].replace(" ", "_"),
        "why": check.why,
        "correction": check.correction,
        "queries": list(check.queries),
        "evidence": [
            {"document_id": one.document_id, "text": one.text, "score": one.score}
            for one in check.evidence
        ],
    }


def _show(answer: retriever_pb2.CheckFactualityResponse) -> None:
    rows = [
        (
            _VERDICTS[check.verdict],
            _shortened(check.claim),
            check.why
            + (f"; should be: {_shortened(check.correction)}" if check.correction else ""),
        )
        for check in answer.claims
    ]
    if rows:
        show_table("", ("verdict", "claim", "why"), rows)
    refuted = sum(check.verdict == 2 for check in answer.claims)
    say(f"{len(rows)} claims checked, {refuted} refuted")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:99] + "…"
