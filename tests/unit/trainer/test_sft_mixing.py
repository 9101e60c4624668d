"""Mixing tasks and pre-training text in fine-tuning, and noise on the embeddings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from plumbline.core.artifacts import Artifact, open_configured_store
from plumbline.core.errors import ConfigError
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.data.records import Conversation, Document, assistant, user
from plumbline.data.tables import write_records
from plumbline.models.chat import ChatFormat, EncodedConversation
from plumbline.models.packing import pack_texts, packed_states
from plumbline.trainer.config import SFTConfig
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.neftune import noisy_embeddings
from plumbline.trainer.recipes.sft import encode_texts, mix_examples, train_sft
from plumbline.trainer.stages.sft import STAGE

TEXTS = [[5, 6, 7, 8, 9], [10, 11, 12]]


def example(token: int) -> EncodedConversation:
    return EncodedConversation([1, token], [False, True])


def test_every_source_gives_its_share_of_an_epoch() -> None:
    """Ten examples in all: 0.7 of the eight are drawn, 0.3 of the two repeat."""
    many, few = [example(10 + i) for i in range(8)], [example(20 + i) for i in range(2)]

    mixed = mix_examples([many, few], [0.7, 0.3], seed=0)

    tokens = [e.token_ids[1] for e in mixed]
    assert len(set(tokens[:7])) == 7 and all(t < 20 for t in tokens[:7])
    assert sorted(tokens[7:9]) == [20, 21] and tokens[9] in (20, 21)
    assert mixed == mix_examples([many, few], [0.7, 0.3], seed=0)
    assert mixed != mix_examples([many, few], [0.7, 0.3], seed=1)


def test_all_tokens_of_pretraining_text_count(tiny_tokenizer: Any) -> None:
    chat = ChatFormat(tiny_tokenizer)
    documents = [Document("a", "the cat sat on the mat"), Document("b", "<|end|> spelled out")]

    pieces = encode_texts(documents, chat, max_length=4)

    first = [t for piece in pieces for t in piece.token_ids]
    assert first.count(chat.eos_id) == 2 and first.count(tiny_tokenizer.bos_token_id) == 2
    assert all(all(piece.response_mask) for piece in pieces)
    assert all(2 <= len(piece.token_ids) <= 4 for piece in pieces)


def test_noise_is_as_wide_as_the_texts_length_says(tiny_llama: Callable[..., Any]) -> None:
    """alpha / sqrt(L H): with alpha 5 and H 32, 0.395 for 5 tokens and 0.510 for 3."""
    model = tiny_llama()
    seen: list[torch.Tensor] = []
    model.model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    row = pack_texts(TEXTS, [[True] * 5, [True] * 3])
    packed_states(model, row)
    plain = seen[-1]
    torch.manual_seed(0)
    with noisy_embeddings(model, 5.0, [5, 3]):
        packed_states(model, row)
    noise = (seen[-1] - plain)[0].abs()

    assert noise[:5].max() <= 5 / 160**0.5 < 1.02 * noise[:5].max()
    assert noise[5:].max() <= 5 / 96**0.5 < 1.05 * noise[5:].max()
    packed_states(model, row)
    assert torch.equal(seen[-1], plain)


def test_noise_changes_the_run_and_repeats_itself_when_resumed(
    tiny_llama: Callable[..., Any], make_context: Callable[..., Any], interrupted: type[Exception]
) -> None:
    examples = [EncodedConversation(ids, [False, *[True] * (len(ids) - 1)]) for ids in TEXTS]

    def train(context: Any, alpha: float) -> list[dict[str, float]]:
        config = SFTConfig(learning_rate=1e-3, checkpoint_every=2, log_every=1, neftune_alpha=alpha)
        model = tiny_llama()
        # As a stage does it.
        torch.manual_seed(config.seed)
        run = TrainingRun({"policy": model}, config, total_steps=6, context=context)
        plan = [[0, 1]] * 6
        train_sft(model, examples, run, plan, pad_id=0, start=run.resume(), neftune_alpha=alpha)
        return run.curves

    noisy = train(make_context("noisy"), 5.0)
    broken = make_context("broken", interrupt_at=3)
    with pytest.raises(interrupted):
        train(broken, 5.0)
    broken.interrupt_at = None

    assert train(broken, 5.0) == noisy
    assert train(make_context("plain"), 0.0) != noisy


@pytest.fixture
def run(tmp_path: Path, tiny_policy: Path) -> Callable[..., Artifact]:
    """Runs the stage over two tasks of 12 and 4 conversations, and documents where asked."""
    settings = Settings(state_dir=tmp_path / "state", threads=1)
    store = open_configured_store(settings)
    for name, count in (("many", 12), ("few", 4)):
        (tmp_path / name).mkdir()
        records = [
            Conversation(f"{name}{i}", (user(f"the cat {i}?"), assistant("the mat")))
            for i in range(count)
        ]
        write_records(tmp_path / name / "conversations.parquet", records)
    (tmp_path / "corpus").mkdir()
    documents = [Document(str(i), "the dog sat by the sea " * 3) for i in range(5)]
    write_records(tmp_path / "corpus" / "documents.parquet", documents)

    def run_one(*, documents: bool = False, **config: Any) -> Artifact:
        inputs = {
            "base": [f"path:{tiny_policy}"],
            "conversations": [f"path:{tmp_path / name}" for name in ("many", "few")],
        }
        if documents:
            inputs["pretraining"] = [f"path:{tmp_path / 'corpus'}"]
        return run_stage(STAGE, config, inputs, store=store, settings=settings)[0]

    return run_one


def test_stage_mixes_tasks_and_text(run: Callable[..., Artifact]) -> None:
    settings = {"epochs": 1, "batch_size": 8, "max_length": 32}

    def examples(**config: Any) -> float:
        return run(**settings, **config).manifest.metrics["examples"]

    assert examples() == 16
    assert examples(mix=[1, 3]) == 16
    assert examples(pretraining_share=0.5, documents=True) > 16


@pytest.mark.parametrize(
    ("config", "documents", "message"),
    [
        ({"mix": [1.0]}, False, "1 weights for 2 inputs"),
        ({"pretraining_share": 0.1}, False, "no input pretraining"),
        ({}, True, "pretraining_share=0.0 and an input"),
    ],
)
def test_shares_and_inputs_that_do_not_fit_are_refused(
    run: Callable[..., Artifact], config: dict[str, Any], documents: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(documents=documents, **config)
