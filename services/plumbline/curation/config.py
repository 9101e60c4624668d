"""Configuration of the curation stages. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig, configured
from plumbline.curation.analysis.config import (
    ErasureConfig,
    IdentityConfig,
    NearCopiesConfig,
    ToxicityConfig,
)
from plumbline.curation.corpus.config import ShardingConfig
from plumbline.curation.dedup.config import ExactDuplicateConfig, NearDuplicateConfig
from plumbline.curation.filters.config import (
    ClassifierConfig,
    EndpointConfig,
    GibberishConfig,
    LanguageConfig,
    LengthConfig,
    LexiconConfig,
    QualityConfig,
    RepetitionConfig,
)
from plumbline.curation.pii.config import AnonymizeConfig


class CurationConfig(FrozenConfig):
    """Stage `curation.curate`, and the service's streams."""

    length: LengthConfig = LengthConfig()
    language: LanguageConfig = LanguageConfig()
    gibberish: GibberishConfig = GibberishConfig()
    quality: QualityConfig = QualityConfig()
    repetition: RepetitionConfig = RepetitionConfig()
    lexicon: LexiconConfig = LexiconConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    endpoints: tuple[EndpointConfig, ...] = ()
    """Models of the user's own, asked over HTTP after all other rules."""
    exact_duplicates: ExactDuplicateConfig = ExactDuplicateConfig()
    near_duplicates: NearDuplicateConfig = NearDuplicateConfig()
    anonymize: AnonymizeConfig = AnonymizeConfig()
    names_in_corpora: bool = False
    """Whether the gazetteers' names and addresses are replaced in corpora too, and not only where
    single texts are anonymized: encyclopaedias, news and novels are made of names."""
    examples_per_rule: int = Field(default=3, ge=0, le=50)
    """Removed documents that the report quotes, anonymized."""
    on_error: Literal["fail", "skip"] = "fail"
    """What happens to broken records of an imported data file."""
    sharding: ShardingConfig = ShardingConfig()


class ServiceConfig(FrozenConfig):
    """Bounds of the service's streams; no part of any stage."""

    max_stream_documents: int = Field(default=200_000, ge=1)
    """Documents of one stream that are remembered for duplicates; more are refused."""
    max_batch_bytes: int = Field(default=1 << 20, ge=1)
    """Requests of a stream that are handled together, by their size; one may be larger."""
    max_batch_messages: int = Field(default=256, ge=1)


CONFIG_VARIABLE = "PLUMBLINE_CURATION_CONFIG"


def configured_curation(environment: Mapping[str, str]) -> CurationConfig:
    """The service's configuration, from the YAML file that the environment names; else defaults.

    Raises:
        ConfigError: the file cannot be read, or says what is not accepted.
    """
    return configured(CurationConfig, environment, CONFIG_VARIABLE)


class AnalyzeConfig(FrozenConfig):
    """Stage `curation.analyze`: what curation would see and do, nothing removed."""

    curation: CurationConfig = CurationConfig()
    """Its rules, detectors and sketches are what the analysis reports on."""
    identity: IdentityConfig = IdentityConfig()
    erasure: ErasureConfig = ErasureConfig()
    toxicity: ToxicityConfig = ToxicityConfig()
    near_copies: NearCopiesConfig = NearCopiesConfig()
    top_terms: int = Field(default=10, ge=1)
    """Terms that the HTML report lists for each axis; report.json has all."""


class AnnotateConfig(FrozenConfig):
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
