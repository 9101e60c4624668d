"""How many tokens a text takes, where no tokenizer is at hand."""

from __future__ import annotations

import math
import re

from plumbline.core.characters import HAN
from plumbline.retriever.composing.config import ComposingConfig

_DENSE = re.compile(f"[{HAN}\u3000-\u30ff\uac00-\ud7af\uff00-\uffef]")


def estimated_tokens(text: str, config: ComposingConfig) -> int:
    """An estimate that errs upwards, by the number of characters in each kind of script."""
    dense = len(_DENSE.findall(text))
    letters = len(text) - dense
    return math.ceil(dense / config.han_per_token + letters / config.letters_per_token)
