"""The engine: policies by reference, text, stop strings, streams, errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plumbline.core.errors import (
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from plumbline.data.records import Message, system, user
from plumbline.models.checkpoint import save_model
from plumbline.sampler import kernels, loop
from plumbline.sampler.config import SamplerConfig
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.interface import SamplingOptions
from plumbline.sampler.scheduler import Scheduler

PROMPTS = [(user("the cat sat"),), (system("be brief"), user("the dog ran to the old house"))]
SHORT = SamplingOptions(max_response_tokens=16)


class Directories:
    """Resolves names to directories, and counts."""

    def __init__(self, **directories: Path) -> None:
        self._directories = directories

    def __call__(self, reference: str) -> tuple[str, Path]:
        if reference not in self._directories:
            raise NotFoundError(f"no policy {reference!r}")
        return f"id-of-{reference}", self._directories[reference]


needs_kernels = pytest.mark.skipif(
    not kernels.available(),
    reason="torch's own attention rounds by its company; no C++ compiler at installation",
)


@pytest.fixture(scope="module")
def engine(tiny_policy: Path) -> SamplerEngine:
    return SamplerEngine(Directories(tiny=tiny_policy), device="cpu")


def test_responses_carry_text_tokens_and_the_policys_id(engine: SamplerEngine) -> None:
    policy_id, samples = engine.sample("tiny", PROMPTS, SHORT, k=2, seeds=[1, 2])

    assert policy_id == "id-of-tiny"
    assert [len(sample.responses) for sample in samples] == [2, 2]
    for sample in samples:
        assert sample.prompt_token_ids[0] == 1  # <|begin|>
        assert sample.prompt_token_ids[-1] == 5  # <|assistant|>
        for response in sample.responses:
            assert len(response.sampled.logprobs) == len(response.sampled.token_ids) <= 16
            assert "<|" not in response.text


def test_a_stream_joins_to_the_first_response(engine: SamplerEngine) -> None:
    for seed in range(8):
        _, (sample,) = engine.sample("tiny", PROMPTS[:1], SHORT, k=1, seeds=[seed])
        deltas = list(engine.generate("tiny", PROMPTS[0], SHORT, seed=seed))

        expected = sample.responses[0]
        assert "".join(delta.text for delta in deltas) == expected.text
        tokens = tuple(token.token_id for delta in deltas for token in delta.tokens)
        assert tokens == expected.sampled.token_ids
        assert deltas[-1].finish_reason == expected.sampled.finish_reason
        assert all(delta.finish_reason is None for delta in deltas[:-1])


def test_a_stop_string_ends_a_response_before_it(engine: SamplerEngine) -> None:
    options = SamplingOptions(max_response_tokens=64)
    _, (sample,) = engine.sample("tiny", PROMPTS[:1], options, k=1, seeds=[3])
    full = sample.responses[0].text
    stop = full[10:12]
    stopped = SamplingOptions(max_response_tokens=64, stop=(stop,))

    _, (sample,) = engine.sample("tiny", PROMPTS[:1], stopped, k=1, seeds=[3])

    response = sample.responses[0]
    assert response.text == full[: full.index(stop)]
    assert response.sampled.finish_reason == "stop"
    deltas = list(engine.generate("tiny", PROMPTS[0], stopped, seed=3))
    assert "".join(delta.text for delta in deltas) == response.text


def test_computed_logprobs_are_the_sampling_ones(engine: SamplerEngine) -> None:
    _, samples = engine.sample("tiny", PROMPTS, SHORT, k=16, seeds=[1, 2])
    drawn = [
        (prompt, response)
        for prompt, sample in zip(PROMPTS, samples, strict=True)
        for response in sample.responses
    ]

    _, scored = engine.compute_logprobs("tiny", [(p, r.text) for p, r in drawn])

    same_tokens = 0
    for (_, response), (token_ids, logprobs) in zip(drawn, scored, strict=True):
        assert token_ids[-1] == 2  # <|end|>
        # A random policy rarely draws the tokens that its text would be split into, but the
        # first one often agrees, and its logprob depends on the prompt alone.
        if token_ids[0] == response.sampled.token_ids[0]:
            same_tokens += 1
            assert logprobs[0] == pytest.approx(response.sampled.logprobs[0], abs=1e-4)
    assert same_tokens >= 8


def test_logprobs_of_drawn_tokens_are_the_ones_they_were_drawn_at(engine: SamplerEngine) -> None:
    _, samples = engine.sample("tiny", PROMPTS, SHORT, k=4, seeds=[1, 2])
    drawn = [
        (prompt, response.sampled)
        for prompt, sample in zip(PROMPTS, samples, strict=True)
        for response in sample.responses
    ]

    _, scored = engine.compute_logprobs(
        "tiny", [(prompt, "") for prompt, _ in drawn], token_ids=[s.token_ids for _, s in drawn]
    )

    for (_, sampled), (token_ids, logprobs) in zip(drawn, scored, strict=True):
        assert tuple(token_ids) == sampled.token_ids
        assert logprobs == pytest.approx(sampled.logprobs, abs=1e-4)


@pytest.mark.parametrize(
    ("token_ids", "message"),
    [
        ([[2]], "of 1 responses came with 2 prompts"),
        ([[2], [295]], "response 1 has the token id 295; accepted: 0 to 294"),
        ([[-1], [2]], "response 0 has the token id -1"),
    ],
)
def test_tokens_that_are_not_the_policys_are_refused(
    engine: SamplerEngine, token_ids: list[list[int]], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        engine.compute_logprobs("tiny", [(prompt, "") for prompt in PROMPTS], token_ids=token_ids)


def test_a_response_that_spells_a_control_token_does_not_fail_a_call(
    engine: SamplerEngine,
) -> None:
    pairs = [(PROMPTS[0], "the cat <|end|> sat"), (PROMPTS[0], "the cat")]

    _, (odd, plain) = engine.compute_logprobs("tiny", pairs)

    assert odd[0].count(2) == plain[0].count(2) == 1  # <|end|>, once, at the end


def test_each_request_chooses_how_prompts_are_laid_out(
    engine: SamplerEngine, tiny_policy: Path, tmp_path: Path
) -> None:
    for path in tiny_policy.iterdir():
        if path.suffix != ".jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    bare = SamplerEngine(Directories(bare=tmp_path), device="cpu")
    assert bare.load("bare").architecture == "llama"

    with pytest.raises(FailedPreconditionError, match="no chat template") as refused:
        bare.sample("bare", PROMPTS, SHORT, k=1, seeds=[1, 2])
    assert refused.value.reason == "NO_CHAT_TEMPLATE"
    with pytest.raises(FailedPreconditionError, match="no chat template"):
        bare.compute_logprobs("bare", [(PROMPTS[0], "mat")])
    found = {}
    for name, sampler in (("bare", bare), ("tiny", engine)):
        _, (plain, _) = sampler.sample(name, PROMPTS, SHORT, k=2, seeds=[1, 2], template="plain")
        deltas = sampler.generate(name, PROMPTS[0], SHORT, seed=1, template="plain")
        _, ((_, logprobs),) = sampler.compute_logprobs(
            name, [(PROMPTS[0], "mat")], template="plain"
        )
        assert "".join(delta.text for delta in deltas) == plain.responses[0].text
        found[name] = (plain, logprobs)
    # A policy with a template of its own can be asked in another layout too.
    assert found["bare"] == found["tiny"]
    _, (transcript, _) = bare.sample(
        "bare", PROMPTS, SHORT, k=2, seeds=[1, 2], template="transcript"
    )
    lengths = [len(p.prompt_token_ids) for p in (found["bare"][0], transcript)]
    assert lengths[0] < lengths[1]


def test_an_empty_name_means_the_policy_loaded_last(tiny_policy: Path) -> None:
    engine = SamplerEngine(Directories(tiny=tiny_policy), device="cpu")
    with pytest.raises(FailedPreconditionError, match="LoadPolicy"):
        engine.policy()

    engine.load("tiny")

    policy = engine.policy()
    assert (policy.id, policy.reference) == ("id-of-tiny", "tiny")
    assert (policy.architecture, policy.context_length) == ("llama", 128)
    assert policy.vocabulary_size == 295
    assert policy.parameters > 10_000


def test_a_policy_that_does_not_exist_does_not_become_the_default(tiny_policy: Path) -> None:
    engine = SamplerEngine(Directories(tiny=tiny_policy), device="cpu")
    with pytest.raises(NotFoundError):
        engine.load("huge")
    with pytest.raises(FailedPreconditionError):
        engine.policy()


@needs_kernels
def test_requests_from_many_threads_give_what_each_gives_alone(engine: SamplerEngine) -> None:
    def draw(seed: int) -> Any:
        return engine.sample("tiny", PROMPTS, SHORT, k=2, seeds=[seed, seed])

    alone = [draw(seed) for seed in range(4)]
    together: dict[int, Any] = {}

    def run(seed: int) -> None:
        together[seed] = draw(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [together[seed] for seed in range(4)] == alone


def test_a_word_left_in_the_saved_end_tokens_ends_nothing(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, tmp_path: Path, tiny_policy: Path
) -> None:
    model = tiny_llama()
    model.generation_config.eos_token_id = [2, 4, *range(6, 295)]
    save_model(model, tiny_tokenizer, tmp_path / "policy")
    engine = SamplerEngine(Directories(odd=tmp_path / "policy", tiny=tiny_policy), device="cpu")

    _, (odd,) = engine.sample("odd", PROMPTS[:1], SHORT, k=8, seeds=[1])

    _, (tiny,) = engine.sample("tiny", PROMPTS[:1], SHORT, k=8, seeds=[1])
    assert max(len(response.sampled.token_ids) for response in odd.responses) > 1
    for left, right in zip(odd.responses, tiny.responses, strict=True):
        size = len(left.sampled.token_ids)
        assert left.sampled.token_ids == right.sampled.token_ids[:size]


@pytest.mark.parametrize(
    ("stop", "message"),
    [(("",), "stop string is empty"), (("x",) * 17, "17 stop strings came; accepted: up to 16")],
)
def test_stop_strings_out_of_range_are_refused(
    engine: SamplerEngine, stop: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        engine.sample("tiny", PROMPTS, SamplingOptions(stop=stop), k=1, seeds=[1, 2])


def test_too_many_or_no_responses_are_refused(tiny_policy: Path) -> None:
    config = SamplerConfig(max_responses_per_request=4)
    engine = SamplerEngine(Directories(tiny=tiny_policy), config, device="cpu")
    with pytest.raises(InvalidInputError, match=r"2 prompts times 3 responses are 6; .* up to 4"):
        engine.sample("tiny", PROMPTS, SHORT, k=3, seeds=[1, 2])
    with pytest.raises(InvalidInputError, match="no prompts"):
        engine.sample("tiny", [], SHORT, k=1, seeds=[])


def test_a_prompt_without_messages_is_refused(engine: SamplerEngine) -> None:
    empty: tuple[Message, ...] = ()
    with pytest.raises(InvalidInputError, match="no messages"):
        engine.sample("tiny", [empty], SHORT, k=1, seeds=[1])


def test_the_engines_thread_ends_when_idle_and_starts_again(
    tiny_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_IDLE_S", 0.05)
    engine = SamplerEngine(Directories(tiny=tiny_policy), device="cpu")
    first = engine.sample("tiny", PROMPTS, SHORT, k=1, seeds=[1, 2])
    alive = [thread for thread in threading.enumerate() if thread.name == "sampler"]
    for thread in alive:
        thread.join(timeout=10)

    assert engine.sample("tiny", PROMPTS, SHORT, k=1, seeds=[1, 2]) == first
    engine.close()
    with pytest.raises(UnavailableError, match="shutting down"):
        engine.sample("tiny", PROMPTS, SHORT, k=1, seeds=[1, 2])


def test_a_policy_in_memory_answers_to_its_id(tiny_policy: Path) -> None:
    engine = SamplerEngine(Directories(tiny=tiny_policy), device="cpu")
    engine.load("tiny")

    policies, default = engine.policies()

    assert ([policy.id for policy in policies], default) == (["id-of-tiny"], "tiny")
    assert engine.policy("id-of-tiny").reference == "id-of-tiny"


def test_a_step_that_fails_ends_its_requests_and_no_others(
    engine: SamplerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Scheduler.step
    failures = iter([RuntimeError("no memory")])

    def fail_once(scheduler: Scheduler) -> None:
        for failure in failures:
            raise failure
        step(scheduler)

    monkeypatch.setattr(Scheduler, "step", fail_once)
    with pytest.raises(UnavailableError, match="the log says why"):
        engine.sample("tiny", PROMPTS, SHORT, k=1, seeds=[1, 2])
    engine.sample("tiny", PROMPTS, SHORT, k=1, seeds=[1, 2])


@needs_kernels
def test_a_call_with_more_prompts_than_may_wait_takes_turns_with_itself(
    engine: SamplerEngine, tiny_policy: Path
) -> None:
    small = SamplerEngine(
        Directories(tiny=tiny_policy), SamplerConfig(max_waiting=3, max_rows=2), device="cpu"
    )
    prompts = PROMPTS * 6

    drawn = small.sample("tiny", prompts, SHORT, k=2, seeds=range(12))

    assert drawn == engine.sample("tiny", prompts, SHORT, k=2, seeds=range(12))


def test_a_thread_that_ends_idle_leaves_a_later_ones_work_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reset: list[Any] = []
    later = SimpleNamespace(reset=reset.append)
    waiting = loop.EngineLoop(max_waiting=1)
    monkeypatch.setattr(waiting, "_take_inbox", lambda: False)
    monkeypatch.setattr(waiting, "_busy", [later])

    waiting._run()

    assert not reset
