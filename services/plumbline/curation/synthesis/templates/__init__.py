"""Prompt templates of synthesis, by language; each file carries its version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template
from typing import Any, Literal

import yaml

Language = Literal["en", "zh"]


@dataclass(frozen=True, slots=True)
class Templates:
    """The prompts of one language."""

    language: Language
    version: str
    """For example `en.1`; in each record's provenance."""
    _entries: Mapping[str, Any]

    def fill(self, name: str, **values: object) -> str:
        """The prompt `name`, a dotted path such as `evolve.rewrite`, with its values."""
        return Template(self.entry(name)).substitute(values)

    def entry(self, name: str) -> Any:
        """What stands at a dotted path."""
        found: Any = self._entries
        for part in name.split("."):
            found = found[part]
        return found


@cache
def templates(language: Language) -> Templates:
    """The templates of a language, read once."""
    text = resources.files(__name__).joinpath(f"{language}.yaml").read_text(encoding="utf-8")
    loaded = yaml.safe_load(text)
    return Templates(language, f"{language}.{loaded.pop('version')}", loaded)
