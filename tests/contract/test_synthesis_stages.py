"""The synthesis stages over loopback gRPC: a real sampler for the wire, a scripted one for text."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.core.artifacts import Artifact, ArtifactStore, Lineage, open_configured_store
from plumbline.core.errors import (
    CancelledError,
    ConfigError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
)
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.core.stages import NullReporter, run_stage
from plumbline.curation.synthesis.config import SamplingConfig
from plumbline.curation.synthesis.generator import ask
from plumbline.curation.synthesis.remote import SamplerGenerator
from plumbline.curation.tasks import STAGES as ALL_STAGES
from plumbline.data.records import Conversation
from plumbline.data.tables import read_records
from plumbline.models.references import ModelReferences
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc, types_pb2

STAGES = {stage.name: stage for stage in ALL_STAGES}
SUBJECTS = [
    f"{a} {b}"
    for a in ("the age of", "the price of", "songs about", "myths of")
    for b in ("otters", "glaciers", "hedges", "lentils", "tides", "bread", "curling")
]
VERBS = ("Describe", "Compare", "Explain", "Question", "Praise", "Rank")
SELF_INSTRUCT = {
    "target": 10,
    "prompts_per_round": 2,
    "seed_examples": 2,
    "languages": ["en"],
    "sampling": {"prompts_per_call": 3, "timeout_s": 20.0},
}


class ScriptedSampler(sampler_pb2_grpc.SamplerServiceServicer):
    """Answers each prompt by a rule and its seed, as slowly as it is told to."""

    def __init__(self) -> None:
        self.calls: list[pb.SampleResponsesRequest] = []
        self.delay_s: Callable[[pb.SampleResponsesRequest], float] = lambda _: 0.0

    async def SampleResponses(
        self, request: pb.SampleResponsesRequest, context: grpc.aio.ServicerContext
    ) -> pb.SampleResponsesResponse:
        import asyncio

        self.calls.append(request)
        await asyncio.sleep(self.delay_s(request))
        return pb.SampleResponsesResponse(
            policy_id=request.policy,
            samples=[
                pb.PromptSamples(
                    responses=[
                        types_pb2.SampledResponse(
                            text=answer(prompt.messages[-1].content, seed),
                            finish_reason=types_pb2.FINISH_REASON_STOP,
                            seed=seed,
                        )
                    ]
                )
                for prompt, seed in zip(request.prompts, request.seeds, strict=True)
            ],
        )


def answer(prompt: str, seed: int) -> str:
    rng = random.Random(seed)
    if "new task instructions" in prompt:
        items = [f"{rng.choice(VERBS)} {rng.choice(SUBJECTS)}." for _ in range(3)]
        return "\n".join([items[0], *(f"{9 + i}. {item}" for i, item in enumerate(items[1:]))])
    if "finite output labels" in prompt:
        return "No"
    if "for the task below" in prompt:
        return f"<none>\nOutput: Point {rng.randrange(10**6)} comes first."
    if "#Given Prompt#:\n" in prompt:
        return f"Weigh {rng.randrange(10**6)} sources on {rng.choice(SUBJECTS)}."
    if "Equal or Different" in prompt:
        return "Different"
    if "answer to a request" in prompt:
        return f"What is known about {rng.choice(SUBJECTS)}?"
    if "Rate from 1 to 5" in prompt:
        return "5"
    return f"Answer {rng.randrange(10**6)}, at some length."


@contextmanager
def served(servicer: Any) -> Iterator[str]:
    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as address:
        yield address


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    state_dir = tmp_path_factory.mktemp("state")
    return Settings(state_dir=state_dir, import_roots=(tmp_path_factory.getbasetemp(),))


@pytest.fixture(scope="module")
def store(base: Settings) -> ArtifactStore:
    return open_configured_store(base)


@pytest.fixture(scope="module")
def policy(store: ArtifactStore, tiny_policy: Path) -> str:
    lineage = Lineage(stage="test", version=1, config={}, inputs={})
    return store.put("policy", tiny_policy, lineage=lineage).id


@pytest.fixture(scope="module")
def real(base: Settings, store: ArtifactStore) -> Iterator[str]:
    """Address of a sampler with a tiny random policy."""
    with served(SamplerService(SamplerEngine(ModelReferences(store), device="cpu"))) as address:
        yield address


@pytest.fixture
def scripted(base: Settings) -> Iterator[tuple[ScriptedSampler, Settings]]:
    """A scripted sampler, and settings that lead to it."""
    sampler = ScriptedSampler()
    with served(sampler) as address:
        yield sampler, base.model_copy(update={"targets": {"sampler": address}})


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Reference to a file of seed tasks, as Self-Instruct releases them."""
    path = tmp_path_factory.mktemp("seeds") / "seeds.jsonl"
    texts = ("Write a limerick.", "Name five rivers of Europe.", "Fix the spelling of the text.")
    rows = [
        {
            "id": f"seed_task_{i}",
            "name": "a_name",
            "instruction": text,
            "instances": [{"input": "", "output": "An answer."}],
            "is_classification": False,
        }
        for i, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"path:{path}"


def run(
    name: str, config: Any, inputs: Any, store: ArtifactStore, settings: Settings, **more: Any
) -> Artifact:
    artifact, _ = run_stage(STAGES[name], config, inputs, store=store, settings=settings, **more)
    return artifact


def records(store: ArtifactStore, artifact: Artifact) -> list[Conversation]:
    return read_records(store.materialise(artifact.id) / "conversations.parquet", Conversation)


class Killed(Exception):
    pass


class KilledAfter(NullReporter):
    """Ends the work from outside after so many reports of progress."""

    def __init__(self, reports: int) -> None:
        self._left = reports

    def progress(self, done: int, total: int, message: str) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed


def test_texts_of_a_real_policy_depend_on_prompt_and_seed_alone(real: str, policy: str) -> None:
    requests = [ask(f"the cat {i}", 5, i) for i in range(5)]
    texts = []
    for size in (5, 2):
        config = SamplingConfig(max_response_tokens=8, prompts_per_call=size)
        with connect("sampler", target=real) as stub:
            generator = SamplerGenerator(stub, policy, config)
            texts.append([one.text for one in generator.generate(requests)])
            cold = generator.generate(requests[:2], temperature=0.0)
            assert cold == generator.generate(requests[:2], temperature=0.0)
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 5


def test_a_prompt_beyond_the_context_fails_alone(real: str, policy: str) -> None:
    requests = [ask("the cat", 5, 0), ask("x" * 600, 5, 1), ask("the dog", 5, 2)]
    with connect("sampler", target=real) as stub:
        found = SamplerGenerator(stub, policy, SamplingConfig(max_response_tokens=4)).generate(
            requests
        )
        assert [one.fitted for one in found] == [True, False, True]
        bad = SamplingConfig(max_response_tokens=4).model_copy(update={"temperature": -1.0})
        with pytest.raises(InvalidInputError, match="temperature"):
            SamplerGenerator(stub, policy, bad).generate(requests[:1])


def test_a_policy_that_writes_noise_ends_with_the_reason(
    real: str, policy: str, base: Settings, store: ArtifactStore, seeds: str
) -> None:
    """The random policy's context of 128 tokens holds no prompt, which the message says."""
    settings = base.model_copy(update={"targets": {"sampler": real}})
    config = {**SELF_INSTRUCT, "yield_rounds": 2, "on_shortfall": "partial"}

    with pytest.raises(FailedPreconditionError, match="prompt_too_long 4") as caught:
        run(
            "curation.self_instruct",
            config,
            {"seeds": [seeds], "policy": [policy]},
            store,
            settings,
        )

    assert caught.value.reason == "LOW_YIELD"


TOPICS = (
    "otters asleep at noon",
    "villages under old glaciers",
    "hedges that divide neighbours",
    "lentils with green lemon",
    "tides around small harbours",
    "why flat bread rises",
    "curling without clean ice",
    "lace from cold islands",
    "bees during long winters",
)
BIGRAMS: dict[str, tuple[str, ...]] = {
    # What follows the last word of each prompt, and so on: a text is a walk over these.
    "3.": tuple(f" {verb}" for verb in VERBS),
    **{f" {verb}": tuple(f" {topic}." for topic in TOPICS) for verb in VERBS},
    **{f" {topic}.": ("\n4.", "<|end|>") for topic in TOPICS},
    "\n4.": tuple(f" {verb}" for verb in VERBS),
    " classification?": (" No",),
    " No": ("<|end|>",),
    "Input:": (" <none>\nOutput:",),
    " <none>\nOutput:": tuple(f" It began with {topic} long ago." for topic in TOPICS),
    **{f" It began with {topic} long ago.": ("<|end|>",) for topic in TOPICS},
    " Prompt#:": tuple(f" Weigh at least three sources on {topic} tonight." for topic in TOPICS),
    **{f" Weigh at least three sources on {topic} tonight.": ("<|end|>",) for topic in TOPICS},
    " judgement:": (" Different",),
    " Different": ("<|end|>",),
    " tonight.": tuple(f" It began with {topic} long ago." for topic in TOPICS),
}


def save_bigram_policy(directory: Path) -> None:
    """A Llama whose next token depends on the last one alone, as `BIGRAMS` says.

    Embeddings are one-hot and the layer adds nothing, so the output weights are the table of
    logits; what the table does not hold leads to the end.
    """
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from plumbline.models.checkpoint import save_model

    words = ["<|pad|>", "<|begin|>", "<|end|>", "<|unknown|>"]
    words += dict.fromkeys(w for pair in BIGRAMS.items() for w in (pair[0], *pair[1]))
    words = list(dict.fromkeys(words))
    number = {word: index for index, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(number, unk_token="<|unknown|>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n| ?[^\s]+"), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        unk_token="<|unknown|>",
        clean_up_tokenization_spaces=False,
    )
    size = len(words) + len(words) % 2
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=size,
        intermediate_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(len(words), size))
        for layer in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj):
            layer.weight.zero_()
        model.lm_head.weight.zero_()
        for word, index in number.items():
            for following in BIGRAMS.get(word, ("<|end|>",)):
                # The norm scales a one-hot vector by the root of its size: logits of 30.
                model.lm_head.weight[number[following], index] = 30 / size**0.5
    save_model(model, tokenizer, directory)


