"""From a pipeline file to an ordered list of stages, checked before anything runs.

Blocks are unrolled, `${...}` is substituted, every input is resolved to what it names, every
configuration is validated by its stage's own model, and the order is found. Nothing here talks
to a service or a store; the runner asks which stages are already done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from plumbline.core.artifacts import check_tag
from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.execution import Execution, check_ranks
from plumbline.core.stages import InputSpec, Stage
from plumbline.pipeline.config import (
    MAX_REPEAT_COUNT,
    LoadedPipeline,
    Location,
    ParamSpec,
    PipelineSpec,
    RepeatItem,
    RepeatSpec,
    SourceMap,
    StageSpec,
    closest,
    validate_as,
)

STAGE = "stage:"
ARTIFACT = "artifact:"
PATH = "path:"

_PLACEHOLDER = re.compile(r"\$\{\s*([A-Za-z][A-Za-z0-9_.-]*)\s*\}")
_ARTIFACT_ID = re.compile(r"[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*@[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One stage, ready to be queued once its inputs exist."""

    name: str
    uses: str
    config: Mapping[str, Any]
    """Validated, with every default written out."""
    inputs: Mapping[str, tuple[str, ...]]
    """By input name: `stage:<name>`, `artifact:<id or tag>` or `path:<absolute path>`."""
    depends_on: tuple[str, ...]
    tags: tuple[str, ...] = ()
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A pipeline that can run: its stages in an order that respects their inputs."""

    pipeline: str
    params: Mapping[str, Any]
    stages: tuple[PlannedStage, ...]


@dataclass(slots=True)
class _Draft:
    """A stage while it is being resolved."""

    spec: StageSpec
    name: str
    at: Location
    scope: Mapping[str, Any]
    carried: Mapping[str, list[str]] = field(default_factory=dict)
    local: Mapping[str, str] = field(default_factory=dict)
    """Names inside a block, to the unrolled names of this iteration."""


def plan_pipeline(
    loaded: LoadedPipeline,
    params: Mapping[str, Any],
    stages: Mapping[str, Stage],
    *,
    base_dir: Path | None = None,
) -> Plan:
    """Check a pipeline against the catalogue and put its stages in order.

    Args:
        params: values given by the caller, over the file's defaults.
        stages: the catalogue, by `<room>.<operation>`.
        base_dir: what relative paths are relative to; the current directory when None.
    Raises:
        ConfigError: with file and line: an unknown param, stage, operation or input, a missing
            input, an input of the wrong kind, a bad configuration value, or a cycle.
    """
    spec, source = loaded.spec, loaded.source
    values = bind_params(loaded, params)
    scope = {f"params.{name}": value for name, value in values.items()}
    resolver = _Resolver(source, base_dir or Path.cwd())
    drafts = resolver.unroll(spec.stages, scope)
    planned = [_planned(draft, resolver, stages) for draft in drafts]
    lines = {draft.name: draft.at for draft in drafts}
    _check_kinds(planned, stages, source, lines)
    ordered = _in_order(planned, source, lines)
    return Plan(pipeline=spec.name, params=values, stages=tuple(ordered))


def bind_params(loaded: LoadedPipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every param with its value: given, else the default, in the declared type."""
    declared = loaded.spec.params
    for name in given:
        if name not in declared:
            raise ConfigError(
                f"{loaded.source.name}: unknown param {name!r}{closest(name, declared)}",
                field=f"params.{name}",
            )
    values = {}
    for name, spec in declared.items():
        if name not in given and spec.required:
            about = f" ({spec.description})" if spec.description else ""
            raise loaded.source.error(
                ("params", name), f"param {name!r} has no default and must be given{about}"
            )
        values[name] = coerce_param(name, spec, given.get(name, spec.default))
    return values


def coerce_param(name: str, spec: ParamSpec, value: Any) -> Any:
    """A param's value in its declared type; text is parsed, whole floats become ints.

    Raises:
        ConfigError: the value cannot be read as that type.
    """
    if value is None or spec.kind is None:
        return value
    readers: dict[str, Callable[[Any], Any]] = {
        "int": _as_int,
        "float": _as_float,
        "bool": _as_bool,
        "string": str,
        "path": str,
    }
    try:
        return readers[spec.kind](value)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"param {name!r}: {value!r} is not of type {spec.kind}", field=f"params.{name}"
        ) from error


