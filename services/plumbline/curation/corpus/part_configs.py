"""Configuration of the stages that do parts of `curation.curate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plumbline.core.validation import FrozenConfig
from plumbline.curation.config import CurationConfig


class ImportDocumentsConfig(FrozenConfig):
    """Stage `curation.import_documents`."""

    on_error: Literal["fail", "skip"] = "fail"
    """What happens to broken records."""


class CurateShardConfig(FrozenConfig):
    """Stage `curation.curate_shard`."""

    curation: CurationConfig
    first_row: int = Field(ge=0)
    last_row: int = Field(ge=0)
    """Rows of the corpus, the last not included."""


class FindCopiesConfig(FrozenConfig):
    """Stage `curation.find_copies`."""

    curation: CurationConfig
    first_band: int = Field(ge=0)
    last_band: int = Field(ge=0)
    """Bands of the MinHash, the last not included."""
