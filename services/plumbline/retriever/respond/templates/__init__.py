"""What is said in place of a reply, and the signs of risk, by language: one YAML file for each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources

import yaml
from pydantic import Field

from plumbline.core.errors import ConfigError
from plumbline.core.validation import FrozenConfig, parse_config
from plumbline.retriever.respond.config import TemplatesConfig

NO_CATEGORY = "none"
WITHHELD = "withheld"


class SignPair(FrozenConfig):
    """A sign where one of `says` and one of `of` stand in a request."""

    says: tuple[str, ...]
    of: tuple[str, ...]
    asks: bool = True
    """Only beside words that ask how."""


class RiskSigns(FrozenConfig):
    """Words that place a request in a risk category."""

    phrases: tuple[str, ...] = ()
    deeds: tuple[str, ...] = ()
    """Signs only beside words that ask how."""
    pairs: tuple[SignPair, ...] = ()


class LanguageTexts(FrozenConfig):
    """Everything that one language's file holds."""

    refusals: Mapping[str, str] = Field(min_length=1)
    """By risk category; `none` where there is no category."""
    withheld: str
    """Where a reply could not be checked."""
    revision: str
    """How a policy is told what its reply broke; the place {broken} takes a list."""
    score_too_low: str
    asking: tuple[str, ...]
    harmless: tuple[str, ...]
    signs: Mapping[str, RiskSigns]


@cache
def languages() -> tuple[str, ...]:
    """Languages that have a file, by BCP 47 primary tag."""
    files = resources.files(__package__).iterdir()
    return tuple(sorted(file.name[:-5] for file in files if file.name.endswith(".yaml")))


@cache
def texts_of(language: str) -> LanguageTexts:
    """The texts of a language that has a file."""
    file = resources.files(__package__) / f"{language}.yaml"
    return parse_config(LanguageTexts, yaml.safe_load(file.read_text("utf-8")), where=file.name)


class Templates:
    """The texts in use: those built in, and what the configuration puts in their place.

    Raises:
        ConfigError: an override of a language or template that there is not.
    """

    def __init__(self, config: TemplatesConfig) -> None:
        self._config = config
        known = {*texts_of(languages()[0]).refusals, WITHHELD}
        for name in (config.default_language, *config.overrides):
            if name not in languages():
                raise ConfigError(
                    f"templates of language {name!r} are unknown; accepted: "
                    f"{', '.join(languages())}",
                    field="respond.templates",
                )
        for language, texts in config.overrides.items():
            for key in texts:
                if key not in known:
                    raise ConfigError(
                        f"template {key!r} of language {language!r} is unknown; accepted: "
                        f"{', '.join(sorted(known))}",
                        field="respond.templates.overrides",
                    )

    def language(self, tag: str) -> str:
        """The language to speak to somebody who writes in `tag`."""
        return tag if tag in languages() else self._config.default_language

    def refusal(self, category: str, language: str) -> str:
        """What is said where no reply kept the rules; an unknown category is told like none."""
        spoken = self.language(language)
        refusals = {**texts_of(spoken).refusals, **self._config.overrides.get(spoken, {})}
        return refusals.get(category or NO_CATEGORY) or refusals[NO_CATEGORY]

    def withheld(self, language: str) -> str:
        """What is said where a reply could not be checked."""
        spoken = self.language(language)
        return self._config.overrides.get(spoken, {}).get(WITHHELD) or texts_of(spoken).withheld

    def texts(self, language: str) -> LanguageTexts:
        """All texts of the language to speak to somebody who writes in `language`."""
        return texts_of(self.language(language))
