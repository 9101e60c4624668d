"""Configuration of the retriever and of its stage."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from plumbline.core.validation import FrozenConfig, configured
from plumbline.retriever.composing.config import ComposingConfig
from plumbline.retriever.respond.config import RespondConfig
from plumbline.retriever.search.config import EmbedderConfig, SearchConfig
from plumbline.retriever.tools.config import ToolsConfig

CONFIG_VARIABLE = "PLUMBLINE_RETRIEVER_CONFIG"


class RetrieverConfig(FrozenConfig):
    """Search, and the step from search to reply."""

    search: SearchConfig = SearchConfig()
    composing: ComposingConfig = ComposingConfig()
    respond: RespondConfig = RespondConfig()
    tools: ToolsConfig = ToolsConfig()


def configured_retriever(environment: Mapping[str, str]) -> RetrieverConfig:
    """The service's configuration, from the YAML file that the environment names; else defaults.

    Raises:
        ConfigError: the file cannot be read, or says what is not accepted.
    """
    return configured(RetrieverConfig, environment, CONFIG_VARIABLE)


class ImportValuesConfig(FrozenConfig):
    """Stage `retriever.import_values`."""

    ids: tuple[str, ...] = ()
    """Import only these values; empty imports all."""
    limit: int = Field(0, ge=0)
    """Import only the first values, in the file's order; 0 imports all."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Fields of the values that leave them out, for example jurisdiction: CN."""
    complete: bool = False
    """The files hold their documents whole: what the new edition of a law lacks ends."""
    replace_all: bool = False
    """Drop what the base holds and the files do not."""
    revoked: tuple[str, ...] = ()
    """Ids of the base's values to drop."""
    embedder: EmbedderConfig | None = None
    """None keeps the base's, or takes the default where there is no base."""
