"""How a policy is asked to mend a reply.

The reply stands in the conversation as the policy's own turn, and the user says what it broke. At
temperature 0 the same prompt would give the same reply again.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.data.judging import fill_question
from plumbline.data.records import Message, assistant, user
from plumbline.retriever.composing.quoting import neutralise, quoted_rule


def revision_prompt(
    messages: Sequence[Message], reply: str, problems: Sequence[str], wording: str
) -> list[Message]:
    """The prompt of the next attempt.

    Args:
        messages: the prompt with its rules, as it was composed.
        problems: what the reply broke; quoted, as it may hold text of rules and of the reply.
        wording: has the place {broken}.
    """
    broken = "\n".join(f"- {quoted_rule(problem)}" for problem in problems)
    # A rule may have made the policy write control tokens, which would end its turn here.
    return [*messages, assistant(neutralise(reply)), user(fill_question(wording, broken=broken))]
