"""Prompts with the responses that follow them, the unit of every training forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """Responses that share a prompt, as token ids; the prompt's ids are computed once for all."""

    prompt: Sequence[int]
    responses: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """Tokens that a forward pass has to compute."""
        return len(self.prompt) + sum(map(len, self.responses))
