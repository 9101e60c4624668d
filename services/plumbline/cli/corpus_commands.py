"""`mix`, `subset`, `decontaminate`: what goes into a training set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from plumbline.cli.console import ConfigFile, Json, Out, Sets, read_configuration, reference

Datasets = Annotated[
    list[str], typer.Argument(help="Documents or conversations: data files, ids or tags.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every draw.")]
Tag = Annotated[str | None, typer.Option(help="Tag the result.")]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(mix)
    app.command(rich_help_panel="Services")(subset)
    app.command(rich_help_panel="Services")(decontaminate)


def mix(
    datasets: Datasets,
    total: Annotated[int | None, typer.Option(min=1, help="How much is drawn.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="What is counted: records, tokens or characters.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="1 mixes by size; more brings small sources up.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="Sources: input, source, language or metadata:KEY.")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="shuffled, input, length, score or phases.")
    ] = None,
    seed: Seed = None,
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Tag = None,
    json_output: Json = False,
) -> None:
    """Mix sources by weights, temperature, epochs and caps, in exact counts.

    Weights, epochs and caps of single sources stand under `sources` in the configuration.
    """
    options = {
        "total": total,
        "unit": unit,
        "temperature": temperature,
        "group_by": group_by,
        "order": order,
        "seed": seed,
    }
    inputs = {"datasets": [reference(item) for item in datasets]}
    _run("mix", config, sets, options, inputs, out, tag, json_output)


def subset(
    datasets: Datasets,
    size: Annotated[int | None, typer.Option(min=1, help="Records wanted.")] = None,
    share: Annotated[float | None, typer.Option(help="Share of all records.")] = None,
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="Keep the proportions of this property; may repeat."),
    ] = None,
    seed: Seed = None,
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Tag = None,
    json_output: Json = False,
) -> None:
    """Draw a sample that keeps the proportions of sources and languages."""
    options = {"size": size, "share": share, "stratify_by": by or None, "seed": seed}
    inputs = {"datasets": [reference(item) for item in datasets]}
    _run("subset", config, sets, options, inputs, out, tag, json_output)


def decontaminate(
    corpus: Annotated[str, typer.Argument(help="Training data: a data file, an id or a tag.")],
    against: Annotated[
        list[str], typer.Option("--against", help="An evaluation set: file, id or tag; may repeat.")
    ],
    text_fields: Annotated[
        list[str] | None,
        typer.Option("--text-field", help="Key of a sample's text in such files; may repeat."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="skipgram (Llama 2) or collision (GPT-3).")
    ] = None,
    remove: Annotated[
        str | None, typer.Option(help="documents, spans, or nothing for a report only.")
    ] = None,
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Tag = None,
    json_output: Json = False,
) -> None:
    """Remove what training data share with evaluation sets, and report it.

    report.json names the clean, not clean, not dirty and dirty samples of each evaluation set.
    """
    inputs = {
        "corpus": [reference(corpus)],
        "evaluation": [reference(item) for item in against],
    }
    options = {"method": method, "remove": remove, "text_fields": text_fields or None}
    _run("decontaminate", config, sets, options, inputs, out, tag, json_output)


def _run(
    operation: str,
    config: Path | None,
    sets: Sequence[str] | None,
    options: dict[str, Any],
    inputs: dict[str, list[str]],
    out: Path | None,
    tag: str | None,
    json_output: bool,
) -> None:
    from plumbline.cli.stage_runs import run_verb

    given = {name: value for name, value in options.items() if value is not None}
    run_verb(
        f"curation.{operation}",
        {**read_configuration(config, sets), **given},
        inputs,
        out=out,
        tag=tag,
        json_output=json_output,
    )
