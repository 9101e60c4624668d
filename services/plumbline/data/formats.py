"""Foreign record formats: how each is recognised by its keys, and what record it becomes.

A format claims a row by keys alone. Exactly one format must claim it; none or several is an error
that says which, because a guess would train on the wrong field without a word.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import (
    Conversation,
    Document,
    Grade,
    LabelledResponse,
    Message,
    Preference,
    Prompt,
    Record,
    Role,
    ScoredResponses,
    ValueSpec,
    content_id,
)

Value = Mapping[str, Any]

_ROLES = {
    "human": Role.USER,
    "user": Role.USER,
    "gpt": Role.ASSISTANT,
    "chatgpt": Role.ASSISTANT,
    "assistant": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "function_call": Role.ASSISTANT,
    "tool_call": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "tool": Role.TOOL,
    "observation": Role.TOOL,
    "function": Role.TOOL,
}
_MEDIA = ("images", "image", "audios", "audio", "videos", "video")
_LABEL_KEYS = ("label", "kto_tag", "desirable")
_CHOICE_KEYS = ("chosen", "rejected")
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class BrokenRecordError(InvalidInputError):
    """One record cannot be used; `on_error` decides what follows."""

    default_reason = "BROKEN_RECORD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One foreign layout of one record type."""

    name: str
    makes: type[Record]
    needs: tuple[str, ...]
    """Keys that must be there."""
    uses: tuple[str, ...] = ()
    """Optional keys that the parser reads; all others become metadata."""
    refuses: tuple[str, ...] = ()
    """Keys that show the row to be another format."""
    claims: Callable[[Value], bool] = lambda row: True
    """A further look at the values, where keys alone do not separate two formats."""
    parse: Callable[[Value], dict[str, Any]]
    """The record's fields, without id and source; metadata only where keys alone do not give it."""
    split: Callable[[Value], list[Value]] = lambda row: [row]
    """The rows that a row of several records stands for."""

    def matches(self, row: Value) -> bool:
        return (
            all(key in row for key in self.needs)
            and not any(key in row for key in self.refuses)
            and self.claims(row)
        )

    def read_all(self, row: Value, source: str) -> list[Record]:
        """The records of a claimed row, in order; most formats hold one in a row.

        Raises:
            BrokenRecordError: what is wrong with one of them, in words.
        """
        return [self.read(part, source) for part in self.split(row)]

    def read(self, row: Value, source: str) -> Record:
        """Parse a claimed row that holds one record.

        Raises:
            BrokenRecordError: what is wrong with it, in words.
        """
        for key in _MEDIA:
            if row.get(key):
                raise BrokenRecordError(f"it has {key!r}; only text is accepted", field=key)
        fields = self.parse(row)
        known = {spec.name for spec in dataclasses.fields(self.makes)}  # type: ignore[arg-type]
        if "source" in known:
            fields.setdefault("source", _optional_text(row, "source") or source)
        if "metadata" in known:
            fields["metadata"] = {**self._metadata(row, fields), **fields.get("metadata", {})}
        _refuse_surrogates(fields)
        identity = [_jsonable(fields[name]) for name in sorted(fields) if name not in _NOT_IDENTITY]
        fields["id"] = _identifier(row) or content_id(self.makes.__name__, identity)
        return self.makes(**fields)

    def _metadata(self, row: Value, fields: Value) -> dict[str, str]:
        metadata = {str(k): str(v) for k, v in _pairs(row.get("metadata"))}
        taken = {*self.needs, *self.uses, *fields, "id", "metadata", "source"}
        for key in sorted(set(row) - taken - set(_MEDIA)):
            value = row[key]
            if value is not None and value != "":
                text = (
                    value
                    if isinstance(value, str)
                    else json.dumps(value, ensure_ascii=False, sort_keys=True)
                )
                metadata.setdefault(str(key), text)
        return metadata


_NOT_IDENTITY = ("source", "metadata")


def _identifier(row: Value) -> str:
    value = row.get("id")
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)


def _pairs(value: Any) -> Iterable[tuple[Any, Any]]:
    """Entries of a mapping, or of the list of pairs that Parquet maps decode to."""
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, list) and all(isinstance(i, tuple) and len(i) == 2 for i in value):
        return value
    return ()


def _jsonable(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, Message):
        return value.to_row()
    return value


