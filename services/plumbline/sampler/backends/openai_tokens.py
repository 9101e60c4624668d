"""What an endpoint's logprobs tell of the tokens of a response."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from plumbline.core.errors import FailedPreconditionError
from plumbline.sampler.interface import SamplingOptions, TokenDetail
from plumbline.sampler.requests import DrawnToken

_TOKEN_AS_ID = re.compile(r"token_id:(\d+)")
"""How vLLM spells tokens under return_tokens_as_token_ids."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an endpoint tells of the tokens of a response, or of a piece of one."""

    drawn: tuple[DrawnToken, ...] = ()
    """None unless their ids and the logprobs that they were drawn with are told."""
    details: tuple[TokenDetail, ...] = ()
    """One for each of them."""


def tokens_of(choice: Any, finish_reason: str | None, *, own_distribution: bool) -> Tokens:
    """The tokens of a choice of a chat or a text completion, whole or streamed.

    Args:
        finish_reason: of the last token.
        own_distribution: whether logprobs of the policy are those that were sampled from; else
            only `sampling_logprob`, which our own front sends, tells them.
    """
    entries = list(_entries(choice.logprobs))
    drawn: list[DrawnToken] = []
    for entry in entries:
        logprob = entry.logprob if own_distribution else entry.sampling_logprob
        if entry.token_id is None or logprob is None:
            return Tokens()
        reason = finish_reason if len(drawn) + 1 == len(entries) else None
        drawn.append(DrawnToken(entry.token_id, logprob, entry.logprob, reason))
    return Tokens(tuple(drawn), tuple(_detail(entry) for entry in entries))


def details_of(
    tokens: Tokens, options: SamplingOptions, text: str | None
) -> tuple[TokenDetail, ...]:
    """Raises FailedPreconditionError where they were asked for and the endpoint does not tell."""
    if options.top_logprobs is None:
        return ()
    if text and not tokens.drawn:
        raise FailedPreconditionError(
            "the endpoint does not tell the ids of tokens, or the logprobs that they were drawn "
            "with; leave top_logprobs out, or sample at temperature 1 with nothing cut",
            reason="NO_TOKEN_DETAILS",
        )
    return tokens.details


@dataclass(frozen=True, slots=True)
class _Entry:
    """One token of an endpoint's logprobs."""

    token_id: int | None
    text: bytes
    logprob: float
    """Of the policy."""
    sampling_logprob: float | None
    alternatives: tuple[_Entry, ...]


def _entries(logprobs: Any) -> Iterator[_Entry]:
    if logprobs is None:
        return
    # Chat has `content`; our own front sends it with text completions too.
    for token in getattr(logprobs, "content", None) or ():
        yield _entry(token)
    if getattr(logprobs, "content", None) is None:
        told = zip(logprobs.tokens or (), logprobs.token_logprobs or (), strict=True)
        for token, logprob in told:
            yield _Entry(_spelled_id(token), token.encode(), logprob, None, ())


def _entry(token: Any) -> _Entry:
    if isinstance(token, Mapping):  # within what the client does not know
        token = SimpleNamespace(**token)
    told = getattr(token, "token_id", None)
    return _Entry(
        _spelled_id(token.token) if told is None else told,
        bytes(token.bytes) if token.bytes is not None else token.token.encode(),
        token.logprob,
        getattr(token, "sampling_logprob", None),
        tuple(_entry(other) for other in getattr(token, "top_logprobs", None) or ()),
    )


def _detail(entry: _Entry) -> TokenDetail:
    """A detail names tokens by id; where none is told, an alternative is left out."""
    named = tuple(_detail(other) for other in entry.alternatives if other.token_id is not None)
    return TokenDetail(entry.token_id or 0, entry.text, entry.logprob, named)


def _spelled_id(token: str) -> int | None:
    spelled = _TOKEN_AS_ID.fullmatch(token)
    return int(spelled[1]) if spelled else None
