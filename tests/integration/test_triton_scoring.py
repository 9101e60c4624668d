"""RewardService in front of a real Triton Inference Server, which is killed while it scores."""

from __future__ import annotations

import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from triton_server import TritonServer

from plumbline.core.errors import FailedPreconditionError
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.data.records import Message, user
from plumbline.models.reward import RewardModel, RewardModelCard
from plumbline.reward.client import score_pairs
from plumbline.reward.config import TritonClientConfig, TritonExportConfig
from plumbline.reward.encoding import ScoredItem
from plumbline.reward.engine import RewardEngine
from plumbline.reward.service import RewardService
from plumbline.reward.triton_backend import TritonBackend
from plumbline.reward.triton_client import TritonClient
from plumbline.reward.triton_export import ExportedModel, export_repository
from plumbline.v1 import reward_pb2_grpc

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PAIRS, CLIENTS = 2000, 16
WORDS = ["the", "cat", "sat", "on", "mat", "and", "dog", "ran", "to", "old", "house", "by", "sea"]
MODELS = {"helpfulness": "helpfulness", "safety": "safety"}

Pair = tuple[tuple[Message, ...], str]


def mixed_pairs(count: int) -> list[Pair]:
    """Texts of 10 to 120 tokens."""
    generator = random.Random(7)

    def words(most: int) -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(1, most)))

    return [((user(words(30)),), words(60)) for _ in range(count)]


