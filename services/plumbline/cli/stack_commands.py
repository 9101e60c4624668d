"""`up`, `down`, `status`: the embedded stack on this machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.cli.console import Json, emit, load_settings, say, seconds, show_table
from plumbline.core.errors import FailedPreconditionError

if TYPE_CHECKING:
    from plumbline.cli.contexts.settings import ContextSettings
    from plumbline.cli.embedded.state import ChildStatus, StackStatus


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Platform")(up)
    app.command(rich_help_panel="Platform")(down)
    app.command(rich_help_panel="Platform")(status)


def up(
    json_output: Json = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay in the terminal; Ctrl-C stops everything.")
    ] = False,
) -> None:
    """Start every service and worker on this machine, and wait until all of them answer."""
    from plumbline.cli.embedded import control, supervisor

    state_dir = state_directory()
    if foreground:
        raise typer.Exit(supervisor.supervise(state_dir, say))
    started, is_new = control.start(state_dir, progress_line())
    if json_output:
        emit({"started": is_new, **describe(started)})
        return
    say("the stack is ready" if is_new else "the stack was running already")
    _show(started)


def down(json_output: Json = False) -> None:
    """Stop what `up` started; no process stays behind."""
    from plumbline.cli.embedded import control

    stopped = control.stop(state_directory())
    if json_output:
        emit({"stopped": stopped})
        return
    say("stopped" if stopped else "nothing was running")


def status(json_output: Json = False) -> None:
    """Show every part of the stack: address, memory, restarts and the last crash. On a cluster:
    every pod of the release."""
    from plumbline.cli.contexts.settings import ContextSettings
    from plumbline.cli.embedded import control

    settings = load_settings()
    if isinstance(settings, ContextSettings):
        _show_pods(settings, json_output)
        return
    current = control.current_status(settings.state_dir.absolute())
    if json_output:
        emit(describe(current) if current else {"state": "stopped", "children": []})
    elif current is None:
        say("nothing is running; `plumbline up` starts the stack")
    else:
        _show(current)
    if current is None:
        raise typer.Exit(1)


def state_directory() -> Path:
    """The absolute state directory of this shell.

    Raises:
        FailedPreconditionError: a context is in force, whose platform is not on this machine.
    """
    from plumbline.cli.contexts.config import chosen_context

    chosen = chosen_context(os.environ)
    if chosen is not None:
        raise FailedPreconditionError(
            f"the stack of this machine is asked for, but the context in force is {chosen[0]!r}; "
            "accepted: `plumbline --context local ...`, or `plumbline context use local` before"
        )
    return load_settings().state_dir.absolute()


def progress_line() -> Any:
    """Says once per part when it became ready."""
    seen: set[str] = set()

    def progress(current: StackStatus) -> None:
        for child in current.children:
            if child.state == "ready" and child.name not in seen:
                seen.add(child.name)
                say(f"  {child.name} is ready ({len(seen)} of {len(current.children)})")

    return progress


def describe(current: StackStatus) -> dict[str, Any]:
    """The stack's status as JSON types."""
    return {
        "state": current.state,
        "why": current.why,
        "pid": current.pid,
        "children": [
            {
                "name": child.name,
                "state": child.state,
                "pid": child.pid,
                "address": child.address,
                "uptime_s": round(_uptime_s(child), 1),
                "rss_bytes": _rss_bytes(child.pid),
                "restarts": child.restarts,
                "last_crash": child.last_crash,
            }
            for child in current.children
        ],
    }


def _show(current: StackStatus) -> None:
    rows = [
        (
            child.name,
            child.state,
            child.pid or "",
            child.address,
            seconds(_uptime_s(child)),
            f"{_rss_bytes(child.pid) / 2**20:.0f} MiB",
            child.restarts,
            child.last_crash["why"] if child.last_crash else "",
        )
        for child in current.children
    ]
    columns = ("part", "state", "pid", "address", "up", "memory", "restarts", "last crash")
    show_table(f"stack {current.state} (supervisor {current.pid})", columns, rows)
    for child in current.children:
        if child.last_crash:
            say(f"\nend of {child.name}'s log before its last crash:\n{child.last_crash['log']}")


def _show_pods(settings: ContextSettings, json_output: bool) -> None:
    from plumbline.cli.contexts.pods import pod_states

    rows = pod_states(settings)
    if json_output:
        emit({"release": str(settings.release), "pods": rows})
    else:
        columns = ("component", "pod", "state", "restarts", "node")
        show_table(str(settings.release), columns, [tuple(row.values()) for row in rows])
    # Pods that have done their work, as those of tests and of training, or are being replaced.
    well = ("ready", "Succeeded", "Terminating")
    if not rows or any(row["state"] not in well for row in rows):
        raise typer.Exit(1)


def _uptime_s(child: ChildStatus) -> float:
    return max(0.0, time.time() - child.started_at) if child.pid else 0.0


def _rss_bytes(pid: int | None) -> int:
    import psutil

    if pid is None:
        return 0
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
