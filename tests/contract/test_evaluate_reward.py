"""`evaluation.evaluate_reward` against real services, with tiny random models."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.core.artifacts import Artifact, ArtifactStore, open_configured_store
from plumbline.core.errors import ConfigError
from plumbline.core.rpc import serve_in_thread
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.data.records import Rollout
from plumbline.data.tables import read_records
from plumbline.evaluation.tasks import STAGES
from plumbline.models.checkpoint import save_model
from plumbline.models.programmatic import LengthReward, response_reward
from plumbline.models.references import ModelReferences
from plumbline.reward.engine import RewardEngine
from plumbline.reward.service import RewardService
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.v1 import reward_pb2_grpc, sampler_pb2_grpc

STAGE = next(stage for stage in STAGES if stage.name == "evaluation.evaluate_reward")
LENGTH = {"kind": "length", "target_words": 4}
SHORT = {"name": "v1", "max_response_tokens": 12, "responses_per_prompt": 4}

Evaluate = Callable[..., Artifact]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    plain = Settings(state_dir=tmp_path_factory.mktemp("state"), threads=1)
    references = ModelReferences(open_configured_store(plain))

    def register_sampler(server: grpc.aio.Server) -> list[str]:
        servicer = SamplerService(SamplerEngine(references, device="cpu"))
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.SamplerService"]

    def register_reward(server: grpc.aio.Server) -> list[str]:
        servicer = RewardService(RewardEngine(references, device="cpu"))
        reward_pb2_grpc.add_RewardServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.RewardService"]

    with (
        serve_in_thread("sampler", register_sampler) as sampler,
        serve_in_thread("reward", register_reward) as reward,
    ):
        yield plain.model_copy(update={"targets": {"sampler": sampler, "reward": reward}})


@pytest.fixture(scope="module")
def store(settings: Settings) -> ArtifactStore:
    return open_configured_store(settings)


@pytest.fixture
def evaluate(settings: Settings, store: ArtifactStore, tmp_path: Path) -> Evaluate:
    """Runs the stage: `evaluate(config, policy=..., ...)`; inputs are directories."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": f"the cat {i}"}) for i in range(6)))

    def run(config: dict[str, Any], **inputs: Path) -> Artifact:
        references = {name: [f"path:{path}"] for name, path in inputs.items()}
        references["prompts"] = [f"path:{prompts}"]
        artifact, _ = run_stage(
            STAGE, {**SHORT, **config}, references, store=store, settings=settings
        )
        return artifact

    return run


@pytest.fixture(scope="module")
def other_policy(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    directory = tmp_path_factory.mktemp("other-policy")
    save_model(tiny_llama(seed=5), tiny_tokenizer, directory)
    return directory


def test_a_programmatic_reward_is_the_mean_over_responses(
    evaluate: Evaluate, store: ArtifactStore, tiny_policy: Path
) -> None:
    artifact = evaluate({"reward": LENGTH, "max_prompts": 5}, policy=tiny_policy)

    rollouts = read_records(store.materialise(artifact.id) / "rollouts.parquet", Rollout)
    scores = [rollout.scores["length"] for rollout in rollouts]
    score = response_reward(LengthReward(target_words=4))
    assert scores == [score(rollout.response) for rollout in rollouts]
    assert len(scores) == 20
    metrics = artifact.manifest.metrics
    assert metrics["reward.v1"] == pytest.approx(statistics.fmean(scores))
    assert metrics["reward_sd.v1"] == pytest.approx(statistics.stdev(scores))
    assert "kl.v1" not in metrics


def test_kl_is_zero_from_itself_and_positive_from_another(
    evaluate: Evaluate, store: ArtifactStore, tiny_policy: Path, other_policy: Path
) -> None:
    config = {"reward": LENGTH, "template": "plain"}

    same = evaluate(config, policy=tiny_policy, reference=tiny_policy)
    other = evaluate(config, policy=tiny_policy, reference=other_policy)
    # The temperature that replies are scored at does not matter to the KL.
    cooler = evaluate({**config, "temperature": 0.5}, policy=tiny_policy, reference=other_policy)

    assert same.manifest.metrics["kl.v1"] == pytest.approx(0.0, abs=1e-6)
    assert other.manifest.metrics["kl_upper.v1"] > other.manifest.metrics["kl.v1"] > 1.0
    assert cooler.manifest.metrics["kl.v1"] == other.manifest.metrics["kl.v1"]
    responses = {
        artifact.id: [
            rollout.response
            for rollout in read_records(
                store.materialise(artifact.id) / "rollouts.parquet", Rollout
            )
        ]
        for artifact in (other, cooler)
    }
    assert responses[other.id] != responses[cooler.id]


def test_a_reward_model_scores_through_its_service(
    evaluate: Evaluate, tiny_policy: Path, tiny_reward_models: dict[str, Path]
) -> None:
    model = tiny_reward_models["helpfulness"]

    metrics = evaluate({}, policy=tiny_policy, reward_model=model).manifest.metrics

    assert metrics["reward_sd.v1"] > 0
    with pytest.raises(ConfigError, match="no reward is configured"):
        evaluate({}, policy=tiny_policy)
    with pytest.raises(ConfigError, match="needs no reward model"):
        evaluate({"reward": LENGTH}, policy=tiny_policy, reward_model=model)
