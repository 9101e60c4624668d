"""Words that carry meaning, names, negation and opposites, in English and Chinese."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

from plumbline.retriever.search.tokens import tokenise

_LEXICON: Mapping[str, Any] = yaml.safe_load(
    (resources.files(__package__) / "wording.yaml").read_text(encoding="utf-8")
)
STOP_WORDS: frozenset[str] = frozenset(_LEXICON["stop_words"].split())
HAN_STOP: frozenset[str] = frozenset(_LEXICON["han_stop"])
ABBREVIATIONS: frozenset[str] = frozenset(_LEXICON["abbreviations"].split())
NO_UNITS: frozenset[str] = frozenset(_LEXICON["no_units"].split())
NUMBER_WORDS: Mapping[str, int] = {
    word: value * step
    for step, words in ((1, _LEXICON["number_words"]), (10, _LEXICON["tens"]))
    for value, word in enumerate(words.split())
    if word != "-"
}
VERBS: tuple[str, ...] = tuple(_LEXICON["verbs"].split())
_OPPOSITES: Sequence[tuple[list[str], list[str]]] = [tuple(pair) for pair in _LEXICON["opposites"]]
"""Words of which one side contradicts the other."""

_NEGATIONS = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|nobody|nothing|myth|misconception|"
    r"unlikely|hardly|apocryphal)\b|n['’]t\b|误解|谣言"
    r"|不|没|未|无(?!线|锡|数)|非(?!常|洲|法)|禁止|严禁|并非|绝非",
    re.IGNORECASE,
)
_COMPARISON = re.compile(
    r"(?P<first>.+?)\s(?:is|are|was|were|has|have)\s.*?\bthan\s(?P<second>.+)", re.IGNORECASE
)
_ANSWER = re.compile(r"^(?:yes|no|是的?|不是?|对|不对)\s*[,，.。:：]\s*", re.IGNORECASE)
_ONLY_ONE = re.compile(
    r"\b(?:most|least|first|last|only|capital|founder|inventor|president|ceo|author|"
    r"(?!(?:test|rest|west|best|guest|forest|interest|request|honest|harvest|protest|arrest|"
    r"invest|contest|suggest|chest|nest|quest)\b)\w{2,}est)\b|最|第一|首都|创始人|唯一|仅有",
    re.IGNORECASE,
)
_MAX_PLACE = 4
_NAME = re.compile(
    r"《(?P<title>[^》]{1,80})》|[“\"](?P<quoted>[^”\"]{2,80})[”\"]"
    r"|(?P<name>\b[A-Z][\w’'&.-]*(?:\s+(?:of|de|van|von|the|and)?\s*[A-Z][\w’'&.-]*)*)"
)


def last_word(text: str) -> str:
    """The last word that carries meaning, where a statement says what is new; or nothing."""
    words = content_tokens(text)
    return words[-1] if words else ""


def content_tokens(text: str) -> list[str]:
    """Tokens of search without those that carry no meaning; Han only as bigrams where it can."""
    tokens = tokenise(text)
    han = [token for token in tokens if _is_han(token)]
    bigrams_exist = any(len(token) > 1 for token in han)
    kept = []
    for token in tokens:
        if _is_han(token):
            if len(token) > 1 or not bigrams_exist:
                kept.append(token)
        elif token not in STOP_WORDS:
            kept.append(stem(token))
    return kept


def stem(word: str) -> str:
    """A word without its commonest English endings, so that forms of it meet."""
    for ending, keep in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return (word[: -len(ending)] + keep).removesuffix("e")
    return word.removesuffix("e") if len(word) > 4 else word


def names(text: str) -> list[str]:
    """Capitalised names, titles and quoted phrases, in order."""
    found = []
    for match in _NAME.finditer(text):
        name = match["title"] or match["quoted"] or match["name"]
        at_start = not text[: match.start()].strip(" \"'“”-•*")
        words = name.split()
        if match["name"] and at_start and set(tokenise(words[0])) <= STOP_WORDS:
            # Capital for the sentence's sake.
            words = words[1:]
        if words:
            found.append(" ".join(words).rstrip(".,;:"))
    return found


def negations(text: str) -> int:
    """How often a text denies."""
    return len(_NEGATIONS.findall(text))


def opposites(claim: str, evidence: str) -> tuple[str, str] | None:
    """A word of the claim and the word of the evidence that contradicts it."""
    for one, other in _OPPOSITES:
        for left, right in ((one, other), (other, one)):
            said, instead = _which(left, claim), _which(right, evidence)
            if said and instead and not _which(right, claim) and not _which(left, evidence):
                return said, instead
    return None


def without_answer(text: str) -> str:
    """A statement without the yes or no in front of it, which denies nothing in it."""
    return _ANSWER.sub("", text)


def says_only_one(text: str) -> bool:
    """Whether it speaks of the most, the first or the only one, of which there is one."""
    return bool(_ONLY_ONE.search(text))


def exchanged(claim: str, evidence: str) -> tuple[str, str] | None:
    """Words of the claim and those that the evidence has in their place, if it is one place.

    None where the two differ in no such place, or in the order of everything.
    """
    left, right = (_in_order(text) for text in (claim, evidence))
    known, said = set(right), set(left)
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        own = [word for word in left[a:b] if word not in known]
        other = [word for word in right[c:d] if word not in said]
        if kind == "replace" and own and other and b - a <= _MAX_PLACE and d - c <= _MAX_PLACE:
            return _joined(own), _joined(other)
    return None


def _in_order(text: str) -> list[str]:
    """Words, or single Han characters, in order and without those that carry no meaning."""
    tokens = [token for token in tokenise(text) if not (_is_han(token) and len(token) > 1)]
    return [
        token if _is_han(token) else stem(token)
        for token in tokens
        if token not in STOP_WORDS and token not in HAN_STOP
    ]


def _joined(words: Sequence[str]) -> str:
    return ("" if _is_han(words[0]) else " ").join(words)


def compared_in_reverse(claim: str, evidence: str) -> bool:
    """Whether both compare the same two things, and each puts the other first."""
    pairs = []
    for text in (claim, evidence):
        match = _COMPARISON.match(text)
        if match is None:
            return False
        pairs.append([set(content_tokens(part)) for part in match.groups()])
    (first, second), (evidence_first, evidence_second) = pairs
    straight = len(first & evidence_first) + len(second & evidence_second)
    crossed = len(first & evidence_second) + len(second & evidence_first)
    return crossed > straight


def contains_name(text: str, name: str) -> bool:
    """Whether a text has a name, or every word of it."""
    lowered = text.casefold()
    if name.casefold() in lowered:
        return True
    words = tokenise(name)
    return bool(words) and set(words) <= set(tokenise(text))


def _which(words: list[str], text: str) -> str:
    lowered = text.lower()
    for word in words:
        if word.isascii():
            if re.search(rf"\b{re.escape(word)}\b", lowered):
                return word
        elif word in text:
            return word
    return ""


def _is_han(token: str) -> bool:
    return "\u3040" <= token[0] <= "\u9fff"
