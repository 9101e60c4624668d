"""RetrieverService over loopback, with a real store and a real sampler of a random model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import open_configured_store
from plumbline.core.errors import InvalidInputError, NotFoundError
from plumbline.core.rpc import aconnect, connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.data.records import user
from plumbline.data.wire import prompt_to_wire
from plumbline.models.references import ModelReferences
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.service import RetrieverService
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.v1 import (
    retriever_pb2,
    retriever_pb2_grpc,
    sampler_pb2,
    sampler_pb2_grpc,
    types_pb2,
)


@pytest.fixture(scope="module")
def sampler_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = open_configured_store(Settings(state_dir=tmp_path_factory.mktemp("sampler")))
    service = SamplerService(SamplerEngine(ModelReferences(store)))

    def register(server: Any) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(service, server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as target:
        yield target


@pytest.fixture
def retriever(tmp_path: Path, sampler_target: str) -> Iterator[Any]:
    store = open_configured_store(Settings(state_dir=tmp_path))
    engine = RetrieverEngine(store, RetrieverConfig())
    service = RetrieverService(engine, lambda: aconnect("sampler", target=sampler_target))

    def register(server: Any) -> list[str]:
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(service, server)
        return ["plumbline.v1.RetrieverService"]

    with (
        serve_in_thread("retriever", register) as target,
        connect("retriever", target=target) as stub,
    ):
        yield stub


def value(value_id: str, text: str, **fields: Any) -> retriever_pb2.ValueSpec:
    return retriever_pb2.ValueSpec(
        id=value_id, text=text, kind=retriever_pb2.VALUE_KIND_CHANGING, **fields
    )


def import_values(stub: Any, *values: retriever_pb2.ValueSpec, **options: Any) -> Any:
    return stub.ImportValues(
        retriever_pb2.ImportValuesRequest(knowledge_base="house", values=values, **options)
    )


OVEN = value("oven", "End the reply with: mind the oven.", triggers=["baking"])


def test_import_is_idempotent_and_a_dry_run_changes_nothing(retriever: Any) -> None:
    planned = import_values(retriever, OVEN, dry_run=True)
    first = import_values(retriever, OVEN)
    second = import_values(retriever, OVEN)
    changed = import_values(retriever, value("oven", "New text", triggers=["baking"]))

    assert (planned.added, planned.artifact) == (1, "")
    assert (first.added, second.unchanged, changed.changed) == (1, 1, 1)
    assert first.artifact == second.artifact != changed.artifact
    found = retriever.GetValue(
        retriever_pb2.GetValueRequest(knowledge_base="house", value_id="oven")
    )
    assert (found.value.text, found.value.version) == ("New text", 2)


def test_one_bad_value_imports_nothing(retriever: Any) -> None:
    with pytest.raises(InvalidInputError, match="empty text") as caught:
        import_values(retriever, OVEN, value("bad", " "))

    assert caught.value.field == "text"
    with pytest.raises(NotFoundError, match="'house' does not exist"):
        retriever.ListValues(retriever_pb2.ListValuesRequest(knowledge_base="house"))


def test_pages_end_with_an_empty_token(retriever: Any) -> None:
    import_values(retriever, *[value(f"v{i}", "text") for i in range(5)])

    ids, token = [], ""
    while True:
        page = retriever.ListValues(
            retriever_pb2.ListValuesRequest(knowledge_base="house", page_size=2, page_token=token)
        )
        ids.append([item.id for item in page.values])
        token = page.next_page_token
        if not token:
            break

    assert ids == [["v0", "v1"], ["v2", "v3"], ["v4"]]
    with pytest.raises(InvalidInputError, match="page_size=-1"):
        retriever.ListValues(retriever_pb2.ListValuesRequest(knowledge_base="house", page_size=-1))
    with pytest.raises(InvalidInputError, match="page_token='x'"):
        retriever.ListValues(
            retriever_pb2.ListValuesRequest(knowledge_base="house", page_token="x")
        )


def test_retrieval_follows_the_date(retriever: Any) -> None:
    import_values(
        retriever,
        value("old", "bread rule", effective_to="2025-01-01"),
        value("new", "bread rule", effective_from="2025-01-01"),
    )

    def ids(as_of: str) -> list[str]:
        request = retriever_pb2.RetrieveValuesRequest(
            knowledge_base="house",
            query="bread",
            filter=retriever_pb2.ValueFilter(as_of=as_of),
        )
        return [hit.value.id for hit in retriever.RetrieveValues(request).values]

    assert ids("2024-12-31") == ["old"]
    assert ids("2025-01-01") == ["new"]
    with pytest.raises(InvalidInputError, match=r"filter\.as_of='soon' is no date"):
        ids("soon")


def respond(stub: Any, policy: Path, text: str) -> list[retriever_pb2.RespondResponse]:
    request = retriever_pb2.RespondRequest(
        knowledge_base="house",
        policy=str(policy),
        prompt=prompt_to_wire([user(text)]),
        parameters=types_pb2.SamplingParameters(temperature=0, max_response_tokens=8),
    )
    return list(stub.Respond(request))


def test_a_governed_reply_cites_the_rule_and_changes(retriever: Any, tiny_policy: Path) -> None:
    import_values(retriever, value("idle", "Nothing to see.", triggers=["unrelated"]))
    before = respond(retriever, tiny_policy, "What about baking?")
    import_values(retriever, OVEN)
    after = respond(retriever, tiny_policy, "What about baking?")

    assert not before[-1].citations
    (citation,) = after[-1].citations
    assert (citation.value_id, citation.version, citation.verdict) == ("oven", 1, "broken")
    assert len(citation.content_digest) == 64
    # A random policy breaks any rule, so what it drew under this one is among the revisions.
    assert after[-1].outcome == retriever_pb2.REPLY_OUTCOME_REFUSED
    assert after[-1].revisions[0].reply != "".join(piece.delta for piece in before)
    assert [piece.sequence for piece in after] == list(range(len(after)))


def test_an_ungoverned_reply_is_exactly_the_policy_s_own(
    retriever: Any, sampler_target: str, tiny_policy: Path
) -> None:
    import_values(retriever, OVEN)
    pieces = respond(retriever, tiny_policy, "What about rowing?")
    with connect("sampler", target=sampler_target) as sampler:
        own = sampler.Generate(
            sampler_pb2.GenerateRequest(
                policy=str(tiny_policy),
                prompt=prompt_to_wire([user("What about rowing?")]),
                parameters=types_pb2.SamplingParameters(temperature=0, max_response_tokens=8),
            )
        )
        expected = "".join(piece.delta for piece in own)

    assert "".join(piece.delta for piece in pieces) == expected
    assert not pieces[-1].citations


def test_errors_of_the_sampler_reach_the_caller(retriever: Any, tiny_policy: Path) -> None:
    import_values(retriever, OVEN)

    with pytest.raises(InvalidInputError, match="context"):
        respond(retriever, tiny_policy, "word " * 500)
