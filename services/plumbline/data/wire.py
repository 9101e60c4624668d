"""Conversation messages and their layout to wire types and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Message, Role
from plumbline.data.template import Template
from plumbline.v1 import types_pb2 as pb

_ROLES = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
    pb.ROLE_TOOL: Role.TOOL,
}
_WIRE_ROLES = {role: wire for wire, role in _ROLES.items()}
_TEMPLATES: Mapping[int, Template] = {
    pb.PROMPT_TEMPLATE_UNSPECIFIED: "chat",
    pb.PROMPT_TEMPLATE_PLAIN: "plain",
    pb.PROMPT_TEMPLATE_TRANSCRIPT: "transcript",
}
_WIRE_TEMPLATES: Mapping[Template, pb.PromptTemplate] = {
    "chat": pb.PROMPT_TEMPLATE_UNSPECIFIED,
    "plain": pb.PROMPT_TEMPLATE_PLAIN,
    "transcript": pb.PROMPT_TEMPLATE_TRANSCRIPT,
}


def messages_from_wire(prompt: pb.Prompt) -> tuple[Message, ...]:
    """Raises InvalidInputError when a message has no role or there is none."""
    if not prompt.messages:
        raise InvalidInputError(
            "prompt has no message; accepted: at least one", field="prompt.messages"
        )
    for index, message in enumerate(prompt.messages):
        if message.role not in _ROLES:
            raise InvalidInputError(
                f"message {index} has no role; accepted: {', '.join(Role)}",
                field=f"prompt.messages[{index}].role",
            )
    return tuple(Message(_ROLES[message.role], message.content) for message in prompt.messages)


def messages_to_wire(messages: Sequence[Message]) -> list[pb.Message]:
    return [
        pb.Message(role=_WIRE_ROLES[message.role], content=message.content) for message in messages
    ]


def prompt_to_wire(messages: Sequence[Message]) -> pb.Prompt:
    return pb.Prompt(messages=messages_to_wire(messages))


def template_from_wire(template: int) -> Template:
    """Raises InvalidInputError when this version knows no such template."""
    if template not in _TEMPLATES:
        raise InvalidInputError(
            f"prompt_template={template} is unknown; accepted: "
            f"{', '.join(map(pb.PromptTemplate.Name, sorted(_TEMPLATES)))}",
            field="prompt_template",
        )
    return _TEMPLATES[template]


def template_to_wire(template: Template) -> pb.PromptTemplate:
    return _WIRE_TEMPLATES[template]
