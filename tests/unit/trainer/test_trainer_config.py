"""Bounds of the configurations, rewards by kind, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from plumbline.core.stages import load_run_function
from plumbline.models.programmatic import LengthReward
from plumbline.trainer.config import (
    PPOConfig,
    PretrainConfig,
    SFTConfig,
)
from plumbline.trainer.tasks import STAGES


def test_configs_load_without_torch() -> None:
    code = "import plumbline.trainer.tasks, sys; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_stage_names_a_run_function() -> None:
    assert len({stage.name for stage in STAGES}) == len(STAGES) >= 6
    for stage in STAGES:
        assert callable(load_run_function(stage))


def test_misspelt_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="learning_rat"):
        SFTConfig(learning_rat=1e-3)  # type: ignore[call-arg]


def test_cross_field_messages_hold_both_numbers() -> None:
    with pytest.raises(ValidationError, match=r"minibatch_size=64 exceeds the 10 rollouts"):
        PPOConfig(prompts_per_iteration=10, minibatch_size=64)
    with pytest.raises(ValidationError, match=r"sequence_length=128 exceeds context_length=64"):
        PretrainConfig(context_length=64)
    with pytest.raises(ValidationError, match=r"hidden_size=100 must be a multiple"):
        PretrainConfig(hidden_size=100, heads=3)
    with pytest.raises(ValidationError, match=r"betas=\(0.9, 1.5\)"):
        SFTConfig(betas=(0.9, 1.5))


def test_rewards_are_told_apart_by_kind() -> None:
    config = PPOConfig.model_validate({"reward": {"kind": "length", "target_words": 7}})

    assert config.reward == LengthReward(target_words=7)
    with pytest.raises(ValidationError, match="sentimental"):
        PPOConfig.model_validate({"reward": {"kind": "sentimental"}})
