"""`analyze` and `temperatures`: what a corpus consists of, and how a policy is best sampled."""

from __future__ import annotations

from typing import Annotated

import typer

from plumbline.cli.console import ConfigFile, Json, Out, Sets, read_configuration, reference


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Services")(analyze)
    app.command(rich_help_panel="Services")(temperatures)


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


def temperatures(
    policy: Annotated[
        str | None, typer.Argument(help="A policy: directory, artifact id or tag.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="What the policy answers: a world or a file of prompts.")
    ] = None,
    rollouts: Annotated[
        str | None, typer.Option(help="Responses drawn already, in place of policy and prompts.")
    ] = None,
    name: Annotated[str, typer.Option(help="Suffix of the metrics, for example v1.")] = "policy",
    helpfulness: Annotated[str | None, typer.Option(help="Helpfulness reward model.")] = None,
    safety: Annotated[str | None, typer.Option(help="Safety reward model.")] = None,
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Annotated[str | None, typer.Option(help="Tag the report.")] = None,
    json_output: Json = False,
) -> None:
    """Report best and median reward of N responses, and Self-BLEU, by temperature.

    Writes curves.json, its figures and the scored responses, rollouts.parquet.
    """
    from plumbline.cli.stage_runs import run_verb

    given = {
        "policy": policy,
        "prompts": prompts,
        "rollouts": rollouts,
        "helpfulness": helpfulness,
        "safety": safety,
    }
    run_verb(
        "evaluation.temperature_curves",
        {"name": name, **read_configuration(config, sets)},
        {key: [reference(value)] for key, value in given.items() if value},
        services=("sampler", "reward"),
        out=out,
        tag=tag,
        json_output=json_output,
    )