def _refuse_surrogates(value: Any) -> None:
    """JSON can escape halves of UTF-16 pairs, which no UTF-8 file can hold."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BrokenRecordError(
                f"unpaired surrogate \\u{ord(value[error.start]):04x} in the text",
                reason="WRONG_ENCODING",
            ) from error
    elif isinstance(value, Message):
        _refuse_surrogates(value.content)
    elif isinstance(value, Mapping):
        for item in value.values():
            _refuse_surrogates(item)
    elif isinstance(value, tuple):
        for item in value:
            _refuse_surrogates(item)


def _text(row: Value, key: str, *, empty: bool = False) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise BrokenRecordError(f"{key!r} is {_kind(value)}; a string is accepted", field=key)
    if not empty and not value.strip():
        raise BrokenRecordError(f"{key!r} is empty", field=key, reason="EMPTY_FIELD")
    return value


def _optional_text(row: Value, key: str) -> str:
    return _text(row, key, empty=True) if row.get(key) is not None else ""


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        type(None): "missing or null",
    }
    return names.get(type(value), type(value).__name__)


def _content(message: Value, key: str) -> str:
    """Message content: a string, or parts of which all are text."""
    content = message.get(key)
    if not isinstance(content, list):
        return _text(message, key, empty=True)
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else _kind(part)
        if kind != "text":
            raise BrokenRecordError(
                f"a message part is of type {kind!r}; only 'text' is accepted", field=key
            )
        texts.append(_text(part, "text" if "text" in part else "value", empty=True))
    return "".join(texts)


def _message(value: Any) -> Message:
    if not isinstance(value, Mapping):
        raise BrokenRecordError(f"a message is {_kind(value)}; an object is accepted")
    role_key, text_key = ("from", "value") if "from" in value else ("role", "content")
    role = value.get(role_key)
    if not isinstance(role, str) or role not in _ROLES:
        raise BrokenRecordError(
            f"message role {role!r} is unknown; accepted: {', '.join(sorted(_ROLES))}",
            field=role_key,
        )
    if value.get("tool_calls"):
        calls = json.dumps(value["tool_calls"], ensure_ascii=False, sort_keys=True)
        return Message(_ROLES[role], (value.get("content") or "") + calls)
    return Message(_ROLES[role], _content(value, text_key))


def _messages(value: Any, key: str, row: Value | None = None) -> tuple[Message, ...]:
    """A non-empty dialogue; a `system` string of the row goes before it."""
    if not isinstance(value, list) or not value:
        raise BrokenRecordError(
            f"{key!r} is {_kind(value) if value else 'empty'}; a list of messages is accepted",
            field=key,
        )
    messages = tuple(_message(item) for item in value)
    blank = next((m for m in messages if m.role is not Role.SYSTEM and not m.content.strip()), None)
    if blank is not None:
        raise BrokenRecordError(
            f"a message of the {blank.role} is empty", field=key, reason="EMPTY_FIELD"
        )
    system = _optional_text(row, "system") if row is not None else ""
    if not system.strip():
        return messages
    if messages[0].role is Role.SYSTEM:
        raise BrokenRecordError("two system prompts: 'system' and the first message", field=key)
    return (Message(Role.SYSTEM, system), *messages)


def _demonstration(messages: tuple[Message, ...]) -> dict[str, Any]:
    if not any(message.role is Role.ASSISTANT for message in messages):
        raise BrokenRecordError("no turn of the assistant, so nothing to learn from")
    return {"messages": messages}


def _history(row: Value) -> list[Message]:
    history = row.get("history") or []
    turns: list[Message] = []
    for pair in history if isinstance(history, list) else [history]:
        if (
            not isinstance(pair, list | tuple)
            or len(pair) != 2
            or not all(isinstance(turn, str) and turn.strip() for turn in pair)
        ):
            raise BrokenRecordError(
                "'history' holds something other than [question, answer] pairs", field="history"
            )
        turns += [Message(Role.USER, pair[0]), Message(Role.ASSISTANT, pair[1])]
    return turns


def _exchange(row: Value, question: str) -> tuple[Message, ...]:
    """System prompt, history and the question."""
    system = _optional_text(row, "system")
    opening = [Message(Role.SYSTEM, system)] if system.strip() else []
    return (*opening, *_history(row), Message(Role.USER, question))


def _instruction(row: Value) -> str:
    """Instruction and input, joined as Alpaca's users join them."""
    instruction = _text(row, "instruction", empty=True)
    extra = _optional_text(row, "input")
    question = "\n".join(part for part in (instruction, extra) if part.strip())
    if not question:
        raise BrokenRecordError(
            "'instruction' and 'input' are empty", field="instruction", reason="EMPTY_FIELD"
        )
    return question


