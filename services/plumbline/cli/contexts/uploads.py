"""Local files for a platform that is elsewhere: they become artifacts of its store.

A service reads `path:` inputs from its own machine. Where a context is in force the path is one of
the caller's machine, so the file goes to the store first and its artifact id takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumbline.cli.contexts.settings import ContextSettings
from plumbline.core.errors import ConfigError
from plumbline.core.local_inputs import PATH_PREFIX, import_path

if TYPE_CHECKING:
    import yaml

    from plumbline.core.settings import Settings


def stored_inputs(
    settings: Settings, stage: str, inputs: Mapping[str, Sequence[str]]
) -> Mapping[str, Sequence[str]]:
    """A stage's inputs as the platform can read them.

    Raises:
        FailedPreconditionError: a local path, and the context names no store.
    """
    if not isinstance(settings, ContextSettings):
        return inputs
    from plumbline.catalogue import STAGES

    # What is wrong with a stage's name or an input's is for the service to say.
    accepted = STAGES[stage].inputs if stage in STAGES else {}
    return {
        name: [
            _stored(settings, reference, accepted[name].kinds) if name in accepted else reference
            for reference in references
        ]
        for name, references in inputs.items()
    }


def stored_pipeline(
    settings: Settings, text: str, params: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """A pipeline's text and params with artifacts in place of local paths.

    Raises:
        ConfigError: a file is used as two kinds of artifact.
        FailedPreconditionError: there is a local path, and the context names no store.
    """
    if not isinstance(settings, ContextSettings):
        return text, params
    artifacts = {
        path: _stored(settings, PATH_PREFIX + path, kinds)
        for path, kinds in _local_inputs(text, params).items()
    }
    replaced = {name: artifacts.get(_path(value) or "", value) for name, value in params.items()}
    return _with_artifacts(text, artifacts), replaced


def _stored(settings: Settings, reference: str, kinds: Sequence[str]) -> str:
    """The artifact id of a local file; any other reference as it is."""
    from plumbline.core.artifacts import open_configured_store

    if not reference.startswith(PATH_PREFIX):
        return reference
    return import_path(reference, kinds, store=open_configured_store(settings)).id


def _local_inputs(text: str, params: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Absolute paths that the pipeline's stages read, and the kinds that they are read as."""
    from plumbline.catalogue import STAGES
    from plumbline.pipeline.config import load_pipeline
    from plumbline.pipeline.planner import plan_pipeline

    plan = plan_pipeline(load_pipeline(text, source_name="the pipeline"), params, STAGES)
    found: dict[str, tuple[str, ...]] = {}
    for stage in plan.stages:
        for name, references in stage.inputs.items():
            kinds = STAGES[stage.uses].inputs[name].kinds
            for reference in references:
                path = reference.removeprefix(PATH_PREFIX)
                if path == reference:
                    continue
                if found.setdefault(path, kinds)[0] != kinds[0]:
                    raise ConfigError(
                        f"{path} is read as {found[path][0]} and, by stage {stage.name!r}, as "
                        f"{kinds[0]}; store it twice with `plumbline artifacts put` and name the "
                        "artifacts"
                    )
    return found


def _with_artifacts(text: str, artifacts: Mapping[str, str]) -> str:
    """The text with every scalar that names one of the paths replaced; lines stay in place."""
    for token in reversed(list(_scalars(text))):
        artifact = artifacts.get(_path(token.value) or "")
        if artifact is not None:
            text = (
                text[: token.start_mark.index] + json.dumps(artifact) + text[token.end_mark.index :]
            )
    return text


def _scalars(text: str) -> Iterator[yaml.ScalarToken]:
    import yaml

    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.ScalarToken):
            yield token


def _path(value: object) -> str | None:
    """A value read as a path, as the planner reads it; None for what it takes for another thing."""
    from plumbline.pipeline.planner import looks_like_path

    if not isinstance(value, str) or "\n" in value:
        return None
    if not (value.startswith(PATH_PREFIX) or looks_like_path(value)):
        return None
    return str(Path(value.removeprefix(PATH_PREFIX)).expanduser().resolve())
