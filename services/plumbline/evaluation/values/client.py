"""What a user of RetrieverService does in this check: import, ask, revoke, move the tag back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.data.records import Prompt, ValueSpec
from plumbline.data.wire import prompt_to_wire
from plumbline.evaluation.values.judging import Citation, Conflict, Reply
from plumbline.retriever.convert import value_to_wire
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import types_pb2

_PAGE = 500


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    """One knowledge base, as a client of the service sees it.

    Args:
        stub: a synchronous RetrieverServiceStub; its calls may be made from several threads.
    """

    stub: Any
    name: str

    def replace(self, rules: Sequence[ValueSpec]) -> str:
        """Import the rules in place of all that it holds; the artifact that is current then."""
        request = pb.ImportValuesRequest(
            knowledge_base=self.name,
            values=[value_to_wire(rule) for rule in rules],
            replace_all=True,
        )
        artifact: str = self.stub.ImportValues(request).artifact
        return artifact

    def revoke(self, value_ids: Sequence[str], *, expected: str) -> str:
        """Drop values; fails where the knowledge base is no longer what was expected."""
        request = pb.ImportValuesRequest(
            knowledge_base=self.name, revoked=value_ids, expected_artifact=expected
        )
        artifact: str = self.stub.ImportValues(request).artifact
        return artifact

    def roll_back(self, artifact: str, *, expected: str) -> None:
        """Put the tag on an earlier state."""
        self.stub.TagKnowledgeBase(
            pb.TagKnowledgeBaseRequest(
                knowledge_base=self.name, target=artifact, expected_artifact=expected
            )
        )

    def versions(self) -> dict[str, int]:
        """Version by id of every value that it holds."""
        versions: dict[str, int] = {}
        token = ""
        while True:
            page = self.stub.ListValues(
                pb.ListValuesRequest(knowledge_base=self.name, page_size=_PAGE, page_token=token)
            )
            for value in page.values:
                versions[value.id] = max(value.version, versions.get(value.id, 0))
            token = page.next_page_token
            if not token:
                return versions

    def ask(
        self,
        prompt: Prompt,
        policy: str,
        *,
        max_response_tokens: int,
        max_revisions: int | None,
    ) -> Reply:
        """The most likely reply, to a request made as the prompt's metadata says."""
        request = pb.RespondRequest(
            knowledge_base=self.name,
            policy=policy,
            prompt=prompt_to_wire(prompt.messages),
            filter=pb.ValueFilter(
                **{
                    key: prompt.metadata[key]
                    for key in ("as_of", "tenant", "jurisdiction", "audience")
                }
            ),
            parameters=types_pb2.SamplingParameters(
                temperature=0.0, max_response_tokens=max_response_tokens
            ),
            max_revisions=max_revisions,
        )
        text, last = "", pb.RespondResponse()
        for last in self.stub.Respond(request):
            text = last.delta if last.restart else text + last.delta
        return Reply(
            text=text,
            artifact=last.knowledge_base_artifact,
            outcome=pb.ReplyOutcome.Name(last.outcome).removeprefix("REPLY_OUTCOME_").lower(),
            citations=tuple(
                Citation(cited.value_id, cited.version, cited.content_digest, cited.verdict)
                for cited in last.citations
            ),
            conflicts=tuple(
                Conflict(conflict.kept.value_id, conflict.dropped.value_id, conflict.decided_by)
                for conflict in last.conflicts
            ),
        )