def _prompt(row: Value, key: str) -> tuple[Message, ...]:
    """A prompt given as a string or as messages."""
    if isinstance(row.get(key), str):
        return _exchange(row, _text(row, key))
    return _messages(row.get(key), key, row)


def _parse_alpaca(row: Value) -> dict[str, Any]:
    answer = Message(Role.ASSISTANT, _text(row, "output"))
    return _demonstration((*_exchange(row, _instruction(row)), answer))


def _parse_seed_task(row: Value) -> dict[str, Any]:
    """The instruction stays by itself in metadata, for it is what new tasks are compared with."""
    instances = row["instances"]
    if not isinstance(instances, list) or len(instances) != 1:
        raise BrokenRecordError("'instances' is not a list of one instance", field="instances")
    instance = instances[0]
    if not isinstance(instance, Mapping):
        raise BrokenRecordError(
            f"an instance is {_kind(instance)}; an object with 'input' and 'output' is accepted",
            field="instances",
        )
    instruction = _text(row, "instruction")
    exchange = {"instruction": instruction, **{k: instance.get(k) for k in ("input", "output")}}
    return {**_parse_alpaca(exchange), "metadata": {"instruction": instruction}}


def _split_seed_task(row: Value) -> list[Value]:
    """One row for each instance; with several, each id ends in the instance's number from 0."""
    instances = row["instances"]
    if not isinstance(instances, list) or not instances:
        raise BrokenRecordError(
            f"'instances' is {_kind(instances) if instances else 'empty'}; a list of instances is "
            "accepted",
            field="instances",
        )
    identifier = _identifier(row)
    numbered = identifier and len(instances) > 1
    return [
        {**row, "instances": [one], **({"id": f"{identifier}-{number}"} if numbered else {})}
        for number, one in enumerate(instances)
    ]


def _parse_query_response(row: Value) -> dict[str, Any]:
    answer = Message(Role.ASSISTANT, _text(row, "response"))
    return _demonstration((*_exchange(row, _text(row, "query")), answer))


def _parse_prompt_response(row: Value) -> dict[str, Any]:
    answer = Message(Role.ASSISTANT, _text(row, _response_key(row)))
    return _demonstration((*_prompt(row, "prompt"), answer))


def _response_key(row: Value) -> str:
    return "completion" if "completion" in row else "response"


def _dialogue_key(row: Value) -> str:
    return "conversations" if "conversations" in row else "messages"


def _parse_dialogue(row: Value) -> dict[str, Any]:
    key = _dialogue_key(row)
    return _demonstration(_messages(row[key], key, row))


def _hh_turns(transcript: str, key: str) -> tuple[Message, ...]:
    pieces = _HH_TURN.split(transcript)
    if pieces[0].strip() or len(pieces) < 3:
        raise BrokenRecordError(f"{key!r} does not begin with a turn '\\n\\nHuman:'", field=key)
    roles = {"Human": Role.USER, "Assistant": Role.ASSISTANT}
    return tuple(
        Message(roles[speaker], content.strip())
        for speaker, content in zip(pieces[1::2], pieces[2::2], strict=True)
    )


def _parse_hh(row: Value) -> dict[str, Any]:
    chosen = _hh_turns(_text(row, "chosen"), "chosen")
    rejected = _hh_turns(_text(row, "rejected"), "rejected")
    return _pair_of_dialogues(chosen, rejected)


