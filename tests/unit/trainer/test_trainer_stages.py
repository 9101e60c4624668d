"""Every stage from inputs to artifact, over a real store on disk: contents, bytes, lineage."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from plumbline.core.artifacts import Artifact, ArtifactStore, open_configured_store
from plumbline.core.errors import ConfigError, FailedPreconditionError, InvalidInputError
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.data.records import (
    Conversation,
    Document,
    Grade,
    LabelledResponse,
    Preference,
    Prompt,
    Rollout,
    assistant,
    user,
)
from plumbline.data.tables import read_records, write_records
from plumbline.models.checkpoint import load_causal_lm
from plumbline.models.reward import RewardModel
from plumbline.trainer.tasks import STAGES

WORDS = ("cat", "dog", "house", "sea", "mat", "old house")
STAGE = {stage.name.removeprefix("trainer."): stage for stage in STAGES}

Run = Callable[..., Artifact]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every kind of dataset that the stages read."""
    directory = tmp_path_factory.mktemp("data")
    prompts = [(user(f"the {a} or the {b}?"),) for a in WORDS for b in WORDS]
    datasets: dict[str, list[Any]] = {
        "corpus/documents": [
            Document(str(i), f"the {w} sat by the sea") for i, w in enumerate(WORDS * 9)
        ],
        "demonstrations/demonstrations": [
            Conversation(str(i), (*p, assistant("the mat"))) for i, p in enumerate(prompts)
        ],
        "prompts/prompts_rl": [Prompt(str(i), p, kind="helpful") for i, p in enumerate(prompts)],
        "prompts/prompts_train": [Prompt(str(i), p, kind="helpful") for i, p in enumerate(prompts)],
        "preferences/preferences": [
            Preference(
                str(i),
                p,
                "the mat by the sea",
                "dog",
                grade=Grade.BETTER,
                head=("helpfulness", "safety")[i % 2],
                agreement=1.0,
                chosen_is_safe=True,
                rejected_is_safe=False,
            )
            for i, p in enumerate(prompts)
        ],
    }
    for name, records in datasets.items():
        path = directory / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        write_records(path, records)
    return directory


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return open_configured_store(Settings(state_dir=tmp_path / "state", threads=1))


@pytest.fixture
def run(tmp_path: Path, store: ArtifactStore) -> Run:
    settings = Settings(state_dir=tmp_path / "state", threads=1)

    def run_one(method: str, config: Mapping[str, Any], **inputs: Path | str) -> Artifact:
        references = {
            name: [f"path:{given}" if isinstance(given, Path) else given]
            for name, given in inputs.items()
        }
        artifact, _ = run_stage(STAGE[method], config, references, store=store, settings=settings)
        return artifact

    return run_one


def file_digests(artifact: Artifact) -> dict[str, str]:
    return {entry.name: entry.sha256 for entry in artifact.manifest.files}


def test_pretrained_policy_opens_with_transformers(
    run: Run, store: ArtifactStore, data: Path
) -> None:
    config = {
        "vocab_size": 262,
        "hidden_size": 16,
        "intermediate_size": 32,
        "layers": 1,
        "heads": 2,
        "context_length": 64,
        "sequence_length": 16,
        "batch_size": 4,
        "steps": 5,
    }

    artifact = run(
        "pretrain", config, corpus=data / "corpus", conversations=data / "demonstrations"
    )

    directory = store.materialise(artifact.id)
    model, tokenizer = load_causal_lm(directory)
    assert model.config.max_position_embeddings == 64
    assert tokenizer.chat_template
    curves = json.loads((directory / "training.json").read_text())["curves"]
    assert curves[-1]["step"] == 5
    assert artifact.manifest.metrics["documents"] == 54