def test_a_real_policy_that_follows_its_table_writes_records(
    real: str, base: Settings, store: ArtifactStore, seeds: str, tmp_path: Path
) -> None:
    """Everything is real here: the checkpoint, the sampler, the wire and the stage."""
    save_bigram_policy(tmp_path)
    lineage = Lineage(stage="test", version=1, config={}, inputs={})
    policy = store.put("policy", tmp_path, lineage=lineage).id
    settings = base.model_copy(update={"targets": {"sampler": real}})
    sampling = {"template": "plain", "max_response_tokens": 40, "top_p": 1.0, "temperature": 1.0}
    config = {**SELF_INSTRUCT, "target": 6, "generated_examples": 0, "sampling": sampling}

    artifact = run(
        "curation.self_instruct", config, {"seeds": [seeds], "policy": [policy]}, store, settings
    )

    found = records(store, artifact)
    assert len(found) == 6
    for record in found:
        assert record.messages[0].content.split()[0] in VERBS
        assert record.messages[1].content.startswith("It began with ")
        assert record.metadata["policy"] == policy
    report = json.loads((store.materialise(artifact.id) / "report.json").read_text())
    assert report["funnel"]["counts"]["task_type_unclear"] == 0
    assert report["diversity"]["nearest_rouge_l_max"] < 0.7

    evolved = records(
        store,
        run(
            "curation.evolve",
            {"generations": 2, "sampling": sampling},
            {"conversations": [artifact.id], "policy": [policy]},
            store,
            settings,
        ),
    )
    assert {record.metadata["root"] for record in evolved} <= {record.id for record in found}
    assert {record.metadata["round"] for record in evolved} == {"0", "1"}


