"""CheckFactuality over loopback, with the real engine and a real sampler as its judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import open_configured_store
from plumbline.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
)
from plumbline.core.rpc import aconnect, connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.models.checkpoint import save_model
from plumbline.models.references import ModelReferences
from plumbline.retriever.config import RetrieverConfig
from plumbline.retriever.engine import RetrieverEngine
from plumbline.retriever.service import RetrieverService
from plumbline.retriever.tools.config import ToolsConfig
from plumbline.retriever.tools.corpora import StoredCorpora
from plumbline.retriever.tools.engine import FactualityEngine
from plumbline.retriever.tools.remote import SamplerJudge
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.v1 import retriever_pb2 as pb
from plumbline.v1 import retriever_pb2_grpc, sampler_pb2_grpc

NOT_ENOUGH = pb.CLAIM_VERDICT_NOT_ENOUGH_EVIDENCE


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
def stub(tmp_path: Path, sampler_target: str) -> Iterator[Any]:
    store = open_configured_store(Settings(state_dir=tmp_path))
    retriever = RetrieverEngine(store, RetrieverConfig())
    config = ToolsConfig()
    with connect("sampler", target=sampler_target) as sampler:
        service = RetrieverService(
            retriever,
            lambda: aconnect("sampler", target=sampler_target),
            factuality=FactualityEngine(
                config,
                corpora=StoredCorpora(store, retriever, config),
                judge=SamplerJudge(lambda: sampler, max_tokens=8),
            ),
        )

        def register(server: Any) -> list[str]:
            retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(service, server)
            return ["plumbline.v1.RetrieverService"]

        with (
            serve_in_thread("retriever", register) as target,
            connect("retriever", target=target) as client,
        ):
            yield client


def check(stub: Any, text: str, **fields: Any) -> Any:
    return stub.CheckFactuality(pb.CheckFactualityRequest(text=text, **fields))


OCEAN = pb.EvidenceDocument(id="sea", title="Seas", text="The smallest ocean is the Arctic Ocean.")


def test_claims_come_back_in_order_with_all_that_was_found(stub: Any) -> None:
    text = "The smallest ocean is the Arctic Ocean. It costs 60 * 3 = 181."

    answer = check(stub, text, documents=[OCEAN])

    first, second = answer.claims
    assert (first.kind, first.verdict) == (pb.CLAIM_KIND_KNOWLEDGE, pb.CLAIM_VERDICT_SUPPORTED)
    assert (first.evidence[0].document_id, first.evidence[0].text) == ("sea", OCEAN.text)
    assert len(first.queries) == 2
    assert (second.kind, second.verdict) == (pb.CLAIM_KIND_ARITHMETIC, pb.CLAIM_VERDICT_REFUTED)
    assert text[second.start : second.end] == second.claim == "60 * 3 = 181"
    assert (second.correction, answer.factual) == ("180", False)


def test_a_text_without_refuted_claims_is_factual(stub: Any) -> None:
    assert check(stub, "Hello!").factual
    assert check(stub, "2 + 2 = 4, and Rome is large.").factual


def test_offsets_count_characters_and_not_bytes(stub: Any) -> None:
    claim = check(stub, "😀 结果：3乘以5等于16。", kinds=[pb.CLAIM_KIND_ARITHMETIC]).claims[0]

    assert (claim.claim, claim.start, claim.end) == ("3乘以5等于16", 5, 13)


def test_programs_run_and_assertions_decide(stub: Any) -> None:
    text = "```python\ndef f(x):\n    return x + 1\n```"
    code = [pb.CLAIM_KIND_CODE]

    right = check(stub, text, kinds=code, assertions=["f(1) == 2"])
    wrong = check(stub, text, kinds=code, assertions=["f(1) == 3"])

    assert [one.verdict for one in right.claims] == [pb.CLAIM_VERDICT_SUPPORTED]
    assert [one.correction for one in wrong.claims] == ["f(1) == 2"]


def test_a_knowledge_base_is_evidence_once_it_is_imported(stub: Any) -> None:
    value = pb.ValueSpec(
        id="驾驶法:3", kind=pb.VALUE_KIND_CHANGING, title="驾驶法 第三条", language="zh",
        text="驾驶证的有效期为六年。",
    )  # fmt: skip
    stub.ImportValues(pb.ImportValuesRequest(knowledge_base="laws", values=[value]))

    answer = check(stub, "驾驶证的有效期为八年。见《驾驶法》第四条。", corpus="laws")

    assert [(one.claim, one.verdict) for one in answer.claims] == [
        ("驾驶证的有效期为八年", pb.CLAIM_VERDICT_REFUTED),
        ("《驾驶法》第四条", pb.CLAIM_VERDICT_REFUTED),
    ]
    assert answer.claims[0].correction == "驾驶证的有效期为六年"


def test_a_judge_that_babbles_decides_nothing(
    stub: Any, tiny_llama: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path
) -> None:
    save_model(tiny_llama(context_length=1024), tiny_tokenizer, tmp_path / "policy")

    answer = check(
        stub,
        "The smallest ocean is the Arctic Ocean.",
        documents=[OCEAN],
        policy=f"path:{tmp_path / 'policy'}",
    )

    assert [one.verdict for one in answer.claims] == [NOT_ENOUGH]
    assert answer.claims[0].why == "the judge did not answer in the form that it was asked for"


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"text": ""}, InvalidInputError, "text is empty"),
        ({"text": "a", "kinds": [0]}, InvalidInputError, "claim kind 0 is not known"),
        ({"text": "a", "kinds": [99]}, InvalidInputError, "claim kind 99 is not known"),
        ({"text": "a", "assertions": ["x"]}, InvalidInputError, "EXPRESSION == VALUE"),
        ({"text": "a", "corpus": "none"}, NotFoundError, "'none' does not exist"),
    ],
)
def test_errors_are_typed(
    stub: Any, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check(stub, **fields)


def test_the_callers_deadline_ends_a_program(stub: Any) -> None:
    request = pb.CheckFactualityRequest(
        text="```python\nimport time\ntime.sleep(60)\n```", kinds=[pb.CLAIM_KIND_CODE]
    )
    with pytest.raises(DeadlineExceededError):
        stub.CheckFactuality(request, timeout=2)


def test_without_a_judge_a_policy_is_refused(tmp_path: Path) -> None:
    store = open_configured_store(Settings(state_dir=tmp_path))
    service = RetrieverService(RetrieverEngine(store, RetrieverConfig()), lambda: None)

    def register(server: Any) -> list[str]:
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(service, server)
        return ["plumbline.v1.RetrieverService"]

    with (
        serve_in_thread("retriever", register) as target,
        connect("retriever", target=target) as client,
        pytest.raises(FailedPreconditionError, match="no sampler is connected"),
    ):
        check(client, "Rome is large.", policy="p")
