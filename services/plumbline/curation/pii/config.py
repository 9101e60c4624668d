"""Configuration of anonymization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig, parse_config
from plumbline.curation.pii.names.config import NamesConfig, PresidioConfig, RemoteNerConfig

PiiType = Literal[
    "EMAIL",
    "PHONE",
    "NATIONAL_ID",
    "BANK_CARD",
    "IBAN",
    "IP_ADDRESS",
    "MAC_ADDRESS",
    "URL_CREDENTIALS",
    "US_SSN",
    "PASSPORT",
    "LICENCE_PLATE",
    "DATE_OF_BIRTH",
    "API_KEY",
    "PRIVATE_KEY",
    "PERSON",
    "ADDRESS",
]
Action = Literal["redact", "mask", "keep", "pseudonymise"]
PII_TYPES: tuple[PiiType, ...] = get_args(PiiType)
ACTIONS: tuple[Action, ...] = get_args(Action)


class PseudonymConfig(FrozenConfig):
    """Whose pseudonyms they are. The same person has the same one within a tenant and scope."""

    key: str = ""
    """Name of a key in the file that PLUMBLINE_PSEUDONYM_KEYS_FILE names; never the key itself."""
    tenant: str = ""
    scope: str = ""
    """For example a data set or a conversation; different scopes cannot be joined."""


class AnonymizeConfig(FrozenConfig):
    """What is looked for as personal data, and what is done with it."""

    enabled: bool = True
    action: Action = "redact"
    """redact: `<EMAIL>`; mask: asterisks; keep: reported only; pseudonymise: a stand-in."""
    actions: Mapping[PiiType, Action] = Field(default_factory=dict)
    """By type, where it differs from `action`."""
    types: tuple[PiiType, ...] = Field(default=PII_TYPES, min_length=1)
    min_confidence: float = Field(default=0.5, ge=0, le=1)
    min_confidence_for: Mapping[PiiType, float] = Field(default_factory=dict)
    """By type, where it differs from `min_confidence`."""
    phone_regions: tuple[Literal["CN", "US", "GB"], ...] = ("CN", "US", "GB")
    """Regions whose national number formats are looked for beside +international ones."""
    names: NamesConfig = NamesConfig()
    """Persons and addresses, by gazetteers and context."""
    remote: RemoteNerConfig | None = None
    """A model of the user's own, beside the others."""
    presidio: PresidioConfig | None = None
    """presidio-analyzer, beside the others."""
    pseudonyms: PseudonymConfig = PseudonymConfig()

    @model_validator(mode="after")
    def _pseudonyms_have_a_key(self) -> Self:
        if "pseudonymise" in (self.action, *self.actions.values()) and not self.pseudonyms.key:
            raise ValueError(
                "action 'pseudonymise' needs pseudonyms.key, the name of a key in the file that "
                "PLUMBLINE_PSEUDONYM_KEYS_FILE names"
            )
        return self

    def action_for(self, pii_type: str) -> Action:
        """What is done with a type; types of a recognizer's own follow the default."""
        return self.actions.get(pii_type, self.action)  # type: ignore[call-overload,no-any-return]

    def threshold(self, pii_type: str) -> float:
        """Least confidence that counts."""
        return self.min_confidence_for.get(pii_type, self.min_confidence)  # type: ignore[call-overload,no-any-return]


class AnonymizeOptions(FrozenConfig):
    """What one request changes of the configuration; None and empty leave it as it is."""

    action: Action | None = None
    actions: Mapping[PiiType, Action] = Field(default_factory=dict)
    types: tuple[PiiType, ...] = ()
    min_confidence: float | None = Field(default=None, ge=0, le=1)
    key: str = ""
    tenant: str = ""
    scope: str = ""

    def applied_to(self, config: AnonymizeConfig) -> AnonymizeConfig:
        """The configuration with these changes.

        Raises:
            ConfigError: together they make no sense, for example pseudonyms without a key.
        """
        changes: dict[str, Any] = {"actions": {**config.actions, **self.actions}}
        if self.action is not None:
            # A default that a caller gives is meant for every type but those that it names.
            changes |= {"action": self.action, "actions": dict(self.actions)}
        if self.types:
            changes["types"] = self.types
        if self.min_confidence is not None:
            changes |= {"min_confidence": self.min_confidence, "min_confidence_for": {}}
        own = {"key": self.key, "tenant": self.tenant, "scope": self.scope}
        given = {name: value for name, value in own.items() if value}
        changes["pseudonyms"] = {**config.pseudonyms.model_dump(), **given}
        return parse_config(AnonymizeConfig, {**config.model_dump(), **changes}, where="anonymize")
