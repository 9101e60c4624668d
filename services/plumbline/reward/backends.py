"""Where scores are computed: in this process, or by Triton Inference Server.

The engine tokenises and combines; a backend takes token ids and gives one score for each text.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from plumbline.core.settings import Settings
from plumbline.reward.config import TritonClientConfig


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A prompt with its response, as a reward model reads them."""

    token_ids: Sequence[int]
    response_length: int
    """How many of the last tokens are the response."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A reward model by id, and the directory that holds it."""

    id: str
    path: Path


class ScoringBackend(Protocol):
    """Scores token ids. Safe to use from many threads."""

    def prepare(self, model: ModelFiles) -> None:
        """Make a model ready, or raise why it cannot be; waits for it.

        Raises:
            CheckpointError: its directory is incomplete or damaged.
            FailedPreconditionError: the backend cannot serve it.
            UnavailableError: the backend cannot be reached.
        """
        ...

    def submit(
        self, model: ModelFiles, texts: Sequence[EncodedText], *, deadline: float | None = None
    ) -> Future[list[float]]:
        """Begin to score; the future's result has one score for each text, in order.

        Cancelling the future takes what has not begun out of the queue.

        Args:
            deadline: on the clock of `time.monotonic`; what has not begun then fails.
        Raises:
            ResourceExhaustedError: the queue is full. Other errors come from the future.
        """
        ...

    def close(self) -> None:
        """Let go of threads and connections; futures in progress end first or fail."""
        ...


def configured_backend(settings: Settings) -> ScoringBackend | None:
    """What the environment chooses; None for this process, which needs nothing set up."""
    if settings.reward_backend == "in_process":
        return None
    from plumbline.reward.triton_backend import TritonBackend

    config = TritonClientConfig(
        target=settings.triton_target or "", shared_memory=settings.triton_shared_memory
    )
    return TritonBackend(config)
