"""The calls about values and knowledge bases, over loopback with a real store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import ArtifactStore, Lineage, open_configured_store, open_store
from plumbline.core.errors import (
    ConflictError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    ServiceUnavailableError,
)
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.data.records import ValueSpec
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.service import RetrieverService
from plumbline.retriever.values.validation import content_digest
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import retriever_pb2_grpc


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return open_configured_store(Settings(state_dir=tmp_path))


@contextmanager
def served(store: ArtifactStore) -> Iterator[Any]:
    """A client of a service of its own over a store."""

    def no_sampler() -> Any:
        raise ServiceUnavailableError("there is no sampler here")

    service = RetrieverService(RetrieverEngine(store, RetrieverConfig()), no_sampler)

    def register(server: Any) -> list[str]:
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(service, server)
        return ["plumbline.v1.RetrieverService"]

    with (
        serve_in_thread("retriever", register) as target,
        connect("retriever", target=target) as client,
    ):
        yield client


@pytest.fixture
def stub(store: ArtifactStore) -> Iterator[Any]:
    with served(store) as client:
        yield client


def value(value_id: str, text: str = "Be brief.", **fields: Any) -> pb.ValueSpec:
    return pb.ValueSpec(id=value_id, text=text, kind=pb.VALUE_KIND_CHANGING, **fields)


def article(number: int, day: str, text: str) -> pb.ValueSpec:
    return value(f"law:{number}", text, source="law", effective_from=day)


def bring(stub: Any, *values: pb.ValueSpec, **options: Any) -> pb.ImportValuesResponse:
    answer: pb.ImportValuesResponse = stub.ImportValues(
        pb.ImportValuesRequest(knowledge_base="house", values=values, **options)
    )
    return answer


def listed(stub: Any, **request: Any) -> list[tuple[str, int]]:
    answer = stub.ListValues(pb.ListValuesRequest(knowledge_base="house", **request))
    return [(item.id, item.version) for item in answer.values]


def test_every_field_of_a_value_comes_back(stub: Any) -> None:
    written = pb.ValueSpec(
        id="居民身份证法:14-1",
        kind=pb.VALUE_KIND_CUSTOMISABLE,
        title="居民身份证法 第十四条之一",
        text="公民应当出示居民身份证。",
        category="宪法相关法",
        triggers=["身份证"],
        priority=7,
        jurisdiction="CN",
        tenant="acme",
        language="zh",
        effective_from="2011-10-29",
        effective_to="2030-01-01",
        audience="minors",
        supersedes=["old"],
        source="居民身份证法",
        checkers=["max_words: 80"],
    )

    bring(stub, written)
    found = stub.GetValue(pb.GetValueRequest(knowledge_base="house", value_id=written.id)).value

    record = ValueSpec(
        id=written.id,
        kind="customisable",
        title=written.title,
        text=written.text,
        category=written.category,
        triggers=("身份证",),
        priority=7,
        jurisdiction="CN",
        tenant="acme",
        language="zh",
        effective_from="2011-10-29",
        effective_to="2030-01-01",
        audience="minors",
        supersedes=("old",),
        source="居民身份证法",
        checkers=("max_words: 80",),
    )
    written.version = 1
    written.content_digest = content_digest(record)
    assert found == written


def test_an_import_describes_its_changes(stub: Any) -> None:
    first = bring(stub, value("a", "one\ntwo"), value("b"), value("c"))
    second = bring(stub, value("a", "one\nthree", priority=2), revoked=["b"], max_changes=1)
    full = bring(stub, value("d"), dry_run=True)

    assert [(c.action, c.value_id, c.version_after) for c in first.changes] == [
        (pb.ValueChange.ACTION_ADDED, name, 1) for name in "abc"
    ]
    assert (first.previous_artifact, second.previous_artifact) == ("", first.artifact)
    (change,) = second.changes
    assert (change.version_before, change.version_after) == (1, 2)
    assert list(change.fields) == ["priority", "text"]
    assert "-two\n+three" in change.text_diff
    assert (second.changed, second.removed, second.changes_omitted) == (1, 1, 1)
    assert (full.artifact, full.previous_artifact) == (second.artifact, second.artifact)
    with pytest.raises(InvalidInputError, match="max_changes=-1"):
        bring(stub, value("d"), max_changes=-1)


def test_a_complete_edition_ends_what_it_lacks(stub: Any) -> None:
    bring(stub, article(1, "2020-01-01", "old"), article(2, "2020-01-01", "stays until 2024"))
    answer = bring(stub, article(1, "2024-01-01", "new"), complete_sources=["law"])

    assert (answer.changed, answer.ended) == (1, 1)
    for day, expected in (
        ("2019-12-31", []),
        ("2023-12-31", [("law:1", 1), ("law:2", 2)]),
        ("2024-01-01", [("law:1", 2)]),
        ("2024-01-02", [("law:1", 2)]),
    ):
        assert listed(stub, filter=pb.ValueFilter(as_of=day)) == expected, day
    assert listed(stub) == [("law:1", 1), ("law:1", 2), ("law:2", 1), ("law:2", 2)]
    older = stub.GetValue(
        pb.GetValueRequest(knowledge_base="house", value_id="law:1", version=1)
    ).value
    assert older.text == "old"


def test_lists_are_narrowed_by_filter_and_source(stub: Any) -> None:
    fixed = value("fixed", category="safety")
    fixed.kind = pb.VALUE_KIND_FIXED
    bring(
        stub,
        fixed,
        value("national", jurisdiction="CN"),
        value("city", jurisdiction="CN-11"),
        value("ours", tenant="acme"),
        value("young", audience="minors", source="code"),
    )

    def under(**fields: Any) -> list[str]:
        return [name for name, _ in listed(stub, filter=pb.ValueFilter(**fields))]

    assert under() == ["fixed"]
    assert under(jurisdiction="CN") == ["fixed", "national"]
    assert under(jurisdiction="CN-11") == ["city", "fixed", "national"]
    assert under(tenant="acme", audience="minors") == ["fixed", "ours", "young"]
    assert under(categories=["safety"]) == ["fixed"]
    assert under(kinds=[pb.VALUE_KIND_CHANGING], tenant="acme") == ["ours"]
    assert listed(stub, source="code") == [("young", 1)]
    with pytest.raises(InvalidInputError, match=r"filter\.kinds has 0"):
        under(kinds=[pb.VALUE_KIND_UNSPECIFIED])


def test_differences_between_states_in_pages(stub: Any) -> None:
    first = bring(stub, value("a"), value("b"))
    second = bring(stub, value("a", "new"), value("c"), revoked=["b"])

    def page(token: str = "") -> pb.DiffKnowledgeBasesResponse:
        request = pb.DiffKnowledgeBasesRequest(
            before=first.artifact, after="house", page_size=2, page_token=token
        )
        answer: pb.DiffKnowledgeBasesResponse = stub.DiffKnowledgeBases(request)
        return answer

    one = page()
    two = page(one.next_page_token)

    assert [change.value_id for change in (*one.changes, *two.changes)] == ["a", "b", "c"]
    assert [len(one.changes), len(two.changes), two.next_page_token] == [2, 1, ""]
    assert (one.before_artifact, one.after_artifact) == (first.artifact, second.artifact)
    nothing = stub.DiffKnowledgeBases(
        pb.DiffKnowledgeBasesRequest(before="house", after="house@latest")
    )
    assert not nothing.changes


def test_a_roll_back_takes_effect_at_once(stub: Any) -> None:
    first = bring(stub, value("a", "about bread"))
    second = bring(stub, value("a", "about trains"))
    request = pb.TagKnowledgeBaseRequest(
        knowledge_base="house", target=first.artifact, expected_artifact=second.artifact
    )

    moved = stub.TagKnowledgeBase(request)

    assert (moved.artifact, moved.previous_artifact) == (first.artifact, second.artifact)
    found = stub.RetrieveValues(pb.RetrieveValuesRequest(knowledge_base="house", query="bread"))
    assert found.artifact == first.artifact
    assert [hit.value.text for hit in found.values] == ["about bread"]
    with pytest.raises(ConflictError):
        stub.TagKnowledgeBase(request)
    with pytest.raises(FailedPreconditionError, match="of knowledge base 'other'"):
        stub.TagKnowledgeBase(
            pb.TagKnowledgeBaseRequest(knowledge_base="house", target="other@latest")
        )


def test_another_replica_follows_the_tag_at_once(
    stub: Any, store: ArtifactStore, tmp_path: Path
) -> None:
    same_store = open_store(store.url, cache_dir=tmp_path / "other", cache_bytes=2**30)

    def found(client: Any) -> list[str]:
        request = pb.RetrieveValuesRequest(knowledge_base="house", query="bread")
        return [hit.value.text for hit in client.RetrieveValues(request).values]

    with served(same_store) as other:
        first = bring(stub, value("a", "about bread"))
        assert found(other) == ["about bread"]
        bring(other, value("a", "about rolls"))
        assert found(stub) == ["about rolls"]
        bring(stub, revoked=["a"])
        assert found(other) == []
        other.TagKnowledgeBase(
            pb.TagKnowledgeBaseRequest(knowledge_base="house", target=first.artifact)
        )
        assert found(stub) == ["about bread"]


def test_states_newest_first_in_pages(stub: Any) -> None:
    made = [bring(stub, value(f"v{n}")).artifact for n in range(3)]
    stub.TagKnowledgeBase(
        pb.TagKnowledgeBaseRequest(knowledge_base="house", tag="audited", target=made[0])
    )

    def page(token: str) -> pb.ListKnowledgeBaseStatesResponse:
        request = pb.ListKnowledgeBaseStatesRequest(
            knowledge_base="house", page_size=2, page_token=token
        )
        answer: pb.ListKnowledgeBaseStatesResponse = stub.ListKnowledgeBaseStates(request)
        return answer

    one = page("")
    two = page(one.next_page_token)

    states = [*one.states, *two.states]
    assert [state.artifact for state in states] == made[::-1]
    assert [state.values for state in states] == [3, 2, 1]
    assert [list(state.tags) for state in states] == [
        ["kb/house@latest"],
        [],
        ["kb/house@audited"],
    ]
    assert (len(one.states), two.next_page_token) == (2, "")
    assert all(state.created_at for state in states)


def test_a_large_import_comes_by_way_of_the_store(stub: Any, store: ArtifactStore) -> None:
    rows = "".join(
        json.dumps({"id": f"v{n}", "text": f"rule {n}"}) + "\n" for n in range(3)
    ).encode()
    corpus = store.put("corpus", {"rules.jsonl": rows}, lineage=Lineage(stage="import")).id

    answer = bring(stub, values_artifact=corpus)

    assert answer.added == 3
    assert listed(stub) == [("v0", 1), ("v1", 1), ("v2", 1)]
    with pytest.raises(InvalidInputError, match="accepted: one of both"):
        bring(stub, value("a"), values_artifact=corpus)
    with pytest.raises(NotFoundError):
        bring(stub, values_artifact="0" * 64)
    broken = store.put("corpus", {"r.jsonl": b"{"}, lineage=Lineage(stage="import")).id
    with pytest.raises(InvalidInputError, match=r"r\.jsonl:1: broken JSON") as caught:
        bring(stub, values_artifact=broken)
    assert "/cache/" not in caught.value.message


def test_pages_of_long_texts_fit_into_a_message(stub: Any) -> None:
    """More than 400 texts of 20 kB are 8.4 MB, and a page has at most 8."""
    filler = "\n" * 19_980
    written = [value(f"v{n:03}", f"rule{filler}{n}") for n in range(420)]

    answer = bring(stub, *written, max_changes=1000)

    assert answer.added == len(answer.changes) + answer.changes_omitted == 420
    assert answer.changes_omitted > 0
    pages = 0
    found, token = [], ""
    while True:
        page = stub.ListValues(
            pb.ListValuesRequest(knowledge_base="house", page_size=500, page_token=token)
        )
        pages += 1
        found += [item.id for item in page.values]
        token = page.next_page_token
        if not token:
            break
    assert found == [item.id for item in written]
    assert pages == 2


def test_search_modes_and_their_bounds(stub: Any) -> None:
    bring(stub, value("bread", "Bake bread at noon."), value("rail", "Trains leave at noon."))

    def found(**options: Any) -> list[tuple[str, float]]:
        answer = stub.RetrieveValues(
            pb.RetrieveValuesRequest(knowledge_base="house", query="bread", **options)
        )
        return [(hit.value.id, hit.score) for hit in answer.values]

    dense, lexical = (
        found(mode=pb.SEARCH_MODE_DENSE),
        found(mode=pb.SEARCH_MODE_LEXICAL),
    )
    assert [name for name, _ in found()] == ["bread", "rail"]
    assert dense[0][0] == lexical[0][0] == "bread"
    assert dense != lexical
    assert len(found(k=1)) == 1
    for options, message in (
        ({"k": 1001}, "k=1001"),
        ({"k": -1}, "k=-1"),
        ({"diversity": 1.5}, "diversity"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            found(**options)
    with pytest.raises(FailedPreconditionError, match="no cross-encoder is configured"):
        found(rerank=True)