def test_seed_tasks_become_records_with_a_report(
    scripted: tuple[ScriptedSampler, Settings], store: ArtifactStore, policy: str, seeds: str
) -> None:
    sampler, settings = scripted
    inputs = {"seeds": [seeds], "policy": [policy]}

    artifact = run("curation.self_instruct", SELF_INSTRUCT, inputs, store, settings)

    found = records(store, artifact)
    assert artifact.kind == "conversations" and len(found) == 10
    assert {record.metadata["policy"] for record in found} == {policy}
    directory = store.materialise(artifact.id)
    report = json.loads((directory / "report.json").read_text())
    assert report["ending"]["code"] == "target_reached"
    assert report["diversity"]["language"] == {"en": 1.0}
    assert report["read"]["formats"] == {"seed_task": 3}
    rows = [json.loads(row) for row in (directory / "instructions.jsonl").open()]
    assert [row["output"] for row in rows] == [record.messages[1].content for record in found]
    assert max(len(call.prompts) for call in sampler.calls) == 3
    assert all(call.policy == policy for call in sampler.calls)


@pytest.mark.parametrize("name", ["curation.self_instruct", "curation.evolve"])
def test_a_killed_job_resumes_and_reaches_the_same_artifact(
    name: str,
    scripted: tuple[ScriptedSampler, Settings],
    policy: str,
    seeds: str,
    tmp_path: Path,
) -> None:
    sampler, settings = scripted
    config: dict[str, Any] = {**SELF_INSTRUCT, "target": 16, "seed": 3}
    inputs = {"seeds": [seeds], "policy": [policy]}
    if name == "curation.evolve":
        config = {"generations": 3, "parents_per_round": 2, "sampling": config["sampling"]}
        inputs = {"conversations": [seeds], "policy": [policy]}
    made = []
    for place in ("whole", "killed"):
        own = settings.model_copy(update={"state_dir": tmp_path / place})
        store = open_configured_store(own)
        source = open_configured_store(settings)
        lineage = Lineage(stage="test", version=1, config={}, inputs={})
        copied = store.put("policy", source.materialise(policy), lineage=lineage)
        assert copied.id == policy
        before = len(sampler.calls)
        if place == "killed":
            with pytest.raises(Killed):
                run(name, config, inputs, store, own, reporter=KilledAfter(2))
        made.append(run(name, config, inputs, store, own))
        calls = len(sampler.calls) - before
        if place == "whole":
            expected = calls
    assert made[0].id == made[1].id
    assert calls == expected  # what was done before the kill was not done again


