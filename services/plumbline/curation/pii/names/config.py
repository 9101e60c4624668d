"""Configuration of what finds names and addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig

NameLanguage = Literal["en", "zh"]
"""en stands for names in Latin script of whatever origin, zh for Han characters."""


class NamesConfig(FrozenConfig):
    """Names of people and addresses, by gazetteers and context; needs no model."""

    enabled: bool = True
    languages: tuple[NameLanguage, ...] = Field(default=("en", "zh"), min_length=1)
    further_given_names: tuple[str, ...] = ()
    """Given names in Latin script that the built-in list lacks; they count by themselves."""
    further_surnames: tuple[str, ...] = ()
    """Surnames in Latin script; they count beside a given name or where the context asks."""
    never: tuple[str, ...] = ()
    """What is not personal though it reads like a name or an address: authors, brands, a seat of
    the company. Compared without regard to case."""


class RemoteNerConfig(FrozenConfig):
    """A user's model that finds entities, behind an HTTP endpoint.

    It is sent `{"texts": [...]}` and answers `{"entities": [[{"start", "end", "type", "score"}]]}`,
    one list for each text in order; offsets in characters of the text that was sent, end exclusive.
    """

    url: str = Field(min_length=1)
    """http or https, without credentials."""
    labels: Mapping[str, str] = Field(
        default={
            "PER": "PERSON",
            "PERSON": "PERSON",
            "ADDRESS": "ADDRESS",
            "STREET_ADDRESS": "ADDRESS",
        },
        min_length=1,
    )
    """The model's labels and what they are called here; other labels are dropped."""
    token_env: str = ""
    """Environment variable that holds the bearer token; never the token itself."""
    timeout_s: float = Field(default=10.0, gt=0)
    """To connect, and between two pieces of an answer; for each attempt."""
    retries: int = Field(default=3, ge=0)
    """Further attempts after a lost connection, a time-out or a 429 or 5xx answer."""
    max_batch_texts: int = Field(default=64, ge=1)
    max_batch_bytes: int = Field(default=1 << 20, ge=1)
    """UTF-8 bytes of the texts of one request; a longer text makes a request by itself."""
    default_score: float = Field(default=0.85, ge=0, le=1)
    """Confidence of entities that come without a score."""

    @model_validator(mode="after")
    def _labels_are_not_blank(self) -> Self:
        for label, name in self.labels.items():
            if not label.strip() or not name.strip():
                raise ValueError(f"labels[{label!r}]={name!r} is blank; names are accepted")
        return self


class PresidioConfig(FrozenConfig):
    """The presidio-analyzer package as a further recognizer; needs the extra `presidio`."""

    language: str = Field(default="en", pattern="^[a-z]{2}$")
    model: str = "en_core_web_lg"
    """Name of an installed spaCy pipeline. Where it is not, see `blank_without_model`."""
    blank_without_model: bool = True
    """Go on with Presidio's patterns alone where the pipeline is not installed, without names;
    otherwise that is an error. Nothing is ever downloaded."""
    labels: Mapping[str, str] = Field(
        default={
            "PERSON": "PERSON",
            "EMAIL_ADDRESS": "EMAIL",
            "PHONE_NUMBER": "PHONE",
            "CREDIT_CARD": "BANK_CARD",
            "IBAN_CODE": "IBAN",
            "IP_ADDRESS": "IP_ADDRESS",
            "MAC_ADDRESS": "MAC_ADDRESS",
            "US_SSN": "US_SSN",
            "US_PASSPORT": "PASSPORT",
        },
        min_length=1,
    )
    """Presidio's entities that are asked for, and what they are called here."""
    min_score: float = Field(default=0.35, ge=0, le=1)
    """Presidio's own confidence below which nothing is proposed."""
