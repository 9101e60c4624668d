"""TrainerService over loopback gRPC, and training against remote services."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from plumbline.catalogue import STAGES
from plumbline.core.artifacts import ArtifactStore, Lineage, open_configured_store
from plumbline.core.errors import ConfigError, InvalidInputError, NotFoundError
from plumbline.core.execution import Execution, check_ranks
from plumbline.core.jobs import Job, JobState, Progress
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.core.stages import check_input_names, run_stage
from plumbline.core.validation import parse_config
from plumbline.data.records import Prompt, Rollout, user
from plumbline.data.tables import read_records, write_records
from plumbline.models.adapters import merge_adapters, save_adapters
from plumbline.models.checkpoint import load_causal_lm
from plumbline.models.packing import PromptGroup
from plumbline.models.references import ModelReferences
from plumbline.reward.engine import RewardEngine
from plumbline.reward.service import RewardService
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.trainer.adapters import choose_parameters
from plumbline.trainer.config import LoRAConfig, SFTConfig
from plumbline.trainer.drawn_logprobs import trusted_logprobs
from plumbline.trainer.forward import response_mask
from plumbline.trainer.remote import RemoteSampler
from plumbline.trainer.service import TrainerService
from plumbline.v1 import jobs_pb2, reward_pb2_grpc, sampler_pb2, sampler_pb2_grpc, trainer_pb2_grpc
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
        execution: Execution,
    ) -> Job:
        stage = STAGES[stage_name]
        parsed = parse_config(stage.config, config, where=f"stage {stage_name}")
        check_input_names(stage, inputs)
        check_ranks(stage, parsed, execution, STAGES)
        where = {"execution": execution.as_spec()} if execution.as_spec() else {}
        job = Job(
            id=f"job-{len(self.created)}",
            request_id=request_id,
            kind=stage_name,
            spec={
                "stage": stage_name,
                "config": parsed.model_dump(mode="json"),
                "inputs": inputs,
                **where,
            },
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
    on_ranks = [method for method in methods if method.runs_on_ranks]
    assert [method.name for method in on_ranks] == ["sft"]
    assert "lora" in on_ranks[0].one_rank_settings


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
    assert not job.spec.HasField("execution")


def test_a_job_on_several_ranks_says_where_it_runs(stub: Any, recorder: Recorder) -> None:
    message = request("sft", {}, base="a", conversations="b")
    message.execution.CopyFrom(
        jobs_pb2.Execution(executor=jobs_pb2.EXECUTOR_KUBERNETES, nodes=4, pool="a100")
    )

    job = stub.CreateTrainingJob(message).job

    (created,) = recorder.created
    assert created.spec["execution"] == {"executor": "kubernetes", "nodes": 4, "pool": "a100"}
    assert (job.spec.execution.nodes, job.spec.execution.ranks_per_node) == (4, 1)
    assert job.spec.execution.executor == jobs_pb2.EXECUTOR_KUBERNETES


@pytest.mark.parametrize(
    ("method", "config", "execution", "message"),
    [
        ("pretrain", {}, {"nodes": 2}, "trainer.pretrain runs on one rank.*trainer.sft"),
        ("sft", {"neftune_alpha": 5.0}, {"ranks_per_node": 2}, "neftune_alpha=5.0 works on one"),
        ("sft", {}, {"executor": 9}, "executor=9 is unknown"),
        ("sft", {}, {"nodes": -1}, "nodes=-1 is not accepted"),
        ("sft", {}, {"executor": 1, "nodes": 2}, "nodes=2 with executor='local'"),
    ],
)
def test_wrong_executions_are_refused(
    stub: Any,
    recorder: Recorder,
    method: str,
    config: dict[str, Any],
    execution: dict[str, Any],
    message: str,
) -> None:
    inputs = {"corpus": "b"} if method == "pretrain" else {"base": "a", "conversations": "b"}
    asked = request(method, config, **inputs)
    asked.execution.CopyFrom(jobs_pb2.Execution(**execution))

    with pytest.raises(InvalidInputError, match=message):
        stub.CreateTrainingJob(asked)
    assert not recorder.created


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


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return open_configured_store(Settings(state_dir=tmp_path / "state", threads=1))


@pytest.fixture
def sampler_address(store: ArtifactStore) -> Iterator[str]:
    def register(server: grpc.aio.Server) -> list[str]:
        servicer = SamplerService(SamplerEngine(ModelReferences(store), device="cpu"))
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as address:
        yield address


@pytest.fixture
def reward_address(store: ArtifactStore) -> Iterator[str]:
    def register(server: grpc.aio.Server) -> list[str]:
        servicer = RewardService(RewardEngine(ModelReferences(store), device="cpu"))
        reward_pb2_grpc.add_RewardServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.RewardService"]

    with serve_in_thread("reward", register) as address:
        yield address


@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["whole", "adapters"])
@pytest.mark.parametrize("method", ["ppo", "rejection_sampling"])
def test_disaggregated_training_has_the_colocated_rollouts(
    method: str,
    lora: dict[str, int] | None,
    prompts: Path,
    tiny_policy: Path,
    tiny_reward_models: dict[str, Path],
    store: ArtifactStore,
    sampler_address: str,
    reward_address: str,
    tmp_path: Path,
) -> None:
    config: dict[str, Any] = {"max_response_tokens": 6, "learning_rate": 1e-3, "log_every": 1}
    config |= {"keep_rollouts": "all", "device": "cpu", "lora": lora}
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
    targets = {"sampler": sampler_address, "reward": reward_address}
    settings = Settings(state_dir=tmp_path / "state", threads=1, targets=targets)
    found = {}
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
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
        assert ours.untempered_logprobs == pytest.approx(theirs.untempered_logprobs, abs=1e-4)
        assert len(ours.untempered_logprobs) == len(ours.response_token_ids)
    # Each iteration's policy was published under an id of its own.
    assert len({r.policy_id for r in remote}) == (3 if method == "ppo" else 2)
    # Of a policy that learns by adapters they alone were.
    published = {artifact.kind for artifact in store.list().artifacts}
    assert ("adapters" in published) is (lora is not None)


def test_adapters_alone_make_the_policy_that_is_trained(
    tiny_policy: Path,
    prompts: Path,
    store: ArtifactStore,
    sampler_address: str,
    tmp_path: Path,
) -> None:
    """The same rollouts as of the whole policy, from a tenth of its bytes, with logprobs that
    training goes on from."""
    base = store.put("policy", tiny_policy, lineage=Lineage(stage="import")).id
    model, tokenizer = load_causal_lm(tiny_policy)
    targets = ("q_proj", "v_proj")
    choose_parameters(model, SFTConfig(lora=LoRAConfig(rank=2, targets=targets)))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    whole = copy.deepcopy(model)
    merge_adapters(whole)
    asked = read_records(prompts, Prompt)
    drawn, sizes = {}, {}
    with connect("sampler", target=sampler_address) as stub:
        for name, trained in (("whole", whole), ("adapters", model)):

            def publish(directory: Path, name: str = name) -> str:
                artifact = store.put(name, directory, lineage=Lineage(stage="test"))
                sizes[name] = artifact.manifest.size_bytes
                return artifact.id

            sampler = RemoteSampler(
                stub,
                tokenizer,
                policy_id=base,
                template="chat",
                publish=publish,
                work_dir=tmp_path / name,
            )
            sampler.use_policy(trained, 1)
            drawn[name] = sampler.sample(
                asked,
                k=4,
                temperatures=(1.3,),
                top_p=1.0,
                max_response_tokens=16,
                seeds=range(len(asked)),
            )

    for one, other in zip(drawn["whole"], drawn["adapters"], strict=True):
        assert one.response_token_ids == other.response_token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    assert sizes["adapters"] < sizes["whole"] / 10
    rollouts = drawn["adapters"]
    assert {rollout.policy_id for rollout in rollouts} == {sampler.policy_id}
    mask = response_mask([PromptGroup((), [r.response_token_ids for r in rollouts])])
    told, gap = trusted_logprobs(
        model, rollouts, mask, policy_id=sampler.policy_id, pad_id=0, temperature=1.3
    )
    assert told is not None and gap is not None and gap < 1e-4


def test_same_adapters_are_the_same_artifact_and_name_their_base(
    tiny_policy: Path, store: ArtifactStore, sampler_address: str, tmp_path: Path
) -> None:
    base = store.put("policy", tiny_policy, lineage=Lineage(stage="import")).id
    ids = []
    for attempt in ("first", "second"):
        model, _ = load_causal_lm(tiny_policy)
        torch.manual_seed(0)
        choose_parameters(model, SFTConfig(lora=LoRAConfig()))
        save_adapters(model, tmp_path / attempt, base=base)
        lineage = Lineage(stage="test")
        ids.append(store.put("adapters", tmp_path / attempt, lineage=lineage).id)

    assert ids[0] == ids[1]
    # Not only within a process: a set's order differs from one to the next.
    config = json.loads((tmp_path / "first" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    with connect("sampler", target=sampler_address) as stub:
        # A sampler that was never told of the base finds it by the adapters' own account.
        loaded = stub.LoadPolicy(sampler_pb2.LoadPolicyRequest(policy=ids[0])).policy
    assert loaded.id == f"{ids[0]}+{base}"
