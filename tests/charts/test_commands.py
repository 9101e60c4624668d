"""What pods run exists in the product, and takes the arguments that they give it."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence

from charts.options import value_files_and_more
from charts.rendering import Object, Rendered

PYTHON = "/opt/plumbline/bin/python"
PROGRAM = "/opt/plumbline/bin/plumbline"


def commands(release: Rendered) -> Iterator[tuple[str, Sequence[str]]]:
    """(where, words) of everything of the product that pods run: containers, probes, hooks."""
    for pod in release.pods():
        for container in pod.containers:
            for found in _words(container):
                if found[:1] == [PYTHON] or found[:1] in ([PROGRAM], ["plumbline"]):
                    yield f"{pod.owner} {container['name']}", found


def _words(container: Object) -> Iterator[list[str]]:
    yield [*(container.get("command") or []), *(container.get("args") or [])]
    lifecycle = (container.get("lifecycle") or {}).values()
    probes = [
        container.get(kind) or {} for kind in ("startupProbe", "readinessProbe", "livenessProbe")
    ]
    for action in (*probes, *lifecycle):
        if "exec" in action:
            yield list(action["exec"]["command"])


@functools.cache
def help_of(*words: str) -> str:
    """What a program says about its arguments."""
    done = subprocess.run(
        [sys.executable, "-m", *words, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"
    return done.stdout


def test_everything_that_pods_run_exists_and_takes_its_options() -> None:
    seen: set[tuple[str, ...]] = set()
    for release in value_files_and_more():
        for where, words in commands(release):
            module, arguments = split(words)
            if (module, *arguments) in seen:
                continue
            seen.add((module, *arguments))
            assert importlib.util.find_spec(module), f"{where}: no module {module}"
            check_options(where, module, arguments)
    assert len(seen) > 10


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """The module that runs, and its arguments."""
    if words[0] == PYTHON:
        assert words[1] == "-m", words
        return words[2], list(words[3:])
    return "plumbline.cli.main", list(words[1:])


def check_options(where: str, module: str, arguments: Sequence[str]) -> None:
    options = [re.split("[= ]", word)[0] for word in arguments if word.startswith("--")]
    if not options and not arguments:
        return
    command = [word for word in arguments[:1] if module == "plumbline.cli.main"]
    known = set(re.findall(r"--[a-z][a-z0-9-]*", help_of(module, *command)))
    assert set(options) <= known, f"{where}: {module} {sorted(set(options) - known)}"
