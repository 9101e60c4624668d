"""Two search queries for a claim: all that it says, and what it is about."""

from __future__ import annotations

from collections.abc import Iterable

from plumbline.retriever.search.tokens import tokenise
from plumbline.retriever.tools.quantities import quantities
from plumbline.retriever.tools.wording import HAN_STOP, STOP_WORDS, names

_MAX_CHARACTERS = 200


def queries_for(claim: str) -> tuple[str, ...]:
    """One or two queries, without repetition.

    The first holds every word of the claim that carries meaning. The second leaves out its
    numbers, which are what a wrong claim gets wrong, and puts names first.
    """
    full = " ".join(_unique(_words(claim)))[:_MAX_CHARACTERS]
    bare = claim
    for quantity in reversed(quantities(claim)):
        bare = bare[: quantity.start] + " " + bare[quantity.end :]
    about = " ".join(_unique([*names(claim), *_words(bare)]))[:_MAX_CHARACTERS]
    return tuple(_unique(query for query in (full, about) if query.strip()))


def _words(text: str) -> list[str]:
    """Words in order; a run of Han characters stays together, cut at function words."""
    words: list[str] = []
    run = ""
    for token in tokenise(text):
        han = "\u3040" <= token[0] <= "\u9fff"
        if han and len(token) > 1:
            # A bigram repeats the two characters around it.
            continue
        if han and token not in HAN_STOP:
            run += token
            continue
        if run:
            words.append(run)
            run = ""
        if not han and token not in STOP_WORDS:
            words.append(token)
    return [*words, run] if run else words


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
