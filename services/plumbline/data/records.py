"""Record types that datasets hold, and their Arrow schemas.

Every type converts to a plain row (`to_row`) and back (`from_row`); rows are what Parquet files
and JSON lines hold. Ids are stable content digests where the source has none, so that the same
input gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Self

import pyarrow as pa

from plumbline.core.errors import InvalidInputError

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_METADATA = pa.map_(pa.string(), pa.string())

COUNTED_TURNS, LAST_TURN = "plumbline.counted_turns", "last"
"""Metadata of a conversation of which training counts the last assistant turn alone."""


class Role(StrEnum):
    """Who speaks in a conversation."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Grade(StrEnum):
    """How much better the chosen response is. Source: Llama 2, arXiv:2307.09288, section 3.2.1."""

    SIGNIFICANTLY_BETTER = "significantly_better"
    BETTER = "better"
    SLIGHTLY_BETTER = "slightly_better"
    NEGLIGIBLY_BETTER = "negligibly_better"


class ValueKind(StrEnum):
    """How a value varies: the same for all, by tenant, or over time."""

    FIXED = "fixed"
    CUSTOMISABLE = "customisable"
    CHANGING = "changing"


def content_id(*parts: Any) -> str:
    """Stable 16-hex-digit id of JSON-compatible parts."""
    encoded = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(encoded.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def to_row(self) -> dict[str, str]:
        return {"role": self.role.value, "content": self.content}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        try:
            role = Role(row["role"])
        except ValueError:
            raise InvalidInputError(
                f"message role {row['role']!r} is unknown; accepted: {', '.join(Role)}",
                field="role",
            ) from None
        return cls(role, row["content"])


def _messages_to_rows(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [message.to_row() for message in messages]


def _messages_from_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message.from_row(row) for row in rows)


def user(content: str) -> Message:
    return Message(Role.USER, content)


def assistant(content: str) -> Message:
    return Message(Role.ASSISTANT, content)


def system(content: str) -> Message:
    return Message(Role.SYSTEM, content)


class Record:
    """Row conversion shared by the record types; fields convert by their declared type."""

    __slots__ = ()
    schema: ClassVar[pa.Schema]

    def to_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, spec.name)
            if value and isinstance(value, tuple) and isinstance(value[0], Message):
                value = _messages_to_rows(value)
            elif isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            elif isinstance(value, StrEnum):
                value = value.value
            row[spec.name] = value
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        known = _field_names(cls)  # type: ignore[arg-type]  # mypy asks instances for a hash
        unknown = sorted(row.keys() - known)
        if unknown:
            raise InvalidInputError(
                f"{cls.__name__} has no field {unknown[0]!r}; accepted: {', '.join(sorted(known))}",
                field=unknown[0],
            )
        return cls(**{name: cls._decode(name, value) for name, value in row.items()})

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        decode = _decoder(cls, name)  # type: ignore[arg-type]
        return value if value is None or decode is None else decode(value)


@functools.cache
def _field_names(record_type: type[Record]) -> frozenset[str]:
    return frozenset(spec.name for spec in dataclasses.fields(record_type))  # type: ignore[arg-type]


@functools.cache
def _decoder(record_type: type[Record], name: str) -> Callable[[Any], Any] | None:
    """What turns a column's value into the field's; None where they are the same."""
    kind = record_type.schema.field(name).type
    if kind == _MESSAGES:
        return _messages_from_rows
    if pa.types.is_map(kind):
        return dict
    if pa.types.is_list(kind):
        return tuple
    return Grade if name == "grade" else None


