"""The sampler before a real Triton Inference Server: one that holds a policy, and one that says
what it is told to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from plumbline.core.artifacts import Lineage, open_configured_store
from plumbline.core.errors import (
    CancelledError,
    ConfigError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    PlumblineError,
    UnavailableError,
)
from plumbline.core.rpc import connect, serve_in_thread
from plumbline.core.settings import Settings
from plumbline.data.records import user
from plumbline.data.wire import prompt_to_wire
from plumbline.models.references import ModelReferences
from plumbline.sampler.backends.choice import configured_backend
from plumbline.sampler.backends.config import TritonPolicyConfig
from plumbline.sampler.engine import SamplerEngine
from plumbline.sampler.interface import SamplerBackend, SamplingOptions
from plumbline.sampler.service import SamplerService
from plumbline.v1 import sampler_pb2 as pb
from plumbline.v1 import sampler_pb2_grpc, types_pb2

pytest.importorskip("tritonclient", reason="the extra `triton` is not installed")
sys.path.append(str(Path(__file__).parents[1] / "contract"))
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from backend_contract import (  # noqa: F401
    test_logprobs_of_given_responses_are_refused,
    test_parameters_out_of_range_are_named,
    test_policies_are_those_of_the_endpoint,
    test_rollouts_are_the_native_ones,
    test_streams_are_the_native_ones,
)
from triton_server import TritonServer

from plumbline.sampler.backends.triton import TritonBackend
from plumbline.sampler.backends.triton_prompts import PromptText, TextPrompts

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MODELS = Path(__file__).with_name("triton_models")
TEXT_INPUTS = {"text_input": "STRING", "sampling_parameters": "STRING"}
OPTIONAL_INPUTS = (
    "stream",
    "exclude_input_in_output",
    "return_logprobs",
    "return_num_input_tokens",
)
TEXT_OUTPUTS = {"text_output": "STRING", "finish_reason": "STRING"}
OPTIONAL_OUTPUTS = {"logprobs": "STRING", "num_input_tokens": "UINT32"}
GREEDY = SamplingOptions(temperatures=(0.0,), max_response_tokens=12)


@dataclass(frozen=True)
class Repository:
    """A model repository of Triton."""

    directory: Path
    environment: Path
    journal: Path
    """Where scripted models say how their requests ended."""

    def add(self, name: str, program: str, *, full: bool = True, **parameters: str) -> None:
        """
        Args:
            program: of those beside this file.
            full: whether the model has what is optional in the tensors of the vLLM backend.
        """
        version = self.directory / name / "1"
        version.mkdir(parents=True)
        shutil.copy(MODELS / f"{program}.py", version / "model.py")
        shutil.copy(MODELS / "replies.py", version)
        inputs = {**TEXT_INPUTS, "return_finish_reason": "BOOL"}
        inputs |= dict.fromkeys(OPTIONAL_INPUTS, "BOOL") if full else {"stream": "BOOL"}
        outputs = TEXT_OUTPUTS | (OPTIONAL_OUTPUTS if full else {})
        parameters["EXECUTION_ENV_PATH"] = str(self.environment)
        parameters["journal"] = str(self.journal)
        self._write(name, inputs, outputs, parameters)

    def rename_output(self, name: str, old: str, new: str) -> None:
        config = self.directory / name / "config.pbtxt"
        config.write_text(config.read_text().replace(f'"{old}"', f'"{new}"'))

    def _write(self, name: str, inputs: Any, outputs: Any, parameters: dict[str, str]) -> None:
        def tensor(kind: str, key: str, data_type: str) -> str:
            optional = " optional: true" * (kind == "input" and key not in TEXT_INPUTS)
            size = 1 if kind == "input" else -1
            return f'{kind} {{ name: "{key}" data_type: TYPE_{data_type} dims: {size}{optional} }}'

        lines = [
            f'name: "{name}"\nbackend: "python"\nmax_batch_size: 0',
            "model_transaction_policy { decoupled: true }",
            "instance_group { count: 1 kind: KIND_CPU }",
            *(tensor("input", *one) for one in inputs.items()),
            *(tensor("output", *one) for one in outputs.items()),
            *(
                f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
                for key, value in parameters.items()
            ),
        ]
        (self.directory / name / "config.pbtxt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def new_repository(
    numpy_1: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Repository]:
    """Makes repositories whose models have this Python's packages behind a numpy before 2."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = sysconfig.get_path("purelib")
    (environment / "lib" / version / "site-packages" / "beside.pth").write_text(
        f"{numpy_1}\nimport site; site.addsitedir({own!r})\n"
    )

    def make() -> Repository:
        directory = tmp_path_factory.mktemp("triton")
        return Repository(directory / "repository", environment, directory / "journal")

    return make


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(state_dir=tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def policy(settings: Settings, tiny_policy: Path) -> str:
    lineage = Lineage(stage="test", version=1, config={}, inputs={})
    return open_configured_store(settings).put("policy", tiny_policy, lineage=lineage).id


@pytest.fixture(scope="module")
def engine(settings: Settings, policy: str) -> Iterator[SamplerEngine]:
    """The native engine with the weights."""
    made = SamplerEngine(ModelReferences(open_configured_store(settings)), device="cpu")
    made.load(policy)
    yield made
    made.close()


@pytest.fixture(scope="module")
def repository(
    new_repository: Callable[[], Repository],
    engine: SamplerEngine,
    policy: str,
    tiny_policy: Path,
) -> Repository:
    made, facts = new_repository(), engine.policy()
    made.add(
        "llama",
        "policy",
        weights=str(tiny_policy),
        policy_id=policy,
        architecture=facts.architecture,
        parameters=str(facts.parameters),
        context_length=str(facts.context_length),
        vocabulary_size=str(facts.vocabulary_size),
    )
    made.add("scripted", "scripted")
    made.add("bare", "scripted", full=False)
    made.add("scores", "scripted")
    made.rename_output("scores", "text_output", "score")
    made.add("late", "scripted")
    return made


@pytest.fixture(scope="module")
def triton(tritonserver: Path, repository: Repository) -> Iterator[TritonServer]:
    """Serves all models but `late`, which its clients may load."""
    loaded = ("llama", "scripted", "bare", "scores")
    arguments = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in loaded)]
    directory = repository.directory.parent
    with TritonServer(tritonserver, repository.directory, directory, arguments) as server:
        yield server


