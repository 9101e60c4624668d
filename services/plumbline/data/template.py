"""How messages are laid out as a model's input."""

from __future__ import annotations

from typing import Literal

Template = Literal["chat", "plain", "transcript"]
"""`chat`: the tokenizer's own template. `plain`: contents joined by line breaks, for models that
continue text. `transcript`: `Human:` and `Assistant:` lines, for models without a template."""