def test_a_call_past_its_deadline_is_asked_in_halves(
    scripted: tuple[ScriptedSampler, Settings], policy: str
) -> None:
    sampler, settings = scripted
    requests = [ask(f"number {i}", 1, i) for i in range(4)]
    config = SamplingConfig(timeout_s=0.4, attempts=2)
    with connect("sampler", settings=settings) as stub:
        expected = SamplerGenerator(stub, policy, config).generate(requests)
        sampler.delay_s = lambda request: 2.0 if len(request.prompts) > 1 else 0.0
        assert SamplerGenerator(stub, policy, config).generate(requests) == expected

        sampler.calls.clear()
        sampler.delay_s = lambda _: 2.0
        with pytest.raises(DeadlineExceededError):
            SamplerGenerator(stub, policy, config).generate(requests[:1])
        assert len(sampler.calls) == 2


def test_cancellation_is_seen_between_calls(
    scripted: tuple[ScriptedSampler, Settings], store: ArtifactStore, policy: str, seeds: str
) -> None:
    sampler, settings = scripted
    cancelled = threading.Event()

    class Reporter(NullReporter):
        def cancel_reason(self) -> str | None:
            return "enough" if cancelled.is_set() else None

    def delay(_: pb.SampleResponsesRequest) -> float:
        if len(sampler.calls) == 2:
            cancelled.set()
        return 0.0

    sampler.delay_s = delay
    config = {**SELF_INSTRUCT, "seed": 77, "sampling": {"prompts_per_call": 1}}
    started = time.monotonic()
    with pytest.raises(CancelledError, match="enough"):
        run(
            "curation.self_instruct",
            config,
            {"seeds": [seeds], "policy": [policy]},
            store,
            settings,
            reporter=Reporter(),
        )
    assert len(sampler.calls) == 2
    assert time.monotonic() - started < 30