@pytest.fixture(scope="module")
def backend(
    triton: TritonServer,
    settings: Settings,
    tiny_tokenizer: Any,
    policy: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SamplerBackend]:
    """With the policy's tokenizer and no weights, as the environment would set it up."""
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer.save_pretrained(tokenizer)
    named = settings.model_copy(
        update={
            "sampler_backend": "triton",
            "triton_target": triton.target,
            "triton_tokenizer": f"path:{tokenizer}",
        }
    )
    made = configured_backend(named, ModelReferences(open_configured_store(settings)))
    made.load(policy)
    yield made
    made.close()


@pytest.fixture(scope="module")
def bare_backend(triton: TritonServer) -> Iterator[TritonBackend]:
    """Without a tokenizer, for scripted models, and without patience."""
    made = TritonBackend(
        TritonPolicyConfig(target=triton.target, default_model="scripted", patience_s=0)
    )
    yield made
    made.close()


def serving(engine: Any) -> Any:
    def register(server: grpc.aio.Server) -> list[str]:
        sampler_pb2_grpc.add_SamplerServiceServicer_to_server(SamplerService(engine), server)
        return ["plumbline.v1.SamplerService"]

    return serve_in_thread("sampler", register)


@pytest.fixture(scope="module")
def stubs(engine: SamplerEngine, backend: Any) -> Iterator[tuple[Any, Any]]:
    """Of the sampler with the weights, and of one before Triton."""
    with (
        serving(engine) as near,
        serving(backend) as far,
        connect("sampler", target=near) as own,
        connect("sampler", target=far) as other,
    ):
        yield own, other


@pytest.fixture
def tells_tokens() -> bool:
    """The logprobs of vLLM are the policy's own, whatever tokens were drawn from."""
    return False


# A policy in Triton


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_tokens_are_told_where_the_policys_logprobs_are_those_drawn_with(
    engine: SamplerEngine, backend: Any, temperature: float
) -> None:
    prompts = [[user("the cat")], [user("the dog ran")]]
    options = SamplingOptions(
        temperatures=(temperature,), max_response_tokens=12, top_logprobs=2, stop=("q",)
    )
    (_, own), (_, far) = (
        one.sample("", prompts, options, k=2, seeds=[3, 4]) for one in (engine, backend)
    )

    for mine, theirs in zip(own, far, strict=True):
        assert theirs.prompt_token_ids == mine.prompt_token_ids
        for left, right in zip(theirs.responses, mine.responses, strict=True):
            assert left.text == right.text
            assert left.sampled.token_ids == right.sampled.token_ids != ()
            assert left.sampled.logprobs == pytest.approx(right.sampled.logprobs, abs=1e-5)
            expected = right.sampled.untempered_logprobs
            assert left.sampled.untempered_logprobs == pytest.approx(expected, abs=1e-5)
            assert _told(left.details) == _told(right.details)


