"""Rule text is data: what it may not do in a prompt is begin a line, a turn or a control token.

Clean text passes unchanged. In other text
- invisible characters go: a reader of the rule cannot see them, a model can;
- control tokens of chat templates, role labels (`System:`, `助手：`) and fake section marks lose
  what makes them work: `<|im_start|>` becomes `‹im_start›`;
- stretches that hide text (Base64, hexadecimal) give way to `‹encoded text›`;
- lines after the first are indented, so that only the composed prompt itself begins a rule.

Markers are looked for in a folded view, so full-width and look-alike spellings count as well.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from functools import lru_cache

from plumbline.core.characters import HAN
from plumbline.retriever.checking.folding import Folded, fold, is_invisible

INDENT = "  "
"""Before every line of a rule but the first."""

_LINE_BREAK = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_ROLES = "system|assistant|human|user|developer|tool|ai|bot|chatgpt|admin"
_HAN_ROLES = "系统(?:提示词?|消息|指令)?|助手|助理|用户|人类|开发者|管理员|机器人"
_CONTROL = re.compile(
    rf"""
      <\s*\|[^<>|\n]{{1,64}}\|\s*>                                     # <|im_start|>
    | <<\s*/?\s*(?:sys|inst|system|end)[^<>\n]{{0,40}}>>                  # <<SYS>>
    | \[\s*/?\s*(?:inst|sys(?:tem)?(?:[ _][\w ]{{1,30}})?|available_tools|tool_(?:calls|results))
      \s*\]
    | </?\s*(?:s|bos|eos|pad|unk|mask|cls|sep|think|thinking|instructions?|prompt|im_start|im_end
        |start_of_turn|end_of_turn|turn|end|rules?|constraints?|policy|document|context
        |tool_call|tool_response|function_call|function_results|(?:{_ROLES})(?:[_-][\w-]{{1,30}})?
      )(?:\s[^<>\n]{{0,80}})?\s*/?>                                     # </s>, <system>
    | \[(?:cls|sep|mask|pad|unk|bos|eos)\]
    | \{{\{{\s*[\#/]?\s*(?:{_ROLES})\b[^{{}}\n]{{0,40}}\}}\}}              # {{{{#system}}}}
    """,
    re.VERBOSE,
)
_SENTENCE_START = r"(?:^|(?<=[.!?;。！？；:：\n\"”’)）\]›])|(?<=[.!?;:)\]] ))[ \t>*#_|~-]*"
_ROLE = re.compile(
    rf"{_SENTENCE_START}(?P<role>(?:{_ROLES})(?: (?:prompt|message|instructions?|note|override))?"
    rf"|{_HAN_ROLES})[*_\"\])]*\s*[:：](?!//)",
    re.MULTILINE,
)
_FENCE = re.compile(
    r"""^[ \t]*(?:
      [-=*~_`+]{3,}[^\n]{0,60}
      (?:system|prompt|instruction|rule|constraint|begin|end|start|系统|指令|规则|开始|结束)[^\n]{0,60}
    | \#{1,6}[ \t]*(?:new\ |updated\ |real\ )?
      (?:system|instructions?|assistant|user|human|prompt|系统|指令)\b[^\n]{0,40}
    | \#{3}[ \t]*(?:response|input|output)[ \t]*:?[ \t]*
    )$""",
    re.MULTILINE | re.VERBOSE,
)
_ENCODED = re.compile(
    r"(?<![\w+/=-])(?:[A-Za-z0-9+/_-]{24,}={0,2}|(?:[0-9A-Fa-f]{2}[ ]?){20,})(?![\w+/])"
)
_MIN_LETTERS = 0.7
"""Share of letters and spaces from which on decoded bytes count as text."""
_PASSES = 8
_OPENERS = str.maketrans("<[{|", "    ")


# The same rules stand in prompt after prompt.
@lru_cache(maxsize=1024)
def neutralise(text: str, control_tokens: tuple[str, ...] = ()) -> str:
    """The text without means of control; applied twice it changes nothing more.

    Args:
        control_tokens: further special tokens to break, exact but for letter case and width.
    """
    lines = _LINE_BREAK.sub("\n", text)
    clean = _ENCODED.sub(_encoded, _visible(lines))
    for _ in range(_PASSES):
        # Breaking one marker can leave another: <|a<|b|>c|>.
        broken = _break_markers(clean, control_tokens)
        if broken == clean:
            return clean
        clean = broken
    # Nested on purpose: nothing that opens a marker is left.
    return _break_markers(clean.translate(_OPENERS), control_tokens)


@lru_cache(maxsize=1024)
def control_found(text: str, control_tokens: tuple[str, ...] = ()) -> str:
    """The first control token or stretch of hidden text; empty where there is none.

    No rule that is written for readers holds one.
    """
    for match in _ENCODED.finditer(text):
        if _hides_text(match.group()):
            return match.group()
    view = fold(text).view
    found = _CONTROL.search(view)
    if found:
        return found.group()
    return next((token for token in control_tokens if fold(token).view in view), "")


def quoted_rule(text: str, control_tokens: tuple[str, ...] = ()) -> str:
    """A rule's text as it stands in a prompt: nothing in it can begin another rule or turn."""
    first, *others = neutralise(text.strip(), control_tokens).split("\n")
    return "\n".join([first, *(INDENT + line for line in others if line.strip())])


def quoted_document(text: str, control_tokens: tuple[str, ...] = ()) -> str:
    """A document's text with every line marked `> `, for prompts that show evidence."""
    lines = neutralise(text.strip(), control_tokens).split("\n")
    return "\n".join(f"> {line}".rstrip() for line in lines)


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        for place, character in enumerate(text)
        if not is_invisible(character) or _joins(text, place)
    )


def _joins(text: str, place: int) -> bool:
    """Is it a joiner where writing needs one: in Indic and Arabic words, in emoji sequences?"""
    if text[place] not in "\u200c\u200d" or not 0 < place < len(text) - 1:
        return False
    return all(_takes_joiners(text[place + step]) for step in (-1, 1))


def _takes_joiners(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Lo", "Mn", "Mc", "So", "Sk") or character == "\ufe0f"
    ) and not re.match(f"[{HAN}\u3040-\u30ff\uac00-\ud7af]", character)


def _break_markers(text: str, control_tokens: tuple[str, ...]) -> str:
    folded = fold(text)
    spans = [folded.span(*match.span()) for match in _CONTROL.finditer(folded.view)]
    spans += [folded.span(*match.span()) for match in _FENCE.finditer(folded.view)]
    spans += [
        folded.span(match.start("role"), match.end()) for match in _ROLE.finditer(folded.view)
    ]
    for token in control_tokens:
        spans += _occurrences(folded, fold(token).view)
    return _replaced(text, spans)


def _occurrences(folded: Folded, token: str) -> list[tuple[int, int]]:
    found = re.finditer(re.escape(token), folded.view)
    return [folded.span(*match.span()) for match in found]


def _replaced(text: str, spans: list[tuple[int, int]]) -> str:
    pieces, done = [], 0
    for start, end in sorted(spans):
        if start >= done:
            pieces += [text[done:start], _harmless(text[start:end])]
            done = end
    return "".join([*pieces, text[done:]])


def _harmless(marker: str) -> str:
    """A marker's words between signs that no template uses."""
    words = re.sub(r"[^\w ./-]|^[\W_]+|[\W_]+$", "", marker).strip(" -_")
    return f"‹{words}›" if words else "‹›"


def _encoded(match: re.Match[str]) -> str:
    return "‹encoded text›" if _hides_text(match.group()) else match.group()


def _hides_text(run: str) -> bool:
    """Do the bytes that a run encodes read as text?"""
    compact = run.replace(" ", "")
    candidates = []
    if re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", compact):
        candidates.append(bytes.fromhex(compact))
    unpadded = compact.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        candidates.append(base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True))
    except binascii.Error:
        candidates.append(b"")
    return any(_is_text(data) for data in candidates)


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    letters = sum(character.isalpha() or character.isspace() for character in text)
    return text.isprintable() and letters >= _MIN_LETTERS * len(text) > 0
