"""Verdicts on statements of fact by rules that can be read: does a sentence say the same?

A sentence is held against a claim in five ways: how many of the claim's meaningful words it has;
whether its numbers of the same kind agree; whether one of the two denies, or says the opposite;
whether it names the same; and whether the same place holds other words. Enough words and agreement
support the claim; enough words and one disagreement refute it; everything else leaves it open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from plumbline.retriever.tools.config import KnowledgeConfig
from plumbline.retriever.tools.quantities import Quantity, quantities
from plumbline.retriever.tools.records import (
    Claim,
    ClaimCheck,
    ClaimVerdict,
    Document,
    Evidence,
    checked,
)
from plumbline.retriever.tools.wording import (
    compared_in_reverse,
    contains_name,
    content_tokens,
    exchanged,
    last_word,
    names,
    negations,
    opposites,
    says_only_one,
    without_answer,
)

_CLAUSE = re.compile(r"[^,，;；:：]+[,，;；:：]?")
_MAX_CLAUSES = 12
MAX_CHARACTERS = 600
"""Of a claim, and of what is compared with it: longer ones are no single statement, and comparing
takes time by the square of their length."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a passage says about a claim."""

    verdict: ClaimVerdict
    coverage: float
    """Share of the claim's meaningful words that the passage has."""
    why: str
    correction: str = ""


def check_statement(
    claim: Claim,
    found: Sequence[tuple[Evidence, Document]],
    queries: Sequence[str],
    config: KnowledgeConfig,
) -> ClaimCheck:
    """The verdict of the passage that speaks most clearly; support wins a tie."""
    if len(claim.text) > MAX_CHARACTERS:
        why = f"it is longer than {MAX_CHARACTERS} characters, too long for one statement"
        return checked(claim, ClaimVerdict.NOT_ENOUGH_EVIDENCE, why, queries=tuple(queries))
    comparisons = [
        (compare(claim.text, evidence.text, document.title[:MAX_CHARACTERS], config), evidence)
        for evidence, document in found
    ]
    decided = [
        pair for pair in comparisons if pair[0].verdict is not ClaimVerdict.NOT_ENOUGH_EVIDENCE
    ]
    if not decided:
        shown = tuple(evidence for _, evidence in comparisons[: config.shown_passages])
        why = (
            max((pair[0] for pair in comparisons), key=lambda c: c.coverage).why
            if comparisons
            else "no passage shares a word with it"
        )
        return checked(
            claim,
            ClaimVerdict.NOT_ENOUGH_EVIDENCE,
            why,
            queries=tuple(queries),
            evidence=shown,
        )
    best, passage = max(
        decided, key=lambda pair: (pair[0].coverage, pair[0].verdict is ClaimVerdict.SUPPORTED)
    )
    others = [evidence for _, evidence in comparisons if evidence is not passage]
    return checked(
        claim,
        best.verdict,
        best.why,
        queries=tuple(queries),
        evidence=(passage, *others)[: config.shown_passages],
        correction=best.correction,
    )


def compare(claim: str, passage: str, title: str, config: KnowledgeConfig) -> Comparison:
    """Hold one sentence of a document against a claim."""
    claim, passage = without_answer(claim), without_answer(passage)
    words = _words(claim)
    clause = _closest_clauses(words, passage)
    coverage = _coverage(words, f"{title} {clause}")
    if coverage < config.min_refute:
        why = f"the closest passage has {coverage:.0%} of its words"
        open_still = Comparison(ClaimVerdict.NOT_ENOUGH_EVIDENCE, coverage, why)
        # Another name may be all that keeps the words apart.
        named = _by_name(claim, clause, title, config)
        return named if named and named.verdict is ClaimVerdict.REFUTED else open_still
    return (
        _by_number(claim, clause, coverage)
        or _by_denial(claim, clause, coverage, config)
        or _by_name(claim, clause, title, config)
        or _by_place(claim, clause, title, coverage, config)
        or _by_words(claim, f"{title} {clause}", coverage, config)
    )


def _words(text: str) -> frozenset[str]:
    """Meaningful words without numbers, which are compared by value."""
    return frozenset(token for token in content_tokens(text) if not token.isdigit())


def _coverage(words: frozenset[str], passage: str) -> float:
    return len(words & _words(passage)) / len(words) if words else 0.0


def _closest_clauses(words: frozenset[str], passage: str) -> str:
    """The shortest run of clauses that has as many of the words as the whole sentence."""
    clauses = _CLAUSE.findall(passage)[:_MAX_CLAUSES]
    best, best_key = passage, (len(words & _words(passage)), -len(passage))
    for start in range(len(clauses)):
        for end in range(start + 1, len(clauses) + 1):
            run = "".join(clauses[start:end])
            key = (len(words & _words(run)), -len(run))
            if key > best_key:
                best, best_key = run, key
    return best


