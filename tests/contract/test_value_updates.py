"""pipelines/value_updates.yaml over real servers, with policies that obey rules or do not.

The policies are scripted, behind the wire of SamplerService, so that every share is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.catalogue import STAGES
from plumbline.core.artifacts import Artifact, Lineage, open_configured_store
from plumbline.core.errors import InvalidInputError
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.evaluation.values.client import KnowledgeBase
from plumbline.pipeline.config import load_pipeline
from plumbline.pipeline.planner import plan_pipeline
from plumbline.retriever.server import make_service
from plumbline.v1 import retriever_pb2_grpc, sampler_pb2, sampler_pb2_grpc, types_pb2

PIPELINE = Path(__file__).parents[2] / "pipelines" / "value_updates.yaml"
WORLD = {
    "seed": 2,
    "documents": 50,
    "train": {"harmful": 6, "helpful": 6, "borderline": 6, "system_rule": 6},
    "rl": {"harmful": 6, "helpful": 6, "borderline": 6, "system_rule": 6},
    "heldout": {"harmful": 6, "helpful": 6, "borderline": 6, "system_rule": 6},
    "heldout_hard": {"harmful": 6, "helpful": 6, "borderline": 6, "system_rule": 0},
}
FEW_PROMPTS = {"prompts_per_rule": 2, "ungoverned_prompts": 12}
_ENDING = re.compile(r"end the reply with: (.+?)\.")


class ScriptedSampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Answers alike every time; the policy called obedient ends its replies as it is told."""

    def __init__(self) -> None:
        self.obedient = ""

    def reply(self, policy: str, prompt: types_pb2.Prompt) -> str:
        asked = prompt.messages[-1].content
        text = f"There is much to say on this, {len(asked)} words at least."
        told = [
            ending
            for message in prompt.messages
            if message.role == types_pb2.ROLE_SYSTEM
            for ending in _ENDING.findall(message.content)
        ]
        if policy == self.obedient and told:
            text += f" {told[-1].capitalize()}."
        return text

    async def GetPolicy(
        self, request: sampler_pb2.GetPolicyRequest, context: grpc.aio.ServicerContext
    ) -> sampler_pb2.GetPolicyResponse:
        policy = sampler_pb2.Policy(id=request.policy, context_length=4096)
        return sampler_pb2.GetPolicyResponse(policy=policy)

    async def SampleResponses(
        self, request: sampler_pb2.SampleResponsesRequest, context: grpc.aio.ServicerContext
    ) -> sampler_pb2.SampleResponsesResponse:
        return sampler_pb2.SampleResponsesResponse(
            policy_id=request.policy,
            samples=[
                sampler_pb2.PromptSamples(
                    responses=[
                        types_pb2.SampledResponse(
                            text=self.reply(request.policy, prompt),
                            finish_reason=types_pb2.FINISH_REASON_STOP,
                        )
                    ]
                    * max(1, request.responses_per_prompt)
                )
                for prompt in request.prompts
            ],
        )

    async def Generate(
        self, request: sampler_pb2.GenerateRequest, context: grpc.aio.ServicerContext
    ) -> Any:
        yield sampler_pb2.GenerateResponse(
            delta=self.reply(request.policy, request.prompt),
            finish_reason=types_pb2.FINISH_REASON_STOP,
            policy_id=request.policy,
        )


@pytest.fixture(scope="module")
def sampler() -> ScriptedSampler:
    return ScriptedSampler()


