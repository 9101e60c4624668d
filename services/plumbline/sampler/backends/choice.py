"""Which backend draws, as the environment says."""

from __future__ import annotations

from plumbline.core.settings import Settings
from plumbline.models.references import Resolve
from plumbline.sampler.interface import SamplerBackend


def configured_backend(settings: Settings, resolve: Resolve) -> SamplerBackend:
    """The backend that PLUMBLINE_SAMPLER_BACKEND names; what it needs is imported here.

    Args:
        resolve: finds the policies of the native engine, and the tokenizer of those of Triton.
    Raises:
        ConfigError: the backend's endpoint is not set.
    """
    if settings.sampler_backend == "openai":
        from plumbline.sampler.backends.config import configured_openai_backend
        from plumbline.sampler.backends.openai import OpenAIBackend

        return OpenAIBackend(configured_openai_backend(settings))
    if settings.sampler_backend == "triton":
        return _triton_backend(settings, resolve)
    from plumbline.sampler.engine import SamplerEngine

    return SamplerEngine(resolve)


def _triton_backend(settings: Settings, resolve: Resolve) -> SamplerBackend:
    from plumbline.sampler.backends.config import configured_triton_policies
    from plumbline.sampler.backends.triton import TritonBackend
    from plumbline.sampler.backends.triton_prompts import TokenizerPrompts

    config = configured_triton_policies(settings)
    if not settings.triton_tokenizer:
        return TritonBackend(config)
    from plumbline.models.checkpoint import load_bare_tokenizer

    _, path = resolve(settings.triton_tokenizer)
    return TritonBackend(config, TokenizerPrompts(load_bare_tokenizer(path)))