def _by_number(claim: str, clause: str, coverage: float) -> Comparison | None:
    """A comparison that numbers decide: against the claim, or open because one is missing."""
    stated = quantities(claim)
    known = quantities(clause)
    values = {quantity.value for quantity in known}
    for quantity in stated:
        if quantity.value in values:
            continue
        instead = [
            other
            for other in known
            if _same_kind(quantity, other) and other.value not in {q.value for q in stated}
        ]
        if not instead:
            why = f"the passage does not have the number {quantity.text}"
            return Comparison(ClaimVerdict.NOT_ENOUGH_EVIDENCE, coverage, why)
        right = instead[0].text
        correction = claim[: quantity.start] + right + claim[quantity.end :]
        why = f"the passage has {right} where the claim has {quantity.text}"
        return Comparison(ClaimVerdict.REFUTED, coverage, why, correction)
    return None


def _same_kind(one: Quantity, other: Quantity) -> bool:
    """Whether two numbers count the same, as far as the words after them tell."""
    left, right = set(one.unit.split()), set(other.unit.split())
    if "year" in left | right:
        return left == right
    return bool(left & right) or not (left or right)


def _by_denial(
    claim: str, clause: str, coverage: float, config: KnowledgeConfig
) -> Comparison | None:
    """A comparison that a denial, an opposite or the order of a comparison decides.

    Two of them cancel out: `A is larger than B` and `B is smaller than A` say the same.
    """
    reasons = []
    if compared_in_reverse(claim, clause):
        reasons.append("the passage compares them the other way round")
    opposed = opposites(claim, clause)
    if opposed:
        said, instead = opposed
        reasons.append(f"the passage says {instead!r} where the claim says {said!r}")
        # Of 可以 and 不得 the second has its denial in it already.
        claim, clause = claim.replace(said, " "), clause.replace(instead, " ")
    if (negations(claim) - negations(clause)) % 2:
        reasons.append("one of the claim and the passage denies the other")
        if coverage < config.min_refute_strictly:
            # What is denied may be something else in the sentence.
            return Comparison(ClaimVerdict.NOT_ENOUGH_EVIDENCE, coverage, reasons[-1])
    if len(reasons) % 2:
        return Comparison(ClaimVerdict.REFUTED, coverage, reasons[0])
    return None


def _by_name(claim: str, clause: str, title: str, config: KnowledgeConfig) -> Comparison | None:
    """A comparison that names decide: the passage lacks one of the claim's.

    Naming another refutes where there is only one: two people may have founded a company.
    """
    place = f"{title} {clause}"
    missing = [name for name in names(claim) if not contains_name(place, name)]
    if not missing:
        return None
    without = claim
    for name in missing:
        without = without.replace(name, " ")
    rest = _words(without)
    coverage = _coverage(rest, place)
    others = [name for name in names(clause) if not contains_name(claim, name)]
    unique = says_only_one(claim) and says_only_one(clause)
    if others and unique and len(rest) > 1 and coverage >= config.min_refute_strictly:
        why = f"the passage names {others[0]} where the claim names {missing[0]}"
        correction = claim.replace(missing[0], others[0]) if len(others) == 1 else ""
        return Comparison(ClaimVerdict.REFUTED, coverage, why, correction)
    why = f"the passage does not name {missing[0]}"
    return Comparison(ClaimVerdict.NOT_ENOUGH_EVIDENCE, coverage, why)


def _by_place(
    claim: str, clause: str, title: str, coverage: float, config: KnowledgeConfig
) -> Comparison | None:
    """A comparison that one place decides, where both say the same but for other words there.

    Where only one thing can stand there (`the largest … is`), the claim is refuted. Elsewhere the
    words may mean the same, and the claim stays open.
    """
    # Numbers have been compared by value.
    exchange = exchanged(_without_numbers(claim), _without_numbers(f"{clause} {title}"))
    if exchange is None:
        return None
    said, instead = exchange
    why = f"the passage has {instead!r} where the claim has {said!r}"
    unique = says_only_one(claim) and says_only_one(clause)
    decided = unique and coverage >= config.min_refute
    verdict = ClaimVerdict.REFUTED if decided else ClaimVerdict.NOT_ENOUGH_EVIDENCE
    return Comparison(verdict, coverage, why)


def _without_numbers(text: str) -> str:
    for quantity in reversed(quantities(text)):
        text = text[: quantity.start] + " " + text[quantity.end :]
    return text


def _by_words(claim: str, place: str, coverage: float, config: KnowledgeConfig) -> Comparison:
    last = last_word(claim)
    if coverage < config.min_support:
        why = f"the closest passage has {coverage:.0%} of its words"
    elif not last.isdigit() and last not in _words(place):
        why = f"the closest passage does not have {last!r}, with which the claim ends"
    else:
        why = f"a passage has {coverage:.0%} of its words and agrees in numbers and names"
        return Comparison(ClaimVerdict.SUPPORTED, coverage, why)
    return Comparison(ClaimVerdict.NOT_ENOUGH_EVIDENCE, coverage, why)
