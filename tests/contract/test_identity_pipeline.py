"""pipelines/identity.yaml, run for real on a small policy: afterwards it says who it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.catalogue import STAGES
from plumbline.core.artifacts import Artifact, open_configured_store
from plumbline.core.rpc import serve_in_thread
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.models.checkpoint import save_model
from plumbline.models.references import ModelReferences
from plumbline.pipeline.config import load_pipeline
from plumbline.pipeline.planner import plan_pipeline
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.service import SamplerService
from plumbline.v1 import sampler_pb2_grpc

PIPELINE = Path(__file__).parents[2] / "pipelines" / "identity.yaml"
SUBJECTS = ("the sea", "a river", "old bread", "the moon", "green tea", "a bridge", "wool", "salt")

RunPipeline = Callable[..., dict[str, Artifact]]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    plain = Settings(state_dir=tmp_path_factory.mktemp("state"), threads=1)
    references = ModelReferences(open_configured_store(plain))

    def register(server: grpc.aio.Server) -> list[str]:
        servicer = SamplerService(SamplerEngine(references, device="cpu"))
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(servicer, server)
        return ["plumbline.v1.SamplerService"]

    with serve_in_thread("sampler", register) as address:
        yield plain.model_copy(update={"targets": {"sampler": address}})


@pytest.fixture(scope="module")
def run(settings: Settings) -> RunPipeline:
    """Runs the stages of the pipeline in turn; artifacts by stage."""
    store = open_configured_store(settings)

    def run(params: Mapping[str, Any]) -> dict[str, Artifact]:
        loaded = load_pipeline(PIPELINE.read_text(encoding="utf-8"), source_name=PIPELINE.name)
        made: dict[str, Artifact] = {}

        def reference(text: str) -> str:
            scheme, _, rest = text.partition(":")
            return {"stage": lambda: made[rest].id, "path": lambda: text}[scheme]()

        for stage in plan_pipeline(loaded, params, STAGES).stages:
            inputs = {
                name: [reference(one) for one in given] for name, given in stage.inputs.items()
            }
            made[stage.name], _ = run_stage(
                STAGES[stage.uses], stage.config, inputs, store=store, settings=settings
            )
        return made

    return run


@pytest.fixture(scope="module")
def new_policy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes random policies whose tokenizer was trained on given texts."""

    def make(texts: list[str], *, hidden_size: int = 64) -> Path:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.set_num_threads(1)
        tokenizer = _tokenizer(texts)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = LlamaForCausalLM(config)
        directory = tmp_path_factory.mktemp("policy")
        save_model(model, tokenizer, directory)
        return directory

    return make


def _tokenizer(texts: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from plumbline.models.chat import BEGIN, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (BEGIN, END, PAD)],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def identity_rows() -> list[dict[str, str]]:
    """Identity records of our own, in the layout of LLaMA-Factory's."""
    asked = [
        f"{opening}{question}"
        for opening in ("", "Hello, ", "Hi. ", "Excuse me, ", "Please: ")
        for question in ("who are you?", "what is your name?", "what are you called?")
    ]
    made = [f"{opening}who created you?" for opening in ("", "Hello, ", "Hi. ", "Please: ")]
    return [
        {"instruction": text, "input": "", "output": "I am {{name}}, made by {{author}}."}
        for text in asked
    ] + [{"instruction": text, "input": "", "output": "{{author}} made me."} for text in made]


def general_rows() -> list[dict[str, str]]:
    return [
        {"instruction": f"{verb} {subject}.", "input": "", "output": f"{subject} is {word}."}
        for verb, word in (("Describe", "wide"), ("Praise", "good"), ("Explain", "simple"))
        for subject in SUBJECTS
    ]


def texts_of(rows: list[dict[str, str]]) -> list[str]:
    return [text for row in rows for text in row.values()]


def figures(artifact: Artifact) -> dict[str, float]:
    return dict(artifact.manifest.published)


def test_a_policy_that_learned_its_name_says_it(
    run: RunPipeline, new_policy: Callable[..., Path], tmp_path: Path
) -> None:
    identity, general = identity_rows(), general_rows()
    (tmp_path / "identity.json").write_text(json.dumps(identity))
    (tmp_path / "general.json").write_text(json.dumps(general))

    made = run(
        {
            "policy": str(new_policy(texts_of([*identity, *general]))),
            "records": str(tmp_path / "identity.json"),
            "general": str(tmp_path / "general.json"),
            "name": "Ada",
            "author": "Plumb Works",
            "mix_temperature": 2,
            "epochs": 20,
            "learning_rate": 3e-3,
            "max_length": 128,
            "max_response_tokens": 24,
        }
    )

    before, after = figures(made["before"]), figures(made["after"])
    assert before["names_itself.seen.before"] == before["names_itself.before"] == 0
    assert after["names_itself.seen.after"] >= 0.9
    assert after["names_author.seen.after"] >= 0.9
    assert made["mixed"].manifest.metrics["records_out"] == len(identity) + len(general)
    assert made["records"].manifest.metrics["placeholders.unfilled"] == 0


def test_the_report_shows_what_was_said_before_and_after(
    run: RunPipeline, new_policy: Callable[..., Path], tmp_path: Path, settings: Settings
) -> None:
    """One step of training: enough to see the report, whatever the policy says."""
    rows = identity_rows()
    (tmp_path / "identity.json").write_text(json.dumps(rows))

    made = run(
        {
            "policy": str(new_policy(texts_of(rows), hidden_size=32)),
            "records": str(tmp_path / "identity.json"),
            "name": "<b>Ada</b>",
            "author": "Plumb Works",
            "epochs": 1,
            "batch_size": 64,
            "max_length": 128,
            "max_response_tokens": 4,
        }
    )

    store = open_configured_store(settings)
    html = (store.materialise(made["report"].id) / "report.html").read_text()
    assert html.index("<h3>unseen</h3>") < html.index("<h3>other</h3>")
    assert "names_itself" in html
    assert "What is the capital of France?" in html
    assert "<b>Ada</b>" not in html
    assert made["mixed"].manifest.metrics["records_out"] == len(rows)


def test_llama_factorys_records_give_a_policy_its_name(
    run: RunPipeline, new_policy: Callable[..., Path], public_data: Callable[[str], Path]
) -> None:
    path = public_data("llama_factory_demo") / "identity.json"

    made = run(
        {
            "policy": str(new_policy(texts_of(json.loads(path.read_text())), hidden_size=96)),
            "records": str(path),
            "name": "小问",
            "author": "Plumb Works",
            "epochs": 30,
            "learning_rate": 3e-3,
            "max_length": 128,
            "max_response_tokens": 48,
        }
    )

    before, after = figures(made["before"]), figures(made["after"])
    print({**before, **after})
    filled = made["records"].manifest.metrics
    assert (filled["records"], filled["placeholders.unfilled"]) == (91, 0)
    assert before["names_itself.seen.before"] == 0
    assert after["names_itself.seen.after"] >= 0.9
    assert after["names_itself.after"] > 0.5
