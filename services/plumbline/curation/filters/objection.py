"""What a rule says of a document that it drops."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a rule drops a document."""

    code: str
    """Stable reason code, for programs; for example TOO_SHORT."""
    detail: str
    """What the rule saw, in words and figures."""
