"""The pipeline file: its schema, and a reader that knows the line of every value.

    name: quickstart
    params:
      seed: 0                                     # plain default
      base: {type: path, description: a model}    # no default: the caller must give it
    stages:
      - name: world
        uses: curation.synthesize                 # <room>.<operation>
        with: {seed: "${params.seed}"}            # the stage's configuration
      - name: sft
        uses: trainer.sft
        inputs: {base: "${params.base}", conversations: world}
        execution: {nodes: 2, ranks_per_node: 8}  # where it runs; changes no output
        tags: [policy/example@latest]             # moved when the run succeeds
      - repeat:                                   # V1, V2, ... as one block
          name: rlhf
          count: 5
          carry: {policy: {first: sft, next: ppo}}
          stages:
            - {name: ppo, uses: trainer.ppo, inputs: {policy: "${carry.policy}", prompts: world}}
      - {name: report, uses: evaluation.evaluate, inputs: {policy: rlhf.policy}}

`stages` may also be a map from name to stage. An input names another stage, a repeat block's
carried value (`block.value`), an artifact (`artifact:<id or tag>`, or a bare id or tag), or a
local path (`path:...`, or anything that is plainly a path); a list of them where the stage takes
many. An empty value leaves an optional input out.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from plumbline.core.errors import ConfigError

MAX_PIPELINE_BYTES = 1 << 20
"""A pipeline is written by hand; anything larger is not one."""
MAX_REPEAT_COUNT = 1000
MAX_NESTING = 40
"""Levels of maps and lists; beyond them the file is not a pipeline."""
MAX_VALUES = 50_000
"""Values after anchors are expanded, so that nested anchors cannot exhaust the memory."""

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
"""Stage, block and parameter names. No dot: `block.value` and `stage.2` are built from names."""

MAX_MERGES = 5
"""Maps in one merge key `<<`, and merges inside merges."""
_MERGE_TAG = "tag:yaml.org,2002:merge"

Location = tuple[str | int, ...]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ParamSpec(_Frozen):
    """A value that the caller may set with `--param name=value`."""

    default: Any = None
    """Used when the caller gives none; a param without this key must be given."""
    description: str = ""
    type: Literal["string", "int", "float", "bool", "path"] | None = None
    """Taken from the default when absent. A path is read relative to the caller's directory."""

    @property
    def required(self) -> bool:
        return "default" not in self.model_fields_set

    @property
    def kind(self) -> str | None:
        """The declared type, or the default's; None accepts anything."""
        if self.type is not None:
            return self.type
        names = {bool: "bool", int: "int", float: "float", str: "string"}
        return names.get(type(self.default))


class StageSpec(_Frozen):
    """One stage: what runs, how, on what."""

    name: str = Field(pattern=NAME_PATTERN)
    uses: str
    """`<room>.<operation>`, a name in the catalogue of stages."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """The stage's configuration; may hold `${params.x}`, and in a block `${index}`."""
    inputs: dict[str, str | list[str] | None] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()
    """Tags that name the output after the run has succeeded."""
    execution: dict[str, Any] = Field(default_factory=dict)
    """Where the stage runs: executor, nodes, ranks_per_node, pool. May hold `${params.x}`."""


class CarrySpec(_Frozen):
    """A value handed from one iteration of a block to the next."""

    first: str | list[str]
    """What iteration 1 sees as `${carry.<name>}`."""
    next: str | list[str]
    """What the next iteration sees: a stage of the block, or a list that may hold
    `${carry.<name>}` itself, so that data can pile up."""


class RepeatSpec(_Frozen):
    """Stages run `count` times in a row; stage `ppo` becomes `ppo.1`, `ppo.2`, ..."""

    name: str = Field(pattern=NAME_PATTERN)
    count: int | str
    """At least 1; may be `${params.x}`."""
    carry: dict[str, CarrySpec] = Field(default_factory=dict)
    stages: tuple[StageSpec, ...] = Field(min_length=1)


class RepeatItem(_Frozen):
    """An item of `stages` that is a block."""

    repeat: RepeatSpec


def _item_tag(item: Any) -> str:
    is_block = isinstance(item, RepeatItem) or (isinstance(item, dict) and "repeat" in item)
    return "repeat_item" if is_block else "stage_item"


Item = Annotated[
    Annotated[StageSpec, Tag("stage_item")] | Annotated[RepeatItem, Tag("repeat_item")],
    Discriminator(_item_tag),
]


