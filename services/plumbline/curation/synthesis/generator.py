"""The seam to a policy: prompts in, texts out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from plumbline.data.records import Message, user

MAX_SEED = 2**63 - 1
"""Seeds travel in signed 64-bit columns."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt; the same prompt and seed give the same text."""

    messages: tuple[Message, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Generation:
    """What came of a request."""

    text: str
    finished: bool = True
    """False where the text was cut off at its longest."""
    fitted: bool = True
    """False where the prompt left no room in the policy's context; the text is empty then."""


class Generator(Protocol):
    """Draws one text for each prompt."""

    @property
    def policy_id(self) -> str:
        """Artifact id of the policy."""
        ...

    def generate(
        self, requests: Sequence[GenerationRequest], *, temperature: float | None = None
    ) -> list[Generation]:
        """Texts in the order of the requests.

        Args:
            temperature: in place of the configured one; 0 for judgements.
        Raises:
            CancelledError: someone asked to stop the work.
            PlumblineError: the policy cannot be asked.
        """
        ...


def derive_seed(seed: int, *parts: object) -> int:
    """A seed of its own for each use: the same wherever and in whatever order it is drawn."""
    key = "\0".join(map(str, (seed, *parts))).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8]) & MAX_SEED


def ask(prompt: str, seed: int, *parts: object) -> GenerationRequest:
    """A request of one user message."""
    return GenerationRequest((user(prompt),), derive_seed(seed, *parts))
