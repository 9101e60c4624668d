"""Configuration of decontamination. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig


class DecontaminateConfig(FrozenConfig):
    """Stage `curation.decontaminate`.

    Sources: Touvron et al. 2023, Llama 2, arXiv:2307.09288, appendix A.6 (`skipgram`); Brown et
    al. 2020, arXiv:2005.14165, appendix C (`collision`, and what is cut with `remove: spans`).
    """

    method: Literal["skipgram", "collision"] = "skipgram"
    """`skipgram`: a sample's contaminated share is that of its words in matches of `ngram` or more
    words, which may differ in `skip_budget` places after the first `ngram`. `collision`: a sample
    is contaminated as soon as it shares one run of `ngram` words."""
    ngram: int | None = Field(default=None, ge=5, le=100)
    """Words, or Han characters, in a row; 10 for skip-grams, 13 for collisions unless given."""
    skip_budget: int = Field(default=4, ge=0, le=100)
    """Of skip-grams; collisions have none."""
    clean_below: float = Field(default=0.2, gt=0, le=1)
    """Samples with a smaller contaminated share are clean, all others are not clean."""
    dirty_from: float = Field(default=0.8, gt=0, le=1)
    """Samples with at least this share are dirty, all others are not dirty."""
    remove: Literal["documents", "spans", "nothing"] = "documents"
    """`documents`: whole; `spans`: the matches and what is around them, which cuts a document into
    pieces; `nothing`: report only."""
    remove_from: int = Field(default=13, ge=1)
    """Matches with fewer words are reported and stay: short ones are often common phrases."""
    window_characters: int = Field(default=200, ge=0)
    """What `spans` removes on each side of a match."""
    min_piece_characters: int = Field(default=200, ge=1)
    """Shorter pieces that `spans` leaves are dropped."""
    max_pieces: int = Field(default=10, ge=1)
    """Documents that `spans` would cut into more pieces are dropped whole."""
    splits: tuple[str, ...] = ()
    """Prompt splits that the evaluation sets are; empty takes each artifact's whole dataset."""
    text_fields: tuple[str, ...] = ()
    """Keys of a sample's texts in data files of evaluation sets, such as question and answer; lists
    count with all their texts. Without them the format of each record is detected."""
    id_field: str = ""
    """Key of a sample's id, beside `text_fields`; ids are digests of the texts unless given."""
    template_places: int = Field(default=64, ge=1)
    """A run of words that stands in more places of the evaluation sets is a template of theirs: it
    counts, but its matches are not followed beyond it."""
    documents_per_sample: int = Field(default=20, ge=0)
    """Ids of training documents that the report names for each sample."""
    on_error: Literal["fail", "skip"] = "fail"
    """What happens to broken records of imported data files."""

    @property
    def run_words(self) -> int:
        """Words of the shortest match."""
        return self.ngram or (10 if self.method == "skipgram" else 13)

    @property
    def budget(self) -> int:
        """Places in which a match may differ."""
        return self.skip_budget if self.method == "skipgram" else 0

    @model_validator(mode="after")
    def _ids_come_with_texts(self) -> Self:
        if self.id_field and not self.text_fields:
            raise ValueError(f"id_field={self.id_field!r} needs text_fields, the keys of the texts")
        return self

    @model_validator(mode="after")
    def _dirty_is_not_clean(self) -> Self:
        if self.dirty_from < self.clean_below:
            raise ValueError(
                f"dirty_from={self.dirty_from} is below clean_below={self.clean_below}: "
                "samples in between would be clean and dirty"
            )
        return self
