"""From a request to what is to be said to the policy: retrieve, resolve, compose."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Message, Role, ValueKind, ValueSpec
from plumbline.retriever.checking.language import guess_language
from plumbline.retriever.composing.compose import Composition, compose
from plumbline.retriever.composing.config import ComposingConfig
from plumbline.retriever.composing.governing import (
    Found,
    governs,
    usual_min_cosine,
)
from plumbline.retriever.composing.system_messages import (
    NONE,
    SYSTEM_MESSAGE_CATEGORY,
    SystemMessage,
    resolve_system_message,
)
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.respond.classify import Risk, classify
from plumbline.retriever.respond.decisions import (
    Citation,
    ConflictReport,
    ReplyRequest,
    cite,
)
from plumbline.retriever.search.filters import ValueQuery
from plumbline.retriever.tools.records import Document

_SEARCHED = 1000
"""Values that search ranks before it is told which of them govern."""
_DEFAULT_RESPONSE_SHARE = 4
"""A request that sets no bound on the response leaves it this part of the context at most."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A value that governs without having been found by search."""

    value: ValueSpec
    dense_score: float = 0.0


@dataclass(frozen=True, slots=True)
class FoundValues:
    """What a knowledge base holds for a request."""

    artifact: str
    where: ValueQuery
    """The request's filter with its day written out."""
    ranked: tuple[ValueSpec, ...]
    """Values in force, best match first, whether they govern or not."""
    governing: tuple[Found, ...]
    system_message: SystemMessage
    risk: Risk
    language: str
    """The request's, as far as it can be told."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request, ready to be sampled."""

    request: ReplyRequest
    found: FoundValues
    composition: Composition


def last_user_message(messages: Sequence[Message]) -> str:
    """What retrieval searches for.

    Raises:
        InvalidInputError: there is no message, or the last one is not the user's.
    """
    if not messages or messages[-1].role is not Role.USER:
        last = messages[-1].role if messages else "none"
        raise InvalidInputError(
            f"the prompt's last message is from {last}; accepted: a prompt that ends with a user "
            "message",
            field="prompt.messages",
        )
    return messages[-1].content


def find(engine: RetrieverEngine, config: ComposingConfig, request: ReplyRequest) -> FoundValues:
    """The values that govern a request and its system message, all of one state.

    Raises:
        InvalidInputError, NotFoundError: the request names what is not there, or not accepted.
    """
    query = last_user_message(request.messages)
    where = dataclasses.replace(request.where, as_of=request.where.day.isoformat())
    hits, artifact = engine.retrieve(request.knowledge_base, query, where, k=_SEARCHED)
    min_cosine = config.min_cosine
    if min_cosine is None:
        min_cosine = usual_min_cosine(engine.bases.load(artifact).embedder.model)
    return FoundValues(
        artifact=artifact,
        where=where,
        ranked=tuple(hit.value for hit in hits),
        governing=_governing(hits, _standing(engine, artifact, where), query, min_cosine),
        system_message=_system_message(engine, artifact, where, config, request.system_message),
        risk=classify(query),
        language=guess_language(query).tag,
    )


def _governing(
    hits: Sequence[Found], standing: Sequence[ValueSpec], query: str, min_cosine: float
) -> tuple[Found, ...]:
    """What governs a query, best match first; then standing values that search has missed."""
    known = {hit.value.id for hit in hits}
    missed = (Standing(value) for value in standing if value.id not in known)
    return tuple(one for one in (*hits, *missed) if governs(one, query, min_cosine=min_cosine))


def _standing(engine: RetrieverEngine, artifact: str, where: ValueQuery) -> tuple[ValueSpec, ...]:
    """Values of the kinds that may hold for every request; laws, the most numerous, do not.

    The kinds and categories of a request narrow what is searched for. Fixed values hold all the
    same: nobody can ask for a reply without them.
    """
    fixed, _ = engine.values_in_force(
        artifact, dataclasses.replace(where, kinds=(ValueKind.FIXED.value,), categories=())
    )
    if where.kinds and ValueKind.CUSTOMISABLE not in where.kinds:
        return fixed
    chosen, _ = engine.values_in_force(
        artifact, dataclasses.replace(where, kinds=(ValueKind.CUSTOMISABLE.value,))
    )
    return (*fixed, *chosen)


def _system_message(
    engine: RetrieverEngine, artifact: str, where: ValueQuery, config: ComposingConfig, name: str
) -> SystemMessage:
    in_force: tuple[ValueSpec, ...] = ()
    if (name or config.system_message) != NONE:
        # What a request searches for does not narrow what it is told.
        only = dataclasses.replace(where, categories=(SYSTEM_MESSAGE_CATEGORY,), kinds=())
        in_force, _ = engine.values_in_force(artifact, only)
    return resolve_system_message(name, in_force, default=config.system_message)


def composed(
    found: FoundValues, config: ComposingConfig, request: ReplyRequest, *, context_length: int
) -> Prepared:
    """The prompt within its budget.

    Args:
        context_length: prompt and response together, in tokens; 0 where nobody knows.
    """
    budget = config.budget_tokens or context_length
    reserved = int(request.options.get("max_response_tokens", 0)) or min(
        config.reserved_response_tokens, budget // _DEFAULT_RESPONSE_SHARE
    )
    composition = compose(
        request.messages,
        found.governing,
        found.system_message,
        budget_tokens=budget,
        config=config.model_copy(update={"reserved_response_tokens": reserved}),
    )
    return Prepared(request, found, composition)


def evidence(found: FoundValues, *, max_documents: int) -> tuple[str, tuple[Document, ...]]:
    """What claims of a reply are held against.

    Returns:
        The knowledge base, whose values of today that apply to everybody are evidence; or, for
        another filter, the documents themselves, those nearest to the request.
    """
    if found.where == ValueQuery(as_of=ValueQuery().day.isoformat()):
        return found.artifact, ()
    nearest = found.ranked[:max_documents]
    return "", tuple(Document(value.id, value.text, value.title) for value in nearest)


def cite_system_message(message: SystemMessage, checked: Citation | None) -> Citation | None:
    """The citation of the system message in use; its value_id is empty where it is built in."""
    if not message.text:
        return None
    verdict = {"verdict": checked.verdict, "why": checked.why} if checked else {}
    return Citation(
        value_id=message.value_id,
        version=message.version,
        content_digest=message.content_digest,
        title=message.name,
        **verdict,
    )


def conflicts_of(composition: Composition) -> tuple[ConflictReport, ...]:
    """The conflicts that composing has decided."""
    return tuple(
        ConflictReport(cite(one.kept), cite(one.dropped), one.decided_by, one.why)
        for one in composition.conflicts
    )


def left_out_of(composition: Composition) -> tuple[Citation, ...]:
    """Values that hold but are not in the prompt."""
    reasons = composition.why_left_out
    return tuple(cite(value, why=reasons.get(value.id, "")) for value in composition.left_out)
