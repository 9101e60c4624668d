"""Which language a reply is in, as far as its script and commonest words say.

Scripts stand for one language each where a rule names it (Han zh, kana ja, Hangul ko, Cyrillic ru,
Arabic ar, Hebrew he, Greek el, Thai th, Devanagari hi), so other languages of the same script are
not told apart. Languages in Latin script are told apart by function words; a text with too few of
them stays undetermined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from plumbline.core.characters import HAN
from plumbline.retriever.checking.folding import UNIT

_SCRIPTS = {
    "zh": HAN,
    "ja": "\u3040-\u30ff\u31f0-\u31ff",
    "ko": "\u1100-\u11ff\uac00-\ud7af",
    "ru": "\u0400-\u052f",
    "ar": "\u0600-\u06ff\u0750-\u077f",
    "he": "\u0590-\u05ff",
    "el": "\u0370-\u03ff",
    "th": "\u0e00-\u0e7f",
    "hi": "\u0900-\u097f",
    "latin": "A-Za-z\u00c0-\u024f",
}
_COUNTED = {name: re.compile(f"[{ranges}]") for name, ranges in _SCRIPTS.items()}
_WEIGHTS = {"zh": 3, "ja": 2, "ko": 2}
"""A Han character says about as much as three letters."""
_MIN_SHARE = 0.6
"""Of the weighted letters; below it a text counts as mixed."""
_MIN_KANA_SHARE = 0.1
"""Of Han and kana together, from which on the text is Japanese."""
_MIN_FUNCTION_WORDS = 2
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S+|\S{1,64}@\S{1,255}")

_FUNCTION_WORDS = {
    "en": "the of and to is in that it you for are with this be not as on have can or your if will "
    "at an from by what which i was but they we do please a has had more than there their his her "
    "its would could should about who when how been were so them all some into only out also",
    "de": "der die das und ist in den von zu mit nicht ein eine auf für sie dem es ich sich des "
    "auch als an werden aus er hat dass sind kann bei wird wie im",
    "fr": "le la les des et est un une du que dans pour qui pas sur au avec ne se vous il elle ce "
    "par plus sont mais nous ou cette je votre aux être",
    "es": "el la los las de y que en un una es por con para no se del al lo como más su pero sus "
    "le ha este sí porque esta son entre usted",
    "it": "il lo la gli le di e che è un una in per non con si del della sono da come ma al dei "
    "nel più anche ha questo alla suo",
    "pt": "o a os as de e que em um uma é por com para não se do da no na dos mais como mas ao "
    "sua seu são foi você ou pelo",
    "nl": "de het een en van is in dat op te zijn met voor niet aan er om ook als maar die bij "
    "door naar uit wordt kan u je",
}
_WORDS_OF = {tag: frozenset(words.split()) for tag, words in _FUNCTION_WORDS.items()}

SCRIPT_TAGS = frozenset(_SCRIPTS.keys() - {"latin"})
"""Languages that are known by their script."""
LANGUAGES = SCRIPT_TAGS | _FUNCTION_WORDS.keys()
"""BCP 47 primary tags that can be told."""


@dataclass(frozen=True, slots=True)
class LanguageGuess:
    """What a text's language seems to be.

    Args:
        tag: BCP 47 primary tag; `und` where nothing can be said.
        script: `latin`, or the tag that a script stands for; empty for a mixed text, or none.
    """

    tag: str
    script: str


def guess_language(text: str) -> LanguageGuess:
    """The language of a text; code and addresses do not count."""
    prose = _ADDRESS.sub(" ", _CODE.sub(" ", text))
    weights = {
        name: _WEIGHTS.get(name, 1) * len(pattern.findall(prose))
        for name, pattern in _COUNTED.items()
    }
    kana = weights["ja"] / 2
    if kana and kana >= _MIN_KANA_SHARE * (kana + weights["zh"] / 3):
        weights["ja"] += weights["zh"]
        weights["zh"] = 0
    total = sum(weights.values())
    script = max(weights, key=lambda name: weights[name])
    if not total or weights[script] < _MIN_SHARE * total:
        return LanguageGuess("und", "")
    if script != "latin":
        return LanguageGuess(script, script)
    return LanguageGuess(_latin_language(prose), "latin")


def _latin_language(prose: str) -> str:
    words = [word.casefold() for word in UNIT.findall(prose)]
    hits = {tag: sum(word in known for word in words) for tag, known in _WORDS_OF.items()}
    first, second = sorted(hits, key=lambda tag: (-hits[tag], tag))[:2]
    if hits[first] < _MIN_FUNCTION_WORDS or hits[first] == hits[second]:
        return "und"
    return first
