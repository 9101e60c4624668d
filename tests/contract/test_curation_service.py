"""CurationService over loopback: streams, unary calls, jobs, and typed refusals."""

from __future__ import annotations

import base64
import functools
import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct

from plumbline.core.errors import ConfigError, InvalidInputError, ResourceExhaustedError
from plumbline.core.job_service import JobService
from plumbline.core.jobs import JobStore
from plumbline.core.queue import create_app, submit
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.curation.config import CurationConfig, ServiceConfig
from plumbline.curation.engine import CurationEngine
from plumbline.curation.service import CurationService
from plumbline.curation.tasks import STAGES
from plumbline.v1 import curation_pb2 as pb
from plumbline.v1 import curation_pb2_grpc, jobs_pb2, jobs_pb2_grpc

CORPUS = "corpus/mine@latest"
STORY = (
    "The old miller walked along the river every morning and counted the boats that came in, "
    "because his daughter had promised to return before the first snow."
)


@pytest.fixture(scope="module")
def address(valkey: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(state_dir=tmp_path_factory.mktemp("state"), redis_url=valkey)
    stages = {stage.name: stage for stage in STAGES}
    app, jobs = create_app(settings, stages), JobStore(valkey)
    engine = CurationEngine(CurationConfig())
    config = ServiceConfig(max_stream_documents=3, max_batch_messages=4, max_batch_bytes=4096)
    service = CurationService(engine, functools.partial(submit, jobs, app, stages), config)

    def register(server: grpc.aio.Server) -> Sequence[str]:
        curation_pb2_grpc.add_CurationServiceServicer_to_server(service, server)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(JobService(jobs, app, stages), server)
        return [
            pb.DESCRIPTOR.services_by_name["CurationService"].full_name,
            jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name,
        ]

    with serve_in_thread("curation", register, settings=settings) as bound:
        yield bound


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with connect("curation", target=address) as stub:
        yield stub


def documents(*texts: str) -> Iterator[pb.FilterDocumentsRequest]:
    for number, text in enumerate(texts):
        yield pb.FilterDocumentsRequest(document_id=str(number), text=text)


def test_filter_answers_in_order_with_reasons(client: Any) -> None:
    abuse = "去死吧，你这个没用的傻逼东西，滚远一点"
    texts = (STORY, "短", STORY.upper(), abuse, STORY + " Copied.")
    answers = list(client.FilterDocuments(documents(*texts)))

    assert [(answer.document_id, answer.kept, answer.reason) for answer in answers] == [
        ("0", True, ""),
        ("1", False, "length"),
        ("2", False, "exact_duplicate"),
        ("3", False, "lexicon"),
        ("4", False, "near_duplicate"),
    ]
    assert [answer.code for answer in answers][:3] == ["", "TOO_SHORT", "EXACT_DUPLICATE"]
    assert answers[0].language == "en"
    assert answers[2].detail == "copy of 0, similarity 1.00"


def test_each_stream_starts_with_empty_memory(client: Any) -> None:
    for _ in range(2):
        (answer,) = client.FilterDocuments(documents(STORY))
        assert answer.kept


def test_an_answer_comes_before_the_next_request(client: Any) -> None:
    """A caller may wait for each answer: nothing is held back to fill a batch."""
    answered: queue.Queue[bool] = queue.Queue()

    def one_by_one() -> Iterator[pb.FilterDocumentsRequest]:
        for number in range(3):
            yield pb.FilterDocumentsRequest(document_id=str(number), text=STORY)
            answered.get(timeout=20)

    kept = []
    for answer in client.FilterDocuments(one_by_one()):
        kept.append(answer.kept)
        answered.put(True)
    assert kept == [True, False, False]


def test_a_stream_beyond_the_bound_is_refused(client: Any) -> None:
    texts = [f"Chapter {n} tells how number {n} and its {n} friends went away." for n in range(9)]

    with pytest.raises(ResourceExhaustedError, match="more than 3 different documents") as caught:
        list(client.FilterDocuments(documents(*texts)))
    assert caught.value.reason == "STREAM_TOO_LONG"


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (pb.ANONYMIZE_ACTION_UNSPECIFIED, "手机<PHONE>，👋"),
        (pb.ANONYMIZE_ACTION_REDACT, "手机<PHONE>，👋"),
        (pb.ANONYMIZE_ACTION_MASK, "手机***********，👋"),
        (pb.ANONYMIZE_ACTION_KEEP, "手机13812345678，👋"),
    ],
)
def test_anonymize(client: Any, action: pb.AnonymizeAction, text: str) -> None:
    request = pb.AnonymizeTextRequest(text="手机13812345678，👋", action=action)
    answer = client.AnonymizeText(request)

    assert answer.text == text
    (span,) = answer.spans
    assert (span.start, span.end, span.type) == (2, 13, "PHONE")
    assert answer.text[2:].startswith(span.replacement)