def test_evolution_and_back_translation_run_as_stages(
    scripted: tuple[ScriptedSampler, Settings],
    store: ArtifactStore,
    policy: str,
    seeds: str,
    tmp_path: Path,
) -> None:
    _, settings = scripted
    sampling = SELF_INSTRUCT["sampling"]
    evolved = run(
        "curation.evolve",
        {"generations": 2, "sampling": sampling},
        {"conversations": [seeds], "policy": [policy]},
        store,
        settings,
    )
    assert evolved.manifest.metrics["records"] == 6

    texts = tmp_path / "texts.jsonl"
    words = "Water rises and falls with the moon, as sailors have long known. " * 3
    texts.write_text("".join(json.dumps({"text": f"{words}{i}"}) + "\n" for i in range(3)))
    answered = run(
        "curation.backtranslate",
        {"sampling": sampling},
        {"documents": [f"path:{texts}"], "policy": [policy]},
        store,
        settings,
    )
    found = records(store, answered)
    assert {record.metadata["rating"] for record in found} == {"5"}


def test_conversations_and_documents_become_instructions_without_a_sampler(
    base: Settings, store: ArtifactStore, tmp_path: Path
) -> None:
    talks, texts = tmp_path / "talks.json", tmp_path / "texts.jsonl"
    turns = [
        ("human", "Name a river."),
        ("gpt", "Sure! Here is one: the Elbe."),
        ("human", "And a hill."),
        ("gpt", "The Rigi."),
    ]
    talks.write_text(json.dumps([{"conversations": [{"from": a, "value": b} for a, b in turns]}]))
    texts.write_text(json.dumps({"text": "Q: Why is the sky blue?\nA: It scatters."}) + "\n")
    inputs = {"conversations": [f"path:{talks}"], "documents": [f"path:{texts}"]}

    split = run("curation.to_instructions", {}, inputs, store, base)
    joined = run("curation.to_instructions", {"layout": "conversations"}, inputs, store, base)

    assert [record.messages[-1].content for record in records(store, split)] == [
        "the Elbe.",
        "The Rigi.",
        "It scatters.",
    ]
    assert [len(record.messages) for record in records(store, joined)] == [4, 2]
    report = json.loads((store.materialise(split.id) / "report.json").read_text())
    assert report["funnel"]["conversations"]["counts"] == {
        "conversations": 1,
        "kept": 2,
        "turns": 2,
    }
    with pytest.raises(ConfigError, match="neither conversations nor documents"):
        run("curation.to_instructions", {}, {}, store, base)
    lost = tmp_path / "lost.jsonl"
    lost.write_text(json.dumps({"text": "Nothing to be found here"}) + "\n")
    with pytest.raises(InvalidInputError, match="no_pattern") as caught:
        run("curation.to_instructions", {}, {"documents": [f"path:{lost}"]}, store, base)
    assert caught.value.reason == "NOTHING_LEFT"