def _told(details: Sequence[Any]) -> list[Any]:
    return [
        (one.token_id, one.text, pytest.approx(one.logprob, abs=1e-5), _told(one.alternatives))
        for one in details
    ]


def test_many_are_drawn_at_a_time_and_each_can_be_drawn_again_alone(
    engine: SamplerEngine, backend: Any
) -> None:
    prompts = [[user(word)] for word in ("the cat", "a house", "the sea", "dogs")]
    options = SamplingOptions(temperatures=(0.8, 1.1), top_k=20, max_response_tokens=16)
    policy_id, far = backend.sample("", prompts, options, k=8, seeds=[1, 2, 3, 4])
    own_id, own = engine.sample("", prompts, options, k=8, seeds=[1, 2, 3, 4])

    texts = [[response.text for response in one.responses] for one in far]
    assert texts == [[response.text for response in one.responses] for one in own]
    assert policy_id == own_id
    fifth = far[2].responses[4]
    alone = SamplingOptions(temperatures=(0.8,), top_k=20, max_response_tokens=16)
    _, again = backend.sample("", [prompts[2]], alone, k=1, seeds=[fifth.sampled.seed])
    assert again[0].responses[0].text == fifth.text


def test_responses_end_before_a_stop_string(engine: SamplerEngine, backend: Any) -> None:
    free = engine.sample("", [[user("the cat")]], GREEDY, k=1, seeds=[0])[1][0].responses[0]
    stop = free.text[4:6]
    options = SamplingOptions(temperatures=(0.0,), max_response_tokens=12, stop=(stop,))
    _, samples = backend.sample("", [[user("the cat")]], options, k=1, seeds=[0])
    deltas = list(backend.generate("", [user("the cat")], options, seed=0))

    (response,) = samples[0].responses
    assert response.text == free.text[: free.text.index(stop)]
    assert response.sampled.finish_reason == deltas[-1].finish_reason == "stop"
    assert "".join(delta.text for delta in deltas) == response.text
    assert free.sampled.finish_reason == "length"


def test_a_prompt_that_does_not_fit_is_refused(backend: Any) -> None:
    with pytest.raises(FailedPreconditionError, match="Error generating stream"):
        backend.sample("", [[user("the " * 200)]], GREEDY, k=1, seeds=[0])


def test_without_a_tokenizer_there_is_no_chat_template(bare_backend: TritonBackend) -> None:
    with pytest.raises(FailedPreconditionError, match="PLUMBLINE_TRITON_TOKENIZER"):
        bare_backend.sample("llama", [[user("the cat")]], GREEDY, k=1, seeds=[0])
    _, samples = bare_backend.sample(
        "llama", [[user("the cat")]], GREEDY, k=1, seeds=[0], template="plain"
    )
    assert samples[0].prompt_token_ids == ()
    assert samples[0].responses[0].sampled.token_ids != ()


# A model that does what it is told


def script(*texts: str, reason: str = "stop", **more: Any) -> str:
    pieces: list[dict[str, Any]] = [{"text": text, "num_input_tokens": 6} for text in texts]
    pieces[-1]["finish_reason"] = reason
    return json.dumps({"pieces": pieces, **more})


def draw(backend: TritonBackend, prompt: str, model: str = "", **how: Any) -> Any:
    """(policy id, the response) of one draw."""
    options = how.pop("options", SamplingOptions())
    policy_id, samples = backend.sample(
        model, [[user(prompt)]], options, k=1, seeds=[5], template="plain", **how
    )
    return policy_id, samples[0].responses[0]


def deltas_of(backend: TritonBackend, prompt: str, model: str = "") -> list[Any]:
    options = SamplingOptions()
    return list(backend.generate(model, [user(prompt)], options, seed=1, template="plain"))


