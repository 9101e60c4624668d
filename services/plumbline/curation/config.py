"""Configuration of the curation stages. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PiiType = Literal["EMAIL", "PHONE", "NATIONAL_ID"]
Action = Literal["redact", "mask"]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LengthConfig(_Config):
    """Bounds on the document's length."""

    enabled: bool = True
    min_units: int = Field(default=5, ge=0)
    """Words, where each Han character counts as one."""
    max_characters: int = Field(default=1_000_000, gt=0)

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        if self.min_units >= self.max_characters:
            raise ValueError(
                f"min_units={self.min_units} must be below max_characters={self.max_characters}, "
                "or no document is kept"
            )
        return self


class LanguageConfig(_Config):
    """Which languages a corpus is in."""

    enabled: bool = True
    languages: tuple[str, ...] = Field(default=("en", "zh"), min_length=1)
    """BCP 47 primary tags that are kept."""
    min_score: float = Field(default=0.5, ge=0, le=1)
    """Below it the language counts as undetermined (`und`)."""
    min_letters: int = Field(default=16, ge=1)
    """Shorter text is `und`; a Han character counts four times, as it says about a word."""
    keep_undetermined: bool = True
    """Whether `und` documents stay: code, lists and short replies are und."""


class GibberishConfig(_Config):
    """Signs that text is no language at all."""

    enabled: bool = True
    min_characters: int = Field(default=20, ge=1)
    """Shorter text is not judged."""
    max_symbol_share: float = Field(default=0.4, gt=0, le=1)
    """Characters that are neither letters, digits, spaces nor usual punctuation."""
    max_unpronounceable_share: float = Field(default=0.35, gt=0, le=1)
    """Latin words without a vowel or with five consonants in a row."""
    max_letter_surprisal: float = Field(default=5.0, gt=4.2)
    """Mean surprise of Latin letters under English frequencies, bits; English has 4.2, random
    letters 5.6."""
    min_character_entropy: float = Field(default=1.5, ge=0)
    """Bits per character; one repeated character has 0, English prose 4."""
    max_repeated_word_share: float = Field(default=0.6, gt=0, le=1)
    """Share of the commonest word in documents of 20 words and more."""


class ExactDuplicateConfig(_Config):
    """Documents with the same text up to case, width and spacing."""

    enabled: bool = True


class NearDuplicateConfig(_Config):
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


class LexiconConfig(_Config):
    """Documents that use words of a list."""

    enabled: bool = True
    builtin: bool = True
    """Use the list of abuse that comes with the package."""
    terms: tuple[str, ...] = ()
    """Further terms, for example those of a house list."""
    min_hits: int = Field(default=1, ge=1)
    """Different positions at which terms occur before a document is dropped."""

    @model_validator(mode="after")
    def _has_terms(self) -> Self:
        if self.enabled and not self.builtin and not self.terms:
            raise ValueError("builtin=false and terms=[] leave no term to look for")
        return self


class AnonymizeConfig(_Config):
    """What is done with personal data in kept documents."""

    enabled: bool = True
    action: Action = "redact"
    types: tuple[PiiType, ...] = Field(default=("EMAIL", "PHONE", "NATIONAL_ID"), min_length=1)
    phone_regions: tuple[Literal["CN", "US", "GB"], ...] = ("CN", "US", "GB")
    """Regions whose national number formats are looked for beside +international ones."""


class CurationConfig(_Config):
    """Stage `curation.curate`, and the service's streams."""

    length: LengthConfig = LengthConfig()
    language: LanguageConfig = LanguageConfig()
    gibberish: GibberishConfig = GibberishConfig()
    lexicon: LexiconConfig = LexiconConfig()
    exact_duplicates: ExactDuplicateConfig = ExactDuplicateConfig()
    near_duplicates: NearDuplicateConfig = NearDuplicateConfig()
    anonymize: AnonymizeConfig = AnonymizeConfig()
    examples_per_rule: int = Field(default=3, ge=0, le=50)
    """Removed documents that the report quotes, anonymized."""
    on_error: Literal["fail", "skip"] = "fail"
    """What happens to broken records of an imported data file."""
    max_stream_documents: int = Field(default=200_000, ge=1)
    """Documents of one stream that are remembered for duplicates; more are refused."""


class AnalyzeConfig(_Config):
    """Stage `curation.analyze`: the same detectors, nothing removed."""

    curation: CurationConfig = CurationConfig()


class AnnotateConfig(_Config):
    """Stage `curation.annotate`: pairs of sampled responses, graded by a simulated panel."""

    seed: int = Field(default=0, ge=0)
    heads: tuple[Literal["helpfulness", "safety"], ...] = Field(
        default=("helpfulness", "safety"), min_length=1
    )
    panel_size: int = Field(default=5, ge=1, le=99)
    disagreement_rate: float = Field(default=0.08, ge=0, lt=0.5)
    """Probability that one annotator votes against the better response."""
    max_pairs_per_prompt: int = Field(default=3, ge=1)
    """For each head."""

    @model_validator(mode="after")
    def _panel_cannot_tie(self) -> Self:
        if self.panel_size % 2 == 0:
            raise ValueError(
                f"panel_size={self.panel_size} can tie; an odd number of annotators is needed"
            )
        return self
