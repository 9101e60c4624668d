"""Named system messages: presets of the package, and values that take their place.

A knowledge base overrides a preset, or adds a message of its own, with a value of category
`system_message` and id `system_message:NAME`, or `system_message:NAME:SUFFIX` where several tenants
have one. Of those in force for a request the one of highest precedence is used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import yaml

from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.core.validation import FrozenConfig, closest, parse_config
from plumbline.data.records import ValueKind, ValueSpec
from plumbline.retriever.composing.conflicts import by_precedence
from plumbline.retriever.composing.quoting import neutralise
from plumbline.retriever.values.validation import content_digest

SYSTEM_MESSAGE_CATEGORY = "system_message"
NONE = "none"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """What the model is told before everything else.

    Args:
        version: of the preset or of the value; 0 where there is no message.
        content_digest: SHA-256 of the canonical content, hexadecimal; empty where there is none.
        value_id: empty for a preset.
        checkers: `NAME: ARGUMENT` each; they hold for every reply under this message.
        rules_preamble: a line between the message and the rules; may be empty.
    """

    name: str
    version: int
    text: str
    content_digest: str
    value_id: str
    checkers: tuple[str, ...] = ()
    rules_preamble: str = ""

    def as_value(self) -> ValueSpec:
        """The message as a value, for checks, conflicts and citations."""
        return ValueSpec(
            id=self.value_id or f"{SYSTEM_MESSAGE_CATEGORY}:{self.name}",
            text=self.text or NONE,
            kind=ValueKind.FIXED.value,
            title=self.name,
            category=SYSTEM_MESSAGE_CATEGORY,
            version=self.version,
            checkers=self.checkers,
        )


NO_SYSTEM_MESSAGE = SystemMessage(NONE, 0, "", "", "")


class _Preset(FrozenConfig):
    version: int
    text: str
    language: str = "en"
    checkers: tuple[str, ...] = ()
    rules_preamble: str = ""


def resolve_system_message(
    name: str, in_force: Sequence[ValueSpec], *, default: str = NONE
) -> SystemMessage:
    """The system message that a request names.

    Args:
        name: empty takes the default; `none` uses none.
        in_force: values in force for the request's tenant, place and day.
    Raises:
        InvalidInputError: it cannot be a name.
        NotFoundError: no preset and no value in force has this name.
    """
    name = name or default
    if name == NONE:
        return NO_SYSTEM_MESSAGE
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"system_message={name!r} is refused; accepted: up to 63 of a-z, 0-9, _ and -",
            field="system_message",
        )
    overrides = [value for value in in_force if _overridden_name(value) == name]
    if overrides:
        return _from_value(name, by_precedence(overrides)[0])
    if name in presets():
        return presets()[name]
    names = system_message_names(in_force)
    raise NotFoundError(
        f"system message {name!r} does not exist for this request{closest(name, list(names))}; "
        f"accepted: {', '.join(names)}"
    )


def system_message_names(in_force: Sequence[ValueSpec]) -> tuple[str, ...]:
    """Every name that a request may give, in order."""
    named = {_overridden_name(value) for value in in_force} - {""}
    return tuple(sorted(named | presets().keys() | {NONE}))


@cache
def presets() -> dict[str, SystemMessage]:
    """The messages that come with the package, by name."""
    folder = resources.files("plumbline.retriever.composing") / "presets"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".yaml")),
        key=lambda file: file.name,
    )
    return {
        name: _from_preset(name, yaml.safe_load(file.read_text(encoding="utf-8")))
        for file in files
        for name in (file.name.removesuffix(".yaml"),)
    }


def _overridden_name(value: ValueSpec) -> str:
    """The name of the system message that a value is; empty where it is none."""
    kind, _, rest = value.id.partition(":")
    if kind != SYSTEM_MESSAGE_CATEGORY or value.category != SYSTEM_MESSAGE_CATEGORY:
        return ""
    return rest.split(":")[0]


def _from_preset(name: str, content: dict[str, Any]) -> SystemMessage:
    preset = parse_config(_Preset, content, where=f"preset {name}")
    message = SystemMessage(
        name=name,
        version=preset.version,
        text=preset.text,
        content_digest="",
        value_id="",
        checkers=preset.checkers,
        rules_preamble=preset.rules_preamble,
    )
    return replace(message, content_digest=content_digest(message.as_value()))


def _from_value(name: str, value: ValueSpec) -> SystemMessage:
    known = presets().get(name)
    return SystemMessage(
        name=name,
        version=value.version,
        text=neutralise(value.text),
        content_digest=content_digest(value),
        value_id=value.id,
        checkers=value.checkers,
        rules_preamble=known.rules_preamble if known else "",
    )
