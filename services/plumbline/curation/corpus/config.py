"""Configuration of how a corpus is cut into pieces of work; it never changes what comes out."""

from __future__ import annotations

from pydantic import Field

from plumbline.core.validation import FrozenConfig


class ShardingConfig(FrozenConfig):
    """Pieces of work and their bounds."""

    shard_documents: int = Field(default=16_384, ge=1)
    """A corpus of more rows is cut into equal shards of at most as many; fewer are one piece."""
    batch_documents: int = Field(default=256, ge=1)
    """Documents that are judged together."""
    batch_bytes: int = Field(default=2**20, ge=1)
    """Bound of a batch's text, so that a large document is judged alone."""
    document_timeout_s: float = Field(default=30.0, gt=0)
    """A batch that takes longer is cut in two, down to the document that is at fault."""
    copy_jobs: int = Field(default=4, ge=1)
    """Jobs among which the bands are divided when copies are looked for across shards."""
