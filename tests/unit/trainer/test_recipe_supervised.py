"""SFT, pre-training and DPO on tiny models: masks, accumulation, resuming, learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from plumbline.core.errors import FailedPreconditionError, InvalidInputError
from plumbline.data.records import Conversation, Document, assistant, user
from plumbline.models.chat import ChatFormat, EncodedConversation
from plumbline.trainer.config import PretrainConfig, SFTConfig
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.recipes.pretrain import (
    encode_documents,
    new_model,
    pack_sequences,
    train_language_model,
    train_tokenizer,
)
from plumbline.trainer.recipes.sft import encode_conversations, plan_steps, train_sft

CONVERSATIONS = [
    Conversation(str(index), (user(f"the {a}?"), assistant(f"the {b} by the sea")))
    for index, (a, b) in enumerate(
        [("cat", "dog"), ("old house", "mat"), ("dog", "cat on the mat"), ("sea", "house")]
    )
]


@pytest.fixture
def chat(tiny_tokenizer: Any) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


@pytest.fixture
def examples(chat: ChatFormat) -> list[EncodedConversation]:
    return encode_conversations(CONVERSATIONS, chat, max_length=64).examples


class HeldRun(TrainingRun):
    """Keeps a step's gradients in place of applying them."""

    gradients: dict[str, torch.Tensor]

    def apply_gradients(self) -> float:
        self.gradients = {
            name: parameter.grad.clone()
            for name, parameter in self._parameters.items()
            if parameter.grad is not None
        }
        return 0.0


def sft_gradients(
    model: Any, examples: list[EncodedConversation], context: Any, **changes: Any
) -> dict[str, torch.Tensor]:
    """Gradients of one step over all examples, taken before the optimizer moves."""
    config = SFTConfig(batch_size=8, epochs=1, **changes)
    run = HeldRun({"policy": model}, config, total_steps=1, context=context)
    train_sft(model, examples, run, [list(range(len(examples)))], pad_id=0)
    return run.gradients


def test_accumulated_gradients_equal_one_big_batch(
    tiny_llama: Callable[..., Any],
    examples: list[EncodedConversation],
    make_context: Callable[..., Any],
) -> None:
    whole = sft_gradients(tiny_llama(), examples, make_context("whole"))
    parts = sft_gradients(tiny_llama(), examples, make_context("parts"), tokens_per_microbatch=20)

    for name, gradient in whole.items():
        assert_close(parts[name], gradient, atol=1e-6, rtol=1e-4)


def test_prompt_tokens_give_no_loss(
    tiny_llama: Callable[..., Any], chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    # Only counted tokens enter the loss: its value is that of a loop over them.
    model = tiny_llama()
    (example,) = encode_conversations(CONVERSATIONS[:1], chat, max_length=64).examples
    with torch.no_grad():
        logits = model(torch.tensor([example.token_ids])).logits[0].log_softmax(-1)
    counted = [t for t, counts in enumerate(example.response_mask) if counts]
    expected = -sum(float(logits[t - 1, example.token_ids[t]]) for t in counted) / len(counted)
    context = make_context()
    run = TrainingRun({"policy": model}, SFTConfig(), total_steps=1, context=context)

    train_sft(model, [example], run, [[0]], pad_id=0)

    assert run.curves[0]["loss"] == pytest.approx(expected, abs=1e-5)


def test_long_conversations_lose_their_beginning_or_are_left_out(chat: ChatFormat) -> None:
    long_prompt = Conversation("p", (user("the cat " * 40), assistant("sat")))
    long_response = Conversation("r", (user("the cat"), assistant("sat on " * 40)))

    dataset = encode_conversations([long_prompt, long_response], chat, max_length=32)

    assert (len(dataset.examples), dataset.cut, dataset.left_out) == (1, 1, 1)
    assert len(dataset.examples[0].token_ids) == 32
    with pytest.raises(InvalidInputError, match="max_length=32"):
        encode_conversations([long_response], chat, max_length=32)


def test_resumed_sft_repeats_the_uninterrupted_losses(
    tiny_llama: Callable[..., Any],
    examples: list[EncodedConversation],
    make_context: Callable[..., Any],
    interrupted: type[Exception],
) -> None:
    config = SFTConfig(learning_rate=1e-2, epochs=6, batch_size=2, checkpoint_every=2, log_every=1)
    plan = plan_steps(examples, batch_size=2, epochs=6, seed=0)

    def train(context: Any, seed: int) -> tuple[Any, list[dict[str, float]]]:
        model = tiny_llama(seed=seed)
        run = TrainingRun({"policy": model}, config, total_steps=len(plan), context=context)
        train_sft(model, examples, run, plan, pad_id=0, start=run.resume())
        return model, run.curves

    whole, curves = train(make_context("whole"), 0)
    broken = make_context("broken", interrupt_at=6)
    with pytest.raises(interrupted):
        train(broken, 0)
    broken.interrupt_at = None
    # Other initial weights: everything has to come from the checkpoint.
    resumed, resumed_curves = train(broken, 1)

    assert broken.saved[:3] == [2, 4, 6]
    assert resumed_curves == curves
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name))
    assert curves[-1]["loss"] < curves[0]["loss"] / 2