class PipelineSpec(_Frozen):
    """A whole pipeline file."""

    name: str = Field(pattern=NAME_PATTERN)
    description: str = ""
    params: dict[str, ParamSpec] = Field(default_factory=dict)
    stages: tuple[Item, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class SourceMap:
    """Where each value of a file stands."""

    name: str
    """The file, as the user called it."""
    lines: Mapping[Location, int]
    """1-based line of each key or element."""

    def line(self, location: Location) -> int:
        """The line of a value, or of the nearest thing around it that was written."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def error(self, location: Location, message: str) -> ConfigError:
        line = self.line(location)
        return ConfigError(
            f"{self.name}:{line}: {message}",
            field=".".join(str(part) for part in location) or None,
            metadata={"line": str(line)},
        )

    def written(self, location: Iterable[str | int]) -> Location:
        """A validator's location without the parts that are not in the file (union tags)."""
        found: Location = ()
        for part in location:
            if (*found, part) in self.lines:
                found = (*found, part)
        return found


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A pipeline that fits the schema, and where its parts stand."""

    spec: PipelineSpec
    source: SourceMap


def load_pipeline(text: str, *, source_name: str = "pipeline") -> LoadedPipeline:
    """Parse and check a pipeline file's shape; `planner.plan_pipeline` checks its meaning.

    Raises:
        ConfigError: not YAML, a duplicate or unknown key, or a value of the wrong type; the
            message starts with `<source_name>:<line>:`.
    """
    root = _compose(text, source_name)
    lines: dict[Location, int] = {}
    data = _to_data(_normalised(root), (), lines, source_name)
    source = SourceMap(source_name, lines)
    if not isinstance(data, dict):
        raise source.error((), "a pipeline is a map with `name` and `stages`")
    return LoadedPipeline(validate_as(PipelineSpec, data, source, ()), source)


def validate_as(
    model: type[BaseModel], data: Any, source: SourceMap, at: Location, *, what: str = ""
) -> Any:
    """Validate data as a model; the first fault becomes a ConfigError with its line.

    Args:
        at: where `data` stands in the file.
        what: what the data is, for the message ("stage 'sft'").
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        detail = _clearest(error.errors())
        location = source.written((*at, *detail["loc"]))
        raise source.error(location, _explain(model, detail, what)) from error


def closest(name: str, accepted: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest accepted one, and all of them."""
    names = sorted(accepted)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{hint} accepted: {', '.join(names) or 'none'}"


def _clearest(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """An unknown key usually explains the missing one that comes with it."""
    unknown = [detail for detail in errors if detail["type"] == "extra_forbidden"]
    return unknown[0] if unknown else errors[0]


def _explain(model: type[BaseModel], detail: ErrorDetails, what: str) -> str:
    inside = f" in {what}" if what else ""
    location = detail["loc"]
    if detail["type"] == "extra_forbidden":
        key = str(location[-1])
        return f"unknown key {key!r}{inside}{closest(key, _accepted_keys(model, location[:-1]))}"
    name = ".".join(str(part) for part in location if part not in ("stage_item", "repeat_item"))
    if detail["type"] == "missing":
        return f"missing key {name!r}{inside}"
    where = f" for {name!r}" if name else ""
    return f"wrong value{where}{inside}: {detail['msg']} (got {_short(detail['input'])})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _accepted_keys(model: type[BaseModel], location: Sequence[str | int]) -> set[str]:
    """Keys of the model that stands at a location inside another."""
    candidates = [model]
    for part in location:
        if part in ("stage_item", "repeat_item"):
            candidates = [StageSpec if part == "stage_item" else RepeatItem]
            continue
        inner = [
            nested
            for candidate in candidates
            for name, field in candidate.model_fields.items()
            if part in (name, field.alias)
            for nested in _models_in(field.annotation)
        ]
        candidates = inner or candidates
    return {
        field.alias or name
        for candidate in candidates
        for name, field in candidate.model_fields.items()
    }


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in typing.get_args(annotation) for model in _models_in(part)]


def _compose(text: str, source_name: str) -> yaml.Node:
    if len(text.encode()) > MAX_PIPELINE_BYTES:
        raise ConfigError(f"{source_name}: larger than {MAX_PIPELINE_BYTES} bytes")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{source_name}:{line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{source_name}: not YAML: {error}") from error
    if root is None:
        raise ConfigError(f"{source_name}: the file is empty; a pipeline needs `name` and `stages`")
    return root


def _normalised(root: yaml.Node) -> yaml.Node:
    """Bring the short forms into the long one, so that only one shape is validated."""
    for key, value in _entries(root):
        if key.value == "params":
            _params_as_specs(value)
        if key.value == "stages":
            _stages_as_list(root, key, value)
    return root


def _entries(node: yaml.Node) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        return []
    return [(key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]


def _params_as_specs(node: yaml.Node) -> None:
    """`seed: 0` means `seed: {default: 0}`."""
    if not isinstance(node, yaml.MappingNode):
        return
    node.value = [
        (key, value if isinstance(value, yaml.MappingNode) else _map_of("default", value))
        for key, value in node.value
    ]


def _map_of(key: str, value: yaml.Node) -> yaml.MappingNode:
    name = yaml.ScalarNode("tag:yaml.org,2002:str", key, value.start_mark, value.end_mark)
    return yaml.MappingNode(
        "tag:yaml.org,2002:map", [(name, value)], value.start_mark, value.end_mark
    )


def _stages_as_list(parent: yaml.Node, key: yaml.ScalarNode, node: yaml.Node) -> None:
    """`stages: {sft: {...}}` means `stages: [{name: sft, ...}]`, in blocks as well."""
    if isinstance(node, yaml.MappingNode):
        items = [_named(name, item) for name, item in node.value]
        listed = yaml.SequenceNode("tag:yaml.org,2002:seq", items, node.start_mark, node.end_mark)
        parent.value = [(k, listed if k is key else v) for k, v in parent.value]
        node = listed
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            for item_key, block in _entries(item):
                if item_key.value == "repeat":
                    _normalise_block(block)


def _normalise_block(block: yaml.Node) -> None:
    for key, value in _entries(block):
        if key.value == "stages":
            _stages_as_list(block, key, value)


def _named(name: yaml.Node, item: yaml.Node) -> yaml.Node:
    if not isinstance(item, yaml.MappingNode):
        return item
    holder = item
    for key, value in _entries(item):
        if key.value == "repeat" and isinstance(value, yaml.MappingNode):
            holder = value
    label = yaml.ScalarNode("tag:yaml.org,2002:str", "name", name.start_mark, name.end_mark)
    holder.value = [(label, name), *holder.value]
    return item


def _to_data(node: yaml.Node, at: Location, lines: dict[Location, int], source_name: str) -> Any:
    """Plain data of a node tree; fills `lines`. Refuses duplicate and non-text keys."""
    lines.setdefault(at, node.start_mark.line + 1)
    if len(at) > MAX_NESTING:
        raise ConfigError(f"{source_name}:{lines[at]}: nested deeper than {MAX_NESTING} levels")
    if len(lines) > MAX_VALUES:
        raise ConfigError(f"{source_name}: holds more than {MAX_VALUES} values")
    if isinstance(node, yaml.SequenceNode):
        return [
            _to_data(item, (*at, index), lines, source_name)
            for index, item in enumerate(node.value)
        ]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node, source_name)
    data: dict[str, Any] = {}
    for key_node, value_node in _merged(node, source_name):
        key = key_node.value
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConfigError(f"{source_name}:{line}: a key must be text")
        if key in data:
            first = lines[(*at, key)]
            raise ConfigError(
                f"{source_name}:{line}: key {key!r} is written twice (first on line {first})"
            )
        lines[(*at, key)] = line
        data[key] = _to_data(value_node, (*at, key), lines, source_name)
    return data


def _merged(
    node: yaml.MappingNode, source_name: str, depth: int = 0
) -> list[tuple[yaml.Node, yaml.Node]]:
    """A map's entries, with those that YAML's merge key `<<` brings in; its own ones win.

    Raises:
        ConfigError: a merge that contains itself, or is wide and deep enough to exhaust memory.
    """
    own = [(key, value) for key, value in node.value if key.tag != _MERGE_TAG]
    known = {key.value for key, _ in own if isinstance(key, yaml.ScalarNode)}
    for key, value in node.value:
        if key.tag != _MERGE_TAG:
            continue
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        line = key.start_mark.line + 1
        if depth >= MAX_MERGES or len(sources) > MAX_MERGES:
            raise ConfigError(
                f"{source_name}:{line}: more than {MAX_MERGES} maps merged in one another"
            )
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise ConfigError(f"{source_name}:{line}: `<<` takes maps")
            found = _merged(source, source_name, depth + 1)
            brought = [entry for entry in found if entry[0].value not in known]
            known.update(entry[0].value for entry in brought)
            own += brought
    return own


def _scalar(node: yaml.Node, source_name: str) -> Any:
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        line = node.start_mark.line + 1
        raise ConfigError(f"{source_name}:{line}: cannot read {node.value!r}: {error}") from error
    # Dates are text in every schema here.
    return value if isinstance(value, str | int | float | bool | None) else node.value
