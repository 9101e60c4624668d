"""`analyze`: what a corpus consists of, and whom its filters would remove."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.console import ConfigFile, Json, Out, Sets, read_configuration, reference


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(analyze)


def analyze(
    corpus: Annotated[str, typer.Argument(help="A data file, or a corpus by artifact id or tag.")],
    descriptors: Annotated[
        list[str] | None,
        typer.Option(help="JSON file of identity terms, as HolisticBias has them; may repeat."),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="A trained filter whose scores are reported; may repeat."),
    ] = None,
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Annotated[str | None, typer.Option(help="Tag the report.")] = None,
    json_output: Json = False,
) -> None:
    """Report languages, pronouns, identity terms, toxicity, personal data and erasure.

    Writes report.html, report.json and a table of every document, documents.parquet.
    """
    from plumbline.cli.stage_runs import run_verb

    given = {"corpus": [corpus], "descriptors": descriptors or [], "filters": filters or []}
    run_verb(
        "curation.analyze",
        read_configuration(config, sets),
        {name: [reference(item) for item in items] for name, items in given.items() if items},
        out=out,
        tag=tag,
        json_output=json_output,
    )