def test_offsets_count_code_points(client: Any) -> None:
    answer = client.AnonymizeText(pb.AnonymizeTextRequest(text="👋👋 a@b.com"))

    assert (answer.spans[0].start, answer.spans[0].end) == (3, 10)


def test_stream_anonymize_answers_each_request(client: Any) -> None:
    requests = [
        pb.StreamAnonymizeTextRequest(document_id="x", text="a@b.com"),
        pb.StreamAnonymizeTextRequest(document_id="y", text="nothing"),
    ]

    answers = list(client.StreamAnonymizeText(iter(requests)))
    assert [(a.document_id, a.text, len(a.spans)) for a in answers] == [
        ("x", "<EMAIL>", 1),
        ("y", "nothing", 0),
    ]


def test_options_of_a_request(client: Any) -> None:
    options = pb.AnonymizeOptions(actions={"EMAIL": pb.ANONYMIZE_ACTION_MASK}, types=["EMAIL"])
    request = pb.AnonymizeTextRequest(text="a@b.com 13812345678", options=options)
    assert client.AnonymizeText(request).text == "******* 13812345678"

    options = pb.AnonymizeOptions(min_confidence=0.99)
    request = pb.AnonymizeTextRequest(text="a@b.com 13812345678", options=options)
    assert client.AnonymizeText(request).text == "<EMAIL> 13812345678"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (pb.AnonymizeOptions(types=["EMIAL"]), "EMIAL"),
        (pb.AnonymizeOptions(min_confidence=2), "min_confidence"),
        (pb.AnonymizeOptions(actions={"EMAIL": pb.ANONYMIZE_ACTION_PSEUDONYMISE}), "key"),
    ],
)
def test_wrong_options_are_refused(client: Any, options: pb.AnonymizeOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        client.AnonymizeText(pb.AnonymizeTextRequest(text="x", options=options))


def test_pseudonyms_hold_across_streams_and_differ_between_tenants(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"main": base64.b64encode(bytes(32)).decode()}))
    monkeypatch.setenv("PLUMBLINE_PSEUDONYM_KEYS_FILE", str(keys))

    def ask(tenant: str) -> str:
        options = pb.AnonymizeOptions(key="main", tenant=tenant)
        request = pb.StreamAnonymizeTextRequest(
            text="a@b.com", action=pb.ANONYMIZE_ACTION_PSEUDONYMISE, options=options
        )
        (answer,) = client.StreamAnonymizeText(iter([request]))
        return str(answer.text)

    assert ask("red") == ask("red") != ask("blue")
    with pytest.raises(ConfigError, match="accepted: main"):
        options = pb.AnonymizeOptions(key="other")
        action = pb.ANONYMIZE_ACTION_PSEUDONYMISE
        client.AnonymizeText(pb.AnonymizeTextRequest(text="x", action=action, options=options))


