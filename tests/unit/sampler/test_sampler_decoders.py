"""Any decoder's own logits, whichever way they are computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from plumbline.sampler import decoders, kernels
from plumbline.sampler.decoders import (
    HookedDecoder,
    LlamaDecoder,
    WholeTextDecoder,
    new_decoder,
)
from plumbline.sampler.generation import run_requests
from plumbline.sampler.requests import DrawingParameters, GenerationRequest, ResponseSpec

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 200,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {"num_key_value_heads": 2}
ARCHITECTURES = [
    ("Llama", GROUPED, LlamaDecoder),
    ("Llama", {**GROUPED, "attention_bias": True, "mlp_bias": True}, LlamaDecoder),
    ("Llama", {**GROUPED, "head_dim": 8, "tie_word_embeddings": True}, LlamaDecoder),
    ("Mistral", {**GROUPED, "sliding_window": None}, LlamaDecoder),
    ("Mistral", {**GROUPED, "sliding_window": 8}, HookedDecoder),
    ("Qwen2", GROUPED, LlamaDecoder),
    ("Qwen3", {**GROUPED, "head_dim": 16}, LlamaDecoder),
    ("GPT2", {}, HookedDecoder),
    ("GPTNeoX", {}, HookedDecoder),
    ("Gemma", {**GROUPED, "head_dim": 16}, HookedDecoder),
    ("Phi", {}, HookedDecoder),
    ("OPT", {"ffn_dim": 128, "word_embed_proj_dim": 64}, HookedDecoder),
    ("Bloom", {}, WholeTextDecoder),
    ("Mamba", {}, WholeTextDecoder),
]


def build(name: str, changes: dict[str, Any]) -> Any:
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **changes})
    family = "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, family)(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data *= 4  # so that a random model prefers some tokens to others
    return model


def prompts() -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(3)
    lengths = (3, 17, 40, 33)
    return [tuple(torch.randint(3, 200, (n,), generator=generator).tolist()) for n in lengths]


@pytest.mark.parametrize(
    ("name", "changes", "way"),
    ARCHITECTURES,
    ids=[f"{a[0]}-{i}" for i, a in enumerate(ARCHITECTURES)],
)
def test_greedy_responses_are_those_of_the_models_own_forward_pass(
    name: str, changes: dict[str, Any], way: type
) -> None:
    model = build(name, changes)
    requests = [
        GenerationRequest(prompt, (ResponseSpec(0, DrawingParameters(temperature=0.0), 12),) * 2)
        for prompt in prompts()
    ]

    assert type(new_decoder(model)) is way
    run_requests(model, requests, eos_id=-1, max_rows=5)

    for request in requests:
        ids = list(request.prompt)
        with torch.no_grad():
            for _ in range(12):
                logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
                ids.append(int(logits.argmax()))
        for sampled in request.drawn:
            assert list(sampled.token_ids) == ids[len(request.prompt) :]


@pytest.mark.parametrize("changes", [GROUPED, {**GROUPED, "head_dim": 8}])
def test_without_the_kernels_the_same_is_drawn(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    if not kernels.available():
        pytest.skip("the kernels were not built: no C++ compiler when the package was installed")
    model = build("Llama", changes)
    drawn = []
    for native in (True, False):
        if not native:
            monkeypatch.setattr(kernels, "fits", lambda tensor: False)
        requests = [
            GenerationRequest(prompt, (ResponseSpec(5, DrawingParameters(top_p=0.9), 12),) * 3)
            for prompt in prompts()
        ]
        run_requests(model, requests, eos_id=-1)
        drawn.append([sampled for request in requests for sampled in request.drawn])

    for left, right in zip(*drawn, strict=True):
        assert left.token_ids == right.token_ids
        assert left.logprobs == pytest.approx(right.logprobs, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_draws_too(dtype: torch.dtype) -> None:
    model = build("Llama", GROUPED).to(dtype)
    requests = [
        GenerationRequest(prompt, (ResponseSpec(5, DrawingParameters(), 6),))
        for prompt in prompts()
    ]

    run_requests(model, requests, eos_id=-1)

    assert all(len(request.drawn[0].token_ids) == 6 for request in requests)


def test_low_rank_adapters_that_learn_are_sampled_with() -> None:
    peft = pytest.importorskip("peft")
    model = build("Llama", GROUPED)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "o_proj", "down_proj"])
    peft.inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    request = GenerationRequest(
        prompts()[2], (ResponseSpec(0, DrawingParameters(temperature=0.0), 8),)
    )

    run_requests(model, [request], eos_id=-1)

    ids = list(request.prompt)
    with torch.no_grad():
        for _ in range(8):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    assert list(request.drawn[0].token_ids) == ids[len(request.prompt) :]


def test_a_window_that_only_a_mask_knows_is_not_trusted_to_paged_attention() -> None:
    model = build("Llama", GROUPED)
    model.config.sliding_window = 4

    assert not decoders._passes_trial(HookedDecoder, model)


def test_autocast_around_it_does_not_reach_the_engine() -> None:
    drawn = []
    for enabled in (False, True):
        model = build("Llama", GROUPED)
        request = GenerationRequest(prompts()[2], (ResponseSpec(5, DrawingParameters(), 8),))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            assert type(new_decoder(model)) is LlamaDecoder
            run_requests(model, [request], eos_id=-1)
        drawn.append(request.drawn)

    assert drawn[0] == drawn[1]