def test_diverged_run_stops_and_names_its_examples(
    tiny_llama: Callable[..., Any],
    examples: list[EncodedConversation],
    make_context: Callable[..., Any],
) -> None:
    model = tiny_llama()
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    run = TrainingRun({"policy": model}, SFTConfig(), total_steps=1, context=make_context())

    with pytest.raises(FailedPreconditionError, match=r"step 0, on examples \[") as stopped:
        train_sft(model, examples, run, [[1, 3]], pad_id=0)
    assert stopped.value.reason == "LOSS_NOT_FINITE"


def test_tokenizer_spells_control_tokens_of_documents_out() -> None:
    texts = ["the cat sat on the mat", "a line with <|end|> in it"] * 4
    tokenizer = train_tokenizer(texts, vocab_size=270, context_length=64)

    encoded = encode_documents([Document("d", texts[1])], CONVERSATIONS[:1], tokenizer)

    assert encoded[0].count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(encoded[0][1:-1]) == texts[1]
    assert tokenizer.decode(encoded[1]).startswith("<|begin|><|user|>the cat?<|end|><|assistant|>")
    assert len(tokenizer) == 270
    with pytest.raises(InvalidInputError, match="vocab_size=5000"):
        train_tokenizer(texts, vocab_size=5000, context_length=64)


def test_packing_keeps_every_token_in_the_epochs_order() -> None:
    encoded = [[index] * 3 for index in range(5)]

    packed = pack_sequences(encoded, length=4, seed=0, epoch=0)

    assert packed.shape == (3, 4)
    order = packed.flatten().tolist()
    assert [order[i] for i in range(0, 12, 3)] == list(dict.fromkeys(order))
    with pytest.raises(InvalidInputError, match="15 tokens"):
        pack_sequences(encoded, length=16, seed=0, epoch=0)


def test_pretraining_learns_and_resumes(
    make_context: Callable[..., Any], interrupted: type[Exception]
) -> None:
    documents = [Document(str(i), "the cat sat on the mat by the sea") for i in range(20)]
    tokenizer = train_tokenizer([d.text for d in documents], vocab_size=264, context_length=32)
    encoded = encode_documents(documents, [], tokenizer)
    config = PretrainConfig(
        vocab_size=264,
        hidden_size=16,
        intermediate_size=32,
        layers=1,
        heads=2,
        context_length=32,
        sequence_length=16,
        batch_size=4,
        steps=30,
        learning_rate=1e-2,
        checkpoint_every=10,
        log_every=1,
    )

    def train(context: Any) -> list[dict[str, float]]:
        torch.manual_seed(0)
        model = new_model(config, tokenizer)
        run = TrainingRun({"policy": model}, config, total_steps=config.steps, context=context)
        train_language_model(model, encoded, run, config)
        return run.curves

    whole = train(make_context("whole"))
    broken = make_context("broken", interrupt_at=14)
    with pytest.raises(interrupted):
        train(broken)
    broken.interrupt_at = None

    assert train(broken) == whole
    # The untrained loss is that of a uniform guess among 264 tokens.
    assert whole[0]["loss"] == pytest.approx(math.log(264), abs=0.2)
    assert whole[-1]["loss"] < 2.5
