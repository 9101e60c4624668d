"""Live progress of a run on stderr: a table in a terminal, a line per change elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from plumbline.v1 import jobs_pb2, pipeline_pb2

_STYLES = {
    "SUCCEEDED": "green",
    "RUNNING": "cyan",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
    "QUEUED": "dim",
}


class RunProgress:
    """Shows a run while it changes."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """A line that stays, once."""
        if self._told.get("") != text:
            self._told[""] = text
            self._console.print(Text(text, style="yellow"))

    def update(self, run: pipeline_pb2.Run) -> None:
        """Show the run as it now stands."""
        if self._console.is_terminal:
            self._live.update(_table(run))
            return
        for stage in run.stages:
            state = _state(stage)
            if state != "QUEUED" and self._told.get(stage.name) != state:
                self._told[stage.name] = state
                self._console.print(Text(_line(stage, state)), soft_wrap=True)


def _line(stage: pipeline_pb2.StageRun, state: str) -> str:
    if stage.cached:
        return f"{stage.name}: cached"
    if state == "SUCCEEDED":
        return f"{stage.name}: succeeded in {stage.duration_s:.1f} s"
    return f"{stage.name}: {state.lower()}, {stage.why}"


def _table(run: pipeline_pb2.Run) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for stage in run.stages:
        state = _state(stage)
        table.add_row(
            Text(stage.name),
            Text("cached" if stage.cached else state.lower(), style=_STYLES.get(state, "")),
            Text(f"{stage.duration_s:.0f} s" if stage.duration_s else ""),
            Text(_detail(stage, state)),
        )
    return table


def _detail(stage: pipeline_pb2.StageRun, state: str) -> str:
    progress = stage.progress
    if state == "RUNNING" and progress.total:
        filled = int(20 * progress.done / progress.total)
        bar = "█" * filled + "░" * (20 - filled)
        return f"{bar} {progress.done}/{progress.total} {progress.message}"
    return "" if state == "SUCCEEDED" else stage.why


def _state(stage: pipeline_pb2.StageRun) -> str:
    return str(jobs_pb2.JobState.Name(stage.state)).removeprefix("JOB_STATE_")
