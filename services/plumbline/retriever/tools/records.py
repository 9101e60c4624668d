"""What checking a text is made of: claims, the evidence for them, and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ClaimKind(StrEnum):
    """How a claim is checked."""

    KNOWLEDGE = "knowledge"
    """A statement of fact, against documents."""
    ARITHMETIC = "arithmetic"
    """A calculation, by evaluating it."""
    CODE = "code"
    """A program, by running it in a sandbox."""
    CITATION = "citation"
    """A reference to a document, by looking it up."""


class ClaimVerdict(StrEnum):
    SUPPORTED = "supported"
    REFUTED = "refuted"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"
    """Nothing was found for or against the claim."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that claims are held against."""

    id: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage that bears on a claim."""

    document_id: str
    text: str
    score: float
    """Rank score of the search that found it; comparable within one claim only."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that a text says and that can be true or false by itself."""

    kind: ClaimKind
    text: str
    start: int = 0
    """Offsets in the text, in characters; both 0 where the claim has no place there."""
    end: int = 0


@dataclass(frozen=True, slots=True)
class ClaimCheck:
    """A claim, what was looked up for it, and the verdict."""

    kind: ClaimKind
    claim: str
    verdict: ClaimVerdict
    why: str
    start: int = 0
    end: int = 0
    queries: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    correction: str = ""
    """What the claim should say, where the tool knows."""


def checked(
    claim: Claim,
    verdict: ClaimVerdict,
    why: str,
    *,
    queries: tuple[str, ...] = (),
    evidence: tuple[Evidence, ...] = (),
    correction: str = "",
) -> ClaimCheck:
    """The check of a claim, at the claim's place."""
    return ClaimCheck(
        kind=claim.kind,
        claim=claim.text,
        verdict=verdict,
        why=why,
        start=claim.start,
        end=claim.end,
        queries=queries,
        evidence=evidence,
        correction=correction,
    )
