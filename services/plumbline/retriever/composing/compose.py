"""The prompt that states the values which govern a request.

One layout, in the system message and in this order: the named system message, the request's own,
then the rules, one line each from the template. Rules are quoted (see `quoting`), so nothing above
them can be taken back by their texts. A prompt without system message and rules comes back as it
was, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from plumbline.core.errors import ResourceExhaustedError
from plumbline.data.records import Message, Role, ValueKind, ValueSpec, system
from plumbline.retriever.composing.budget import estimated_tokens
from plumbline.retriever.composing.config import ComposingConfig
from plumbline.retriever.composing.conflicts import Conflict, precedence, resolve_conflicts
from plumbline.retriever.composing.governing import Found, always_governs
from plumbline.retriever.composing.quoting import control_found, quoted_rule
from plumbline.retriever.composing.screening import override_found
from plumbline.retriever.composing.system_messages import SYSTEM_MESSAGE_CATEGORY, SystemMessage

CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Composition:
    """A prompt, and what became of each value that governs it.

    Args:
        applied: values that the prompt states, as they stand in it.
        conflicts: values that gave way to others.
        left_out: values that hold but are not in the prompt.
        why_left_out: by id of the value.
    """

    messages: tuple[Message, ...]
    applied: tuple[ValueSpec, ...]
    conflicts: tuple[Conflict, ...] = ()
    left_out: tuple[ValueSpec, ...] = ()
    why_left_out: Mapping[str, str] = field(default_factory=dict)


def compose(
    messages: Sequence[Message],
    governing: Sequence[Found],
    system_message: SystemMessage,
    *,
    budget_tokens: int,
    config: ComposingConfig,
    count_tokens: CountTokens | None = None,
) -> Composition:
    """Write the values that govern a request into its prompt.

    Values go in from the highest down: fixed ones, then by priority, then in the order given. One
    that does not fit whole is left out, and shorter ones after it may still fit.

    Args:
        governing: values that govern, best match first.
        budget_tokens: of prompt and response together; 0 sets no limit.
        count_tokens: a tokenizer's count; without one tokens are estimated.
    Raises:
        ResourceExhaustedError: a fixed value has no room; a reply without it must not be given.
    """
    values = tuple({found.value.id: found.value for found in governing}.values())
    values = tuple(value for value in values if value.category != SYSTEM_MESSAGE_CATEGORY)
    held, conflicts = resolve_conflicts(values, above=_above(system_message))
    reasons: dict[str, str] = {}
    quotable = _screened(held, config, reasons)
    ordered = sorted(quotable, key=_standing, reverse=True)
    lines = {value.id: _line(value, config) for value in ordered}

    def count(text: str) -> int:
        return count_tokens(text) if count_tokens else estimated_tokens(text, config)

    room = _room(messages, system_message, budget_tokens, config, count)
    few = _at_most(ordered, config.max_rules, reasons)
    applied = _fitting(few, lines, room, count, reasons)
    return Composition(
        messages=_written(messages, system_message, [lines[value.id] for value in applied]),
        applied=applied,
        conflicts=conflicts,
        left_out=tuple(value for value in held if value.id in reasons),
        why_left_out=reasons,
    )


def _standing(value: ValueSpec) -> tuple[bool, int]:
    return precedence(value).fixed, value.priority


def _above(system_message: SystemMessage) -> tuple[ValueSpec, ...]:
    return (system_message.as_value(),) if system_message.checkers else ()


def _screened(
    values: Sequence[ValueSpec], config: ComposingConfig, reasons: dict[str, str]
) -> list[ValueSpec]:
    """Values whose texts may stand in a prompt; of the others the reason is noted."""
    if not config.withhold_overrides:
        return list(values)
    for value in values:
        text = f"{value.title}\n{value.text}"
        if found := override_found(text):
            reasons[value.id] = f"its text speaks of the model's instructions: {found!r}"
        elif found := control_found(text, config.control_tokens):
            reasons[value.id] = f"its text holds what only a chat template writes: {found[:60]!r}"
    return [value for value in values if value.id not in reasons]


def _at_most(values: Sequence[ValueSpec], most: int, reasons: dict[str, str]) -> list[ValueSpec]:
    """The first so many of the values that do not always govern, and all that do."""
    found = [value for value in values if not always_governs(value)]
    over = {value.id for value in found[most:]}
    reasons.update(dict.fromkeys(over, f"{most} other rules of a prompt go before it"))
    return [value for value in values if value.id not in over]


def _line(value: ValueSpec, config: ComposingConfig) -> str:
    return config.rule_template.format(
        text=quoted_rule(value.text, config.control_tokens),
        title=quoted_rule(value.title, config.control_tokens).replace("\n", " "),
        id=value.id,
    )


def _room(
    messages: Sequence[Message],
    system_message: SystemMessage,
    budget_tokens: int,
    config: ComposingConfig,
    count: CountTokens,
) -> float:
    """Tokens left for rules."""
    if not budget_tokens:
        return float("inf")
    taken = sum(count(message.content) + config.message_tokens for message in messages)
    above = [system_message.text, system_message.rules_preamble]
    taken += sum(count(text) for text in above if text) + config.message_tokens
    return budget_tokens - config.reserved_response_tokens - taken


def _fitting(
    values: Sequence[ValueSpec],
    lines: Mapping[str, str],
    room: float,
    count: CountTokens,
    reasons: dict[str, str],
) -> tuple[ValueSpec, ...]:
    applied = []
    for value in values:
        # The line break in front is a token in most vocabularies.
        needed = count(lines[value.id]) + 1
        if needed <= room:
            applied.append(value)
            room -= needed
            continue
        why = f"it takes {needed} tokens, and {max(0, int(room))} are left for rules"
        if value.kind == ValueKind.FIXED:
            raise ResourceExhaustedError(
                f"fixed value {value.id!r} has no room in the prompt: {why}; shorten the prompt, "
                "or raise budget_tokens",
                field="prompt",
            )
        reasons[value.id] = why
    return tuple(applied)


def _written(
    messages: Sequence[Message], system_message: SystemMessage, lines: Sequence[str]
) -> tuple[Message, ...]:
    own = bool(messages) and messages[0].role is Role.SYSTEM
    above = [system_message.text] if system_message.text else []
    above += [messages[0].content] if own else []
    text = "\n\n".join(above)
    if lines and system_message.rules_preamble:
        text = f"{text}\n\n{system_message.rules_preamble}"
    # One break and no more between a system message and the rules: policies that were trained on
    # rules saw them so.
    text = "\n".join([*([text] if text else []), *lines])
    rest = messages[1:] if own else messages
    return (system(text), *rest) if text else tuple(rest if not own else messages)
