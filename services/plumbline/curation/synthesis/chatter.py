"""What assistants say around an answer: openings that announce it, closings that offer more."""

from __future__ import annotations

import re

_OPENING = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|absolutely|okay|ok)\b[!,.]?[ \t]*|"
    r"(?:好的|当然(?:可以)?|没问题|可以的)[，,。！!]?[ \t]*)?"
    r"(?:here(?:'s| is| are)\b[^\n:]{0,120}:|(?:以下|下面)是[^\n：:]{0,60}[：:])\s*",
    re.IGNORECASE,
)
_PLEASANTRY = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|absolutely)\b[!,.]|"
    r"(?:好的|当然可以|没问题)[，,。！!])[ \t]*\n+",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"\n\s*(?:i hope (?:this|that|it) helps\b|(?:please )?let me know if\b|feel free to\b|"
    r"is there anything else\b|would you like me to\b|this (?:translation|summary|rewrite|version)"
    r" (?:aims|tries|attempts|keeps|maintains)\b|"
    r"希望(?:这|以上|对你|对您|能)|如果(?:你|您)?(?:还)?有(?:其他|任何)|"
    r"如(?:有|需)(?:其他|更多|任何)|请(?:随时)?告诉我|还有(?:其他|什么))[^\n]*\s*\Z",
    re.IGNORECASE,
)


def strip_answer(text: str) -> str:
    """An answer without its announcement and its offers; the text itself where nothing is left.

    Quotation marks and code fences around the whole rest are part of the answer and stay.
    """
    stripped = _OPENING.sub("", text, count=1)
    if stripped == text:
        stripped = _PLEASANTRY.sub("", text, count=1)
    while (shorter := _CLOSING.sub("", stripped, count=1)) != stripped:
        stripped = shorter
    stripped = stripped.strip()
    return stripped or text.strip()
