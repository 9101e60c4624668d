"""Turns mappings that users wrote into frozen config models, and pydantic's findings into errors.

A message names the key, the value and what is accepted; a misspelt key gets the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from plumbline.core.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=BaseModel)

_SHOWN_VALUE_CHARACTERS = 80


class FrozenConfig(BaseModel):
    """Base of config models: never changed, unknown keys rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_config(model: type[ConfigT], values: Mapping[str, Any], *, where: str = "") -> ConfigT:
    """Validate `values` as `model`.

    Args:
        where: what the values belong to, for the message; for example "stage trainer.sft".
    Raises:
        ConfigError: for the first few findings; `field` is the path of the first.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise config_error(error, model, where=where) from None


def configured(model: type[ConfigT], environment: Mapping[str, str], variable: str) -> ConfigT:
    """A configuration from the YAML file that a variable of the environment names; else defaults.

    Raises:
        ConfigError: the file cannot be read, or says what is not accepted.
    """
    path = environment.get(variable)
    if not path:
        return model()
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{variable}={path} cannot be read: {error}") from error
    if not isinstance(values, dict | None):
        raise ConfigError(f"{path} holds a {type(values).__name__}; a map is accepted")
    return parse_config(model, values or {}, where=path)


def config_error(error: ValidationError, model: type[BaseModel], *, where: str = "") -> ConfigError:
    """The ConfigError that says what pydantic found."""
    findings = error.errors(include_url=False)
    messages = [_describe(finding, model) for finding in findings[:3]]
    if len(findings) > 3:
        messages.append(f"and {len(findings) - 3} more")
    prefix = f"{where}: " if where else ""
    return ConfigError(prefix + "; ".join(messages), field=_path(findings[0]["loc"]) or None)


def closest(name: str, accepted: Mapping[str, Any] | set[str] | list[str]) -> str:
    """` (did you mean 'x'?)` for the nearest accepted name, or an empty string."""
    nearest = difflib.get_close_matches(name, list(accepted), n=1)
    return f" (did you mean {nearest[0]!r}?)" if nearest else ""


def _describe(finding: Any, model: type[BaseModel]) -> str:
    location: tuple[int | str, ...] = finding["loc"]
    path = _path(location)
    if finding["type"] == "extra_forbidden":
        accepted = _accepted_keys(model, location[:-1])
        hint = closest(str(location[-1]), accepted)
        return f"unknown key {path!r}{hint}; accepted: {', '.join(sorted(accepted)) or 'none'}"
    if finding["type"] == "missing":
        return f"key {path!r} is missing"
    reason = str(finding["msg"]).removeprefix("Value error, ")
    if not location:
        return reason
    return f"{path}={_shown(finding['input'])} is not accepted: {reason[:1].lower()}{reason[1:]}"


def _accepted_keys(model: type[BaseModel], parents: tuple[int | str, ...]) -> list[str]:
    """Keys of the model that `parents` leads to; empty where the path passes through a union."""
    current: type[BaseModel] = model
    for part in parents:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part)
        nested = _nested_model(field.annotation) if field else None
        if nested is None:
            return []
        current = nested
    return [field.alias or name for name, field in current.model_fields.items()]


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        nested = _nested_model(argument)
        if nested is not None:
            return nested
    return None


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _shown(value: Any) -> str:
    text = repr(value)
    if len(text) <= _SHOWN_VALUE_CHARACTERS:
        return text
    return text[:_SHOWN_VALUE_CHARACTERS] + "…"
