"""`train-filter`: classifiers of documents, from labelled texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from plumbline.cli.console import ConfigFile, Json, Sets, read_configuration, reference


def register(app: typer.Typer) -> None:
    app.command("train-filter", rich_help_panel="Services")(train_filter)


def train_filter(
    inputs: Annotated[
        list[str],
        typer.Option("--input", help="A labelled data file or artifact; may be repeated."),
    ],
    name: Annotated[str, typer.Option(help="What the filter finds, for example toxicity.")],
    text_field: Annotated[
        list[str] | None,
        typer.Option(help="Field of the text; of several the first that a record has."),
    ] = None,
    label_field: Annotated[
        list[str] | None,
        typer.Option(help="Field of the label; of several any may be positive."),
    ] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[FIELD=]VALUE", help="A positive label; 1, true and yes unless given."
        ),
    ] = None,
    group_field: Annotated[
        str | None, typer.Option(help="Report flag rates by the values of this field.")
    ] = None,
    neutral_terms: Annotated[
        list[str] | None,
        typer.Option(
            help="Names of groups that must not raise a score by themselves: HolisticBias "
            "descriptors (.json) or one term a line (.txt); added to the package's own."
        ),
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Annotated[str | None, typer.Option(help="Tag the trained filter.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "--out", "-o", help="Copy the filter's files here.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Train a filter that `curate` and `analyze` take, and report how good and fair it is."""
    from plumbline.cli.stage_runs import run_verb

    given: dict[str, Any] = {
        "name": name,
        "text_fields": text_field,
        "label_fields": label_field,
        "positive": positive,
        "group_field": group_field,
    }
    named = {key: value for key, value in given.items() if value}
    references = {"labelled": [reference(path) for path in inputs]}
    if neutral_terms:
        references["neutral_terms"] = [reference(path) for path in neutral_terms]
    run_verb(
        "curation.train_filter",
        {**read_configuration(config, sets), **named},
        references,
        out=output,
        tag=tag,
        json_output=json_output,
    )
