"""`values plan`: where values should be enforced, what enforces them, and what is missing."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import Json, emit, load_settings, read_text, say, show_table
from plumbline.core.errors import NotFoundError

if TYPE_CHECKING:
    from plumbline.data.records import ValueSpec
    from plumbline.pipeline.config import LoadedPipeline
    from plumbline.pipeline.planner import PlannedStage
    from plumbline.retriever.planner.coverage import CoverageReport
    from plumbline.retriever.planner.evidence import KnowledgeBaseUse, ServiceUse
    from plumbline.retriever.planner.pipelines import PipelineUse, StageUse

_SHOWN = 30
"""Values that the tables list; `--json` has all."""
_STAND_INS = {"int": 1, "float": 1.0, "bool": False}


def plan(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files or folders of values.")
    ],
    pipelines: Annotated[
        Path, typer.Option(help="Folder of pipeline files, or one of them.")
    ] = Path("pipelines"),
    knowledge_bases: Annotated[
        list[str] | None,
        typer.Option("--knowledge-base", "--kb", help="One that replies use; may be repeated."),
    ] = None,
    retriever_config: Annotated[
        Path | None,
        typer.Option(help="The retriever's YAML file; else PLUMBLINE_RETRIEVER_CONFIG names it."),
    ] = None,
    as_of: Annotated[str, typer.Option(help="Leave out what has ended by this ISO date.")] = "",
    markdown: Annotated[
        Path | None, typer.Option(help="Write the report to this file as well.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Say where each value should be enforced, what enforces it already, and what is missing."""
    from plumbline.retriever.planner.coverage import plan_values
    from plumbline.retriever.planner.evidence import Surroundings
    from plumbline.retriever.planner.report import report_json, report_markdown
    from plumbline.retriever.readers.folders import read_values

    read = read_values(paths)
    values = _not_ended(read, as_of)
    report = plan_values(
        values,
        Surroundings(
            pipelines=tuple(_pipeline_use(file) for file in _pipeline_files(pipelines)),
            knowledge_bases=tuple(
                _knowledge_base_use(name, as_of) for name in knowledge_bases or ()
            ),
            services=_service_use(retriever_config),
        ),
    )
    if markdown is not None:
        markdown.write_text(report_markdown(report), encoding="utf-8")
    if json_output:
        emit({**report_json(report), "ended": len(read) - len(values)})
        return
    _show(report, len(read) - len(values))


def _show(report: CoverageReport, ended: int) -> None:
    from plumbline.retriever.planner.matrix import Place
    from plumbline.retriever.planner.report import coverage_rows, finding_lines, value_rows

    places = [place.value for place in Place]
    show_table("values", ("value", "kind", *places), value_rows(report, _SHOWN))
    if len(report.plans) > _SHOWN:
        say(f"{len(report.plans) - _SHOWN} further values are not shown; --json lists all")
    for line in finding_lines(report, _SHOWN):
        typer.echo(f"  {line}")
    typer.echo("")
    show_table("covered of recommended", ("kind", *places), coverage_rows(report))
    total = report.total
    say(
        f"{len(report.plans)} values: evidence for {total.covered} of {total.recommended} "
        f"recommended cells, {total.misplaced} misplaced"
        + (f"; {ended} values have ended and are left out" if ended else "")
    )
    for name in report.undecided:
        say(f"{name}: only a run would tell what it imports, so it counts for nothing")


def _not_ended(values: Sequence[ValueSpec], as_of: str) -> list[ValueSpec]:
    """The values in force on a day or later."""
    from plumbline.retriever.values.timelines import windows
    from plumbline.retriever.values.validation import parse_date

    day = parse_date(as_of, "--as-of") or datetime.datetime.now(datetime.UTC).date()
    return [
        value
        for value, (first, end) in zip(values, windows(values), strict=True)
        if first < end and end > day.toordinal()
    ]


def _pipeline_files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.yaml"))
    if path.is_file():
        return [path]
    raise NotFoundError(
        f"there is no folder or file {path}; --pipelines names the pipelines that are looked at"
    )


