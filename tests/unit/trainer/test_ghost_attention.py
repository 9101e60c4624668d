"""Ghost Attention: what is asked while sampling, what training sees, and what comes of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import Conversation, Prompt, Role, Rollout, assistant, system, user
from plumbline.models.chat import BEGIN, CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS, ChatFormat
from plumbline.sampler.generation import sample_batch
from plumbline.trainer.config import GhostAttentionConfig, SFTConfig
from plumbline.trainer.config.ghost_attention import Constraint
from plumbline.trainer.engine import TrainingRun
from plumbline.trainer.recipes.ghost_attention import (
    GhostAttentionData,
    draw_instruction,
    make_ghost_attention,
)
from plumbline.trainer.recipes.sft import encode_conversations, plan_steps, train_sft
from plumbline.trainer.rollout import new_rollout

WORDS = ("red", "green", "blue", "grey")
QUESTIONS = ("why", "where", "when", "who")
LANGUAGE = Constraint(
    kind="colour", instruction="speak {value}", short="colour {value}", values=WORDS
)


class ObedientSampler:
    """Replies with the last word of the newest user turn's instruction, and keeps what it saw."""

    def __init__(self, chat: ChatFormat, *, silent_at_turn: int | None = None) -> None:
        self._chat, self._silent_at = chat, silent_at_turn
        self.seen: list[Prompt] = []

    def use_policy(self, model: Any, iteration: int) -> None:
        return None

    def sample(self, prompts: Sequence[Prompt], *, seeds: Sequence[int], **_: Any) -> list[Rollout]:
        self.seen += prompts
        return [self._reply(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _reply(self, prompt: Prompt, seed: int) -> Rollout:
        turn = sum(message.role == Role.USER for message in prompt.messages)
        word = prompt.messages[-1].content.split("\n\n")[0].split()[-1]
        ended = turn != self._silent_at
        ids = self._chat.encode_response(word, end=ended)
        return new_rollout(
            prompt,
            response=word,
            prompt_token_ids=self._chat.encode_prompt(prompt.messages),
            response_token_ids=ids,
            logprobs=[0.0] * len(ids),
            finish_reason="stop" if ended else "length",
            temperature=1.0,
            seed=seed,
            policy_id="obedient",
        )


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    """Words are tokens, so that twenty turns fit a small context."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL_TOKENS, "speak", "colour", *WORDS, *QUESTIONS, "?"]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="?")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return ChatFormat(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token=BEGIN,
            eos_token=END,
            pad_token=PAD,
            additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (BEGIN, END, PAD)],
            chat_template=CHAT_TEMPLATE,
        )
    )


def dialogues(count: int, turns: Callable[[random.Random], int]) -> list[Conversation]:
    rng = random.Random(0)
    made = []
    for index in range(count):
        questions = [rng.choice(QUESTIONS) for _ in range(turns(rng))]
        messages = [part for q in questions for part in (user(q), assistant("unused"))]
        made.append(Conversation(f"d{index}", tuple(messages)))
    return made


def make(
    some: Sequence[Conversation], sampler: ObedientSampler, chat: ChatFormat, **changes: Any
) -> GhostAttentionData:
    config = GhostAttentionConfig(constraints=(LANGUAGE,), **{"max_response_tokens": 4, **changes})
    return make_ghost_attention(
        some, sampler, chat, config, max_tokens=256, progress=lambda *_: None
    )


def test_every_user_turn_is_asked_with_the_instruction_and_trained_without(
    chat: ChatFormat,
) -> None:
    sampler = ObedientSampler(chat)

    made = make(dialogues(1, lambda _: 3), sampler, chat, short_share=1.0)

    assert len(sampler.seen) == 3
    for prompt in sampler.seen:
        asked = [m.content for m in prompt.messages if m.role == Role.USER]
        assert all(text.startswith("speak ") for text in asked)
    (conversation,) = made.conversations
    first, *others = conversation.messages
    colour = first.content.removeprefix("colour ")
    assert first.role == Role.SYSTEM and colour in WORDS
    assert [m.content for m in others if m.role == Role.ASSISTANT] == [colour] * 3
    assert all(m.content in QUESTIONS for m in others if m.role == Role.USER)


def test_only_the_last_reply_is_counted(chat: ChatFormat) -> None:
    (conversation,) = make(dialogues(1, lambda _: 3), ObedientSampler(chat), chat).conversations

    (example,) = encode_conversations([conversation], chat, max_length=128).examples

    reply = chat.encode_response(conversation.messages[-1].content)
    assert example.response_mask == [False] * (len(example.token_ids) - 2) + [True] * 2
    assert example.token_ids[-2:] == reply


def test_instruction_may_stand_in_the_first_user_turn(chat: ChatFormat) -> None:
    made = make(
        dialogues(1, lambda _: 2), ObedientSampler(chat), chat, placement="user", short_share=0.0
    )

    users = [m.content for m in made.conversations[0].messages if m.role == Role.USER]
    assert users[0].startswith("speak ") and users[1] in QUESTIONS
    assert made.conversations[0].messages[0].role == Role.USER


def test_dialogues_with_a_reply_that_has_no_end_are_left_out(chat: ChatFormat) -> None:
    some = [*dialogues(2, lambda _: 2), *dialogues(1, lambda _: 4)]

    made = make(some, ObedientSampler(chat, silent_at_turn=3), chat)

    assert [c.id for c in made.conversations] == ["d0-gatt", "d1-gatt"]
    assert (made.dialogues, made.cut_short) == (3, 1)
    with pytest.raises(InvalidInputError, match="two user turns"):
        make(dialogues(2, lambda _: 1), ObedientSampler(chat), chat)


def test_constraints_of_different_kinds_are_combined() -> None:
    config = GhostAttentionConfig(max_combined=3, short_share=0.5)
    rng = random.Random(0)
    drawn = [draw_instruction(config.constraints, config, rng) for _ in range(300)]

    assert {len(i.kinds) for i in drawn} == {1, 2, 3}
    assert all(len(set(i.kinds)) == len(i.kinds) for i in drawn)
    assert all("{value}" not in i.full + i.seen for i in drawn)
    # 300 draws of probability 0.5: four standard errors are 0.115.
    assert abs(sum(i.seen != i.full for i in drawn) / 300 - 0.5) < 0.12


def consistency(model: Any, chat: ChatFormat, turns: int) -> float:
    """Share of the replies that keep the instruction, of conversations as long as this."""
    rng = random.Random(9)
    kept = 0
    for word in WORDS:
        messages = [system(f"colour {word}")]
        for _ in range(turns):
            messages.append(user(rng.choice(QUESTIONS)))
            ((reply,),) = sample_batch(
                model,
                [chat.encode_prompt(messages)],
                k=1,
                temperatures=(0.0,),
                seeds=[0],
                max_response_tokens=3,
                eos_id=chat.eos_id,
            )
            text = chat.decode(reply.token_ids).strip()
            kept += text == word
            messages.append(assistant(text or "?"))
    return kept / (turns * len(WORDS))


def forgetting(conversation: Conversation, rng: random.Random) -> Conversation:
    """The same dialogue with replies that keep the instruction in the first turn only."""
    replies = [i for i, m in enumerate(conversation.messages) if m.role == Role.ASSISTANT]
    messages = list(conversation.messages)
    for index in replies[1:]:
        messages[index] = assistant(rng.choice(WORDS))
    return Conversation(conversation.id, tuple(messages))


def test_instruction_is_kept_over_twenty_turns(
    chat: ChatFormat, make_context: Callable[..., Any]
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    some = dialogues(256, lambda rng: rng.randint(2, 21))
    made = make(some, ObedientSampler(chat), chat, max_turns=21, short_share=1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(chat.tokenizer),
                hidden_size=48,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=192,
            )
        )

    def train(conversations: Sequence[Conversation], name: str) -> None:
        examples = encode_conversations(conversations, chat, max_length=192).examples
        config = SFTConfig(learning_rate=3e-3, log_every=50)
        plan = plan_steps(examples, batch_size=16, epochs=8, seed=0)
        context = make_context(name)
        run = TrainingRun({"policy": policy}, config, total_steps=len(plan), context=context)
        train_sft(policy, examples, run, plan, pad_id=chat.pad_id)

    rng = random.Random(1)
    train([forgetting(conversation, rng) for conversation in made.conversations], "before")
    before = consistency(policy, chat, turns=20)
    train(made.conversations, "ghost")

    # One turn of twenty, and one of four by chance in the others.
    assert before < 0.6
    assert consistency(policy, chat, turns=20) > 0.95
