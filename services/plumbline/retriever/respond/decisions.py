"""What a request for a reply is, and what was decided about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from plumbline.data.records import Message, ValueSpec
from plumbline.retriever.checking.checkers import Verdict
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.tools.records import ClaimCheck, ClaimKind
from plumbline.retriever.values.validation import content_digest


class Outcome(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    REVISED = "revised"
    """Answered after the first reply broke a rule."""
    REFUSED = "refused"
    """No reply kept the rules: the template of the risk category was given."""
    FAILED_CLOSED = "failed_closed"
    """A check could not be made in time, so the reply was withheld."""


@dataclass(frozen=True, slots=True)
class ReplyRequest:
    """What is asked for."""

    knowledge_base: str
    messages: tuple[Message, ...]
    where: ValueQuery = field(default_factory=ValueQuery)
    policy: str = ""
    """Empty takes the sampler's default."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Sampling parameters but for the seed, as the sampler's contract spells them in JSON."""
    seed: int = 0
    system_message: str = ""
    """A name; empty takes the configured one, `none` uses none."""
    best_of: int = 1
    max_revisions: int | None = None
    """None takes the configured number."""
    by_sentence: bool = False
    """Send each sentence once it has been checked, instead of the whole reply at the end."""
    claim_kinds: tuple[ClaimKind, ...] = ()
    """Tools that check the reply's claims."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A value, by what identifies its text, and how a reply fared against it."""

    value_id: str
    version: int
    content_digest: str
    title: str = ""
    verdict: str = Verdict.NOT_CHECKABLE.value
    why: str = ""


@dataclass(frozen=True, slots=True)
class ConflictReport:
    """Two values that ask for what cannot be had together."""

    kept: Citation
    dropped: Citation
    decided_by: str
    why: str


@dataclass(frozen=True, slots=True)
class Revision:
    """A reply that was not given."""

    reply: str
    broken: tuple[Citation, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """How a reply came about: everything that its last message and its record say."""

    outcome: Outcome
    why: str = ""
    finish_reason: str = "stop"
    """`stop` or `length`, of the reply that was given."""
    policy_id: str = ""
    knowledge_base_artifact: str = ""
    prompt_tokens: int = 0
    """Of all attempts together, as response_tokens."""
    response_tokens: int = 0
    risk_category: str = ""
    citations: tuple[Citation, ...] = ()
    """Values that the reply was made to follow, checked against the text that was given."""
    conflicts: tuple[ConflictReport, ...] = ()
    left_out: tuple[Citation, ...] = ()
    """Values that apply but had no room in the prompt."""
    revisions: tuple[Revision, ...] = ()
    system_message: Citation | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """Logits of the reward models by head, of the reply that was given."""
    reward_model_ids: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[ClaimCheck, ...] = ()
    reply_id: str = ""
    """Of the record; empty where none is kept."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a reply on its way to the caller."""

    delta: str = ""
    restart: bool = False
    """What was sent before is withdrawn; the reply begins anew with this piece."""
    decision: Decision | None = None
    """Of the last piece."""


def cite(value: ValueSpec, verdict: Verdict = Verdict.NOT_CHECKABLE, why: str = "") -> Citation:
    """The citation of a value."""
    return Citation(
        value_id=value.id,
        version=value.version,
        content_digest=content_digest(value),
        title=value.title,
        verdict=verdict.value,
        why=why,
    )
