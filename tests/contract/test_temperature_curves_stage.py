"""`evaluation.temperature_curves` as a job in a process of its own, against real services."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plumbline.catalogue import STAGES
from plumbline.cli.local_services import with_local_services
from plumbline.cli.main import app
from plumbline.core.artifacts import Artifact, ArtifactStore, open_configured_store
from plumbline.core.broker import connect_broker
from plumbline.core.errors import ConfigError, InvalidInputError
from plumbline.core.execution import STAGE_PROCESS
from plumbline.core.job_runner import JobMessages, JobRunner, WorkerConfig
from plumbline.core.jobs import JobState, JobStore
from plumbline.core.local_executor import LocalExecutor
from plumbline.core.queue import create_app, submit
from plumbline.core.settings import Settings
from plumbline.core.stages import run_stage
from plumbline.data.records import Rollout
from plumbline.data.tables import read_records, write_records
from plumbline.evaluation.report import Node, render_report
from plumbline.models.programmatic import LengthReward, response_reward

STAGE = "evaluation.temperature_curves"
LENGTH = {"kind": "length", "target_words": 4}
SHORT = {
    "name": "v1",
    "temperatures": [1.5, 0.0, 0.8],
    "responses_per_temperature": 4,
    "prompts_per_kind": 2,
    "max_response_tokens": 12,
    "resamples": 200,
}
FILES = {
    "curves.json",
    "max_by_n.svg",
    "max_by_temperature.svg",
    "median_by_n.svg",
    "report.json",
    "rollouts.parquet",
    "self_bleu.svg",
}

Run = Callable[..., Artifact]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings under which a sampler and a reward service answer on loopback."""
    plain = Settings(state_dir=tmp_path_factory.mktemp("state"), threads=1)
    with with_local_services(plain, ("sampler", "reward")) as equipped:
        yield equipped


@pytest.fixture(scope="module")
def store(settings: Settings) -> ArtifactStore:
    return open_configured_store(settings)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prompts of each of two kinds."""
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [
        {"prompt": f"the {kind} {number}", "kind": kind}
        for number in range(3)
        for kind in ("cat", "dog")
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def run(settings: Settings, store: ArtifactStore) -> Run:
    """Runs the stage in this process: `run(config, policy=..., prompts=...)`; inputs are paths."""

    def run_(config: Mapping[str, Any], **inputs: Path) -> Artifact:
        references = {name: [f"path:{path}"] for name, path in inputs.items()}
        merged = {**SHORT, **config}
        return run_stage(STAGES[STAGE], merged, references, store=store, settings=settings)[0]

    return run_


@dataclass
class Jobs:
    """A queue and a worker's runner, which gives every job a process."""

    settings: Settings
    redis_url: str

    def __post_init__(self) -> None:
        self.store = JobStore(self.redis_url)
        # The job's process finds the services where `plumbline up` notes them.
        endpoints = {"services": self.settings.targets}
        (self.settings.state_dir / "endpoints.json").write_text(json.dumps(endpoints))

    def run(self, config: Mapping[str, Any], inputs: Mapping[str, list[str]]) -> str:
        """The id of the artifact that the job made."""
        settings = self.settings.model_copy(update={"redis_url": self.redis_url})
        app = create_app(settings, STAGES)
        job = submit(self.store, app, STAGES, STAGE, config, inputs)
        runner = JobRunner(
            self.store,
            JobMessages(send_job=lambda _: None, send_advance=lambda _: None),
            executors={"local": LocalExecutor([sys.executable, "-m", STAGE_PROCESS], settings)},
            default_executor="local",
            config=WorkerConfig(),
            name="test",
        )
        runner.run(job.id)
        ended = self.store.get(job.id)
        assert ended.state is JobState.SUCCEEDED, ended.why
        assert ended.result is not None
        return ended.result


@pytest.fixture
def jobs(valkey: str, settings: Settings) -> Iterator[Jobs]:
    url = f"{valkey.rpartition('/')[0]}/11"
    connect_broker(url).flushdb()
    found = Jobs(settings, url)
    yield found
    found.store.close()


def test_a_job_draws_scores_and_reports(
    jobs: Jobs,
    store: ArtifactStore,
    prompts: Path,
    tiny_policy: Path,
    tiny_reward_models: dict[str, Path],
) -> None:
    inputs = {
        "policy": tiny_policy,
        "prompts": prompts,
        "helpfulness": tiny_reward_models["helpfulness"],
        "safety": tiny_reward_models["safety"],
    }

    made = jobs.run(SHORT, {name: [f"path:{path}"] for name, path in inputs.items()})

    artifact, files = store.get(made), store.materialise(made)
    assert {path.name for path in files.iterdir()} - {"manifest.json", "run.json"} == FILES
    rollouts = read_records(files / "rollouts.parquet", Rollout)
    assert len(rollouts) == 3 * 4 * 4  # temperatures, prompts, responses
    assert all(rollout.scores.keys() == {"combined"} for rollout in rollouts)
    curves = json.loads((files / "curves.json").read_text())
    assert curves["temperatures"] == [0.0, 0.8, 1.5]
    assert {kind: group["prompts"] for kind, group in curves["kinds"].items()} == {
        "cat": 2,
        "dog": 2,
    }
    greedy, *_, hottest = curves["all"]["temperatures"]
    # Four equal responses: the best of any number is the reward of each.
    assert greedy["self_bleu"]["value"] == pytest.approx(1.0)
    assert greedy["max"][0]["value"] == pytest.approx(greedy["max"][3]["value"])
    assert hottest["self_bleu"]["value"] < 0.9
    assert hottest["max"][3]["value"] > hottest["median"][3]["value"]
    metrics = artifact.manifest.published
    assert metrics["best_temperature.v1"] == curves["all"]["best"][3]["temperature"]
    assert metrics["best_reward.v1"] == curves["all"]["best"][3]["value"]
    assert 0 <= metrics["best_temperature_share.v1"] <= 1