def _pipeline_use(file: Path) -> PipelineUse:
    """A pipeline's stages, its params standing in for themselves where they have no default."""
    from plumbline.catalogue import STAGES
    from plumbline.pipeline.config import load_pipeline
    from plumbline.pipeline.planner import plan_pipeline
    from plumbline.retriever.planner.pipelines import PipelineUse

    loaded = load_pipeline(read_text(file), source_name=str(file))
    planned = plan_pipeline(loaded, _stand_ins(loaded), STAGES)
    return PipelineUse(name=str(file), stages=tuple(_stage_use(stage) for stage in planned.stages))


def _stand_ins(loaded: LoadedPipeline) -> dict[str, Any]:
    """A value for every param that a run would be given: for a path an artifact, which nothing
    looks up here."""
    return {
        name: f"artifact:param/{name}@given"
        if spec.kind == "path"
        else _STAND_INS.get(spec.kind or "", name)
        for name, spec in loaded.spec.params.items()
        if spec.required or (spec.kind == "path" and not Path(spec.default or ".").exists())
    }


def _stage_use(stage: PlannedStage) -> StageUse:
    from plumbline.retriever.planner.pipelines import IMPORT_VALUES, StageUse

    imports = stage.uses == IMPORT_VALUES
    return StageUse(
        name=stage.name,
        uses=stage.uses,
        config=stage.config,
        depends_on=stage.depends_on,
        value_digests=_imported_digests(stage) if imports else frozenset(),
    )


def _imported_digests(stage: PlannedStage) -> frozenset[str] | None:
    """Digests of the values that an import stage reads from files; None where it reads others."""
    from plumbline.pipeline.planner import PATH
    from plumbline.retriever.readers.folders import read_values
    from plumbline.retriever.values.validation import content_digest

    references = stage.inputs.get("values", ())
    if not all(reference.startswith(PATH) for reference in references):
        return None
    paths = [Path(reference.removeprefix(PATH)) for reference in references]
    if not all(path.exists() for path in paths):
        return None
    values = read_values(paths)
    chosen, revoked = stage.config["ids"], stage.config["revoked"]
    kept = [value for value in values if not chosen or value.id in chosen]
    kept = kept[: stage.config["limit"] or len(kept)]
    return frozenset(content_digest(value) for value in kept if value.id not in revoked)


def _knowledge_base_use(name: str, as_of: str) -> KnowledgeBaseUse:
    from plumbline.cli.local_services import service_client
    from plumbline.cli.value_filters import every
    from plumbline.retriever.convert import value_from_wire
    from plumbline.retriever.planner.evidence import KnowledgeBaseUse
    from plumbline.retriever.values.validation import content_digest
    from plumbline.v1 import retriever_pb2

    with service_client("retriever", load_settings()) as client:
        states = client.ListKnowledgeBaseStates(
            retriever_pb2.ListKnowledgeBaseStatesRequest(knowledge_base=name, page_size=1)
        )
        artifact = states.states[0].artifact
        request = retriever_pb2.ListValuesRequest(knowledge_base=artifact)
        values = [value_from_wire(value) for value in every(client.ListValues, request, "values")]
    versions: dict[str, dict[str, int]] = {}
    for value in _not_ended(values, as_of):
        versions.setdefault(value.id, {})[content_digest(value)] = value.version
    return KnowledgeBaseUse(name=name, artifact=artifact, versions=versions)


def _service_use(path: Path | None) -> tuple[ServiceUse, ...]:
    """What the settings say of every reply; nothing where no file names them."""
    import os

    from plumbline.retriever.config import CONFIG_VARIABLE, configured_retriever
    from plumbline.retriever.planner.evidence import ServiceUse

    environment = {CONFIG_VARIABLE: str(path)} if path else dict(os.environ)
    where = environment.get(CONFIG_VARIABLE)
    if not where:
        return ()
    respond = configured_retriever(environment).respond
    return (
        ServiceUse(
            where=where,
            minimum_safety=respond.rewards.minimum_safety,
            claim_kinds=tuple(respond.claims.kinds),
        ),
    )
