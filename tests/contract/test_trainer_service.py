"""TrainerService over loopback gRPC, and training against remote services."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from plumbline.catalogue import STAGES
from plumbline.core.artifacts import open_configured_store
from plumbline.core.errors import ConfigError, NotFoundError
from plumbline.core.jobs import Job, JobState, Progress
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.core.stages import check_input_names, run_stage
from plumbline.core.validation import parse_config
from plumbline.data.records import Prompt, Rollout, user
from plumbline.data.tables import read_records, write_records
from plumbline.models.references import ModelReferences
from plumbline.reward.engine import RewardEngine
from plumbline.reward.service import RewardService
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.trainer.service import TrainerService
from plumbline.v1 import jobs_pb2, reward_pb2_grpc, sampler_pb2_grpc, trainer_pb2_grpc
from plumbline.v1 import trainer_pb2 as pb

METHODS = [
    "context_distillation",
    "dpo",
    "ghost_attention",
    "grpo",
    "judge",
    "kto",
    "ppo",
    "pretrain",
    "reinforce",
    "rejection_sampling",
    "reward_model",
    "rloo",
    "sft",
    "vision_sft",
]


class Recorder:
    """Checks as the queue does, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.created: list[Job] = []

    def __call__(
        self,
        stage_name: str,
        config: Mapping[str, Any],
        inputs: Mapping[str, Sequence[str]],
        request_id: str,
        labels: Mapping[str, str],
    ) -> Job:
        stage = STAGES[stage_name]
        parsed = parse_config(stage.config, config, where=f"stage {stage_name}")
        check_input_names(stage, inputs)
        job = Job(
            id=f"job-{len(self.created)}",
            request_id=request_id,
            kind=stage_name,
            spec={"stage": stage_name, "config": parsed.model_dump(mode="json"), "inputs": inputs},
            queue=stage.queue,
            state=JobState.QUEUED,
            why="waiting for a worker",
            code="",
            progress=Progress(),
            attempts=0,
            created_at=1.0,
            started_at=None,
            finished_at=None,
            result=None,
            labels=dict(labels),
            metrics={},
            fencing_token=0,
            lease_owner=None,
            lease_expires_at=None,
            cancel_requested=False,
        )
        self.created.append(job)
        return job


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def stub(recorder: Recorder) -> Iterator[Any]:
    def register(server: grpc.aio.Server) -> list[str]:
        servicer = TrainerService(STAGES, recorder)
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.TrainerService"]

    with (
        serve_in_thread("trainer", register) as address,
        connect("trainer", target=address) as client,
    ):
        yield client


def request(method: str, config: Mapping[str, Any], **inputs: str) -> pb.CreateTrainingJobRequest:
    wire_config = Struct()
    wire_config.update(dict(config))
    return pb.CreateTrainingJobRequest(
        request_id="6f1d4f5e-0d67-4f0a-9d5c-3f8f0a5b6c7d",
        method=method,
        config=wire_config,
        inputs={n: jobs_pb2.InputReferences(artifacts=[i]) for n, i in inputs.items()},
        labels={"team": "safety"},
    )


def test_methods_come_with_their_schemas(stub: Any) -> None:
    methods = stub.ListMethods(pb.ListMethodsRequest()).methods

    assert [method.name for method in methods] == METHODS
    ppo = methods[METHODS.index("ppo")]
    schema = MessageToDict(ppo.config_schema)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["clip_range"]["default"] == 0.2
    assert ppo.inputs["policy"] == "policy"
    assert ppo.inputs["prompts"] == "corpus|conversations|rollouts|preferences"
    assert all(method.description for method in methods)


