"""Multi-modal fine-tuning: reading, masks, what learns, and a tiny model that learns to look."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from plumbline.core.artifacts import open_configured_store
from plumbline.core.errors import InvalidInputError
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.data.image_conversations import read_image_conversations
from plumbline.models.vision import load_vision_language, part_of, train_only
from plumbline.trainer.config import VisionSFTConfig
from plumbline.trainer.recipes.vision_sft import Turn, VisionFormat, response_loss, turns_of
from plumbline.trainer.stages.vision_sft import STAGE

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
COLOURS = {"red": (220, 20, 20), "blue": (20, 20, 220)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    """Directory of a random Llava: images of 8 by 8 pixels, four patches each."""
    import copy

    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    directory = tmp_path_factory.mktemp("llava")
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}
        ),
        tokenizer=tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=8,
            patch_size=4,
            projection_dim=16,
        ).to_dict(),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
        ).to_dict(),
        image_token_id=image_token,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlavaForConditionalGeneration(config).save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


@pytest.fixture
def data(tmp_path: Path) -> Callable[[Any], Path]:
    """Writes records beside the images red.png and blue.png."""

    def write(records: Any) -> Path:
        directory = tmp_path / "data"
        directory.mkdir(exist_ok=True)
        for name, colour in COLOURS.items():
            Image.new("RGB", (8, 8), colour).save(directory / f"{name}.png")
        (directory / "records.json").write_text(json.dumps(records), encoding="utf-8")
        return directory

    return write


def record(*turns: tuple[str, str], images: tuple[str, ...]) -> dict[str, Any]:
    messages = []
    for question, answer in turns:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages, "images": list(images)}


TWO_IMAGES = record(
    ("<image>the mat?", "red"), ("and <image>?", "the sea"), images=("red.png", "blue.png")
)


def test_each_assistant_turn_sees_the_images_before_it(
    base: Path, data: Callable[[Any], Path]
) -> None:
    _, processor = load_vision_language(base)
    conversations = read_image_conversations(data([TWO_IMAGES]))
    layout = VisionFormat(processor)

    turns, lengths, left_out = turns_of(conversations, layout, max_length=128)

    first, second = [layout.encode(turn) for turn in turns]
    assert (len(turns), left_out) == (2, 0)
    assert first.inputs["pixel_values"].shape[0] == 1
    assert second.inputs["pixel_values"].shape[0] == 2
    image_token = processor.tokenizer.convert_tokens_to_ids("<image>")
    # Four patches of each image stand in the prompt.
    ids = second.inputs["input_ids"][0]
    assert int((ids == image_token).sum()) == 8
    response = processor.tokenizer.decode(ids[second.prompt_tokens :])
    assert response == "the sea<|end|>"
    assert lengths[1] == len(ids)
    assert turns_of(conversations, layout, max_length=lengths[0])[2] == 1
    with pytest.raises(InvalidInputError, match="max_length=3"):
        turns_of(conversations, layout, max_length=3)


def test_only_response_tokens_count(base: Path, data: Callable[[Any], Path]) -> None:
    """The loss is that of a loop over the response's tokens, from the model's own logits."""
    model, processor = load_vision_language(base)
    (conversation,) = read_image_conversations(data([TWO_IMAGES]))
    turn = VisionFormat(processor).encode(Turn(conversation, 3))
    with torch.no_grad():
        logprobs = model(**turn.inputs).logits[0].log_softmax(-1)
        found = response_loss(model, turn, denominator=turn.response_tokens)
    ids = turn.inputs["input_ids"][0]
    losses = [-logprobs[t - 1, ids[t]] for t in range(turn.prompt_tokens, len(ids))]

    assert len(losses) == turn.response_tokens
    assert_close(found, torch.stack(losses).mean())


@pytest.mark.parametrize(
    ("trained", "learning"),
    [
        ("connector", {"connector"}),
        ("language", {"connector", "language"}),
        ("full", {"connector", "language", "encoder"}),
    ],
)
def test_only_the_parts_asked_for_learn(base: Path, trained: str, learning: set[str]) -> None:
    model, _ = load_vision_language(base)

    counts = train_only(model, trained)

    assert set(counts) == learning
    assert {part_of(n) for n, p in model.named_parameters() if p.requires_grad} == learning
    assert part_of("model.visual.merger.mlp.0.weight") == "connector"
    assert part_of("model.vision_tower.layers.0.weight") == "encoder"


def test_stage_learns_to_tell_images_apart(
    base: Path, data: Callable[[Any], Path], tmp_path: Path
) -> None:
    records = [record(("<image>the mat?", n), images=(f"{n}.png",)) for n in COLOURS]
    settings = Settings(state_dir=tmp_path / "state", threads=1)
    store = open_configured_store(settings)
    directory = data(records)

    def run(**config: Any) -> Any:
        inputs = {"base": [f"path:{base}"], "conversations": [f"path:{directory}"]}
        values = {"learning_rate": 1e-2, "batch_size": 2, "epochs": 80, "log_every": 1, **config}
        return run_stage(STAGE, values, inputs, store=store, settings=settings)[0]

    artifact = run(checkpoint_every=10)

    metrics = artifact.manifest.metrics
    # Without looking, one of two colours costs ln 2 over the reply's few tokens.
    assert metrics["loss"] < 0.05
    assert metrics["examples"] == 2
    assert "parameters.encoder" not in metrics
    trained, _ = load_vision_language(store.materialise(artifact.id))
    before, _ = load_vision_language(base)
    after = dict(trained.named_parameters())
    for name, parameter in before.named_parameters():
        assert torch.equal(parameter, after[name]) == (part_of(name) == "encoder"), name


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (record(("<image><image>?", "a"), images=("red.png",)), "2 marks <image> for 1 images"),
        (record(("<image>?", "a"), images=("none.png",)), "'none.png' is missing"),
        (record(("<image>?", "a"), images=("../../x.png",)), "lies outside"),
        ({"images": []}, "'messages' is missing"),
    ],
)
def test_broken_records_are_refused(
    data: Callable[[Any], Path], broken: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_image_conversations(data([broken]))


def test_file_that_is_no_image_is_refused(base: Path, data: Callable[[Any], Path]) -> None:
    directory = data([record(("<image>?", "a"), images=("red.png",))])
    (directory / "red.png").write_text("no image", encoding="utf-8")
    _, processor = load_vision_language(base)

    with pytest.raises(InvalidInputError, match=r"red\.png is no image"):
        turns_of(read_image_conversations(directory), VisionFormat(processor), max_length=64)


def test_public_records_are_read(
    public_data: Callable[[str], Path], base: Path, tmp_path: Path
) -> None:
    import shutil

    source = public_data("llama_factory_demo")
    shutil.copy(source / "mllm_demo.json", tmp_path)
    # The records come without their images.
    (tmp_path / "mllm_demo_data").mkdir()
    for row in json.loads((source / "mllm_demo.json").read_text(encoding="utf-8")):
        for name in row["images"]:
            Image.new("RGB", (8, 8)).save(tmp_path / name)
    conversations = read_image_conversations(tmp_path)
    _, processor = load_vision_language(base)

    turns, _, left_out = turns_of(conversations[:2], VisionFormat(processor), max_length=512)

    assert len(conversations) >= 6
    assert len(turns) >= 4 and left_out == 0


def test_settings_that_do_not_apply_are_refused() -> None:
    with pytest.raises(ValueError, match="lora is not taken here"):
        VisionSFTConfig(lora={"rank": 4})  # type: ignore[arg-type]