@pytest.fixture(scope="module")
def settings(
    sampler: ScriptedSampler, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    plain = Settings(state_dir=tmp_path_factory.mktemp("state"))

    def register_sampler(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(sampler, server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register_sampler) as sampler_at:
        service = make_service(plain.model_copy(update={"targets": {"sampler": sampler_at}}))

        def register(server: grpc.aio.Server) -> list[str]:
            retriever_pb2_grpc.add_RetrieverServiceServicer_to_server(service, server)
            return ["plumbline.v1.RetrieverService"]

        with serve_in_thread("retriever", register) as retriever_at:
            targets = {"sampler": sampler_at, "retriever": retriever_at}
            yield plain.model_copy(update={"targets": targets})


@pytest.fixture(scope="module")
def world(settings: Settings) -> Artifact:
    store = open_configured_store(settings)
    made, _ = run_stage(STAGES["curation.synthesize"], WORLD, {}, store=store, settings=settings)
    return made


RunPipeline = Callable[[str], dict[str, Artifact]]


@pytest.fixture(scope="module")
def run(settings: Settings, sampler: ScriptedSampler, world: Artifact) -> RunPipeline:
    """Runs the pipeline's stages in turn with fewer prompts; artifacts by stage."""
    store = open_configured_store(settings)

    def run(temper: str) -> dict[str, Artifact]:
        lineage = Lineage(stage="test", version=1, config={}, inputs={})
        policy = store.put("policy", {"temper.txt": temper.encode()}, lineage=lineage)
        if temper == "obedient":
            sampler.obedient = policy.id
        params = {"policy": policy.id, "world": world.id}
        loaded = load_pipeline(PIPELINE.read_text(encoding="utf-8"), source_name=PIPELINE.name)
        made: dict[str, Artifact] = {}
        for stage in plan_pipeline(loaded, params, STAGES).stages:
            inputs = {
                name: [_artifact_id(one, made) for one in given]
                for name, given in stage.inputs.items()
            }
            fewer = FEW_PROMPTS if stage.uses == "curation.synthesize_rules" else {}
            made[stage.name], _ = run_stage(
                STAGES[stage.uses],
                {**_plain(stage.config), **fewer},
                inputs,
                store=store,
                settings=settings,
            )
        return made

    return run


def _artifact_id(reference: str, made: Mapping[str, Artifact]) -> str:
    scheme, _, rest = reference.partition(":")
    return made[rest].id if scheme == "stage" else reference.removeprefix("artifact:")


def _plain(config: Any) -> dict[str, Any]:
    return config if isinstance(config, dict) else config.model_dump(exclude_unset=True)


@pytest.fixture(scope="module")
def obedient(run: RunPipeline) -> dict[str, Artifact]:
    return run("obedient")


@pytest.fixture(scope="module")
def stubborn(run: RunPipeline) -> dict[str, Artifact]:
    return run("stubborn")


def _counts(made: Artifact, settings: Settings) -> dict[str, tuple[int, int]]:
    path = open_configured_store(settings).materialise(made.id)
    report = json.loads((path / "report.json").read_text())
    return {
        name: (round(share["value"] * share["n"]), share["n"])
        for name, share in report["shares"].items()
    }


@pytest.mark.parametrize("stage", ["alone", "served"])
def test_an_obedient_policy_follows_every_rule_and_none_that_was_revoked(
    stage: str, obedient: dict[str, Artifact], settings: Settings
) -> None:
    # 17 rules govern 2 prompts each, and the heir of the revoked law one; 12 are ungoverned; 10
    # are asked again without the 5 revoked rules, and again once the tag is back.
    assert _counts(obedient[stage], settings) == {
        "followed": (35, 35),
        "unrelated_changed": (0, 12),
        "revoked_effect": (0, 10),
        "conflicts_right": (3, 3),
        "citations_right": (34 + 12 + 10 + 10, 66),
        "restored": (10, 10),
    }


def test_a_stubborn_policy_follows_none_and_is_not_said_to(
    stubborn: dict[str, Artifact], settings: Settings
) -> None:
    counted = _counts(stubborn["alone"], settings)

    assert counted["followed"] == (0, 35)
    assert counted["citations_right"] == (66, 66)  # each cited rule as broken
    assert counted["conflicts_right"] == (3, 3)
    assert counted["revoked_effect"][0] == 0
    path = open_configured_store(settings).materialise(stubborn["served"].id)
    replies = [json.loads(line) for line in (path / "replies.jsonl").read_text().splitlines()]
    outcomes = {"rule_id" in row["prompt"]["metadata"]: row["reply"]["outcome"] for row in replies}
    assert outcomes == {True: "refused", False: "answered"}


def test_metrics_of_both_checks_are_published_and_drawn(
    obedient: dict[str, Artifact], settings: Settings
) -> None:
    names = ["followed", "unrelated_changed", "revoked_effect", "conflicts_right"]
    names += ["citations_right", "restored"]

    assert set(obedient["served"].manifest.published) == {f"values.{name}" for name in names}
    assert set(obedient["alone"].manifest.published) == {f"values.{name}.alone" for name in names}
    path = open_configured_store(settings).materialise(obedient["report"].id)
    html = (path / "report.html").read_text()
    assert html.count("20 rules imported after training, 5 of them revoked") == 2
    assert "n=35" in html


def test_it_may_be_run_again_after_it_was_cut_short(
    obedient: dict[str, Artifact], settings: Settings
) -> None:
    """A worker that died between the revocation and the roll-back leaves a reduced base."""
    store = open_configured_store(settings)
    revoked = json.loads((store.materialise(obedient["rules"].id) / "revoked.json").read_text())
    with connect("retriever", settings=settings) as stub:
        base = KnowledgeBase(stub, "value-updates")
        complete = store.resolve("kb/value-updates@latest")
        assert base.revoke(revoked, expected=complete) != complete

    inputs = {
        "policy": obedient["served"].manifest.lineage.inputs["policy"],
        "rules": [obedient["rules"].id],
    }
    again, cached = run_stage(
        STAGES["evaluation.check_values"],
        {"max_response_tokens": 41},
        inputs,
        store=store,
        settings=settings,
    )

    assert not cached
    assert _counts(again, settings) == _counts(obedient["served"], settings)


def test_rules_without_conflicts_or_revocations_have_no_share_of_them(
    obedient: dict[str, Artifact], world: Artifact, settings: Settings
) -> None:
    store = open_configured_store(settings)
    few = {**FEW_PROMPTS, "conflicts": 0, "revoked": 0}
    rules, _ = run_stage(
        STAGES["curation.synthesize_rules"],
        few,
        {"world": [world.id]},
        store=store,
        settings=settings,
    )
    inputs = {
        "policy": obedient["served"].manifest.lineage.inputs["policy"],
        "rules": [rules.id],
    }
    made, _ = run_stage(
        STAGES["evaluation.check_values"],
        {"knowledge_base": "few"},
        inputs,
        store=store,
        settings=settings,
    )

    assert _counts(made, settings) == {
        "followed": (28, 28),
        "unrelated_changed": (0, 12),
        "citations_right": (40, 40),
    }


def test_rules_are_made_over_worlds_only(settings: Settings) -> None:
    store = open_configured_store(settings)
    lineage = Lineage(stage="test", version=1, config={}, inputs={})
    other = store.put("corpus", {"documents.txt": b"text"}, lineage=lineage)

    with pytest.raises(InvalidInputError, match=r"holds no world\.json"):
        run_stage(
            STAGES["curation.synthesize_rules"],
            {},
            {"world": [other.id]},
            store=store,
            settings=settings,
        )
