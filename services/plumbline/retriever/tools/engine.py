"""Checks the claims of a text: finds them, looks for evidence, and gives verdicts.

Source: FacTool, arXiv:2307.13528: claim extraction, query generation, tool, evidence, verdict. Here
each step is a rule that can be read; a policy is asked for verdicts only where a request names one.
"""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.core.errors import (
    FailedPreconditionError,
    InvalidInputError,
)
from plumbline.retriever.tools.citations import Libraries, Library
from plumbline.retriever.tools.claim_tools import ClaimTools
from plumbline.retriever.tools.code_claims import (
    parse_assertion,
)
from plumbline.retriever.tools.config import ToolsConfig
from plumbline.retriever.tools.corpora import Corpora, OpenCorpus
from plumbline.retriever.tools.evidence import DocumentIndex, EvidenceSource
from plumbline.retriever.tools.judging import Judge
from plumbline.retriever.tools.records import (
    ClaimCheck,
    ClaimKind,
    Document,
)
from plumbline.retriever.tools.sandbox.runner import Sandbox
from plumbline.retriever.tools.search_endpoint import SearchEndpoint


class FactualityEngine:
    """Checks texts. Safe for use by many threads.

    Args:
        corpora: opens stored documents; None where a request can bring its own alone.
        judge: asked where a request names a policy; None refuses such requests.
    """

    def __init__(
        self,
        config: ToolsConfig,
        *,
        corpora: Corpora | None = None,
        judge: Judge | None = None,
    ) -> None:
        self._config = config
        self._corpora = corpora
        self._judge = judge
        self._sandbox = Sandbox(config.sandbox)
        endpoint = config.search_endpoint
        self._search = SearchEndpoint(endpoint) if endpoint.url else None

    def check(
        self,
        text: str,
        *,
        prompt: str = "",
        kinds: Sequence[ClaimKind] = (),
        documents: Sequence[Document] = (),
        corpus: str = "",
        policy: str = "",
        claims: Sequence[str] = (),
        assertions: Sequence[str] = (),
        deadline: float | None = None,
    ) -> tuple[ClaimCheck, ...]:
        """The claims of a text in order of their place, each with a verdict.

        Args:
            prompt: what the text answers.
            kinds: which claims are checked; empty checks all kinds.
            documents: evidence, and what `[1]` and titles may refer to.
            corpus: name, tag or id of a corpus or knowledge base with more evidence.
            policy: judges statements of fact in place of the rules.
            claims: checked in place of those found in the text.
            assertions: `EXPRESSION == VALUE` each, of every program in the text.
            deadline: by time.monotonic().
        Raises:
            InvalidInputError: nothing to check, or more than is accepted.
            NotFoundError: the corpus does not exist.
            FailedPreconditionError: code was asked to be checked and this machine cannot shut
                programs in; or a judge was asked for and none is connected.
            DeadlineExceededError: the deadline passed first.
        """
        self._accept(text, documents, claims)
        opened = self._opener().open(corpus) if corpus else None
        tools = ClaimTools(
            self._config,
            judge=self._required_judge(policy),
            policy=policy,
            sandbox=self._sandbox,
            sources=self._sources(documents, opened),
            libraries=_libraries(documents, opened),
            assertions=tuple(parse_assertion(assertion) for assertion in assertions),
            insist_on_code=ClaimKind.CODE in kinds,
            deadline=deadline,
        )
        wanted = tuple(kinds) or tuple(ClaimKind)
        checks = tools.given(claims, wanted) if claims else tools.found(text, prompt, wanted)
        return tuple(sorted(checks, key=lambda check: (check.start, check.end)))

    def _accept(self, text: str, documents: Sequence[Document], claims: Sequence[str]) -> None:
        config = self._config
        if not text.strip() and not claims:
            raise InvalidInputError("text is empty; accepted: a text, or claims", field="text")
        total = len(text) + sum(map(len, claims))
        if total > config.max_text_characters:
            raise InvalidInputError(
                f"text and claims have {total} characters; accepted: up to "
                f"{config.max_text_characters}",
                field="text",
            )
        if len(claims) > config.max_claims:
            raise InvalidInputError(
                f"{len(claims)} claims are given; accepted: up to {config.max_claims}",
                field="claims",
            )
        if len(documents) > config.max_documents:
            raise InvalidInputError(
                f"{len(documents)} documents are given; accepted: up to {config.max_documents}",
                field="documents",
            )
        for document in documents:
            if len(document.text) > config.max_document_characters:
                raise InvalidInputError(
                    f"document {document.id!r} has {len(document.text)} characters; accepted: up "
                    f"to {config.max_document_characters}",
                    field="documents",
                )

    def _required_judge(self, policy: str) -> Judge | None:
        if policy and self._judge is None:
            raise FailedPreconditionError(
                f"policy {policy!r} cannot judge: no sampler is connected",
                reason="JUDGE_UNAVAILABLE",
            )
        return self._judge if policy else None

    def _sources(
        self, documents: Sequence[Document], opened: OpenCorpus | None
    ) -> list[EvidenceSource]:
        sources: list[EvidenceSource] = [DocumentIndex(documents)] if documents else []
        if opened is not None:
            sources.append(opened.source)
        if self._search is not None:
            sources.append(self._search)
        return sources

    def _opener(self) -> Corpora:
        if self._corpora is None:
            raise FailedPreconditionError(
                "no artifact store is connected; accepted: documents in the request",
                reason="CORPUS_UNAVAILABLE",
            )
        return self._corpora


def _libraries(documents: Sequence[Document], opened: OpenCorpus | None) -> Libraries:
    found = [Library(documents)] if documents else []
    if opened is not None:
        found.append(opened.library)
    return Libraries(found, numbered=documents)