def test_long_streams_keep_their_order_across_batches(client: Any) -> None:
    """Messages larger than a batch, and options that change in between."""
    actions = (pb.ANONYMIZE_ACTION_REDACT, pb.ANONYMIZE_ACTION_KEEP)
    requests = [
        pb.StreamAnonymizeTextRequest(
            document_id=str(n), text="x " * (n % 7 * 900) + "a@b.com", action=actions[n % 3 == 0]
        )
        for n in range(100)
    ]
    answers = list(client.StreamAnonymizeText(iter(requests)))

    assert [answer.document_id for answer in answers] == [str(n) for n in range(100)]
    kept = [answer.text.endswith("a@b.com") for answer in answers]
    assert kept == [n % 3 == 0 for n in range(100)]


def test_a_large_document_stalls_no_other_stream(client: Any) -> None:
    """Five megabytes with more than 80,000 addresses, and meanwhile a stream of one sentence."""
    large = ("Ask ann@example.org about the boats and the flour on board. " * 100_000)[:5_000_000]

    with ThreadPoolExecutor(1) as pool:
        request = pb.AnonymizeTextRequest(text=large)
        anonymized = pool.submit(client.AnonymizeText, request)
        [small] = client.FilterDocuments(documents(STORY))

        assert small.kept
        assert not anonymized.done()
        assert anonymized.result().text.count("<EMAIL>") > 80_000


def test_an_unknown_action_is_refused(client: Any) -> None:
    with pytest.raises(InvalidInputError, match="action=7 is unknown") as caught:
        client.AnonymizeText(pb.AnonymizeTextRequest(text="x", action=7))  # type: ignore[arg-type]
    assert caught.value.field == "action"


def test_corpora_become_jobs(client: Any, address: str) -> None:
    config = Struct()
    config.update({"language": {"languages": ["en"]}, "examples_per_rule": 5})
    curate = client.CurateCorpus(pb.CurateCorpusRequest(corpus=CORPUS, config=config)).job
    analyze = client.AnalyzeCorpus(pb.AnalyzeCorpusRequest(corpus=CORPUS)).job

    assert curate.spec.stage == "curation.curate"
    assert curate.spec.config["examples_per_rule"] == 5
    assert list(curate.spec.inputs["corpus"].artifacts) == [CORPUS]
    assert analyze.spec.stage == "curation.analyze"
    with connect("jobs", target=address) as jobs:
        found = jobs.GetJob(jobs_pb2.GetJobRequest(job_id=curate.id)).job
    assert found.state == jobs_pb2.JOB_STATE_QUEUED


def test_the_same_request_id_is_one_job(client: Any) -> None:
    request = pb.AnalyzeCorpusRequest(
        corpus=CORPUS, request_id="6f0c2e0e-5a2b-4d7f-9a52-0d9d1f3f7c11"
    )

    assert client.AnalyzeCorpus(request).job.id == client.AnalyzeCorpus(request).job.id


def test_wrong_corpus_jobs_are_refused_at_once(client: Any) -> None:
    config = Struct()
    config.update({"near_duplicates": {"treshold": 0.5}})

    with pytest.raises(ConfigError, match="treshold"):
        client.CurateCorpus(pb.CurateCorpusRequest(corpus=CORPUS, config=config))
    with pytest.raises(InvalidInputError, match="corpus is empty"):
        client.AnalyzeCorpus(pb.AnalyzeCorpusRequest())


@pytest.mark.integration
def test_the_server_starts_answers_and_stops(valkey: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PLUMBLINE_STATE_DIR": str(tmp_path), "REDIS_URL": valkey}
    process = subprocess.Popen(
        [sys.executable, "-m", "plumbline.curation.server"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        event = json.loads(process.stdout.readline())
        assert event["event"] == "listening"
        with connect("curation", target=event["address"]) as stub:
            answer = stub.AnonymizeText(pb.AnonymizeTextRequest(text="a@b.com"))
        assert answer.text == "<EMAIL>"
        process.terminate()
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()