@dataclass(frozen=True, slots=True)
class Document(Record):
    """A piece of raw text."""

    id: str
    text: str
    source: str = ""
    language: str = "und"
    """BCP 47 primary tag; `und` when unknown."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.string()),
            ("source", pa.string()),
            ("language", pa.string()),
            ("metadata", _METADATA),
        ]
    )


@dataclass(frozen=True, slots=True)
class Conversation(Record):
    """A demonstration; training counts the assistant turns."""

    id: str
    messages: tuple[Message, ...]
    source: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("messages", _MESSAGES),
            ("source", pa.string()),
            ("metadata", _METADATA),
        ]
    )

    @property
    def last_turn_only(self) -> bool:
        """Whether training counts the last assistant turn alone, as Ghost Attention needs it."""
        return self.metadata.get(COUNTED_TURNS) == LAST_TURN


@dataclass(frozen=True, slots=True)
class Prompt(Record):
    """What a policy is asked; `kind` and `risk_category` say how the reply is judged."""

    id: str
    messages: tuple[Message, ...]
    kind: str = ""
    """For example helpful, harmful, borderline, system_rule."""
    risk_category: str = ""
    split: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("messages", _MESSAGES),
            ("kind", pa.string()),
            ("risk_category", pa.string()),
            ("split", pa.string()),
            ("metadata", _METADATA),
        ]
    )


@dataclass(frozen=True, slots=True)
class Preference(Record):
    """Two responses to one prompt, the chosen one preferred."""

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    grade: Grade | None = None
    head: str = ""
    """Which reward model it teaches: helpfulness, safety, or empty for either."""
    agreement: float | None = None
    """Share of annotators who chose `chosen`, 0.5 to 1; None when there was one annotator."""
    chosen_is_safe: bool | None = None
    rejected_is_safe: bool | None = None
    source: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("prompt", _MESSAGES),
            ("chosen", pa.string()),
            ("rejected", pa.string()),
            ("grade", pa.string()),
            ("head", pa.string()),
            ("agreement", pa.float64()),
            ("chosen_is_safe", pa.bool_()),
            ("rejected_is_safe", pa.bool_()),
            ("source", pa.string()),
            ("metadata", _METADATA),
        ]
    )


@dataclass(frozen=True, slots=True)
class LabelledResponse(Record):
    """One response with a desirable / undesirable label (KTO)."""

    id: str
    prompt: tuple[Message, ...]
    response: str
    desirable: bool
    source: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("prompt", _MESSAGES),
            ("response", pa.string()),
            ("desirable", pa.bool_()),
            ("source", pa.string()),
            ("metadata", _METADATA),
        ]
    )


@dataclass(frozen=True, slots=True)
class ScoredResponses(Record):
    """Several responses to one prompt, each with a score; higher is better."""

    id: str
    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    scores: tuple[float, ...]
    source: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("prompt", _MESSAGES),
            ("responses", pa.list_(pa.string())),
            ("scores", pa.list_(pa.float64())),
            ("source", pa.string()),
            ("metadata", _METADATA),
        ]
    )


@dataclass(frozen=True, slots=True)
class Rollout(Record):
    """One sampled response, with what is needed to learn from it."""

    id: str
    prompt_id: str
    prompt: tuple[Message, ...]
    response: str
    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    """Includes the end-of-sequence token when finish_reason is `stop`."""
    logprobs: tuple[float, ...]
    """Nats, one per response token, of the distribution that was sampled from."""
    finish_reason: str
    """`stop` (end of sequence) or `length`."""
    temperature: float
    seed: int
    policy_id: str
    scores: Mapping[str, float] = field(default_factory=dict)
    """Score by head."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    untempered_logprobs: tuple[float, ...] = ()
    """Nats, one per response token, under the policy itself: temperature 1, nothing cut. Empty
    where the sampler does not tell them, and in files from before there were any."""

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("prompt_id", pa.string()),
            ("prompt", _MESSAGES),
            ("response", pa.string()),
            ("prompt_token_ids", pa.list_(pa.int32())),
            ("response_token_ids", pa.list_(pa.int32())),
            ("logprobs", pa.list_(pa.float32())),
            ("finish_reason", pa.string()),
            ("temperature", pa.float64()),
            ("seed", pa.int64()),
            ("policy_id", pa.string()),
            ("scores", pa.map_(pa.string(), pa.float64())),
            ("metadata", _METADATA),
            ("untempered_logprobs", pa.list_(pa.float32())),
        ]
    )

    @classmethod
    def _decode(cls, name: str, value: Any) -> Any:
        if name == "scores":
            return dict(value or {})
        # super() without arguments breaks in slotted dataclasses before Python 3.14.
        return Record._decode.__func__(cls, name, value)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class ValueSpec(Record):
    """A written value: a principle, a house rule, a law's article, a tenant's wish."""

    id: str
    text: str
    kind: str = ValueKind.CHANGING.value
    """fixed, customisable or changing."""
    title: str = ""
    category: str = ""
    """Risk category or subject."""
    triggers: tuple[str, ...] = ()
    """Phrases of the requests that the rule governs; retrieval matches them beside the text."""
    priority: int = 0
    """Higher wins a conflict."""
    jurisdiction: str = ""
    tenant: str = ""
    language: str = "en"
    effective_from: str = ""
    """ISO date, inclusive; empty means always was."""
    effective_to: str = ""
    """ISO date, exclusive; empty means still is."""
    version: int = 1
    audience: str = ""
    """Whom the requests come from, for example minors; empty applies to all."""
    supersedes: tuple[str, ...] = ()
    """Ids of values that are out of force from this one's first day on."""
    source: str = ""
    """The document that it was taken from; a statute's articles share one."""
    checkers: tuple[str, ...] = ()
    """How a reply is checked, `NAME: ARGUMENT` each, for example `max_words: 80`."""

    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.string()),
            ("kind", pa.string()),
            ("title", pa.string()),
            ("category", pa.string()),
            ("triggers", pa.list_(pa.string())),
            ("priority", pa.int64()),
            ("jurisdiction", pa.string()),
            ("tenant", pa.string()),
            ("language", pa.string()),
            ("effective_from", pa.string()),
            ("effective_to", pa.string()),
            ("version", pa.int64()),
            ("audience", pa.string()),
            ("supersedes", pa.list_(pa.string())),
            ("source", pa.string()),
            ("checkers", pa.list_(pa.string())),
        ]
    )
