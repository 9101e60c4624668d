"""Configuration of filling placeholders. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig

NAME_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*"


class FillPlaceholdersConfig(FrozenConfig):
    """Stage `curation.fill_placeholders`: `{{name}}` becomes the value of `name`.

    Source: the identity records of LLaMA-Factory, whose `{{name}}` and `{{author}}` stand for the
    assistant and its maker.
    """

    values: Mapping[str, str] = Field(min_length=1)
    """By placeholder, without the braces."""
    on_unfilled: Literal["fail", "keep"] = "fail"
    """What a placeholder without a value does; kept ones are counted."""
    on_error: Literal["fail", "skip"] = "fail"
    """What happens to broken records of an imported data file."""

    @model_validator(mode="after")
    def _names_and_values_are_usable(self) -> Self:
        for name, value in self.values.items():
            if not re.fullmatch(NAME_PATTERN, name):
                raise ValueError(
                    f"values has the name {name!r}; accepted: letters, digits and underscores, "
                    "not beginning with a digit"
                )
            if not value.strip():
                raise ValueError(f"values.{name} is empty; accepted: at least one character")
        return self