@pytest.mark.parametrize("model", ["scripted", "scripted/1", "bare"])
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_pieces_join_and_end_with_a_reason(
    bare_backend: TritonBackend, model: str, reason: str
) -> None:
    prompt = script("the ", "", "séa", reason=reason)
    policy_id, response = draw(bare_backend, prompt, model)
    deltas = deltas_of(bare_backend, prompt, model)

    assert policy_id == f"{model.removesuffix('/1')}/1"
    assert (response.text, response.sampled.finish_reason) == ("the séa", reason)
    assert response.sampled.token_ids == response.sampled.logprobs == ()
    assert [delta.text for delta in deltas] == ["the ", "séa"]
    assert [delta.finish_reason for delta in deltas] == [None, reason]
    # What the model does not offer stays empty.
    assert deltas[-1].prompt_tokens == (0 if model == "bare" else 6)


def test_a_model_that_tells_no_logprobs_says_so(bare_backend: TritonBackend) -> None:
    with pytest.raises(FailedPreconditionError, match="tells no logprobs"):
        draw(bare_backend, script("sea"), "bare", options=SamplingOptions(top_logprobs=0))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("INVALID_ARG", InvalidInputError),
        ("NOT_FOUND", NotFoundError),
        ("CANCELLED", CancelledError),
        ("UNAVAILABLE", UnavailableError),
        ("INTERNAL", FailedPreconditionError),
        ("UNSUPPORTED", FailedPreconditionError),
    ],
)
def test_errors_of_triton_are_typed(
    bare_backend: TritonBackend, code: str, kind: type[PlumblineError]
) -> None:
    prompt = json.dumps({"fail": [code, "no such luck"]})
    with pytest.raises(kind, match="no such luck") as caught:
        draw(bare_backend, prompt)
    with pytest.raises(kind, match="no such luck"):
        deltas_of(bare_backend, prompt)
    assert type(caught.value) is kind


def test_a_withheld_or_unfinished_response_is_an_error(bare_backend: TritonBackend) -> None:
    with pytest.raises(FailedPreconditionError, match="'abort'; accepted: stop and length"):
        draw(bare_backend, script("sea", reason="abort"))
    for ask in (draw, deltas_of):
        with pytest.raises(UnavailableError, match="before the response's end"):
            ask(bare_backend, script("sea", reason="None"))


