"""Llama and its like, layer by layer, over a paged cache.

Shapes: T tokens of a step, Q of them whose logits are wanted, H hidden size, A heads, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumbline.sampler import kernels
from plumbline.sampler.paged_cache import PagedCache, PagedDecoder, StepPlan

_LIKE = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
_STATIC_ROPE = ("default", "linear", "llama3", "yarn")


class LlamaDecoder(PagedDecoder):
    """Llama, Mistral, Qwen2 and Qwen3: the same mathematics in fewer, larger calls.

    Weights are read where they are, so a model that is trained meanwhile is sampled as it is.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._core = model.model
        self._native = kernels.fits(model.lm_head.weight)
        attention = self._core.layers[0].self_attn
        self._width = int(attention.head_dim)
        self._scale = float(attention.scaling)
        self._rotary: tuple[Tensor, Tensor] | None = None
        self._positions = 0

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether a model's layers are of this kind."""
        if type(model).__name__ not in _LIKE:
            return False
        config = model.config
        rope = getattr(config, "rope_parameters", None) or {}
        kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
        plain = kinds == {"full_attention"} and rope.get("rope_type", "default") in _STATIC_ROPE
        windowed = getattr(config, "sliding_window", None) and getattr(
            config, "use_sliding_window", True
        )
        return plain and not windowed and config.hidden_act == "silu"

    def forward(self, plan: StepPlan, cache: PagedCache) -> Tensor:
        """Logits [Q, V]; where none is wanted, nothing of no particular width."""
        rotary = self._tables(plan.max_length)
        hidden = F.embedding(plan.input_ids, self._core.embed_tokens.weight)
        last = len(self._core.layers) - 1
        for index, layer in enumerate(self._core.layers):
            states = self._norm(layer.input_layernorm, hidden)
            self._keep(index, layer.self_attn, states, plan, cache, rotary)
            queries = plan.tokens
            if index == last:
                # Of the last layer, only what the logits are made of is wanted.
                hidden, states = hidden[plan.logit_rows], states[plan.logit_rows]
                queries = plan.wanted
                if not len(states):
                    return hidden
            query = self._heads(layer.self_attn, "q", states)
            mixed = cache.attend(index, query, plan, queries, scale=self._scale, rotary=rotary)
            hidden = _add_linear(hidden, mixed.view(len(mixed), -1), layer.self_attn.o_proj)
            hidden = self._feed_forward(layer, hidden)
        logits: Tensor = self._model.lm_head(self._norm(self._core.norm, hidden))
        return logits

    def _keep(
        self,
        index: int,
        attention: Any,
        states: Tensor,
        plan: StepPlan,
        cache: PagedCache,
        rotary: tuple[Tensor, Tensor],
    ) -> None:
        key = self._heads(attention, "k", states)
        value = _linear(states, attention.v_proj).view(key.shape)
        cache.keep(index, key, value, plan, rotary=rotary)

    def _heads(self, attention: Any, name: str, states: Tensor) -> Tensor:
        """Queries or keys [T, heads, D], before they are rotated."""
        projected = _linear(states, getattr(attention, f"{name}_proj"))
        heads = projected.view(len(states), -1, self._width)
        norm = getattr(attention, f"{name}_norm", None)  # of Qwen3
        return heads if norm is None else self._norm(norm, heads)

    def _feed_forward(self, layer: Any, hidden: Tensor) -> Tensor:
        states = self._norm(layer.post_attention_layernorm, hidden)
        gate, up = _linear(states, layer.mlp.gate_proj), _linear(states, layer.mlp.up_proj)
        inner = kernels.silu_mul_(gate, up) if self._native else F.silu(gate) * up
        return _add_linear(hidden, inner, layer.mlp.down_proj)

    def _norm(self, norm: Any, x: Tensor) -> Tensor:
        if self._native:
            return kernels.rms_norm(x, norm.weight, norm.variance_epsilon)
        normed: Tensor = norm(x)
        return normed

    def _tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [positions, D] up to a text's length."""
        if self._rotary is None or length > self._positions:
            self._positions = max(2 * self._positions, length, 512)
            device = self._core.embed_tokens.weight.device
            positions = torch.arange(self._positions, device=device)[None]
            like = torch.empty(0, dtype=torch.float32, device=device)
            cosines, sines = self._core.rotary_emb(like, positions)
            self._rotary = cosines[0].contiguous(), sines[0].contiguous()
        return self._rotary


def _is_plain(linear: nn.Module) -> bool:
    return type(linear) is nn.Linear


def _linear(x: Tensor, linear: Any) -> Tensor:
    """linear(x), without what a module's call costs where the layer is a plain product."""
    if _is_plain(linear):
        return F.linear(x, linear.weight, linear.bias)
    projected: Tensor = linear(x)
    return projected


def _add_linear(hidden: Tensor, x: Tensor, linear: Any) -> Tensor:
    """hidden + linear(x), in one call where the layer is a plain product."""
    if _is_plain(linear) and linear.bias is None:
        return torch.addmm(hidden, x, linear.weight.t())
    added: Tensor = hidden + linear(x)
    return added
