"""Configuration of the composed prompt."""

from __future__ import annotations

import string

from pydantic import Field, field_validator

from plumbline.core.validation import FrozenConfig

_PLACEHOLDERS = {"text", "title", "id"}


class ComposingConfig(FrozenConfig):
    """From the values that govern a request to the prompt that states them."""

    min_cosine: float | None = Field(None, ge=-1, le=1)
    """A value without triggers governs a query from this similarity on; None takes what suits the
    knowledge base's embedder (see `governing.usual_min_cosine`)."""
    max_rules: int = Field(20, ge=1, le=1000)
    """Most rules in one prompt; values that always govern come on top."""
    rule_template: str = "Rule: {text}"
    """How a governing value is written: {text}, {title} and {id} are accepted."""
    system_message: str = "none"
    """Named system message of requests that name none; `none` adds nothing."""
    budget_tokens: int = Field(0, ge=0)
    """Tokens of prompt and response together; 0 sets no limit."""
    reserved_response_tokens: int = Field(256, ge=0)
    """Kept free of the budget for the response."""
    message_tokens: int = Field(8, ge=0)
    """What a message takes beside its text."""
    letters_per_token: float = Field(3.0, gt=0)
    """Characters of alphabetic scripts in one token; low, so that estimates err upwards."""
    han_per_token: float = Field(0.75, gt=0)
    """Han, kana and Hangul characters in one token."""
    control_tokens: tuple[str, ...] = ()
    """Special tokens of the policies in use that no rule may contain, beside the usual ones."""
    withhold_overrides: bool = True
    """Leave out values whose text speaks to the model about its instructions, or holds control
    tokens or encoded text; False writes them in with those made harmless."""

    @field_validator("rule_template")
    @classmethod
    def _accepted_placeholders(cls, template: str) -> str:
        fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
        if "text" not in fields or fields - _PLACEHOLDERS or "\n" in template:
            raise ValueError("accepted is one line with {text}, and {title} or {id} if wanted")
        return template

    @field_validator("control_tokens")
    @classmethod
    def _long_enough(cls, tokens: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(token.strip()) < 2 for token in tokens):
            raise ValueError("a control token has at least 2 characters")
        return tokens
