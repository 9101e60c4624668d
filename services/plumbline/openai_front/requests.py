"""Bodies of requests, as OpenAI's reference names their parameters.

What is accepted takes effect; everything else is refused by name. `null` means that a parameter is
absent, and a parameter that does nothing here is accepted at the one value that asks for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from plumbline.core.errors import InvalidInputError
from plumbline.core.validation import config_error
from plumbline.data.template import Template

MAX_N = 128
MAX_TOP_LOGPROBS = 20
MAX_STOPS = 16
MAX_SEED = 2**63 - 1

Values = Mapping[str, tuple[Any, ...]]


def _refuse_lone_surrogates(text: str) -> str:
    """JSON can spell half a surrogate pair, which is no character and has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(_refuse_lone_surrogates)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    INERT: ClassVar[Values] = {}
    """Parameters that have no effect here, with the values at which they should have none."""

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {name: value for name, value in values.items() if value is not None}
        for name, accepted in cls.INERT.items():
            value = given.pop(name, accepted[0])
            if value not in accepted:
                choices = " or ".join(json.dumps(choice) for choice in accepted)
                raise ValueError(
                    f"{name}={_shown(value)} is not supported here; accepted: {choices}, or "
                    "leave it out"
                )
        return given


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_text(content: Any) -> Any:
    """Text parts joined; other parts are refused."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ValueError(
                f'a part of type {_shown(kind)} is not supported; accepted: {{"type": "text", '
                '"text": ...}'
            )
        texts.append(part["text"])
    return "".join(texts)


def _as_token_ids(biases: Any) -> Any:
    """JSON's keys are text; a token is named by its id."""
    if not isinstance(biases, dict):
        return biases
    for key in biases:
        if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= 9):
            raise ValueError(f"the key {_shown(key)} is no token id; accepted: 0, 1, 2, ...")
    return {int(key): bias for key, bias in biases.items()}


class ChatMessage(_Body):
    """One turn. `name` and tool calls would be lost on the policy's template, so none may come."""

    INERT: ClassVar[Values] = {"tool_calls": ([],), "annotations": ([],)}

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Text, BeforeValidator(_as_text)]
    tool_call_id: str = ""
    """Of tool messages; a policy sees the content alone."""


class StreamOptions(_Body):
    """How a stream is laid out."""

    INERT: ClassVar[Values] = {"include_obfuscation": (False,)}

    include_usage: bool = False
    """A chunk with the usage of all choices before the end."""


class SamplingBody(_Body):
    """What both endpoints share. Absent values take the sampler's defaults."""

    INERT: ClassVar[Values] = {
        "presence_penalty": (0,),
        "frequency_penalty": (0,),
        "store": (False,),
        "service_tier": ("auto", "default"),
    }

    model: Text = ""
    """A policy: artifact id, tag or directory; empty or `default` is the default."""
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=10, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    n: int = Field(1, ge=1, le=MAX_N)
    stop: Annotated[
        list[Annotated[str, Field(min_length=1), AfterValidator(_refuse_lone_surrogates)]],
        BeforeValidator(_as_list),
    ] = Field(default=[], max_length=MAX_STOPS)
    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    logit_bias: Annotated[
        dict[int, Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]],
        BeforeValidator(_as_token_ids),
    ] = Field(default={}, max_length=1024)
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str = ""
    """Whom the caller serves; changes nothing."""
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float | None = Field(None, gt=0, le=10, allow_inf_nan=False)

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is accepted with stream=true only")
        return self

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def max_response_tokens(self) -> int:
        """0 takes the sampler's default."""
        return self.max_tokens or 0

    @property
    def details(self) -> int | None:
        """Likeliest tokens to show beside each; None shows no logprobs."""
        return None


class ChatBody(SamplingBody):
    """POST /v1/chat/completions."""

    INERT: ClassVar[Values] = {
        **SamplingBody.INERT,
        "response_format": ({"type": "text"},),
        "tools": ([],),
        "tool_choice": ("none",),
        "functions": ([],),
        "function_call": ("none",),
        "parallel_tool_calls": (True, False),
        "modalities": (["text"],),
    }

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    prompt_template: Template = "chat"
    """Layout of the messages; policies without a chat template need another one."""

    @model_validator(mode="after")
    def _names_of_one_thing_agree(self) -> Self:
        one, other = self.max_tokens, self.max_completion_tokens
        if one is not None and other is not None and one != other:
            raise ValueError(
                f"max_tokens={one} and max_completion_tokens={other} name the same bound; "
                "accepted: one of them"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError(
                f"top_logprobs={self.top_logprobs} is accepted with logprobs=true only"
            )
        return self

    @property
    def max_response_tokens(self) -> int:
        return self.max_completion_tokens or self.max_tokens or 0

    @property
    def details(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionBody(SamplingBody):
    """POST /v1/completions: text that the policy goes on with, without a chat template."""

    INERT: ClassVar[Values] = {
        **SamplingBody.INERT,
        "echo": (False,),
        "suffix": ("",),
        "best_of": (1,),
    }

    prompt: Annotated[list[Text], BeforeValidator(_as_list)] = Field(min_length=1)
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)

    @property
    def details(self) -> int | None:
        return self.logprobs


BodyT = TypeVar("BodyT", bound=SamplingBody)


def parse_body(model: type[BodyT], body: bytes) -> BodyT:
    """A request's body.

    Raises:
        InvalidInputError: it is not JSON, or a parameter is not accepted; `field` names the first.
    """
    try:
        values = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"the body is not JSON: {error}; accepted: an object of parameters", reason="NOT_JSON"
        ) from error
    if not isinstance(values, dict):
        raise InvalidInputError(
            f"the body is {_shown(values)}; accepted: an object of parameters", reason="NOT_JSON"
        )
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = config_error(error, model)
        field = found.field or _leading_name(found.message, values)
        raise InvalidInputError(found.message, field=field, reason="INVALID_VALUE") from None


def _leading_name(message: str, values: Mapping[str, Any]) -> str | None:
    """The parameter that a check over the whole body speaks of: its message begins with it."""
    name = message.partition(" ")[0].partition("=")[0]
    return name if name in values else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:80] + "…"