def test_same_inputs_give_the_same_bytes_elsewhere(
    run: Run, data: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    config = {"epochs": 1, "batch_size": 12, "learning_rate": 1e-3}
    inputs = {"base": tiny_policy, "conversations": data / "demonstrations"}
    elsewhere = Settings(state_dir=tmp_path / "elsewhere", threads=1)

    first = run("sft", config, **inputs)
    second, cached = run_stage(
        STAGE["sft"],
        config,
        {name: [f"path:{path}"] for name, path in inputs.items()},
        store=open_configured_store(elsewhere),
        settings=elsewhere,
    )

    assert not cached
    assert second.id == first.id
    assert first.manifest.metrics["examples"] == 36
    other = run("sft", {**config, "seed": 1}, **inputs)
    assert file_digests(other)["model.safetensors"] != file_digests(first)["model.safetensors"]


def test_reward_model_reports_on_held_out_pairs(
    run: Run, store: ArtifactStore, data: Path, tiny_policy: Path
) -> None:
    config = {
        "head": "safety",
        "learning_rate": 3e-3,
        "epochs": 4,
        "batch_size": 4,
        "test_fraction": 0.3,
        "safety_loss_coef": 1.0,
    }

    artifact = run("reward_model", config, base=tiny_policy, preferences=data / "preferences")

    metrics = artifact.manifest.metrics
    # Half of the 36 preferences teach safety.
    assert metrics["pairs.train"] + metrics["pairs.test"] == 18
    assert metrics["accuracy"] == metrics["accuracy.grade.better"] == 1.0
    assert metrics["accuracy.low"] < 1.0
    assert artifact.manifest.published["safety_rm.accuracy"] == 1.0
    directory = store.materialise(artifact.id)
    assert RewardModel.load(directory).card.head == "safety"
    report = json.loads((directory / "training.json").read_text())["evaluation"]
    assert report["accuracy"]["n"] == metrics["pairs.test"]


def test_reward_model_mixes_heads_and_keeps_its_temperature(
    run: Run, store: ArtifactStore, data: Path, tiny_policy: Path
) -> None:
    artifact = run(
        "reward_model",
        {"head": "safety", "mix": "llama2", "batch_size": 8, "learning_rate": 3e-3, "epochs": 2},
        base=tiny_policy,
        preferences=data / "preferences",
        test=data / "preferences",
    )

    metrics = artifact.manifest.metrics
    # All 18 for safety are nine tenths of 20; the test pairs are of the head alone.
    assert metrics["pairs.train.safety"] == metrics["pairs.test"] == 18
    assert metrics["pairs.train.other"] == 2
    assert metrics["pairs.train"] == 20
    card = RewardModel.load(store.materialise(artifact.id)).card
    # Too few pairs to fit it.
    assert card.temperature == 1.0

    whole = run(
        "reward_model",
        {"batch_size": 8, "learning_rate": 3e-3},
        base=tiny_policy,
        preferences=data / "preferences",
        test=data / "preferences",
    )

    metrics = whole.manifest.metrics
    card = RewardModel.load(store.materialise(whole.id)).card
    assert card.temperature == metrics["calibration.temperature"] != 1.0
    assert whole.manifest.published["preference_rm.calibration.error"] <= 1.0


def test_second_file_is_the_test_set(run: Run, data: Path, tiny_policy: Path) -> None:
    artifact = run(
        "reward_model",
        {"batch_size": 36},
        base=tiny_policy,
        preferences=data / "preferences",
        test=data / "preferences",
    )

    assert artifact.manifest.metrics["pairs.train"] == 36
    assert artifact.manifest.metrics["pairs.test"] == 36


def test_policies_learn_from_reward_models(
    run: Run,
    store: ArtifactStore,
    data: Path,
    tiny_policy: Path,
    tiny_reward_models: dict[str, Path],
) -> None:
    rewards = {head: tiny_reward_models[head] for head in ("helpfulness", "safety")}
    shared = {"max_response_tokens": 6, "learning_rate": 1e-3}

    v1 = run(
        "rejection_sampling",
        {**shared, "responses_per_prompt": 2, "keep_unfinished": True, "max_prompts": 8},
        policy=tiny_policy,
        prompts=data / "prompts",
        **rewards,
    )
    v2 = run(
        "ppo",
        {**shared, "iterations": 2, "prompts_per_iteration": 8, "minibatch_size": 4},
        policy=v1.id,
        prompts=data / "prompts",
        **rewards,
    )

    rollouts = read_records(store.materialise(v1.id) / "rollouts.parquet", Rollout)
    assert len(rollouts) == 16
    assert set(rollouts[0].scores) == {"helpfulness", "safety"}
    assert v1.manifest.metrics["score.best"] > v1.manifest.metrics["score.mean"]
    assert v2.manifest.lineage.inputs["policy"] == (v1.id,)
    assert v2.manifest.metrics["iterations"] == 2
    assert load_causal_lm(store.materialise(v2.id))


def test_dpo_learns_from_preferences(run: Run, data: Path, tiny_policy: Path) -> None:
    artifact = run(
        "dpo",
        {"learning_rate": 1e-3, "batch_size": 12, "epochs": 2, "test_fraction": 0.3},
        policy=tiny_policy,
        preferences=data / "preferences",
    )
    metrics = artifact.manifest.metrics

    assert metrics["accuracy"] == metrics["test.accuracy"] == 1.0
    assert metrics["pairs"] + metrics["pairs.test"] == 36


@pytest.mark.parametrize("method", ["reinforce", "rloo", "grpo"])
def test_policy_gradients_learn_from_a_reward(
    run: Run, store: ArtifactStore, data: Path, tiny_policy: Path, method: str
) -> None:
    artifact = run(
        method,
        {
            "reward": {"kind": "length", "target_words": 3},
            "iterations": 2,
            "prompts_per_iteration": 4,
            "responses_per_prompt": 2,
            "minibatch_size": 4,
            "max_response_tokens": 6,
        },
        policy=tiny_policy,
        prompts=data / "prompts",
    )

    assert artifact.manifest.metrics["iterations"] == 2
    assert len(read_records(store.materialise(artifact.id) / "rollouts.parquet", Rollout)) == 8


def test_kto_learns_from_labelled_responses(run: Run, tiny_policy: Path, tmp_path: Path) -> None:
    records = [
        LabelledResponse(str(i), (user(f"the {w}?"),), "the mat" if i % 2 else "dog", i % 2 == 1)
        for i, w in enumerate(WORDS)
    ]
    (tmp_path / "labelled").mkdir()
    write_records(tmp_path / "labelled" / "responses.parquet", records)
    artifact = run(
        "kto",
        {"learning_rate": 1e-3, "batch_size": 6, "epochs": 5},
        policy=tiny_policy,
        responses=tmp_path / "labelled",
    )

    assert artifact.manifest.metrics["loss"] < 0.5
    assert artifact.manifest.metrics["responses.desirable"] == 3


def test_pretraining_texts_need_a_weight_and_the_other_way_round(
    run: Run, data: Path, tiny_policy: Path
) -> None:
    given = {"policy": tiny_policy, "prompts": data / "prompts"}
    config = {"reward": {"kind": "length"}}
    with pytest.raises(ConfigError, match="no input pretraining"):
        run("ppo", {**config, "pretraining_coef": 0.5}, **given)
    with pytest.raises(ConfigError, match="an input pretraining"):
        run("ppo", config, **given, pretraining=data / "demonstrations")


def test_programmatic_reward_trains_a_model_without_template(
    run: Run, store: ArtifactStore, data: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for path in tiny_policy.iterdir():
        if path.suffix != ".jinja":
            (base / path.name).write_bytes(path.read_bytes())
    config = {
        "reward": {"kind": "length", "target_words": 3},
        "iterations": 1,
        "prompts_per_iteration": 4,
        "minibatch_size": 4,
        "max_response_tokens": 6,
    }

    with pytest.raises(FailedPreconditionError, match="no chat template"):
        run("ppo", config, policy=base, prompts=data / "prompts")
    artifact = run("ppo", {**config, "template": "plain"}, policy=base, prompts=data / "prompts")

    # What was trained as plain text asks for it in its own template from then on.
    _, tokenizer = load_causal_lm(store.materialise(artifact.id))
    assert "message['content']" in tokenizer.chat_template


@pytest.mark.parametrize(
    ("config", "given", "message"),
    [
        ({}, (), "needs the input helpfulness, safety or both"),
        ({"reward": {"kind": "length"}}, ("safety",), "needs no reward model"),
    ],
)
def test_reward_and_inputs_must_agree(
    run: Run,
    data: Path,
    tiny_policy: Path,
    tiny_reward_models: dict[str, Path],
    config: dict[str, Any],
    given: tuple[str, ...],
    message: str,
) -> None:
    models = {head: tiny_reward_models[head] for head in given}

    with pytest.raises(ConfigError, match=message):
        run("ppo", config, policy=tiny_policy, prompts=data / "prompts", **models)


def test_preferences_all_held_out_are_refused(run: Run, data: Path, tiny_policy: Path) -> None:
    with pytest.raises(ConfigError, match=r"test_fraction=0\.999"):
        run(
            "reward_model",
            {"test_fraction": 0.999},
            base=tiny_policy,
            preferences=data / "preferences",
        )


def test_wrong_data_is_refused(run: Run, data: Path, tiny_policy: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.md").write_text("nothing")

    with pytest.raises(InvalidInputError):
        run("sft", {}, base=tiny_policy, conversations=empty)


@pytest.fixture
def talking_policy(run: Run, data: Path, tiny_policy: Path) -> str:
    """Id of a policy whose replies come to an end."""
    config = {"learning_rate": 1e-2, "batch_size": 4, "epochs": 6, "schedule": "constant"}
    return run("sft", config, base=tiny_policy, conversations=data / "demonstrations").id


def test_ghost_attention_data_are_learned_by_fine_tuning(
    run: Run, store: ArtifactStore, data: Path, talking_policy: str, tmp_path: Path
) -> None:
    (tmp_path / "dialogues").mkdir()
    turns = (user("the cat?"), assistant("unused"), user("the dog?"), assistant("unused"))
    dialogues = [Conversation(f"d{i}", turns) for i in range(6)]
    write_records(tmp_path / "dialogues" / "conversations.parquet", dialogues)
    constraint = {"kind": "place", "instruction": "by {value}", "short": "{value}", "values": ["s"]}

    made = run(
        "ghost_attention",
        {"constraints": [constraint], "max_response_tokens": 24, "top_p": 0.1, "max_combined": 1},
        policy=talking_policy,
        conversations=tmp_path / "dialogues",
    )
    tuned = run("sft", {"batch_size": 4}, base=talking_policy, conversations=made.id)

    kept = read_records(store.materialise(made.id) / "conversations.parquet", Conversation)
    assert made.kind == "conversations"
    assert 0 < len(kept) == made.manifest.metrics["conversations"]
    assert all(c.last_turn_only and len(c.messages) == 5 for c in kept)
    assert tuned.manifest.metrics["examples"] == len(kept)


def test_context_distillation_keeps_what_scores_better(
    run: Run, store: ArtifactStore, data: Path, talking_policy: str
) -> None:
    config = {
        "reward": {"kind": "length", "target_words": 3},
        "prompt_kinds": [],
        "preprompts": ["by the sea"],
        "temperature": 2.0,
        "max_response_tokens": 12,
    }
    given = {"policy": talking_policy, "prompts": data / "prompts"}

    made = run("context_distillation", config, **given)

    kept = read_records(store.materialise(made.id) / "conversations.parquet", Conversation)
    assert 0 < len(kept) == made.manifest.metrics["prompts.kept"] < 36
    assert all(c.messages[0].content.startswith("the ") for c in kept)
    with pytest.raises(FailedPreconditionError, match=r"minimum_gain=9\.0") as refused:
        run("context_distillation", {**config, "minimum_gain": 9.0}, **given)
    assert refused.value.reason == "NOTHING_KEPT"
