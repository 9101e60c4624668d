"""Configuration of corpus analysis."""

from __future__ import annotations

from pydantic import Field

from plumbline.core.validation import FrozenConfig

EVERYDAY_TERMS = (
    *("active", "adopted", "adult", "alien", "attractive", "available", "beautiful", "big"),
    *("bigger", "black", "blind", "broke", "bulky", "chunky", "country", "cute", "dumb", "elite"),
    *("employed", "engaged", "entitled", "fat", "fit", "foreign", "fruity", "giant", "gigantic"),
    *("ginger", "hairy", "handsome", "heavy", "hot", "huge", "inactive", "independent", "large"),
    *("larger", "liberal", "massive", "mature", "moderate", "mute", "native", "old", "older"),
    *("pan", "poly", "poor", "pretty", "privileged", "professional", "progressive", "radical"),
    *("retired", "rich", "ripped", "rural", "senior", "separated", "short", "shorter", "single"),
    *("slim", "slow", "small", "smaller", "straight", "strong", "stud", "tall", "taller", "thin"),
    *("tiny", "toned", "ugly", "urban", "white", "young", "younger", "ace", "bi", "butch", "trans"),
    *("conservative", "adorable", "hideous", "gorgeous", "barren", "smelly", "stinky", "plump"),
)
"""Descriptors that mostly say something else; Llama 2 left out straight, white and black so."""


PERSON_NOUNS = (
    *(
        "man",
        "men",
        "woman",
        "women",
        "person",
        "persons",
        "people",
        "boy",
        "boys",
        "girl",
        "girls",
    ),
    *("guy", "guys", "lady", "ladies", "kid", "kids", "child", "children", "individual"),
    *(
        "individuals",
        "male",
        "males",
        "female",
        "females",
        "mother",
        "mothers",
        "father",
        "fathers",
    ),
    *("parent", "parents", "son", "sons", "daughter", "daughters", "brother", "brothers", "sister"),
    *("sisters", "wife", "husband", "couple", "couples", "family", "families", "folk", "folks"),
    *("teen", "teens", "teenager", "teenagers", "adult", "adults", "community", "communities"),
    *("student", "students", "worker", "workers", "citizen", "citizens", "voter", "voters"),
)
"""Before one of these an everyday term does describe a person, as in HolisticBias' sentences."""


class IdentityConfig(FrozenConfig):
    """Which words count as mentions of a group."""

    builtin: bool = True
    """Use the package's own terms for a script, Latin or Han, that no descriptor file covers."""
    plurals: bool = True
    """Count `Muslims` as `Muslim`. Llama 2 counted the listed form only."""
    excluded_axes: tuple[str, ...] = ("nonce",)
    """HolisticBias has an axis of invented words, as a control for models."""
    ambiguous_terms: tuple[str, ...] = EVERYDAY_TERMS
    """No mention of a group by themselves, though counted apart; terms that a file marks
    `ambiguous` join them."""
    person_nouns: tuple[str, ...] = PERSON_NOUNS
    """Right before one of them an ambiguous term is a mention."""


class ErasureConfig(FrozenConfig):
    """How removals of documents that mention a group are compared with those of all documents."""

    min_mentions: int = Field(default=30, ge=1)
    """Documents of a language that mention a group, from which the group is compared."""
    false_discovery_rate: float = Field(default=0.05, gt=0, lt=1)
    """Of Benjamini and Hochberg, over all comparisons of a report."""


class ToxicityConfig(FrozenConfig):
    """How the scores of trained filters are summed up.

    Llama 2 averaged over a document's lines; these are of its worst passage, as the rule sees it.
    """

    threshold: float = Field(default=0.5, ge=0, le=1)
    """Documents from it on are counted. Source: Llama 2, section 4.1."""
    bins: int = Field(default=20, ge=2, le=200)


class NearCopiesConfig(FrozenConfig):
    """How the share of near copies is estimated."""

    enabled: bool = True
    sample_documents: int = Field(default=20_000, ge=1)
    """Distinct documents that are looked up among all; a corpus with no more is looked up whole."""
    seed: int = Field(default=0, ge=0, lt=2**64)