@pytest.fixture(scope="module")
def models(
    tiny_reward_models: dict[str, Path],
    tiny_tokenizer: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A decoder for helpfulness, an encoder that reads the response alone for safety."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    card = RewardModelCard(head="safety", pooling="response", max_length=100, temperature=1.5)
    directory = tmp_path_factory.mktemp("encoder")
    model = RewardModel.create(BertModel(config).eval(), tiny_tokenizer, card, seed=3)
    model.save(directory)
    return {**tiny_reward_models, "safety": directory}


@pytest.fixture(scope="module")
def triton(
    tritonserver: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    directory = tmp_path_factory.mktemp("triton")
    exported = [ExportedModel(f"id-of-{head}", models[head]) for head in MODELS]
    config = TritonExportConfig(threads=1, max_queue_delay_us=5000)
    export_repository(exported, directory / "repository", config)
    with TritonServer(tritonserver, directory / "repository", directory) as server:
        yield server


@pytest.fixture(scope="module")
def resolve(models: dict[str, Path]) -> Callable[[str], tuple[str, Path]]:
    return lambda reference: (f"id-of-{reference}", models[reference])


@pytest.fixture(scope="module")
def in_process(resolve: Any) -> RewardEngine:
    return RewardEngine(resolve, device="cpu")


@pytest.fixture
def address(triton: TritonServer, resolve: Any) -> Iterator[str]:
    """A RewardService whose scores come from Triton; the kill takes its shared memory along."""
    config = TritonClientConfig(target=triton.target, shared_memory=True)
    engine = RewardEngine(resolve, backend=TritonBackend(config))

    def register(server: grpc.aio.Server) -> list[str]:
        reward_pb2_grpc.add_RewardServiceServicer_to_server(RewardService(engine), server)
        return ["plumbline.v1.RewardService"]

    with serve_in_thread("reward", register) as found:
        yield found
    engine.close()


def test_scores_equal_those_of_this_process(address: str, in_process: RewardEngine) -> None:
    pairs = mixed_pairs(200)
    heads = ["helpfulness", "safety", "combined"]

    with connect("reward", target=address) as stub:
        found = score_pairs(stub, pairs, heads=heads, **MODELS)

    expected = in_process.score([ScoredItem(*pair) for pair in pairs], heads, MODELS).by_head
    for head in heads:
        assert [one[head] for one in found] == pytest.approx(list(expected[head]), abs=1e-5)


@pytest.mark.parametrize("shared_memory", [False, True])
def test_the_ensemble_joins_both_heads_as_llama_2_does(
    triton: TritonServer, in_process: RewardEngine, resolve: Any, shared_memory: bool
) -> None:
    items = [ScoredItem(*pair, risky=i % 3 == 0) for i, pair in enumerate(mixed_pairs(40))]
    expected = in_process.score(items, ["combined", "safety"], MODELS).by_head
    inputs: dict[str, Any] = {}
    for head in MODELS:
        model = RewardModel.load(resolve(head)[1])
        parts = [model.encode_parts(item.prompt, item.response) for item in items]
        ids = np.zeros((len(parts), max(len(ids) for ids, _ in parts)), dtype=np.int32)
        for row, (text, _) in zip(ids, parts, strict=True):
            row[: len(text)] = text
        inputs[f"{head}_input_ids"] = ids
        inputs[f"{head}_length"] = np.array([[len(ids)] for ids, _ in parts], dtype=np.int32)
        inputs[f"{head}_response_length"] = np.array([[n] for _, n in parts], dtype=np.int32)
    inputs["risky"] = np.array([[item.risky] for item in items], dtype=np.uint8)
    client = TritonClient(TritonClientConfig(target=triton.target, shared_memory=shared_memory))

    found = client.infer("combined", inputs, ("combined", "safety_reward_model_id"), timeout_s=60)

    client.close()
    assert found["combined"].ravel().tolist() == pytest.approx(expected["combined"], abs=1e-5)
    assert bytes(found["safety_reward_model_id"][0]) == b"id-of-safety"


def test_a_model_that_triton_does_not_serve_is_named(address: str) -> None:
    with (
        connect("reward", target=address) as stub,
        pytest.raises(FailedPreconditionError, match="id-of-preference is not served") as caught,
    ):
        score_pairs(stub, mixed_pairs(1), heads=["safety"], safety="preference")
    assert caught.value.reason == "REWARD_MODEL_NOT_SERVED"


def test_pairs_of_many_clients_share_executions_and_survive_a_killed_triton(
    address: str, triton: TritonServer, in_process: RewardEngine
) -> None:
    pairs = mixed_pairs(PAIRS)
    generator = random.Random(1)
    calls: list[range] = []
    while not calls or calls[-1].stop < PAIRS:
        start = calls[-1].stop if calls else 0
        calls.append(range(start, min(start + generator.randint(1, 4), PAIRS)))
    expected = in_process.score(
        [ScoredItem(*pair) for pair in pairs], ["helpfulness"], MODELS
    ).by_head["helpfulness"]
    before = triton.counts("helpfulness")
    results: list[tuple[int, float]] = []
    half_done = threading.Event()

    def client(own: list[range]) -> None:
        with connect("reward", target=address) as stub:
            for call in own:
                scores = score_pairs(
                    stub, [pairs[i] for i in call], heads=["helpfulness"], **MODELS
                )
                results.extend((i, s["helpfulness"]) for i, s in zip(call, scores, strict=True))
                if len(results) >= PAIRS // 2:
                    half_done.set()

    with ThreadPoolExecutor(CLIENTS) as clients:
        running = [clients.submit(client, calls[number::CLIENTS]) for number in range(CLIENTS)]
        assert half_done.wait(timeout=200)
        after = triton.counts("helpfulness")
        triton.kill()
        done_at_the_kill = len(results)
        triton.start()
        for one in running:
            one.result(timeout=300)
    last = triton.counts("helpfulness")

    # Nothing lost, nothing twice, and every score is the one of its own pair.
    assert sorted(place for place, _ in results) == list(range(PAIRS))
    assert done_at_the_kill < PAIRS
    assert [score for _, score in sorted(results)] == pytest.approx(list(expected), abs=1e-5)
    # Triton joined requests: fewer executions than requests, before the kill and after it.
    for early, late in itertools.pairwise([before, after]):
        assert _grown("nv_inference_exec_count", early, late) * 2 < _grown(
            "nv_inference_request_success", early, late
        )
    assert 0 < last["nv_inference_exec_count"] * 2 < last["nv_inference_request_success"]


def _grown(name: str, early: Any, late: Any) -> float:
    return float(late[name] - early.get(name, 0.0))