def test_the_best_are_the_best_of_what_was_drawn(
    run: Run, store: ArtifactStore, prompts: Path, tiny_policy: Path
) -> None:
    artifact = run({"reward": LENGTH}, policy=tiny_policy, prompts=prompts)

    files = store.materialise(artifact.id)
    curves = json.loads((files / "curves.json").read_text())
    score = response_reward(LengthReward(target_words=4))
    by_prompt: dict[str, list[float]] = {}
    for rollout in read_records(files / "rollouts.parquet", Rollout):
        assert rollout.scores["length"] == score(rollout.response)
        if rollout.temperature == 0.8:
            by_prompt.setdefault(rollout.prompt_id, []).append(score(rollout.response))
    best = [max(scores) for scores in by_prompt.values()]
    single = [value for scores in by_prompt.values() for value in scores]
    at_08 = curves["all"]["temperatures"][1]["max"]
    assert at_08[3]["value"] == pytest.approx(sum(best) / 4)
    assert at_08[0]["value"] == pytest.approx(sum(single) / 16)


def test_a_temperature_more_changes_no_draw_of_the_others(
    run: Run, store: ArtifactStore, prompts: Path, tiny_policy: Path
) -> None:
    def drawn(*temperatures: float) -> dict[float, list[str]]:
        config = {"reward": LENGTH, "temperatures": list(temperatures)}
        artifact = run(config, policy=tiny_policy, prompts=prompts)
        found: dict[float, list[str]] = {}
        rollouts = store.materialise(artifact.id) / "rollouts.parquet"
        for rollout in read_records(rollouts, Rollout):
            found.setdefault(rollout.temperature, []).append(rollout.response)
        return found

    fewer, more = drawn(1.0), drawn(0.5, 1.0)

    assert fewer[1.0] == more[1.0] != more[0.5]


def test_rollouts_that_were_drawn_and_scored_before_will_do(
    run: Run, store: ArtifactStore, prompts: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    drawn = run({"reward": LENGTH}, policy=tiny_policy, prompts=prompts)
    files = store.materialise(drawn.id)
    before = read_records(files / "rollouts.parquet", Rollout)

    again = run({}, rollouts=files / "rollouts.parquet")

    assert (store.materialise(again.id) / "curves.json").read_bytes() == (
        files / "curves.json"
    ).read_bytes()
    two_scores = [replace(r, scores={**r.scores, "other": 0.0}) for r in before]
    write_records(tmp_path / "rollouts.parquet", two_scores, Rollout)
    with pytest.raises(InvalidInputError, match="have the scores length, other; accepted"):
        run({}, rollouts=tmp_path / "rollouts.parquet")
    named = run({"score": "length"}, rollouts=tmp_path / "rollouts.parquet")
    assert named.manifest.metrics == drawn.manifest.metrics


def test_the_command_tells_the_best_temperature(
    run: Run,
    store: ArtifactStore,
    prompts: Path,
    tiny_policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = run({"reward": LENGTH}, policy=tiny_policy, prompts=prompts)
    rollouts = store.materialise(drawn.id) / "rollouts.parquet"
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))

    options = {"rollouts": rollouts, "name": "v1", "out": tmp_path / "out", "set": "resamples=200"}
    given = [f"--{name}={value}" for name, value in options.items()]
    done = CliRunner().invoke(app, ["temperatures", *given, "--json"])

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"] == drawn.manifest.metrics
    assert (tmp_path / "out" / "max_by_n.svg").is_file()


def test_a_run_report_shows_policies_beside_each_other(
    run: Run, store: ArtifactStore, prompts: Path, tiny_policy: Path
) -> None:
    nodes = []
    for name in ("v1", "v2"):
        artifact = run(
            {"name": name, "reward": LENGTH, "best_of": 2}, policy=tiny_policy, prompts=prompts
        )
        path = store.materialise(artifact.id)
        nodes.append(Node(name, "report", STAGE, name, path, (), artifact.manifest.metrics))

    html = render_report("Run", nodes, samples=0)

    assert "<h2>Temperatures</h2>" in html
    assert html.count("<svg") == 3  # best reward, Self-BLEU, lineage
    assert "<!-- v2, N = 2 -->" in html


def test_what_was_given_must_fit(
    run: Run, prompts: Path, tiny_policy: Path, tiny_reward_models: dict[str, Path]
) -> None:
    refuse: Callable[..., Any] = functools.partial(run, policy=tiny_policy)

    with pytest.raises(ConfigError, match="inputs policy were given; accepted: rollouts alone"):
        refuse({"reward": LENGTH})
    with pytest.raises(InvalidInputError, match="best_of=5 with 4 responses"):
        refuse({"reward": LENGTH, "best_of": 5}, prompts=prompts)
    with pytest.raises(InvalidInputError, match="the rollouts have the scores none"):
        refuse({}, prompts=prompts)
    with pytest.raises(ConfigError, match="needs no reward model, but safety was given"):
        refuse({"reward": LENGTH}, prompts=prompts, safety=tiny_reward_models["safety"])
