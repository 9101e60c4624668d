"""Files from outside as artifacts: `path:/absolute/file-or-directory`.

A stage's lineage then holds the digest of what it read, never a path. What is taken from a
Hugging Face model directory is named by a list of what is safe and used; weights that would have
to be unpickled are refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from plumbline.core.artifacts import Artifact, ArtifactStore, Lineage
from plumbline.core.artifacts.disk import disk_errors
from plumbline.core.artifacts.files import directory_files
from plumbline.core.artifacts.keys import check_key
from plumbline.core.errors import (
    CheckpointError,
    ConfigError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
)

PATH_PREFIX: Final = "path:"

_MODEL_KINDS: Final = ("policy", "reward-model")
_MODEL_SUFFIXES: Final = {".safetensors", ".json", ".txt", ".model", ".jinja"}
"""Weights, configuration, vocabulary, merges, SentencePiece model, chat template. No code."""
_PICKLE_SUFFIXES: Final = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
_INDEX: Final = "model.safetensors.index.json"


def import_path(
    reference: str,
    kinds: Sequence[str],
    *,
    store: ArtifactStore,
    roots: Sequence[Path] | None = None,
) -> Artifact:
    """Publish a local file or directory.

    Args:
        reference: `path:` and an absolute path.
        kinds: what the input accepts; the first is what the artifact becomes, or `reward-model`
            where that is accepted and the directory is one.
        roots: directories that imports may come from; None means any.
    Raises:
        ConfigError: the path is not absolute.
        NotFoundError: there is nothing.
        PermissionDeniedError: the path lies outside `roots`.
        CheckpointError: a model directory without safetensors weights, or with a shard missing.
        InvalidInputError: an empty file, a symbolic link, a device.
    """
    path = _checked_path(reference, roots)
    kind = kinds[0]
    if path.is_file():
        files = {_file_name(path): path}
        if path.stat().st_size == 0:
            raise InvalidInputError(f"{path} is empty", reason="EMPTY_FILE", field="inputs")
    elif set(kinds) & set(_MODEL_KINDS) and (path / "config.json").exists():
        files = model_files(path)
        if "reward-model" in kinds and "reward_model.json" in files:
            kind = "reward-model"
    elif kind in _MODEL_KINDS:
        raise CheckpointError(
            f"{path} has no config.json; accepted: a Hugging Face model directory"
        )
    else:
        files = directory_files(path)
        _refuse_pickles(path, files)
    return store.put(kind, files, lineage=Lineage(stage="import"), run_info={"source": str(path)})


def model_files(directory: Path) -> dict[str, Path]:
    """What is taken of a Hugging Face model directory, by name.

    Raises:
        CheckpointError: no safetensors weights (pickles are named), or a shard is missing.
    """
    found = _linked_files(directory)
    files = {name: path for name, path in found.items() if path_suffix(name) in _MODEL_SUFFIXES}
    if not any(path_suffix(name) == ".safetensors" for name in files):
        pickles = sorted(name for name in found if path_suffix(name) in _PICKLE_SUFFIXES)
        reason = (
            f"{pickles[0]} is a pickle, which can run code when it is loaded"
            if pickles
            else "it has no weights"
        )
        raise CheckpointError(
            f"{directory}: {reason}; accepted: *.safetensors",
            metadata={"file": pickles[0]} if pickles else {},
        )
    _check_shards(directory, files)
    return files


def path_suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _checked_path(reference: str, roots: Sequence[Path] | None) -> Path:
    text = reference.removeprefix(PATH_PREFIX)
    path = Path(text)
    if not text or "\0" in text or not path.is_absolute():
        raise ConfigError(
            f"input {reference!r} is not accepted; accepted: {PATH_PREFIX}/absolute/path",
            field="inputs",
        )
    # Links in what the user names are followed; links inside a directory are not.
    resolved = Path(os.path.realpath(path))
    if not resolved.exists():
        raise NotFoundError(f"there is no file or directory {path}")
    if roots is not None and not any(
        resolved.is_relative_to(os.path.realpath(root)) for root in roots
    ):
        raise PermissionDeniedError(
            f"{path} is outside the directories that inputs may come from: "
            f"{', '.join(map(str, roots)) or 'none'} (PLUMBLINE_IMPORT_ROOTS)"
        )
    if not (resolved.is_file() or resolved.is_dir()):
        raise InvalidInputError(f"{path} is neither a regular file nor a directory")
    return resolved


def _file_name(path: Path) -> str:
    """The file's own name, or `data` with its endings where the name is not accepted as a key."""
    try:
        return check_key(path.name, what="file name")
    except InvalidInputError:
        endings = [suffix for suffix in path.suffixes[-2:] if suffix.isascii()]
        return check_key("data" + "".join(endings), what="file name")


def _linked_files(directory: Path) -> dict[str, Path]:
    """Files of a model directory by name, sorted; hidden ones are left out.

    The Hugging Face cache keeps a snapshot as links into `blobs` beside it; those are followed,
    no others.
    """
    blobs = directory.parent.parent / "blobs"
    found: dict[str, Path] = {}
    with disk_errors(f"listing {directory}"):
        for parent, directories, names in os.walk(directory):
            directories[:] = sorted(name for name in directories if not name.startswith("."))
            for name in names:
                path = Path(parent) / name
                target = Path(os.path.realpath(path))
                if path.is_symlink() and not target.is_relative_to(blobs):
                    raise InvalidInputError(
                        f"{path} is a symbolic link to {target}; accepted: regular files",
                        reason="NOT_A_REGULAR_FILE",
                        field="inputs",
                    )
                if not name.startswith("."):
                    found[path.relative_to(directory).as_posix()] = target
    return {name: found[name] for name in sorted(found)}


def _check_shards(directory: Path, files: dict[str, Path]) -> None:
    index = files.get(_INDEX)
    if index is None:
        return
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{directory / _INDEX} is not readable: {error}") from error
    missing = sorted(shards - set(files))
    if missing:
        raise CheckpointError(
            f"{directory}: shard {missing[0]} is missing; {_INDEX} names {len(shards)} shards",
            metadata={"file": missing[0]},
        )


def _refuse_pickles(directory: Path, files: dict[str, Path]) -> None:
    pickles = [name for name in files if path_suffix(name) in _PICKLE_SUFFIXES]
    if pickles:
        raise CheckpointError(
            f"{directory}: {pickles[0]} may be a pickle, which can run code when it is loaded; "
            "accepted: data files and *.safetensors",
            metadata={"file": pickles[0]},
        )
