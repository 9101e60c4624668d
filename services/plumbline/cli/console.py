"""What every command shares: where output goes, and how a value is written.

Results go to stdout, everything else to stderr. With `--json`, stdout holds JSON and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plumbline.core.errors import ConfigError, FailedPreconditionError, InvalidInputError

if TYPE_CHECKING:
    from plumbline.core.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout, for scripts.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A configuration value; may be repeated."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file with the configuration.")
]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Copy the result's files here.")]


def load_settings() -> Settings:
    """Settings of the context in force; of this machine, without addresses that a killed stack
    left behind.

    Raises:
        NotFoundError: there is no context of that name.
        PlumblineError: the context's cluster cannot be reached.
    """
    from plumbline.cli.contexts.config import chosen_context
    from plumbline.cli.embedded.state import StackPaths, forget_killed_stack
    from plumbline.core.settings import Settings

    chosen = chosen_context(os.environ)
    if chosen is not None:
        from plumbline.cli.contexts.settings import context_settings

        return context_settings(*chosen, os.environ)
    settings = Settings.from_environment()
    if forget_killed_stack(StackPaths(settings.state_dir.absolute())):
        return Settings.from_environment()
    return settings


def emit(value: Any) -> None:
    """One JSON document on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    # A pipe has no width; folding ids there would only spoil them for grep.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def assignments(given: Sequence[str] | None, *, option: str) -> dict[str, str]:
    """`KEY=VALUE` pairs, as text.

    Raises:
        InvalidInputError: no `=`, or a key given twice.
    """
    pairs: dict[str, str] = {}
    for item in given or ():
        key, separator, value = item.partition("=")
        if not separator or not key:
            raise InvalidInputError(f"{option} {item!r} is not of the form KEY=VALUE")
        if key in pairs:
            raise InvalidInputError(f"{option} {key} is given twice: {pairs[key]!r} and {value!r}")
        pairs[key] = value
    return pairs


def read_configuration(path: Path | None, sets: Sequence[str] | None) -> dict[str, Any]:
    """A configuration from a YAML file with `--set` values over it; `a.b=1` sets a nested key.

    Raises:
        ConfigError: the file is not a YAML map, or a value is not YAML.
    """
    configuration: dict[str, Any] = {}
    if path is not None:
        loaded = parse_yaml(read_text(path), where=str(path))
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"{path}: holds a {type(loaded).__name__}; a map is accepted")
        configuration = loaded or {}
    for key, text in assignments(sets, option="--set").items():
        *parents, last = key.split(".")
        place = configuration
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {key}: {parent!r} is a value, not a map")
        place[last] = parse_value(text)
    return configuration


def parse_yaml(text: str, *, where: str) -> Any:
    """Raises ConfigError when the text is not YAML."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {error}") from error


def parse_value(text: str) -> Any:
    """A value from the command line: a number where it is one (YAML alone reads 1e-4 as text)."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return parse_yaml(text, where=f"value {text!r}")


def read_text(path: Path) -> str:
    """A text file's content.

    Raises:
        InvalidInputError: there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InvalidInputError(f"no such file: {path}") from error
    except IsADirectoryError as error:
        raise InvalidInputError(f"{path} is a directory; a file is accepted") from error
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error}") from error


def reference(text: str) -> str:
    """An artifact reference as given on the command line: a path that exists becomes `path:`."""
    if text.startswith(("path:", "artifact:")):
        scheme, _, rest = text.partition(":")
        return rest if scheme == "artifact" else f"path:{Path(rest).expanduser().absolute()}"
    path = Path(text).expanduser()
    if path.exists():
        return f"path:{path.absolute()}"
    return text


def served_reference(text: str) -> str:
    """A reference that a running service opens.

    Raises:
        FailedPreconditionError: a path of this machine, which the services of the context in force
            cannot read.
    """
    from plumbline.cli.contexts.config import chosen_context

    found = reference(text)
    chosen = chosen_context(os.environ)
    if chosen is not None and found.startswith("path:"):
        raise FailedPreconditionError(
            f"{text} is on this machine, where the services of context {chosen[0]!r} cannot read "
            "it; store it with `plumbline artifacts put PATH --kind KIND` and name the artifact",
            reason="LOCAL_PATH",
        )
    return found


def references(inputs: Mapping[str, str]) -> dict[str, list[str]]:
    """Input references by name; several are separated by commas."""
    return {
        name: [reference(part) for part in value.split(",") if part]
        for name, value in inputs.items()
    }


def short(artifact_id: str) -> str:
    """Enough of an id to recognise it."""
    return artifact_id[:12]


def seconds(value: float) -> str:
    """A duration for people."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    return (
        f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    )