def test_job_is_queued_with_its_whole_configuration(stub: Any, recorder: Recorder) -> None:
    message = request("sft", {"epochs": 3, "learning_rate": 1e-3}, base="a", conversations="b")

    job = stub.CreateTrainingJob(message).job

    assert job.state == jobs_pb2.JOB_STATE_QUEUED
    assert job.spec.stage == "trainer.sft"
    assert dict(job.labels) == {"team": "safety"}
    (created,) = recorder.created
    assert created.spec["config"]["epochs"] == 3
    # Absent keys take their defaults.
    assert created.spec["config"]["batch_size"] == 64
    assert created.spec["inputs"] == {"base": ["a"], "conversations": ["b"]}


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        ({"epoch": 3}, {"base": "a", "conversations": "b"}, "epoch"),
        ({"epochs": 0}, {"base": "a", "conversations": "b"}, "epochs"),
        ({}, {"base": "a"}, "conversations"),
        ({}, {"base": "a", "conversations": "b", "teacher": "c"}, "teacher"),
    ],
)
def test_wrong_requests_are_refused_before_queueing(
    stub: Any,
    recorder: Recorder,
    config: dict[str, Any],
    inputs: dict[str, str],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        stub.CreateTrainingJob(request("sft", config, **inputs))

    assert not recorder.created


def test_unknown_method_names_the_others(stub: Any) -> None:
    with pytest.raises(NotFoundError, match=r"'pp0'.*accepted: context_dist") as refused:
        stub.CreateTrainingJob(request("pp0", {}))

    assert refused.value.reason == "UNKNOWN_METHOD"


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    records = [Prompt(str(i), (user("the cat" + " sat" * i),), kind="helpful") for i in range(6)]
    write_records(tmp_path / "prompts.parquet", records)
    return tmp_path / "prompts.parquet"


@pytest.mark.parametrize("method", ["ppo", "rejection_sampling"])
def test_disaggregated_training_has_the_colocated_rollouts(
    method: str,
    prompts: Path,
    tiny_policy: Path,
    tiny_reward_models: dict[str, Path],
    tmp_path: Path,
) -> None:
    plain = Settings(state_dir=tmp_path / "state", threads=1)
    store = open_configured_store(plain)
    references = ModelReferences(store)

    def register_sampler(server: grpc.aio.Server) -> list[str]:
        servicer = SamplerService(SamplerEngine(references, device="cpu"))
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.SamplerService"]

    def register_reward(server: grpc.aio.Server) -> list[str]:
        servicer = RewardService(RewardEngine(references, device="cpu"))
        reward_pb2_grpc.add_RewardServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.RewardService"]

    config: dict[str, Any] = {"max_response_tokens": 6, "learning_rate": 1e-3, "log_every": 1}
    config |= {"keep_rollouts": "all", "device": "cpu"}
    if method == "ppo":
        config |= {"iterations": 2, "prompts_per_iteration": 8, "minibatch_size": 4}
    else:
        config |= {"rounds": 2, "responses_per_prompt": 3, "keep_unfinished": True}
    inputs = {
        "policy": [f"path:{tiny_policy}"],
        "prompts": [f"path:{prompts}"],
        "helpfulness": [f"path:{tiny_reward_models['helpfulness']}"],
        "safety": [f"path:{tiny_reward_models['safety']}"],
    }
    found = {}
    with (
        serve_in_thread("sampler", register_sampler) as sampler,
        serve_in_thread("reward", register_reward) as reward,
    ):
        settings = plain.model_copy(update={"targets": {"sampler": sampler, "reward": reward}})
        for rollout in ("colocated", "remote"):
            artifact, _ = run_stage(
                STAGES[f"trainer.{method}"],
                {**config, "rollout": rollout},
                inputs,
                store=store,
                settings=settings,
            )
            directory = store.materialise(artifact.id)
            found[rollout] = read_records(directory / "rollouts.parquet", Rollout)

    colocated, remote = found["colocated"], found["remote"]
    assert len(colocated) == (3 * 8 if method == "ppo" else 2 * 6 * 3)
    for ours, theirs in zip(colocated, remote, strict=True):
        assert ours.response_token_ids == theirs.response_token_ids
        assert ours.seed == theirs.seed
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-5)
    # Each iteration's policy was published under an id of its own.
    assert len({r.policy_id for r in remote}) == (3 if method == "ppo" else 2)