def _pair_of_dialogues(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> dict[str, Any]:
    if chosen[:-1] != rejected[:-1]:
        raise BrokenRecordError("the two dialogues differ before their last turn")
    if len(chosen) < 2:
        raise BrokenRecordError("the dialogues hold no prompt before their last turn")
    return _pair(chosen[:-1], chosen[-1], rejected[-1])


def _pair(prompt: tuple[Message, ...], chosen: Message, rejected: Message) -> dict[str, Any]:
    for key, message in (("chosen", chosen), ("rejected", rejected)):
        if message.role is not Role.ASSISTANT:
            raise BrokenRecordError(
                f"{key!r} is a turn of the {message.role}; one of the assistant is accepted",
                field=key,
            )
        if not message.content.strip():
            raise BrokenRecordError(f"{key!r} is empty", field=key, reason="EMPTY_FIELD")
    if chosen.content == rejected.content:
        raise BrokenRecordError("chosen and rejected are the same", reason="NO_PREFERENCE")
    return {"prompt": prompt, "chosen": chosen.content, "rejected": rejected.content}


def _is_hh(row: Value) -> bool:
    return all(
        isinstance(row[k], str) and row[k].lstrip().startswith("Human:") for k in _CHOICE_KEYS
    )


def _is_dialogue_pair(row: Value) -> bool:
    return all(isinstance(row[key], list) for key in _CHOICE_KEYS)


def _parse_dialogue_pair(row: Value) -> dict[str, Any]:
    pair = _pair_of_dialogues(*(_messages(row[key], key) for key in _CHOICE_KEYS))
    return {**pair, **_judgement(row)}


def _parse_preference(row: Value) -> dict[str, Any]:
    if "instruction" in row:
        prompt = _exchange(row, _instruction(row))
    else:
        key = next(k for k in ("prompt", "question", "conversations", "messages") if k in row)
        prompt = _prompt(row, key)
    pair = _pair(prompt, *(_choice(row, key, prompt) for key in _CHOICE_KEYS))
    return {**pair, **_judgement(row)}


def _choice(row: Value, key: str, prompt: tuple[Message, ...]) -> Message:
    """A response given as text, as one message, or as messages that may repeat the prompt."""
    value = row[key]
    if isinstance(value, str):
        return Message(Role.ASSISTANT, value)
    if isinstance(value, Mapping):
        return _message(value)
    messages = _messages(value, key)
    if messages[:-1] not in ((), prompt):
        raise BrokenRecordError(f"{key!r} does not continue the prompt", field=key)
    return messages[-1]


def _judgement(row: Value) -> dict[str, Any]:
    """Grade, head, agreement and safety of a pair, where the row has them."""
    found: dict[str, Any] = {}
    if row.get("grade") not in (None, ""):
        found["grade"] = _grade(row["grade"])
    if row.get("head"):
        found["head"] = _text(row, "head")
    if row.get("agreement") not in (None, ""):
        agreement = _number(row["agreement"], "agreement")
        if not 0.5 <= agreement <= 1:
            raise BrokenRecordError(
                f"agreement {agreement} is out of range; accepted: 0.5 to 1", field="agreement"
            )
        found["agreement"] = agreement
    for key in ("chosen_is_safe", "rejected_is_safe"):
        if row.get(key) not in (None, ""):
            found[key] = _boolean(row[key], key)
    return found


def _grade(value: Any) -> Grade:
    """One of Llama 2's four grades, however it is spaced or capitalised."""
    name = re.sub(r"[\s-]+", "_", str(value).strip().lower())
    name = re.sub(r"_?/_?unsure$", "", name)
    try:
        return Grade(name)
    except ValueError:
        raise BrokenRecordError(
            f"grade {value!r} is unknown; accepted: {', '.join(Grade)}", field="grade"
        ) from None


def _number(value: Any, key: str) -> float:
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < float("inf"):
        raise BrokenRecordError(f"{key} {value!r} is not a finite number", field=key)
    return number


def _boolean(value: Any, key: str) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE + _FALSE:
        raise BrokenRecordError(
            f"{key} {value!r} is not a label; accepted: true or false", field=key
        )
    return text in _TRUE


def _parse_labelled(row: Value) -> dict[str, Any]:
    label_key = next(key for key in _LABEL_KEYS if key in row)
    desirable = _boolean(row[label_key], label_key)
    if "instruction" in row:
        prompt, response = _exchange(row, _instruction(row)), _text(row, "output")
    elif "prompt" in row:
        prompt, response = _prompt(row, "prompt"), _text(row, _response_key(row))
    else:
        key = _dialogue_key(row)
        *before, last = _messages(row[key], key, row)
        if last.role is not Role.ASSISTANT or not before:
            raise BrokenRecordError(
                "the dialogue does not end with a reply of the assistant", field=key
            )
        prompt, response = tuple(before), last.content
    return {"prompt": prompt, "response": response, "desirable": desirable}


def _has_one_label(row: Value) -> bool:
    return sum(key in row for key in _LABEL_KEYS) == 1


def _parse_scored(row: Value) -> dict[str, Any]:
    responses = row["responses"]
    if not isinstance(responses, list) or len(responses) < 2:
        raise BrokenRecordError("'responses' is not a list of two or more", field="responses")
    scores: Any
    if isinstance(responses[0], Mapping):
        scores = [item.get("score") if isinstance(item, Mapping) else None for item in responses]
        texts = [_scored_text(item) for item in responses]
    else:
        texts, scores = responses, row.get("scores")
    if not isinstance(scores, list) or len(scores) != len(texts):
        raise BrokenRecordError(f"{len(texts)} responses need as many scores", field="scores")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise BrokenRecordError("a response is empty or not a string", field="responses")
    numbers = tuple(_number(score, "score") for score in scores)
    prompt = _exchange(row, _instruction(row)) if "instruction" in row else _prompt(row, "prompt")
    return {"prompt": prompt, "responses": tuple(texts), "scores": numbers}


def _scored_text(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return None
    return next((item[key] for key in ("response", "text", "content") if key in item), None)


def _parse_document(row: Value) -> dict[str, Any]:
    text = _text(row, "text" if "text" in row else "content")
    language = _optional_text(row, "language") or _optional_text(row, "lang")
    return {"text": text, "language": language or "und"}


def _parse_prompt(row: Value) -> dict[str, Any]:
    if "instruction" in row:
        messages = _exchange(row, _instruction(row))
    else:
        key = next(k for k in ("prompt", "question", "query", "messages") if k in row)
        messages = _prompt(row, key)
    if messages[-1].role is not Role.USER:
        raise BrokenRecordError(
            f"a prompt ends with the user; this one with the {messages[-1].role}"
        )
    fields = {key: _optional_text(row, key) for key in ("kind", "risk_category", "split")}
    return {"messages": messages, **fields}


def _parse_value(row: Value) -> dict[str, Any]:
    known = {spec.name for spec in dataclasses.fields(ValueSpec)}
    unknown = sorted(set(row) - known)
    if unknown:
        raise BrokenRecordError(
            f"a value has no field {unknown[0]!r}; accepted: {', '.join(sorted(known))}",
            field=unknown[0],
        )
    _text(row, "text")
    fields = {key: value for key, value in row.items() if key != "id"}
    for key in ("priority", "version"):
        if key in fields:
            fields[key] = int(_number(fields[key], key))
    lists = ("triggers", "supersedes", "checkers")
    for key in lists:
        items = fields.get(key, ())
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise BrokenRecordError(f"{key!r} is not a list of strings", field=key)
        fields[key] = tuple(items)
    strings = known - {"id", "priority", "version", *lists}
    for key in strings & set(fields):
        fields[key] = _text(fields, key, empty=True)
    # A value's source is a document, never the file that it was read from.
    fields.setdefault("source", "")
    return fields


_JUDGED = ("grade", "head", "agreement", "chosen_is_safe", "rejected_is_safe")
_BEFORE = ("system", "history")
_CHOSEN = (*_CHOICE_KEYS, *_LABEL_KEYS)

FORMATS: tuple[Format, ...] = (
    Format(
        name="alpaca",
        makes=Conversation,
        needs=("instruction", "output"),
        uses=("input", *_BEFORE),
        refuses=_CHOSEN,
        parse=_parse_alpaca,
    ),
    Format(
        name="seed_task",
        makes=Conversation,
        needs=("instruction", "instances"),
        refuses=(*_CHOSEN, "output"),
        parse=_parse_seed_task,
        split=_split_seed_task,
    ),
    Format(
        name="sharegpt",
        makes=Conversation,
        needs=("conversations",),
        uses=("system",),
        refuses=_CHOSEN,
        parse=_parse_dialogue,
    ),
    Format(
        name="messages",
        makes=Conversation,
        needs=("messages",),
        uses=("system",),
        refuses=(*_CHOSEN, "kind", "risk_category"),
        parse=_parse_dialogue,
    ),
    Format(
        name="query_response",
        makes=Conversation,
        needs=("query", "response"),
        uses=_BEFORE,
        refuses=_CHOSEN,
        parse=_parse_query_response,
    ),
    Format(
        name="prompt_response",
        makes=Conversation,
        needs=("prompt",),
        uses=("response", "completion", *_BEFORE),
        refuses=_CHOSEN,
        claims=lambda row: ("response" in row) != ("completion" in row),
        parse=_parse_prompt_response,
    ),
    Format(
        name="hh_rlhf",
        makes=Preference,
        needs=_CHOICE_KEYS,
        refuses=("prompt", "question", "instruction", "conversations", "messages"),
        claims=_is_hh,
        parse=_parse_hh,
    ),
    Format(
        name="dialogue_pair",
        makes=Preference,
        needs=_CHOICE_KEYS,
        uses=_JUDGED,
        refuses=("prompt", "question", "instruction", "conversations", "messages"),
        claims=_is_dialogue_pair,
        parse=_parse_dialogue_pair,
    ),
    Format(
        name="preference_pair",
        makes=Preference,
        needs=_CHOICE_KEYS,
        uses=(
            "prompt",
            "question",
            "instruction",
            "input",
            "conversations",
            "messages",
            *_BEFORE,
            *_JUDGED,
        ),
        claims=lambda row: (
            sum(
                key in row
                for key in ("prompt", "question", "instruction", "conversations", "messages")
            )
            == 1
        ),
        parse=_parse_preference,
    ),
    Format(
        name="labelled_response",
        makes=LabelledResponse,
        needs=(),
        uses=(
            "prompt",
            "response",
            "completion",
            "messages",
            "conversations",
            "instruction",
            "input",
            "output",
            *_LABEL_KEYS,
            *_BEFORE,
        ),
        refuses=_CHOICE_KEYS,
        claims=lambda row: (
            _has_one_label(row)
            and (
                ("prompt" in row and ("response" in row) != ("completion" in row))
                or ("instruction" in row and "output" in row)
                or ("messages" in row) != ("conversations" in row)
            )
        ),
        parse=_parse_labelled,
    ),
    Format(
        name="scored_list",
        makes=ScoredResponses,
        needs=("responses",),
        uses=("prompt", "instruction", "input", "scores", *_BEFORE),
        refuses=_CHOICE_KEYS,
        claims=lambda row: ("prompt" in row) != ("instruction" in row),
        parse=_parse_scored,
    ),
    Format(
        name="text",
        makes=Document,
        needs=(),
        uses=("text", "content", "language", "lang"),
        refuses=("triggers", "effective_from"),
        claims=lambda row: ("text" in row) != ("content" in row and "role" not in row),
        parse=_parse_document,
    ),
    Format(
        name="prompt",
        makes=Prompt,
        needs=(),
        uses=(
            "prompt",
            "question",
            "query",
            "messages",
            "instruction",
            "input",
            "kind",
            "risk_category",
            "split",
            *_BEFORE,
        ),
        refuses=(
            *_CHOSEN,
            "responses",
            "response",
            "completion",
            "output",
            "answer",
            "instances",
        ),
        claims=lambda row: (
            sum(key in row for key in ("prompt", "question", "query", "messages", "instruction"))
            == 1
        ),
        parse=_parse_prompt,
    ),
    Format(name="value", makes=ValueSpec, needs=("text",), parse=_parse_value),
)

_ONLY_WHEN_ASKED = {
    # A dialogue is a demonstration, and an instruction alone may have its answer under a key that
    # is not known here: prompts are read from them only where the caller wants prompts.
    "prompt": lambda row: (
        "prompt" not in row and "question" not in row and not ({"kind", "risk_category"} & set(row))
    ),
    # Text is a document unless it has dates or triggers, or the caller wants values.
    "value": lambda row: not ({"triggers", "effective_from"} & set(row)),
}


def detect_format(row: Any, makes: Sequence[type[Record]] = ()) -> Format:
    """The one format that claims a row.

    Args:
        makes: only formats of these record types; none means any.

    Raises:
        BrokenRecordError: not an object (BROKEN_RECORD), no format (UNKNOWN_FORMAT) or several
            (AMBIGUOUS_FORMAT).
    """
    if not isinstance(row, Mapping):
        raise BrokenRecordError(f"the record is {_kind(row)}; an object is accepted")
    fitting = [candidate for candidate in FORMATS if candidate.matches(row)]
    if makes:
        fitting = [candidate for candidate in fitting if candidate.makes in makes]
    else:
        fitting = [c for c in fitting if not _ONLY_WHEN_ASKED.get(c.name, lambda _: False)(row)]
    keys = ", ".join(sorted(map(str, row))) or "none"
    if not fitting:
        wanted = [c.name for c in FORMATS if not makes or c.makes in makes]
        raise BrokenRecordError(
            f"no known format has the keys {keys}; accepted formats: {', '.join(wanted)}",
            reason="UNKNOWN_FORMAT",
        )
    if len(fitting) > 1:
        raise BrokenRecordError(
            f"the keys {keys} fit several formats: {', '.join(c.name for c in fitting)}; "
            "rename or drop keys, or say which kind of record is wanted",
            reason="AMBIGUOUS_FORMAT",
        )
    return fitting[0]
