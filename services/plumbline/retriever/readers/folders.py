"""Values of files and folders, each file read by the format that its name tells.

Folders are read recursively, in order of names; a file's category is the first folder that it is
in. Hidden files, files that describe a folder (README, SOURCE, LICENSE ...) and files of endings
that hold no values are passed over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.data.containers import CONTAINERS, container_of
from plumbline.data.records import ValueSpec
from plumbline.retriever.readers.markdown import read_markdown
from plumbline.retriever.readers.tables import read_table
from plumbline.retriever.values.validation import content_digest

TEXT_ENDINGS = (".md", ".markdown", ".txt")
_TABLES = tuple(name for name in CONTAINERS if name != "txt")
_ABOUT_THE_FOLDER = {
    "readme",
    "source",
    "license",
    "licence",
    "notice",
    "changelog",
    "contributing",
}
_OF_AN_ARTIFACT = {"manifest.json", "run.json", "report.json"}

Placed = tuple[str, ValueSpec]
"""A value, and where it was read."""


def read_values(paths: Iterable[Path]) -> tuple[ValueSpec, ...]:
    """Values of files, and of the files in folders, in order; copies are left out.

    Raises:
        InvalidInputError: names the file, and the line where one is broken; or both places where
            one id is given two texts for one day.
        NotFoundError: there is no such file.
    """
    seen: dict[tuple[str, str], Placed] = {}
    for where, value in (placed for path in paths for placed in _read(path)):
        other_where, other = seen.setdefault((value.id, value.effective_from), (where, value))
        if other is not value and not _is_another_copy(value, other):
            raise InvalidInputError(
                f"{where}: value {value.id!r} is also given by {other_where}, with the same "
                f"effective_from={value.effective_from!r} but another content; editions of one "
                "value begin on different days",
                field="id",
            )
    return tuple(value for _, value in seen.values())


def _is_another_copy(value: ValueSpec, other: ValueSpec) -> bool:
    """Do two values say the same? A document may be filed in two folders; the first one counts."""
    if value.source:
        value = dataclasses.replace(value, category=other.category)
    return content_digest(value) == content_digest(other)


def _read(path: Path) -> Iterator[Placed]:
    if path.is_file():
        yield from _read_file(path, "")
        return
    if not path.is_dir():
        raise NotFoundError(f"there is no file or folder {path}")
    files = [
        file for file in sorted(path.rglob("*")) if file.is_file() and _holds_values(file, path)
    ]
    if not files:
        raise InvalidInputError(
            f"{path} holds no files of values; accepted endings: {_accepted()}", field="paths"
        )
    for file in files:
        folders = file.relative_to(path).parts[:-1]
        yield from _read_file(file, folders[0] if folders else "")


def _read_file(path: Path, category: str) -> Iterator[Placed]:
    if path.suffix.lower() in TEXT_ENDINGS:
        yield from read_markdown(path, category=category)
    elif _is_table(path):
        yield from read_table(path)
    else:
        raise InvalidInputError(
            f"{path}: the name does not say what the file holds; accepted endings: {_accepted()}",
            reason="UNKNOWN_CONTAINER",
        )


def _holds_values(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    about = file.stem.lower() in _ABOUT_THE_FOLDER or file.name in _OF_AN_ARTIFACT
    return not hidden and not about and (file.suffix.lower() in TEXT_ENDINGS or _is_table(file))


def _is_table(path: Path) -> bool:
    try:
        return container_of(path)[0] in _TABLES
    except InvalidInputError:
        return False


def _accepted() -> str:
    tables = ", ".join(f".{name}" for name in _TABLES)
    return f"{', '.join(TEXT_ENDINGS)}, {tables} (also with .gz or .zst)"
