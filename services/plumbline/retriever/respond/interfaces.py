"""What the loop asks of the sampler, the reward service and the machine it runs on.

`remote` answers over the platform's services; another program may answer by other means.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from plumbline.data.records import Message
from plumbline.retriever.tools.records import ClaimCheck, ClaimKind, Document

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Delta:
    """A part of a reply as it is drawn."""

    text: str
    response_tokens: int = 0
    """Of this part."""
    finish_reason: str = ""
    """`stop` or `length` on the last delta, else empty; prompt_tokens likewise."""
    policy_id: str = ""
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Draw:
    """One whole reply."""

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Draws:
    """Several replies to one prompt, in the order of their seeds."""

    replies: tuple[Draw, ...]
    policy_id: str
    prompt_tokens: int
    response_tokens: int


@dataclass(frozen=True, slots=True)
class Scores:
    """Logits by head for each reply, and the ids of the reward models by head."""

    by_reply: tuple[Mapping[str, float], ...]
    reward_model_ids: Mapping[str, str] = field(default_factory=dict)


class Sampler(Protocol):
    """Draws replies. Failures are errors of the platform's tree."""

    def stream(
        self, policy: str, messages: Sequence[Message], options: Mapping[str, Any], seed: int
    ) -> AsyncGenerator[Delta, None]:
        """One reply as it is drawn; closing the generator ends the drawing."""

    async def sample(
        self,
        policy: str,
        messages: Sequence[Message],
        options: Mapping[str, Any],
        seed: int,
        *,
        k: int,
    ) -> Draws:
        """k whole replies; the first has the prompt's own seed."""

    async def context_length(self, policy: str) -> int:
        """Prompt and response together, in tokens; 0 where nobody knows."""


class Scorer(Protocol):
    """Scores replies with reward models."""

    async def score(
        self,
        messages: Sequence[Message],
        replies: Sequence[str],
        *,
        heads: Sequence[str],
        risky: bool,
    ) -> Scores:
        """Logits of each reply under each head.

        Args:
            risky: the request is known to be risky: the combined head scores safety.
        """


class ClaimChecker(Protocol):
    """Checks the claims of a text with tools."""

    def check(
        self,
        text: str,
        *,
        prompt: str = "",
        kinds: Sequence[ClaimKind] = (),
        documents: Sequence[Document] = (),
        corpus: str = "",
        deadline: float | None = None,
    ) -> tuple[ClaimCheck, ...]:
        """A verdict on each claim, in order of their place.

        Args:
            kinds: empty means all.
            corpus: knowledge base that holds evidence.
            deadline: by `time.monotonic`.
        """


class InThread(Protocol):
    """Runs blocking work off the event loop, as `core.rpc.run_blocking` does."""

    def __call__(
        self, function: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> Awaitable[T]: ...
