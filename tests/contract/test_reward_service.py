"""RewardService over loopback gRPC, with tiny random reward models."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.core.artifacts import Lineage, open_configured_store
from plumbline.core.errors import (
    ConfigError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
)
from plumbline.core.rpc import aconnect, connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.data.records import Rollout, user
from plumbline.data.tables import read_records, write_records
from plumbline.data.wire import prompt_to_wire
from plumbline.models.references import ModelReferences
from plumbline.models.reward import RewardModel
from plumbline.reward.client import score_pairs, score_rollouts
from plumbline.reward.engine import RewardEngine
from plumbline.reward.service import RewardService
from plumbline.reward.tasks import STAGES
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.v1 import reward_pb2 as pb
from plumbline.v1 import reward_pb2_grpc, sampler_pb2_grpc, types_pb2

PROMPT = (user("the cat sat on"),)
RESPONSES = ["the mat", "the old house by the sea", "a dog", "", "the mat"]
PAIRS = [(PROMPT, response) for response in RESPONSES]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def models(settings: Settings, tiny_reward_models: dict[str, Path]) -> dict[str, str]:
    """Artifact ids by head."""
    store = open_configured_store(settings)
    lineage = Lineage(stage="test", version=1, config={}, inputs={})
    return {
        head: store.put("reward-model", tiny_reward_models[head], lineage=lineage).id
        for head in ("helpfulness", "safety")
    }


def serving(service: RewardService) -> AbstractContextManager[str]:
    """The address of the service, for as long as the block lasts."""

    def register(server: grpc.aio.Server) -> list[str]:
        reward_pb2_grpc.add_RewardServiceServicer_to_server(service, server)
        return ["plumbline.v1.RewardService"]

    return serve_in_thread("reward", register)


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    engine = RewardEngine(ModelReferences(open_configured_store(settings)), device="cpu")
    with serving(RewardService(engine)) as found:
        yield found


@pytest.fixture
def judging(settings: Settings) -> Iterator[Any]:
    """A client of a service that asks a sampler."""
    references = ModelReferences(open_configured_store(settings))

    def register(server: grpc.aio.Server) -> list[str]:
        servicer = SamplerService(SamplerEngine(references, device="cpu"))
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as sampler:
        ask = functools.cache(lambda: aconnect("sampler", target=sampler))
        service = RewardService(RewardEngine(references, device="cpu"), ask)
        with serving(service) as found, connect("reward", target=found) as client:
            yield client


@pytest.fixture
def stub(address: str) -> Iterator[Any]:
    with connect("reward", target=address) as client:
        yield client


def rollout(response: str, kind: str) -> Rollout:
    return Rollout(
        id=f"{response}/{kind}",
        prompt_id="p",
        prompt=PROMPT,
        response=response,
        prompt_token_ids=(1,),
        response_token_ids=(2,),
        logprobs=(-1.0,),
        finish_reason="stop",
        temperature=1.0,
        seed=0,
        policy_id="policy",
        scores={"oracle": 1.0},
        metadata={"kind": kind},
    )


def test_scores_come_in_order_whatever_the_division_into_calls(
    stub: Any, models: dict[str, str]
) -> None:
    heads = ["helpfulness", "safety", "combined"]
    progress: list[tuple[int, int]] = []

    together = score_pairs(stub, PAIRS, heads=heads, **models)
    divided = score_pairs(
        stub,
        PAIRS,
        heads=heads,
        **models,
        items_per_call=2,
        on_progress=lambda done, total: progress.append((done, total)),
    )

    assert progress == [(2, 5), (4, 5), (5, 5)]
    for left, right in zip(together, divided, strict=True):
        assert left == pytest.approx(right, abs=1e-5)
        assert left["combined"] in (left["helpfulness"], left["safety"])
    assert together[0] == pytest.approx(together[4], abs=1e-5)
    assert together[0] != pytest.approx(together[1], abs=1e-3)


def test_risky_prompts_take_the_safety_score(stub: Any, models: dict[str, str]) -> None:
    rollouts = [rollout("the mat", "harmful"), rollout("the mat", "helpful")]

    risky, safe = score_rollouts(
        stub, rollouts, heads=["helpfulness", "safety", "combined"], **models
    )

    assert risky.scores["combined"] == risky.scores["safety"]
    below = 1 / (1 + math.exp(-safe.scores["safety"])) < 0.15
    expected = safe.scores["safety" if below else "helpfulness"]
    assert safe.scores["combined"] == expected
    assert risky.scores["oracle"] == 1.0


def test_the_models_that_scored_are_named(stub: Any, models: dict[str, str]) -> None:
    item = pb.ScoredItem(
        pair=types_pb2.PromptResponse(prompt=prompt_to_wire(PROMPT), response="the mat")
    )
    response = stub.ScoreResponses(
        pb.ScoreResponsesRequest(
            items=[item], heads=[pb.HEAD_COMBINED], models=pb.RewardModels(**models)
        )
    )
    assert dict(response.reward_model_ids) == models
    assert dict(response.temperatures) == {"combined": 1.0}


def test_pairs_are_compared_by_bradley_terry(stub: Any, models: dict[str, str]) -> None:
    pairs = [
        pb.ResponsePair(prompt=prompt_to_wire(PROMPT), response_a=a, response_b=b)
        for a, b in [("the mat", "a dog"), ("a dog", "the mat"), ("the mat", "the mat")]
    ]
    response = stub.ComparePairs(
        pb.ComparePairsRequest(
            pairs=pairs, head=pb.HEAD_HELPFULNESS, models=pb.RewardModels(**models)
        )
    )

    forward, backward, same = response.comparisons
    gap = forward.score_a - forward.score_b
    assert forward.probability_a == pytest.approx(1 / (1 + math.exp(-gap)))
    assert forward.probability_a + backward.probability_a == pytest.approx(1, abs=1e-6)
    assert same.probability_a == pytest.approx(0.5, abs=1e-6)
    assert dict(response.reward_model_ids) == {"helpfulness": models["helpfulness"]}


def test_probabilities_are_read_at_the_models_temperature(
    stub: Any, tiny_reward_models: dict[str, Path], tmp_path: Path
) -> None:
    model = RewardModel.load(tiny_reward_models["helpfulness"])
    model.card = model.card.model_copy(update={"temperature": 2.5})
    model.save(tmp_path)
    pair = pb.ResponsePair(prompt=prompt_to_wire(PROMPT), response_a="the mat", response_b="a dog")

    found = stub.ComparePairs(
        pb.ComparePairsRequest(
            pairs=[pair],
            head=pb.HEAD_HELPFULNESS,
            models=pb.RewardModels(helpfulness=str(tmp_path)),
        )
    ).comparisons[0]

    gap = (found.score_a - found.score_b) / 2.5
    assert abs(gap) > 1e-3
    assert found.probability_a == pytest.approx(1 / (1 + math.exp(-gap)))


def test_responses_are_ranked_best_first(stub: Any, models: dict[str, str]) -> None:
    expected = [scores["safety"] for scores in score_pairs(stub, PAIRS, heads=["safety"], **models)]

    ranking = stub.RankResponses(
        pb.RankResponsesRequest(
            prompt=prompt_to_wire(PROMPT),
            responses=RESPONSES,
            head=pb.HEAD_SAFETY,
            models=pb.RewardModels(**models),
        )
    ).ranking

    assert sorted(ranked.index for ranked in ranking) == [0, 1, 2, 3, 4]
    scores = [ranked.score for ranked in ranking]
    assert scores == sorted(scores, reverse=True)
    for ranked in ranking:
        assert ranked.score == pytest.approx(expected[ranked.index], abs=1e-5)


def test_ranked_responses_say_how_probable_it_is_that_they_are_best(
    stub: Any, models: dict[str, str]
) -> None:
    ranking = stub.RankResponses(
        pb.RankResponsesRequest(
            prompt=prompt_to_wire(PROMPT),
            responses=RESPONSES,
            head=pb.HEAD_SAFETY,
            models=pb.RewardModels(**models),
        )
    ).ranking

    total = sum(math.exp(ranked.score) for ranked in ranking)
    for ranked in ranking:
        assert ranked.probability_best == pytest.approx(math.exp(ranked.score) / total)


def test_a_policy_judges_in_both_orders(
    settings: Settings, tiny_policy: Path, judging: Any
) -> None:
    pairs = [
        pb.ResponsePair(prompt=prompt_to_wire(PROMPT), response_a=a, response_b=b)
        for a, b in [("mat", "dog"), ("dog", "mat"), ("sea", "sea")]
    ]
    judge = pb.Judge(policy=f"path:{tiny_policy}", question="{first}{second}", tie_margin=0.01)

    found = judging.ComparePairs(pb.ComparePairsRequest(pairs=pairs, judge=judge))

    forward, backward, same = found.comparisons
    # A model of random weights favours a place; the mean of both orders does not.
    assert forward.verdict.probability_a_first != pytest.approx(0.5, abs=1e-4)
    assert forward.probability_a + backward.probability_a == pytest.approx(1, abs=1e-5)
    mean = (forward.verdict.probability_a_first + forward.verdict.probability_a_second) / 2
    assert forward.probability_a == pytest.approx(mean)
    assert same.verdict.tie and same.probability_a == pytest.approx(0.5, abs=1e-6)
    assert found.judge_policy_id.startswith("dir:")
    assert found.agreement.ties >= 1 and not found.reward_model_ids
    assert found.agreement.place_bias != 0
    with pytest.raises(InvalidInputError, match="begin with token"):
        twins = pb.Judge(
            policy=f"path:{tiny_policy}", question="{first}{second}", answers=["AB", "AC"]
        )
        judging.ComparePairs(pb.ComparePairsRequest(pairs=pairs, judge=twins))


def test_a_service_without_a_sampler_says_so(stub: Any) -> None:
    pair = pb.ResponsePair(prompt=prompt_to_wire(PROMPT), response_a="a", response_b="b")
    with pytest.raises(FailedPreconditionError, match="PLUMBLINE_SAMPLER_TARGET"):
        stub.ComparePairs(pb.ComparePairsRequest(pairs=[pair], judge=pb.Judge()))


def test_loading_sets_the_default_of_a_head(stub: Any, models: dict[str, str]) -> None:
    loaded = stub.LoadRewardModel(pb.LoadRewardModelRequest(reward_model=models["helpfulness"]))

    assert (loaded.reward_model_id, loaded.head) == (models["helpfulness"], pb.HEAD_HELPFULNESS)
    assert loaded.architecture == "llama"
    by_default = score_pairs(stub, PAIRS, heads=["helpfulness"])
    assert by_default == score_pairs(stub, PAIRS, heads=["helpfulness"], **models)


def test_errors_arrive_typed_and_name_what_is_accepted(stub: Any, models: dict[str, str]) -> None:
    accepted = "accepted: helpfulness, safety, combined"
    with pytest.raises(InvalidInputError, match=f"heads=0 is not a head; {accepted}"):
        stub.ScoreResponses(pb.ScoreResponsesRequest(heads=[pb.HEAD_UNSPECIFIED]))
    with pytest.raises(InvalidInputError, match=f"'honesty' is unknown; {accepted}"):
        score_pairs(stub, PAIRS, heads=["honesty"])
    with pytest.raises(InvalidInputError, match=f"no head named; {accepted}"):
        score_pairs(stub, PAIRS, heads=[], **models)
    with pytest.raises(FailedPreconditionError, match="trained for head 'safety'"):
        score_pairs(stub, PAIRS, heads=["helpfulness"], helpfulness=models["safety"])
    with pytest.raises(NotFoundError):
        score_pairs(stub, PAIRS, heads=["safety"], safety="reward-model/none@latest")


def test_the_stage_fills_in_scores(
    settings: Settings, address: str, models: dict[str, str], tmp_path: Path
) -> None:
    store = open_configured_store(settings)
    rollouts = [rollout(response, kind) for response in RESPONSES[:3] for kind in ("harmful", "")]
    write_records(tmp_path / "rollouts.parquet", rollouts)
    lineage = Lineage(stage="test", version=1, config={}, inputs={})
    source = store.put("rollouts", tmp_path, lineage=lineage)
    inputs = {"rollouts": [source.id], **{head: [model] for head, model in models.items()}}
    connected = settings.model_copy(update={"targets": {"reward": address}})

    artifact, cached = run_stage(
        STAGES[0], {"heads": ["safety", "combined"]}, inputs, store=store, settings=connected
    )

    scored = read_records(store.materialise(artifact.id) / "rollouts.parquet", Rollout)
    assert not cached
    assert [one.id for one in scored] == [one.id for one in rollouts]
    assert {tuple(sorted(one.scores)) for one in scored} == {("combined", "oracle", "safety")}
    assert all(o.scores["combined"] == o.scores["safety"] for o in scored[::2])
    mean = sum(one.scores["safety"] for one in scored) / 6
    assert artifact.manifest.metrics["score_mean.safety"] == pytest.approx(mean)
    with pytest.raises(ConfigError, match="head 'combined' needs the input 'safety'"):
        run_stage(
            STAGES[0],
            {"heads": ["combined"]},
            {"rollouts": [source.id], "helpfulness": [models["helpfulness"]]},
            store=store,
            settings=connected,
        )