def test_prompts_that_the_model_counts_otherwise_are_refused(triton: TritonServer) -> None:
    class OtherTokenizer(TextPrompts):
        def prompt(self, messages: Any, template: Any) -> PromptText:
            return PromptText(super().prompt(messages, template).text, (1, 2, 3))

    backend = TritonBackend(TritonPolicyConfig(target=triton.target), OtherTokenizer())
    with pytest.raises(FailedPreconditionError, match="made 6 tokens of a prompt that has 3"):
        draw(backend, script("sea"), "scripted")
    backend.close()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"stop": ("",)}, "stop"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {3: 101.0}}, "logit_bias"),
    ],
)
def test_options_are_checked_before_triton_is_asked(
    bare_backend: TritonBackend, options: Any, field: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        draw(bare_backend, "not even a script", options=SamplingOptions(**options))
    assert caught.value.field == field


def test_only_models_that_generate_text_are_policies(bare_backend: TritonBackend) -> None:
    listed, default = bare_backend.policies()
    assert {one.reference for one in listed} == {"llama", "scripted", "bare"}
    assert default == "scripted"
    with pytest.raises(FailedPreconditionError, match="'scores' of Triton lacks text_output"):
        bare_backend.policy("scores")
    for unknown in ("gpt", "scripted/7", "a/b@latest"):
        with pytest.raises(NotFoundError, match=unknown):
            bare_backend.policy(unknown)
    with pytest.raises(NotFoundError, match="cannot be loaded"):
        bare_backend.load("gpt")
    with pytest.raises(InvalidInputError, match="no base"):
        bare_backend.load("scripted", base="llama")


def test_a_policy_is_loaded_and_replaced(triton: TritonServer, repository: Repository) -> None:
    import tritonclient.grpc

    backend = TritonBackend(TritonPolicyConfig(target=triton.target))
    with pytest.raises(NotFoundError, match="'late' is not served"):
        backend.policy("late")
    assert backend.load("late").id == "late/1"
    assert draw(backend, script("sea"))[0] == "late/1"
    shutil.copytree(repository.directory / "late" / "1", repository.directory / "late" / "2")
    with tritonclient.grpc.InferenceServerClient(triton.target) as client:
        client.load_model("late")

    assert draw(backend, script("sea"))[0] == "late/2"
    assert deltas_of(backend, script("sea"))[0].policy_id == "late/2"
    with pytest.raises(NotFoundError):
        backend.policy("late/1")
    backend.close()


# Callers that go away, and a Triton that does


@pytest.fixture
def slow(repository: Repository) -> Iterator[str]:
    """A script of twenty seconds; its request must be cancelled and not run to its end."""
    repository.journal.unlink(missing_ok=True)
    yield script(*["sea "] * 200, pause_s=0.1)
    deadline = time.monotonic() + 10
    while _ends(repository) == ["began"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _ends(repository) == ["began", "cancelled"]


def _ends(repository: Repository) -> list[str]:
    return repository.journal.read_text().split() if repository.journal.exists() else []


@pytest.mark.parametrize("method", ["Generate", "SampleResponses"])
def test_a_call_past_its_deadline_cancels_its_request(
    bare_backend: TritonBackend, slow: str, method: str
) -> None:
    prompt = prompt_to_wire([user(slow)])
    plain = types_pb2.PROMPT_TEMPLATE_PLAIN
    request: Any = pb.GenerateRequest(prompt=prompt, prompt_template=plain)
    if method == "SampleResponses":
        request = pb.SampleResponsesRequest(prompts=[prompt], prompt_template=plain)
    with (
        serving(bare_backend) as address,
        connect("sampler", target=address) as stub,
        pytest.raises(DeadlineExceededError),
    ):
        list(getattr(stub, method)(request, timeout=0.8))


def test_requests_that_nobody_waits_for_are_cancelled(
    bare_backend: TritonBackend, repository: Repository, slow: str
) -> None:
    def leave() -> None:
        if _ends(repository):
            raise CancelledError("the caller went away")

    with pytest.raises(CancelledError, match="the caller went away"):
        draw(bare_backend, slow, while_waiting=leave)


def test_a_stream_that_is_left_is_cancelled(bare_backend: TritonBackend, slow: str) -> None:
    options = SamplingOptions()
    deltas = bare_backend.generate("", [user(slow)], options, seed=1, template="plain")
    assert next(deltas).text == "sea "
    deltas.close()  # type: ignore[attr-defined]


def test_what_has_no_token_yet_waits_for_a_triton_that_comes_back(
    tritonserver: Path, new_repository: Callable[[], Repository]
) -> None:
    repository = new_repository()
    repository.add("scripted", "scripted")
    with (
        TritonServer(tritonserver, repository.directory, repository.directory.parent) as server,
        backend_of(server) as backend,
        ThreadPoolExecutor(8) as pool,
    ):
        slow = script(*["sea "] * 20, pause_s=0.1)
        options = SamplingOptions()
        deltas = backend.generate("", [user(slow)], options, seed=1, template="plain")
        assert next(deltas).text == "sea "
        whole = [pool.submit(draw, backend, slow) for _ in range(4)]
        wait_for(lambda: _ends(repository).count("began") == 5)
        server.kill()
        with pytest.raises(UnavailableError):
            list(deltas)
        late = [pool.submit(deltas_of, backend, script("the ", "sea")) for _ in range(4)]
        server.start()

        assert [one.result(60)[1].text for one in whole] == ["sea " * 20] * 4
        assert ["".join(delta.text for delta in one.result(60)) for one in late] == ["the sea"] * 4


@contextmanager
def backend_of(server: TritonServer) -> Iterator[TritonBackend]:
    made = TritonBackend(TritonPolicyConfig(target=server.target, patience_s=60))
    yield made
    made.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_triton_that_is_away_is_unavailable() -> None:
    backend = TritonBackend(TritonPolicyConfig(target="127.0.0.1:9", patience_s=0.2))
    with pytest.raises(UnavailableError, match=r"Triton at 127\.0\.0\.1:9"):
        backend.policy("llama")
    with pytest.raises(UnavailableError):
        draw(backend, "anything", "llama")
    backend.close()


def test_the_environment_must_say_where_triton_is() -> None:
    named = {"PLUMBLINE_SAMPLER_BACKEND": "triton"}
    with pytest.raises(ConfigError, match="PLUMBLINE_TRITON_TARGET"):
        configured_backend(Settings.from_environment(named), lambda reference: ("", Path()))
