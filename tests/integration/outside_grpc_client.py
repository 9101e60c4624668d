"""A client of another team: grpcio, and stubs that it generated from the published protos.

It is run in an interpreter of its own with one JSON argument, and prints one JSON object. Nothing
of this project is importable there: the package `plumbline` holds only the generated stubs.
"""

from __future__ import annotations

import json
import sys
from typing import Any

DEADLINE_S = 120.0


def main(given: dict[str, Any]) -> dict[str, Any]:
    """Call every service once; given: stubs, services, policy, helpfulness, safety, world."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
    sys.path[:] = [given["stubs"], *(p for p in sys.path if not p.endswith("services"))]
    import plumbline

    assert list(plumbline.__path__) == [f"{given['stubs']}/plumbline"], plumbline.__path__

    import grpc

    from plumbline.v1 import (
        curation_pb2,
        curation_pb2_grpc,
        evaluation_pb2,
        evaluation_pb2_grpc,
        jobs_pb2,
        jobs_pb2_grpc,
        pipeline_pb2,
        pipeline_pb2_grpc,
        retriever_pb2,
        retriever_pb2_grpc,
        reward_pb2,
        reward_pb2_grpc,
        sampler_pb2,
        sampler_pb2_grpc,
        trainer_pb2,
        trainer_pb2_grpc,
        types_pb2,
    )

    def channel(service: str) -> grpc.Channel:
        return grpc.insecure_channel(given["services"][service])

    said: dict[str, Any] = {}
    question = types_pb2.Prompt(
        messages=[types_pb2.Message(role=types_pb2.ROLE_USER, content="the cat and the dog")]
    )

    curation = curation_pb2_grpc.CurationServiceStub(channel("curation"))
    text = curation_pb2.AnonymizeTextRequest(text="Write to ann@example.org today.")
    said["anonymized"] = curation.AnonymizeText(text, timeout=DEADLINE_S).text

    sampler = sampler_pb2_grpc.SamplerServiceStub(channel("sampler"))
    sampled = sampler.SampleResponses(
        sampler_pb2.SampleResponsesRequest(
            policy=given["policy"],
            prompts=[question],
            responses_per_prompt=2,
            parameters=types_pb2.SamplingParameters(max_response_tokens=4),
        ),
        timeout=DEADLINE_S,
    )
    said["sampled"] = [len(r.token_ids) for r in sampled.samples[0].responses]

    reward = reward_pb2_grpc.RewardServiceStub(channel("reward"))
    pair = types_pb2.PromptResponse(prompt=question, response="the old house")
    scored = reward.ScoreResponses(
        reward_pb2.ScoreResponsesRequest(
            items=[reward_pb2.ScoredItem(pair=pair)],
            heads=[
                reward_pb2.HEAD_HELPFULNESS,
                reward_pb2.HEAD_SAFETY,
                reward_pb2.HEAD_COMBINED,
            ],
            models=reward_pb2.RewardModels(
                helpfulness=given["helpfulness"], safety=given["safety"]
            ),
        ),
        timeout=DEADLINE_S,
    )
    said["scores"] = dict(scored.results[0].scores)

    trainer = trainer_pb2_grpc.TrainerServiceStub(channel("trainer"))
    listed = trainer.ListMethods(trainer_pb2.ListMethodsRequest(), timeout=DEADLINE_S)
    said["methods"] = [method.name for method in listed.methods]

    retriever = retriever_pb2_grpc.RetrieverServiceStub(channel("retriever"))
    value = retriever_pb2.ValueSpec(
        id="tides",
        kind=retriever_pb2.VALUE_KIND_FIXED,
        title="Tides",
        text="Name the source of every figure about tides.",
        category="facts",
        triggers=["tide"],
        effective_from="2020-01-01",
    )
    imported = retriever.ImportValues(
        retriever_pb2.ImportValuesRequest(knowledge_base="outside", values=[value]),
        timeout=DEADLINE_S,
    )
    found = retriever.RetrieveValues(
        retriever_pb2.RetrieveValuesRequest(
            knowledge_base=imported.artifact, query="How high is the tide?"
        ),
        timeout=DEADLINE_S,
    )
    said["retrieved"] = [hit.value.id for hit in found.values]

    evaluation = evaluation_pb2_grpc.EvaluationServiceStub(channel("evaluation"))
    evaluate = evaluation_pb2.EvaluatePolicyRequest(request_id="outside-evaluation")
    evaluate.inputs["policy"].artifacts.append(given["policy"])
    evaluate.inputs["world"].artifacts.append(given["world"])
    evaluate.config.update({"name": "outside", "max_prompts": 2, "max_response_tokens": 4})
    job = evaluation.EvaluatePolicy(evaluate, timeout=DEADLINE_S).job
    said["evaluation"] = jobs_pb2.JobState.Name(job.state)

    jobs = jobs_pb2_grpc.JobServiceStub(channel("pipeline"))
    answer = jobs.ListJobs(jobs_pb2.ListJobsRequest(page_size=100), timeout=DEADLINE_S)
    said["job_is_listed"] = job.id in [one.id for one in answer.jobs]
    jobs.CancelJob(jobs_pb2.CancelJobRequest(job_id=job.id), timeout=DEADLINE_S)

    runs = pipeline_pb2_grpc.PipelineServiceStub(channel("pipeline"))
    said["runs"] = len(runs.ListRuns(pipeline_pb2.ListRunsRequest(), timeout=DEADLINE_S).runs)
    return said


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
