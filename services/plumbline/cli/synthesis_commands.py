"""`self-instruct`, `evolve`, `backtranslate`, `to-instructions`: instruction data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from plumbline.cli.console import ConfigFile, Json, Out, Sets, read_configuration, reference
from plumbline.core.errors import InvalidInputError

Policy = Annotated[str, typer.Option("--policy", help="Writes the texts: a directory, id or tag.")]
Count = Annotated[int | None, typer.Option(min=1, help="Records wanted.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every draw.")]
Tag = Annotated[str | None, typer.Option(help="Tag the records.")]


def register(app: typer.Typer) -> None:
    app.command("self-instruct", rich_help_panel="Services")(self_instruct)
    app.command(rich_help_panel="Services")(evolve)
    app.command(rich_help_panel="Services")(backtranslate)
    app.command("to-instructions", rich_help_panel="Services")(to_instructions)


def self_instruct(
    seeds: Annotated[str, typer.Argument(help="Seed tasks: a data file, an id or a tag.")],
    policy: Policy,
    count: Count = None,
    seed: Seed = None,
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Tag = None,
    json_output: Json = False,
) -> None:
    """Generate instructions and their answers from seed tasks."""
    values = _configuration(config, sets, target=count, seed=seed)
    inputs = {"seeds": [reference(seeds)], "policy": [reference(policy)]}
    _run("self_instruct", values, inputs, out, tag, json_output, services=("sampler",))


def evolve(
    conversations: Annotated[str, typer.Argument(help="Tasks: a data file, an id or a tag.")],
    policy: Policy,
    generations: Annotated[int | None, typer.Option(min=1, help="How often to evolve.")] = None,
    seed: Seed = None,
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Tag = None,
    json_output: Json = False,
) -> None:
    """Make instructions harder or rarer, generation by generation."""
    values = _configuration(config, sets, generations=generations, seed=seed)
    inputs = {"conversations": [reference(conversations)], "policy": [reference(policy)]}
    _run("evolve", values, inputs, out, tag, json_output, services=("sampler",))


def backtranslate(
    documents: Annotated[str, typer.Argument(help="Texts: a data file, an id or a tag.")],
    policy: Policy,
    count: Count = None,
    seed: Seed = None,
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Tag = None,
    json_output: Json = False,
) -> None:
    """Write the instructions that documents answer."""
    values = _configuration(config, sets, target=count, seed=seed)
    inputs = {"documents": [reference(documents)], "policy": [reference(policy)]}
    _run("backtranslate", values, inputs, out, tag, json_output, services=("sampler",))


def to_instructions(
    conversations: Annotated[
        str | None, typer.Argument(help="Dialogues: a data file, an id or a tag.")
    ] = None,
    documents: Annotated[
        str | None, typer.Option(help="Texts that hold questions or titles.")
    ] = None,
    out: Out = None,
    sets: Sets = None,
    config: ConfigFile = None,
    tag: Tag = None,
    json_output: Json = False,
) -> None:
    """Turn conversations and documents into instruction records; no policy is asked."""
    given = {"conversations": conversations, "documents": documents}
    inputs = {name: [reference(value)] for name, value in given.items() if value is not None}
    if not inputs:
        raise InvalidInputError("nothing to convert: give conversations, --documents or both")
    values = _configuration(config, sets)
    _run("to_instructions", values, inputs, out, tag, json_output)


def _configuration(
    config: Path | None, sets: Sequence[str] | None, **options: int | None
) -> dict[str, Any]:
    """The configuration with the options that were given over it."""
    given = {name: value for name, value in options.items() if value is not None}
    return {**read_configuration(config, sets), **given}


def _run(
    operation: str,
    values: dict[str, Any],
    inputs: dict[str, list[str]],
    out: Path | None,
    tag: str | None,
    json_output: bool,
    *,
    services: Sequence[str] = (),
) -> None:
    from plumbline.cli.stage_runs import run_verb

    run_verb(
        f"curation.{operation}",
        values,
        inputs,
        services=services,
        out=out,
        tag=tag,
        json_output=json_output,
    )
