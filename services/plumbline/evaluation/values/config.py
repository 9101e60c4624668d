"""Configuration of stage `evaluation.check_values`."""

from __future__ import annotations

from pydantic import Field

from plumbline.core.validation import FrozenConfig


class CheckValuesConfig(FrozenConfig):
    """Stage `evaluation.check_values`: many rules, asked before and after some are revoked.

    Imports the rules into a knowledge base and asks through RetrieverService. Publishes, with the
    suffix `.NAME` where a name is given:

    - `values.followed`: replies that end as the rule that governs them asks.
    - `values.unrelated_changed`: replies that no rule governs, but differ from the policy's own.
    - `values.revoked_effect`: replies in which a rule still shows after it was revoked.
    - `values.conflicts_right`: conflicts that were reported as they stand, won by the right rule.
    - `values.citations_right`: replies that cite exactly the rules that govern them.
    - `values.restored`: replies that are as they were first, once the tag is moved back.
    """

    name: str = Field("", pattern=r"^[a-z0-9_]{0,32}$")
    """Tells the checks of one run apart."""
    knowledge_base: str = "value-updates"
    """Replaced by the rules; two checks at the same time need two."""
    max_revisions: int | None = Field(None, ge=0)
    """Attempts to mend a reply that breaks a rule: 0 measures the policy alone, None takes the
    service's own."""
    max_response_tokens: int = Field(64, ge=1)
    requests_at_once: int = Field(4, ge=1, le=64)
    samples: int = Field(12, ge=0)
    """Replies that the report shows."""
