"""Configuration of duplicate detection."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig


class ExactDuplicateConfig(FrozenConfig):
    """Documents with the same text up to case, width and spacing."""

    enabled: bool = True


class NearDuplicateConfig(FrozenConfig):
    """Documents that share most of their word sequences."""

    enabled: bool = True
    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of shingle sets from which a document counts as a copy."""
    shingle_size: int = Field(default=3, ge=1, le=20)
    """Words, or Han characters, in a row."""
    min_shingles: int = Field(default=8, ge=1)
    """Documents with fewer are compared exactly only: a few shared words are no evidence."""
    permutations: int = Field(default=128, ge=16, le=1024)
    bands: int = Field(default=32, ge=1)
    """Candidates share one band of the MinHash; more bands, fewer missed."""
    seed: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _bands_divide_permutations(self) -> Self:
        if self.permutations % self.bands:
            raise ValueError(
                f"bands={self.bands} must divide permutations={self.permutations}, "
                "so that every band has as many rows"
            )
        return self
