"""What a run ends with on a terminal: stages, figures by version, and the report's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plumbline.cli.console import short, show_table

if TYPE_CHECKING:
    from plumbline.core.settings import Settings
    from plumbline.v1 import pipeline_pb2

REPORT_FILE = "report.html"


def show_stages(final: pipeline_pb2.Run, states: Sequence[str], state: str) -> None:
    """One line for each stage; a state other than SUCCEEDED says why."""
    rows = [
        (
            stage.name,
            stage_state,
            "cached" if stage.cached else f"{stage.duration_s:.1f} s",
            short(stage.artifact),
            "" if stage_state == "SUCCEEDED" else stage.why,
        )
        for stage, stage_state in zip(final.stages, states, strict=True)
    ]
    title = f"run {final.id} of {final.pipeline}: {state}"
    show_table(title, ("stage", "state", "time", "artifact", "why"), rows)


def show_metrics(metrics: Mapping[str, float]) -> None:
    """Evaluated versions side by side, then what belongs to none of them."""
    versions = versions_of(metrics)
    table: dict[str, dict[str, float]] = {}
    rest: dict[str, float] = {}
    for name, value in metrics.items():
        metric, _, version = name.rpartition(".")
        if version in versions:
            table.setdefault(metric, {})[version] = value
        else:
            rest[name] = value
    if table:
        rows = [
            (metric, *(_figure(values.get(version)) for version in versions))
            for metric, values in sorted(table.items())
        ]
        show_table("\nresults by version", ("metric", *versions), rows)
    if rest:
        figures = [(name, _figure(value)) for name, value in sorted(rest.items())]
        show_table("\nfurther metrics", ("metric", "value"), figures)


def versions_of(metrics: Mapping[str, float]) -> list[str]:
    """Names of the evaluated policies: every evaluation publishes `reward.NAME` or, where no
    reward model was given, `coherence.NAME`."""
    parts = (name.split(".") for name in metrics)
    return sorted({p[1] for p in parts if len(p) == 2 and p[0] in ("reward", "coherence")})


def save_report(final: pipeline_pb2.Run, settings: Settings) -> Path | None:
    """Copy the run's last HTML report to `<state>/reports/<pipeline>.html`, if it made one."""
    from plumbline.core.artifacts import open_configured_store

    store = open_configured_store(settings)
    for stage in reversed(final.stages):
        if not stage.artifact:
            continue
        if store.get(stage.artifact).manifest.file(REPORT_FILE):
            path = settings.state_dir / "reports" / f"{final.pipeline}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.read_bytes(stage.artifact, REPORT_FILE))
            return path
    return None


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