def _as_int(value: Any) -> int:
    number = int(value) if isinstance(value, str) else value
    if isinstance(number, bool) or number != int(number):
        raise ValueError(f"{value!r} is not a whole number")
    return int(number)


def _as_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _as_bool(value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError(f"{value!r} is neither true nor false")


def substitute(value: Any, scope: Mapping[str, Any], source: SourceMap, at: Location) -> Any:
    """Replace `${name}` everywhere in a value.

    A string that is one placeholder and nothing else takes the value with its type; inside a
    longer string the value is written as text. `$${` stands for a literal `${`.
    """
    if isinstance(value, dict):
        return {key: substitute(item, scope, source, (*at, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, scope, source, (*at, i)) for i, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def look_up(match: re.Match[str]) -> Any:
        name = match.group(1)
        if name not in scope:
            raise source.error(at, f"unknown value ${{{name}}}{closest(name, scope)}")
        return scope[name]

    whole = _PLACEHOLDER.fullmatch(value)
    if whole:
        return look_up(whole)
    parts = value.split("$${")
    return "${".join(_PLACEHOLDER.sub(lambda m: str(look_up(m)), part) for part in parts)


class _Resolver:
    """Names to references: knows every stage and block of one pipeline."""

    def __init__(self, source: SourceMap, base_dir: Path) -> None:
        self._source = source
        self._base_dir = base_dir
        self._names: set[str] = set()
        self._carried_out: dict[str, list[str]] = {}

    def unroll(
        self, items: Sequence[StageSpec | RepeatItem], scope: Mapping[str, Any]
    ) -> list[_Draft]:
        """All stages in the file's order, blocks unrolled."""
        counts: dict[int, int] = {}
        for index, item in enumerate(items):
            if isinstance(item, RepeatItem):
                counts[index] = self._count(item.repeat, scope, ("stages", index, "repeat"))
                self._claim_block(item.repeat, counts[index], ("stages", index, "repeat"))
            else:
                self._claim(item.name, ("stages", index))
        # Blocks first: what a block hands out may be named above it.
        blocks = {
            index: list(
                self._iterations(items[index].repeat, count, scope, ("stages", index, "repeat"))  # type: ignore[union-attr]
            )
            for index, count in counts.items()
        }
        drafts: list[_Draft] = []
        for index, item in enumerate(items):
            if isinstance(item, StageSpec):
                drafts.append(_Draft(spec=item, name=item.name, at=("stages", index), scope=scope))
            else:
                drafts.extend(blocks[index])
        return drafts

    def _count(self, block: RepeatSpec, scope: Mapping[str, Any], at: Location) -> int:
        raw = substitute(block.count, scope, self._source, (*at, "count"))
        try:
            count = _as_int(raw)
        except (TypeError, ValueError) as error:
            raise self._source.error(
                (*at, "count"), f"count of block {block.name!r} is {raw!r}, not a whole number"
            ) from error
        if not 1 <= count <= MAX_REPEAT_COUNT:
            raise self._source.error(
                (*at, "count"),
                f"count of block {block.name!r} is {count}; accepted: 1 to {MAX_REPEAT_COUNT}",
            )
        return count

    def _claim(self, name: str, at: Location) -> None:
        if name in self._names:
            raise self._source.error(at, f"a second stage is called {name!r}; names are unique")
        self._names.add(name)

    def _claim_block(self, block: RepeatSpec, count: int, at: Location) -> None:
        self._claim(block.name, at)
        self._names.discard(block.name)
        for index, stage in enumerate(block.stages):
            for iteration in range(1, count + 1):
                self._claim(f"{stage.name}.{iteration}", (*at, "stages", index))

    def _iterations(
        self, block: RepeatSpec, count: int, scope: Mapping[str, Any], at: Location
    ) -> Iterator[_Draft]:
        start = _Draft(spec=block.stages[0], name=block.name, at=at, scope=scope)
        carried = {
            name: self.references(carry.first, start, (*at, "carry", name, "first"))
            for name, carry in block.carry.items()
        }
        for iteration in range(1, count + 1):
            inner = {**scope, "index": iteration}
            local = {stage.name: f"{stage.name}.{iteration}" for stage in block.stages}
            drafts = [
                _Draft(
                    spec=stage,
                    name=local[stage.name],
                    at=(*at, "stages", index),
                    scope=inner,
                    carried=carried,
                    local=local,
                )
                for index, stage in enumerate(block.stages)
            ]
            yield from drafts
            carried = {
                name: self.references(carry.next, drafts[0], (*at, "carry", name, "next"))
                for name, carry in block.carry.items()
            }
        for name, references in carried.items():
            self._carried_out[f"{block.name}.{name}"] = references

    def references(self, raw: str | Sequence[str] | None, draft: _Draft, at: Location) -> list[str]:
        """What an input names: a flat list of references, empty when it is left out."""
        if raw is None or raw == "":
            return []
        if not isinstance(raw, str):
            return [
                reference
                for index, item in enumerate(raw)
                for reference in self.references(item, draft, (*at, index))
            ]
        whole = _PLACEHOLDER.fullmatch(raw)
        if whole and whole.group(1).startswith("carry."):
            name = whole.group(1).removeprefix("carry.")
            if name not in draft.carried:
                raise self._source.error(
                    at, f"unknown value ${{carry.{name}}}{closest(name, draft.carried)}"
                )
            return draft.carried[name]
        value = substitute(raw, draft.scope, self._source, at)
        if isinstance(value, list) or value is None:
            return self.references(value, draft, at)
        return self._named(str(value), draft, at) if value != "" else []

    def _named(self, text: str, draft: _Draft, at: Location) -> list[str]:
        if text in draft.local:
            return [STAGE + draft.local[text]]
        if text in self._names:
            return [STAGE + text]
        if text in self._carried_out:
            return self._carried_out[text]
        if text.startswith(PATH):
            return [self._path(text.removeprefix(PATH), at)]
        if is_artifact_reference(text):
            return [ARTIFACT + text.removeprefix(ARTIFACT)]
        if looks_like_path(text):
            return [self._path(text, at)]
        known = {*self._names, *draft.local, *self._carried_out}
        raise self._source.error(
            at,
            f"{text!r} is no stage of this pipeline, no artifact and no path{closest(text, known)}",
        )

    def _path(self, text: str, at: Location) -> str:
        path = (self._base_dir / Path(text).expanduser()).resolve()
        if not path.exists():
            raise self._source.error(at, f"no such file or directory: {path}")
        return PATH + str(path)

    @property
    def source(self) -> SourceMap:
        return self._source


def is_artifact_reference(text: str) -> bool:
    """Whether an input names an artifact: `artifact:...`, an id or a tag."""
    return bool(text.startswith(ARTIFACT) or _ARTIFACT_ID.fullmatch(text) or _TAG.fullmatch(text))


def input_params(spec: PipelineSpec) -> set[str]:
    """Names of the params whose values are used as whole inputs."""
    stages = [
        stage
        for item in spec.stages
        for stage in (item.repeat.stages if isinstance(item, RepeatItem) else (item,))
    ]
    carried = [
        reference
        for item in spec.stages
        if isinstance(item, RepeatItem)
        for carry in item.repeat.carry.values()
        for reference in (carry.first, carry.next)
    ]
    found = set()
    for raw in [*(raw for stage in stages for raw in stage.inputs.values()), *carried]:
        for text in [raw] if isinstance(raw, str) else raw or []:
            whole = _PLACEHOLDER.fullmatch(text.removeprefix(PATH))
            if whole and whole.group(1).startswith("params."):
                found.add(whole.group(1).removeprefix("params."))
    return found


def looks_like_path(text: str) -> bool:
    """Whether a bare input can only be meant as a path: it has a separator or a suffix."""
    return "/" in text or text.startswith((".", "~")) or "." in Path(text).name


def _planned(draft: _Draft, resolver: _Resolver, stages: Mapping[str, Stage]) -> PlannedStage:
    spec, source = draft.spec, resolver.source
    if spec.uses not in stages:
        raise source.error(
            (*draft.at, "uses"), f"unknown operation {spec.uses!r}{closest(spec.uses, stages)}"
        )
    stage = stages[spec.uses]
    written = substitute(spec.with_, draft.scope, source, (*draft.at, "with"))
    what = f"the configuration of stage {draft.name!r} ({spec.uses})"
    config = validate_as(stage.config, written, source, (*draft.at, "with"), what=what)
    inputs = _inputs(draft, stage, resolver)
    return PlannedStage(
        name=draft.name,
        uses=spec.uses,
        config=config.model_dump(mode="json", by_alias=True),
        inputs=inputs,
        depends_on=_dependencies(inputs),
        tags=tuple(_tag(tag, draft, source, index) for index, tag in enumerate(spec.tags)),
        execution=_execution(draft, stage, config, source, stages),
    )


def _execution(
    draft: _Draft,
    stage: Stage,
    config: BaseModel,
    source: SourceMap,
    stages: Mapping[str, Stage],
) -> Execution:
    at = (*draft.at, "execution")
    written = substitute(draft.spec.execution, draft.scope, source, at)
    what = f"the execution of stage {draft.name!r} ({stage.name})"
    execution: Execution = validate_as(Execution, written, source, at, what=what)
    try:
        check_ranks(stage, config, execution, stages)
    except ConfigError as error:
        raise source.error(at, f"stage {draft.name!r}: {error.message}") from error
    return execution


def _tag(raw: str, draft: _Draft, source: SourceMap, index: int) -> str:
    at = (*draft.at, "tags", index)
    try:
        return check_tag(str(substitute(raw, draft.scope, source, at)))
    except InvalidInputError as error:
        raise source.error(at, f"stage {draft.name!r}: {error.message}") from error


def _inputs(draft: _Draft, stage: Stage, resolver: _Resolver) -> dict[str, tuple[str, ...]]:
    source, at = resolver.source, (*draft.at, "inputs")
    resolved: dict[str, tuple[str, ...]] = {}
    for name, raw in draft.spec.inputs.items():
        if name not in stage.inputs:
            raise source.error(
                (*at, name),
                f"stage {draft.name!r} ({stage.name}) has no input {name!r}"
                f"{closest(name, stage.inputs)}",
            )
        references = resolver.references(raw, draft, (*at, name))
        if references:
            resolved[name] = tuple(references)
    for name, accepted in stage.inputs.items():
        _check_count(name, accepted, resolved.get(name, ()), draft, stage, source)
    return resolved


def _check_count(
    name: str,
    accepted: InputSpec,
    references: Sequence[str],
    draft: _Draft,
    stage: Stage,
    source: SourceMap,
) -> None:
    if accepted.required and not references:
        raise source.error(
            (*draft.at, "inputs", name),
            f"stage {draft.name!r} ({stage.name}) misses its input {name!r} "
            f"({' or '.join(accepted.kinds)})",
        )
    if len(references) > 1 and not accepted.many:
        raise source.error(
            (*draft.at, "inputs", name),
            f"input {name!r} of stage {draft.name!r} takes one artifact, got {len(references)}",
        )


def _dependencies(inputs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for references in inputs.values():
        for reference in references:
            if reference.startswith(STAGE):
                found[reference.removeprefix(STAGE)] = None
    return tuple(found)


def _check_kinds(
    planned: Sequence[PlannedStage],
    stages: Mapping[str, Stage],
    source: SourceMap,
    lines: Mapping[str, Location],
) -> None:
    makes = {stage.name: stages[stage.uses].output_kind for stage in planned}
    for stage in planned:
        for name, references in stage.inputs.items():
            accepted = stages[stage.uses].inputs[name].kinds
            for reference in references:
                maker = reference.removeprefix(STAGE)
                if not reference.startswith(STAGE) or makes[maker] in accepted:
                    continue
                raise source.error(
                    (*lines[stage.name], "inputs", name),
                    f"input {name!r} of stage {stage.name!r} accepts {' or '.join(accepted)}, "
                    f"but stage {maker!r} makes {makes[maker]}",
                )


def _in_order(
    planned: Sequence[PlannedStage], source: SourceMap, lines: Mapping[str, Location]
) -> list[PlannedStage]:
    """The file's order, with every stage after those that it depends on."""
    waits = {stage.name: set(stage.depends_on) for stage in planned}
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        raise source.error(
            (*lines[cycle[0]], "inputs"),
            f"the stages wait for one another: {' -> '.join(cycle)}",
        ) from error
    ordered: list[PlannedStage] = []
    left = list(planned)
    while left:
        ready = next(stage for stage in left if not waits[stage.name])
        left.remove(ready)
        ordered.append(ready)
        for others in waits.values():
            others.discard(ready.name)
    return ordered
