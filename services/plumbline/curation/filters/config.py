"""Configuration of the rules that keep or drop one document by itself."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from plumbline.core.validation import FrozenConfig


class LengthConfig(FrozenConfig):
    """Bounds on the document's length."""

    enabled: bool = True
    min_units: int = Field(default=5, ge=0)
    """Words, where each Han character counts as one."""
    max_characters: int = Field(default=1_000_000, gt=0)

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> Self:
        if self.min_units >= self.max_characters:
            raise ValueError(
                f"min_units={self.min_units} must be below max_characters={self.max_characters}, "
                "or no document is kept"
            )
        return self


class LanguageConfig(FrozenConfig):
    """Which languages a corpus is in."""

    enabled: bool = True
    languages: tuple[str, ...] = Field(default=("en", "zh"), min_length=1)
    """BCP 47 primary tags that are kept."""
    min_score: float = Field(default=0.5, ge=0, le=1)
    """Below it the language counts as undetermined (`und`)."""
    min_letters: int = Field(default=16, ge=1)
    """Shorter text is `und`; a Han character counts four times, as it says about a word."""
    keep_undetermined: bool = True
    """Whether `und` documents stay: code, lists and short replies are und."""


class GibberishConfig(FrozenConfig):
    """Signs that text is no language at all."""

    enabled: bool = True
    min_characters: int = Field(default=20, ge=1)
    """Shorter text is not judged."""
    max_symbol_share: float = Field(default=0.4, gt=0, le=1)
    """Characters that are neither letters, digits, spaces nor usual punctuation."""
    max_unpronounceable_share: float = Field(default=0.35, gt=0, le=1)
    """Latin words without a vowel or with five consonants in a row."""
    max_letter_surprisal: float = Field(default=5.0, gt=4.2)
    """Mean surprise of Latin letters under English frequencies, bits; English has 4.2, random
    letters 5.6."""
    min_character_entropy: float = Field(default=1.5, ge=0)
    """Bits per character; one repeated character has 0, English prose 4."""
    max_repeated_word_share: float = Field(default=0.6, gt=0, le=1)
    """Share of the commonest word in documents of 20 words and more."""


class QualityConfig(FrozenConfig):
    """Bounds of the prose heuristics; each has a version for Chinese.

    [G] is the value of Gopher, [C4] that of C4, [F] that of FineWeb (sources in `quality`).
    """

    enabled: bool = True
    judge_undetermined: bool = False
    """Judge text of no language too; code and tables would fail as prose."""
    min_words: int = Field(default=0, ge=0)
    """[G] 50, which would drop every short document; `length` has a bound of its own."""
    max_words: int = Field(default=100_000, ge=1)
    """[G]"""
    statistics_from_words: int = Field(default=100, ge=1)
    """Shorter documents are too small for the shares and means below."""
    mean_word_length: tuple[float, float] = (3, 10)
    """[G] Characters between spaces."""
    mean_clause_length: tuple[float, float] = (2, 80)
    """Chinese: characters between marks of punctuation, instead of the word length."""
    max_symbol_word_ratio: float = Field(default=0.1, ge=0)
    """[G] Of `#`, and of ellipses, to words."""
    min_alphabetic_word_share: float = Field(default=0.7, ge=0, le=1)
    """Words with a letter in them. [G] 0.8, which drops reports with many figures."""
    min_letter_share: float = Field(default=0.5, ge=0, le=1)
    """Chinese: letters among the characters that are no space, instead of the words' share."""
    min_stop_words: int = Field(default=2, ge=0, le=8)
    """[G] English."""
    min_function_characters: int = Field(default=2, ge=0, le=20)
    """Chinese: different ones, instead of stop words."""
    line_shares_from_lines: int = Field(default=3, ge=1)
    """Documents of fewer lines are not judged by shares of lines."""
    max_bullet_line_share: float = Field(default=0.9, ge=0, le=1)
    """[G]"""
    max_ellipsis_line_share: float = Field(default=0.3, ge=0, le=1)
    """[G]"""
    min_ended_line_share: float = Field(default=0.12, ge=0, le=1)
    """[F] Lines that end with a mark of punctuation."""
    short_line_characters: int = Field(default=30, ge=0)
    """[F] Chinese: a quarter of it, as a word of four letters and a space is one or two Han."""
    max_short_line_share: float = Field(default=0.67, ge=0, le=1)
    """[F]"""
    max_line_word_ratio: float = Field(default=0.3, ge=0)
    """[F]"""
    drop_placeholder_text: bool = True
    """[C4] `lorem ipsum`, and what stands for it in Chinese."""
    max_brace_share: float = Field(default=0.02, ge=0, le=1)
    """Curly braces among the characters. [C4] 0, which drops prose with a snippet of code."""
    max_boilerplate_line_share: float = Field(default=0.3, ge=0, le=1)
    """Lines about scripts, cookies, terms and rights. [C4] cuts such lines out of the page."""


