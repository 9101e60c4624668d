"""Configuration of sampling and mixing. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig

METADATA_PREFIX = "metadata:"
_GROUPS = "input, source, language, or metadata:KEY"
OnError = Literal["fail", "skip"]


class SourceConfig(FrozenConfig):
    """Records that are weighed together: those that fit everything that is said here."""

    name: str = Field(min_length=1)
    """As the report and the records' metadata say it."""
    input: int | None = Field(default=None, ge=0)
    """Which of the inputs they come from, counted from 0; any unless given."""
    source: str | None = None
    """Their `source` field."""
    language: str | None = None
    """Their language; for conversations, that of their metadata."""
    metadata: Mapping[str, str] = Field(default_factory=dict)
    """Entries that their metadata have."""
    weight: float = Field(default=1.0, ge=0)
    """Multiplies the share that the source would get."""
    epochs: float | None = Field(default=None, ge=0)
    """How often each record is taken, instead of a share of the total; 2.5 takes all of them
    twice and half of them once more. Factual sources are up-sampled by this."""
    cap: int | None = Field(default=None, ge=1)
    """Most different records that are taken; the config's own `cap` unless given."""
    phase: int = Field(default=0, ge=0)
    """Earlier phases come first where `order` is `phases`."""


class MixConfig(FrozenConfig):
    """Stage `curation.mix`.

    Sources: Raffel et al. 2020, T5, arXiv:1910.10683, section 3.5.2 (temperature and rate cap);
    Longpre et al. 2023, The Flan Collection, arXiv:2301.13688 (caps); Iyer et al. 2022, OPT-IML,
    arXiv:2212.12017 (pre-training data among instructions).
    """

    seed: int = Field(default=0, ge=0, lt=1 << 64)
    sources: tuple[SourceConfig, ...] = ()
    """A record belongs to the first one that it fits; records that fit none are left out. Without
    any, `group_by` makes the sources."""
    group_by: str = "input"
    """Records that share this are one source: input (named input0, input1, ...), source, language,
    or metadata:KEY."""
    temperature: float | None = Field(default=1.0, gt=0)
    """Shares are proportional to weight * size ** (1 / temperature): 1 mixes by size, more brings
    small sources up. null leaves the sizes out, so that weights alone decide."""
    rate_cap: int | None = Field(default=None, ge=1)
    """Sizes above count as this for the temperature; every record can still be drawn."""
    cap: int | None = Field(default=None, ge=1)
    """Most different records of each source."""
    task_field: str = "task"
    """Metadata entry that names a record's task."""
    task_cap: int | None = Field(default=None, ge=1)
    """Most different records of each task of a source; records without a task count as one."""
    unit: Literal["records", "tokens", "characters"] = "records"
    """What sizes and totals count; tokens are words and single Han characters. In tokens and
    characters a source comes within half a record of what is planned."""
    total: int | None = Field(default=None, ge=1)
    """How much is drawn; as much as the sources without `epochs` hold unless given."""
    max_epochs: float | None = Field(default=None, gt=0)
    """A mix that repeats any source more often is refused."""
    pretraining_share: float | None = Field(default=None, ge=0, lt=1)
    """Share of documents, as plain text to model, in a mix with conversations."""
    order: Literal["shuffled", "input", "length", "score", "phases"] = "shuffled"
    """`length`: characters, short ones first; `score`: by the number in the metadata entry
    `score_field`, low ones first; `phases`: the sources' phases in turn, each shuffled."""
    score_field: str = ""
    descending: bool = False
    """Long ones, or high scores, first."""
    on_error: OnError = "fail"
    """What happens to broken records of imported data files."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"{len(names)} sources have {len(set(names))} names; {twice[0]!r} is given twice"
            )
        return self

    @model_validator(mode="after")
    def _fields_are_named(self) -> Self:
        check_group(self.group_by)
        if self.order == "score" and not self.score_field:
            raise ValueError("order='score' needs score_field, the metadata entry to sort by")
        if self.descending and self.order not in ("length", "score"):
            raise ValueError(
                f"descending=True means nothing for order={self.order!r}; "
                "accepted for: length, score"
            )
        return self


class SubsetConfig(FrozenConfig):
    """Stage `curation.subset`: a sample that keeps the proportions of its strata."""

    seed: int = Field(default=0, ge=0, lt=1 << 64)
    size: int | None = Field(default=None, ge=1)
    """Records wanted; this or `share`."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Of all records."""
    stratify_by: tuple[str, ...] = ("source", "language")
    """Each combination is one stratum: input, source, language, metadata:KEY; none for a simple
    random sample."""
    order: Literal["input", "shuffled"] = "input"
    on_error: OnError = "fail"

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        for group in self.stratify_by:
            check_group(group)
        if (self.size is None) == (self.share is None):
            raise ValueError(f"size={self.size} and share={self.share}: exactly one is needed")
        return self


def check_group(group: str) -> None:
    """Raises ValueError for a property that records cannot be grouped by."""
    named = group.startswith(METADATA_PREFIX) and len(group) > len(METADATA_PREFIX)
    if group not in ("input", "source", "language") and not named:
        raise ValueError(f"group {group!r} is unknown; accepted: {_GROUPS}")
