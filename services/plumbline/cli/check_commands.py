"""`check`: whether an installation works, part by part."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from plumbline.cli.console import Json, emit, load_settings, seconds, show_table


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Platform")(check)


def check(
    services: Annotated[bool, typer.Option("--services", help="Health of every service.")] = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="One small job, through the broker and a worker.")
    ] = False,
    store: Annotated[
        bool, typer.Option("--store", help="Write, read and remove an artifact.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option(min=1.0, max=3600.0, help="For a service to answer, the job to end.")
    ] = 120.0,
    json_output: Json = False,
) -> None:
    """Check that the platform works; without options everything. Exit code 1 where it does not."""
    from plumbline.cli.platform_checks import check_queue, check_services, check_store

    settings = load_settings()
    everything = not (services or queue or store)
    outcomes = []
    if services or everything:
        outcomes += check_services(settings, timeout_s=timeout_s)
    if store or everything:
        outcomes.append(check_store(settings))
    if queue or everything:
        outcomes.append(check_queue(settings, timeout_s=timeout_s))
    passed = all(outcome.result != "failed" for outcome in outcomes)
    if json_output:
        checks = [dataclasses.asdict(outcome) for outcome in outcomes]
        emit({"passed": passed, "checks": checks})
    else:
        rows = [(one.check, one.result, seconds(one.duration_s), one.why) for one in outcomes]
        show_table("", ("check", "result", "took", "why"), rows)
    if not passed:
        raise typer.Exit(1)
