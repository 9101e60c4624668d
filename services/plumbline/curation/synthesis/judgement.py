"""Why generated instructions and outputs are dropped; each reason has a stable code."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

from plumbline.curation.normalize import canonical, normalize, tokens
from plumbline.curation.synthesis.config import InstructionFilterConfig, OutputFilterConfig
from plumbline.curation.synthesis.parsing import Instance
from plumbline.curation.synthesis.records import text_language
from plumbline.curation.synthesis.rouge import rouge_l
from plumbline.curation.synthesis.templates import Language, templates

_TEMPLATE_LEAK = re.compile(
    r"as a numbered list|new task instructions|text-only assistant|prompt rewriter|"
    r"#(?:given|rewritten|created) prompt#|#(?:给定|改写|新建)提示#|"
    r"任务指令，接着|只处理文字的助手|\$(?:instruction|examples|text)\b",
    re.IGNORECASE,
)
_REWRITING_LEAK = re.compile(
    r"\b(?:given|rewritten|created) prompt\b|给定提示|改写提示|新建提示", re.IGNORECASE
)
_REFUSAL = re.compile(
    r"\A\W*(?:(?:hello|hi)\b\W*)?(?:(?:i'?m|i am|we are) (?:\w+ )?)?sorry\b"
    r"(?! (?:that|to hear|for|about|you)\b)|"
    r"\bsorry\b[^.\n]{0,20}\b(?:i|we) (?:can(?:no|')t|can not|am not|am unable|don't)\b|"
    r"\bi (?:can(?:no|')t|am (?:not able|unable) to|won't be able to) "
    r"(?:help|assist|answer|provide|do|fulfil|comply|complete)\b|"
    r"\bas an ai\b[^.\n]*?(?:can(?:no|')t|not able|unable|do(?:n't| not))|"
    r"\A\W*(?:您好|你好)?\W*(?:很|非常|十分|真的)?(?:抱歉|对不起|遗憾)(?!听|您对|你对)|"
    r"我(?:无法|不能|没有办法)(?:直接)?(?:回答|提供|协助|帮助|完成|满足)|"
    r"作为(?:一个|一名)?(?:人工智能|AI)[^。\n]*(?:无法|不能)",
    re.IGNORECASE,
)
_REFUSAL_UNITS = 80
"""A longer answer that apologises answers as well."""


def matchable(text: str) -> list[str]:
    """Tokens of a text, compatibility forms and invisible characters resolved."""
    return tokens(normalize(text).text)


def exact_key(text: str) -> str:
    """Equal for exact copies, up to case and spacing."""
    return canonical(normalize(text).text)


def instruction_fault(
    instruction: str,
    words: Sequence[str],
    config: InstructionFilterConfig,
    *,
    language: Language,
) -> str:
    """Reason code, or an empty string where nothing speaks against the instruction.

    Args:
        words: `matchable` of the instruction.
        language: which one was asked for.
    """
    if not words:
        return "empty"
    if len(words) < config.min_units:
        return "too_short"
    if len(words) > config.max_units:
        return "too_long"
    if leaks_template(instruction):
        return "prompt_echo"
    if unicodedata.category(instruction[0])[0] not in "LN" and instruction[0] not in "《“\"'「¿(（":
        return "starts_with_symbol"
    if text_language(instruction) != language:
        return "wrong_language"
    return "banned_content" if _is_banned(words, config.banned, language) else ""


def instance_fault(instruction: str, instance: Instance, config: OutputFilterConfig) -> str:
    """Reason code, or an empty string where nothing speaks against an input with its output."""
    output = matchable(instance.output)
    if len(output) < config.min_output_units:
        return "empty_output"
    if len(output) > config.max_output_units:
        return "output_too_long"
    if len(matchable(instance.input)) > config.max_input_units:
        return "input_too_long"
    if exact_key(instance.input) == exact_key(instance.output):
        return "output_repeats_input"
    if _repeats(matchable(instruction), output, config.max_prompt_echo):
        return "output_repeats_instruction"
    if leaks_template(instance.input) or leaks_template(instance.output):
        return "prompt_echo"
    return "refusal" if config.drop_refusals and is_refusal(instance.output) else ""


def _repeats(instruction: Sequence[str], output: Sequence[str], threshold: float) -> bool:
    """Whether an output says the instruction again; an answer in a whole sentence adds a word."""
    if rouge_l(instruction, output) < threshold:
        return False
    own_words = Counter(output) - Counter(instruction)
    return _stop_words().issuperset(own_words)


def leaks_template(text: str, *, rewriting: bool = False) -> bool:
    """Whether a text speaks of the prompt that it was asked for with.

    Args:
        rewriting: it was asked for as a rewrite of a "given prompt"; elsewhere people say that too.
    """
    if rewriting and _REWRITING_LEAK.search(text):
        return True
    return _TEMPLATE_LEAK.search(text) is not None


def is_refusal(text: str, *, max_units: int = _REFUSAL_UNITS) -> bool:
    """Whether a text of fewer words than `max_units` declines or apologises."""
    return _REFUSAL.search(text) is not None and len(matchable(text)) < max_units


def says_nothing(text: str) -> bool:
    """Whether a text is all punctuation and stop words."""
    return _stop_words().issuperset(matchable(text))


@cache
def _stop_words() -> frozenset[str]:
    return frozenset(
        word for language in ("en", "zh") for word in templates(language).entry("stop_words")
    )


def _is_banned(words: Sequence[str], further: Sequence[str], language: Language) -> bool:
    banned = templates(language).entry("banned")
    if not set(banned["words"]).isdisjoint(words):
        return True
    # Between single spaces, so that a phrase of words matches whole words only.
    joined = f" {' '.join(words)} "
    phrases = (*banned["phrases"], *further)
    return any(f" {' '.join(tokens(phrase))} " in joined for phrase in phrases)
