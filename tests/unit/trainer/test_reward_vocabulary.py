"""Policy and reward model need not share a vocabulary: what passes between them is text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.testing import assert_close
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from plumbline.core.errors import CheckpointError
from plumbline.data.records import Prompt, user
from plumbline.models.chat import ChatFormat
from plumbline.models.reward import RewardModel, RewardModelCard
from plumbline.trainer.rollout import ColocatedSampler, RewardModelScorer, collect_rollouts

PROMPTS = [Prompt(str(i), (user(text),)) for i, text in enumerate(("the cat?", "the old dog?"))]


@pytest.fixture
def stranger() -> RewardModel:
    """An encoder over twelve lower-case words, with control tokens of its own."""
    control, text = ("[PAD]", "[UNK]", "[CLS]", "[SEP]"), "human assistant : the cat dog old ?"
    words = [*control, *text.split()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = BertModel(config).eval()
    card = RewardModelCard(pooling="mean", max_length=256, template="transcript")
    return RewardModel.create(backbone, wrapped, card, seed=0).eval()


def test_reward_model_reads_the_text_with_its_own_tokenizer(
    stranger: RewardModel, tiny_llama: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    chat = ChatFormat(tiny_tokenizer)
    sampler = ColocatedSampler(tiny_llama(), chat, policy_id="policy")

    rollouts = collect_rollouts(
        sampler,
        RewardModelScorer({"helpfulness": stranger}),
        PROMPTS,
        chat=chat,
        k=3,
        temperatures=[1.0],
        top_p=1.0,
        max_response_tokens=8,
        rows_per_batch=6,
        seed=0,
        iteration=0,
    )

    # Ids of the policy's vocabulary that the reward model has no embedding for.
    assert max(max(r.response_token_ids) for r in rollouts) >= len(stranger.tokenizer)
    alone = [stranger.score_responses([r.prompt], [r.response]) for r in rollouts]
    found = torch.tensor([r.scores["helpfulness"] for r in rollouts])
    assert_close(found, torch.cat(alone), atol=1e-5, rtol=0)
    # "[UNK]" for every unknown word: the known ones decide.
    by_hand = stranger.encode((user("the cat?"),), "old dog")
    assert by_hand == [2, 4, 6, 7, 8, 11, 5, 6, 10, 9, 3]


def test_anothers_tokenizer_in_a_reward_model_is_refused(
    stranger: RewardModel, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    stranger.save(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)

    with pytest.raises(CheckpointError, match="the tokenizer belongs to another model") as refused:
        RewardModel.load(tmp_path)

    assert refused.value.reason == "TOKENIZER_MISMATCH"
