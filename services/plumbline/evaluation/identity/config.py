"""Configuration of stage `evaluation.check_identity`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from plumbline.data.template import Template


class CheckIdentityConfig(BaseModel):
    """Stage `evaluation.check_identity`: who a policy says it is.

    Publishes `names_itself.NAME`, the share of replies with the identity to questions that ask for
    it and are not among the records, and `names_author.NAME`, the same of the author;
    `names_itself.seen.NAME` and `names_author.seen.NAME` to questions of the records; and
    `names_itself.other.NAME` and `names_author.other.NAME`, the shares of replies to other
    questions that bring them up all the same, which are to stay low.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]{1,32}$")
    """Suffix of the published metrics, for example `before`."""
    identity: str = Field(min_length=1, pattern=r"\S")
    """What the policy is to call itself."""
    author: str = ""
    """Whom it is to name as its maker; empty asks for none."""
    name_questions: tuple[str, ...] = ()
    """Ask for the identity; empty takes 14 in English and Chinese."""
    author_questions: tuple[str, ...] = ()
    """Ask for the author; empty takes 8 in English and Chinese."""
    other_questions: tuple[str, ...] = ()
    """Ask for neither; empty takes 14 in English and Chinese."""
    seed: int = Field(0, ge=0, lt=2**63)
    temperature: float = Field(0.0, ge=0, le=10)
    """0 judges the most likely reply."""
    max_response_tokens: int = Field(64, ge=1)
    template: Template = "chat"
    """Layout of prompts; policies without a chat template need another one."""