class RepetitionConfig(FrozenConfig):
    """Bounds on what a document says again. Values: Gopher, Rae et al. 2021, table A1."""

    enabled: bool = True
    judge_undetermined: bool = False
    """Judge text of no language too; programs and tables repeat themselves by nature."""
    lines_from_words: int = Field(default=100, ge=1)
    """Words (two Han characters each) below which lines and paragraphs are not compared."""
    ngrams_from_words: int = Field(default=150, ge=1)
    """Words below which n-grams are not counted: a short text that says a phrase twice, as a
    question and its answer do, has a large share in it. Gopher counts from 50 words on."""
    max_duplicate_line_share: float = Field(default=0.3, ge=0, le=1)
    max_duplicate_line_character_share: float = Field(default=0.2, ge=0, le=1)
    max_duplicate_paragraph_share: float = Field(default=0.3, ge=0, le=1)
    max_duplicate_paragraph_character_share: float = Field(default=0.2, ge=0, le=1)
    max_top_ngram_share: dict[int, float] = Field(default={2: 0.20, 3: 0.18, 4: 0.16})
    """Share of the characters in the commonest n-gram, by n."""
    max_duplicate_ngram_share: dict[int, float] = Field(
        default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    )
    """Share of the characters in n-grams that have come before, by n."""
    unspaced_duplicate_factor: float = Field(default=2.5, ge=1)
    """Chinese: on these last bounds, because notices and statutes repeat formulas; with 1 about
    half of China's laws would go."""

    @model_validator(mode="after")
    def _orders_and_shares(self) -> Self:
        for shares in (self.max_top_ngram_share, self.max_duplicate_ngram_share):
            for order, share in shares.items():
                if not 1 <= order <= 100 or not 0 <= share <= 1:
                    raise ValueError(
                        f"{order}: {share} is no bound; n from 1 to 100 and a share from 0 to 1 "
                        "are accepted"
                    )
        return self


class LexiconConfig(FrozenConfig):
    """Documents that use words of a list."""

    enabled: bool = True
    builtin: bool = True
    """Use the list of abuse that comes with the package."""
    terms: tuple[str, ...] = ()
    """Further terms, for example those of a house list."""
    categories: dict[str, tuple[str, ...]] = Field(default={})
    """Further terms by category; a category gives its hits a reason code of their own."""
    see_through_disguise: bool = True
    """Find terms spelt like sh1t, s-h-i-t or shiiit too."""
    min_hits: int = Field(default=1, ge=1)
    """Different positions at which terms occur before a document is dropped."""

    @model_validator(mode="after")
    def _has_terms(self) -> Self:
        if (
            self.enabled
            and not self.builtin
            and not self.terms
            and not any(self.categories.values())
        ):
            raise ValueError("builtin=false and terms=[] leave no term to look for")
        for name in self.categories:
            if not name.isidentifier():
                raise ValueError(
                    f"category {name!r} is no name; letters, digits and _ are accepted"
                )
        return self


class ClassifierConfig(FrozenConfig):
    """Documents that a trained filter flags."""

    enabled: bool = True
    """Trained filters are inputs of the stage; without any there is nothing to enable."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Probability from which on a document goes; None for each filter's own."""


class EndpointConfig(FrozenConfig):
    """Documents that a model of the user's own flags, asked over HTTP.

    The endpoint gets `{"documents": [{"text": ..., "language": ...}, ...]}` and answers
    `{"results": [{"keep": true}, {"keep": false, "code": ..., "detail": ...}, ...]}`, in order;
    instead of `keep` a result may hold `score`, which `threshold` is compared with.
    """

    url: str = Field(min_length=1)
    name: str = Field(default="endpoint", pattern=r"^[a-z][a-z0-9_]{0,31}$")
    """Reports and reason codes name it so."""
    threshold: float = Field(default=0.5, ge=0, le=1)
    """Score from which on a document goes."""
    batch_documents: int = Field(default=64, ge=1, le=10_000)
    batch_characters: int = Field(default=1_000_000, ge=1)
    """A request holds no more, unless one document alone does."""
    timeout_s: float = Field(default=30, gt=0)
    """For each attempt."""
    retries: int = Field(default=3, ge=0, le=20)
    token_env: str = ""
    """Environment variable that holds a bearer token; empty for none."""


class TrainFilterConfig(FrozenConfig):
    """Stage `curation.train_filter`: a classifier from labelled texts."""

    name: str = Field(min_length=1)
    """What the filter finds, for example toxicity; reports name it so."""
    text_fields: tuple[str, ...] = Field(default=("text",), min_length=1)
    """The first that a record has holds its text."""
    label_fields: tuple[str, ...] = Field(default=("label",), min_length=1)
    """A record is positive where any of them holds a positive value."""
    positive: tuple[str, ...] = ()
    """Values that count as positive, as VALUE or FIELD=VALUE; 1, true and yes unless given."""
    group_field: str = ""
    """Field by whose values flag rates are reported."""
    folds: int = Field(default=5, ge=2, le=20)
    """Each is scored by a model of the others, for calibration, the threshold and the report."""
    min_order: int = Field(default=1, ge=1, le=8)
    max_order: int = Field(default=4, ge=1, le=8)
    """Longest n-gram, characters. A fifth adds little in either language, and a quarter of time."""
    buckets_log2: int = Field(default=19, ge=8, le=24)
    """Binary logarithm of the number of weights, two bytes each."""
    l2: float = Field(default=1e-4, gt=0)
    iterations: int = Field(default=60, ge=1, le=1000)
    saturation_characters: int = Field(default=100, ge=1)
    """Up to so many, a longer text is surer evidence than a shorter one with the same mean; beyond,
    the length of a page would drive its score to one of the ends."""
    window_characters: int = Field(default=1000, ge=16)
    """Longer texts are judged by the worst of windows of this size."""
    max_windows: int = Field(default=64, ge=2)
    false_positive_rate: float = Field(default=0.05, gt=0, lt=1)
    """Of held-out negative texts, at the threshold."""
    builtin_terms: bool = True
    """Teach the filter that the package's own identity terms are harmless by themselves."""
    neutral_weight: float = Field(default=0.1, gt=0)
    """Weight of the harmless sentences about identity terms; all negative texts have 0.5."""
    neutral_flag_rate: float = Field(default=0.005, gt=0, lt=1)
    """The threshold rises until at most so many of them are flagged on every axis."""

    @model_validator(mode="after")
    def _orders_ascend(self) -> Self:
        if self.min_order > self.max_order:
            raise ValueError(
                f"min_order={self.min_order} must not be above max_order={self.max_order}"
            )
        return self
