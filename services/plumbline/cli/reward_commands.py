"""`export-triton`: reward models for Triton Inference Server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from plumbline.cli.console import (
    ConfigFile,
    Json,
    Sets,
    emit,
    load_settings,
    read_configuration,
    reference,
    show_table,
)
from plumbline.core.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    app.command("export-triton", rich_help_panel="Services")(export_triton)


def export_triton(
    reward_model: Annotated[
        list[str], typer.Argument(help="A reward model for each head: directory, id or tag.")
    ],
    output: Annotated[Path, typer.Option(help="The model repository; new, empty or our own.")],
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="Head of each model in turn, helpfulness or safety; for models of overall "
            "preference, which serve as either."
        ),
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Write reward models as a model repository of Triton Inference Server.

    Settings, for example `--set device=gpu`: device (cpu, gpu), instances, threads, dtype,
    max_batch_size, max_queue_delay_us, max_queue_size, tokens_per_batch, safety_threshold.
    """
    from plumbline.core.artifacts import open_configured_store
    from plumbline.core.validation import parse_config
    from plumbline.models.references import ModelReferences
    from plumbline.reward.config import TritonExportConfig
    from plumbline.reward.triton_export import ExportedModel, export_repository

    if head and len(head) != len(reward_model):
        raise InvalidInputError(
            f"{len(head)} heads were named for {len(reward_model)} reward models; accepted: one "
            "--head for each, or none",
            field="head",
        )
    given: dict[str, Any] = read_configuration(config, sets)
    options = parse_config(TritonExportConfig, given)
    settings = load_settings()
    resolve = ModelReferences(open_configured_store(settings), import_roots=settings.import_roots)
    models = [
        ExportedModel(*resolve(reference(name)), head=(head or [""] * len(reward_model))[index])
        for index, name in enumerate(reward_model)
    ]
    written = export_repository(models, output, options)
    if json_output:
        emit({"output": str(output), "reward_models": dict(written)})
        return
    show_table(f"models in {output}", ("name in Triton", "reward model"), written.items())
