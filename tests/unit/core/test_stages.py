"""Stages run in this process over a directory store."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel, ConfigDict, Field

from plumbline.core.artifacts import ArtifactStore, Lineage, open_configured_store
from plumbline.core.errors import (
    CancelledError,
    CheckpointError,
    ConfigError,
    CorruptArtifactError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ServiceUnavailableError,
    StorageFullError,
)
from plumbline.core.local_inputs import import_path
from plumbline.core.scratch import scratch_directory
from plumbline.core.settings import Settings
from plumbline.core.stages import (
    ConsoleReporter,
    InputSpec,
    NullReporter,
    Stage,
    StageContext,
    StageInputs,
    StageResult,
    load_run_function,
    run_stage,
    stage_key,
)

MODULE = "stages_of_this_test"


class CountConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    upper: bool = False
    stop_at: int = Field(10, ge=1)


def make_stage(run: str = "count", **changes: object) -> Stage:
    fields: dict[str, object] = {
        "name": "test.count",
        "version": 1,
        "config": CountConfig,
        "inputs": {
            "corpus": InputSpec(kinds=("corpus",)),
            "extra": InputSpec(kinds=("report", "corpus"), required=False, many=True),
        },
        "output_kind": "report",
        "queue": "curation",
        "run": f"{MODULE}:{run}",
    }
    return Stage(**{**fields, **changes})  # type: ignore[arg-type]


class Recorder(NullReporter):
    """Keeps what a stage reports and cancels it after some progress."""

    def __init__(self, cancel_after: int = 10**9) -> None:
        self.seen: list[tuple[int, int, str]] = []
        self.rows: list[tuple[int, dict[str, float]]] = []
        self._cancel_after = cancel_after

    def progress(self, done: int, total: int, message: str) -> None:
        self.seen.append((done, total, message))

    def log_metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append((step, dict(values)))

    def cancel_reason(self) -> str | None:
        return "enough" if len(self.seen) >= self._cancel_after else None


runs: list[str] = []


def count(config: CountConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    runs.append("count")
    corpus = inputs.one("corpus")
    text = b"".join(path.read_bytes() for path in sorted(corpus.path.iterdir())).decode()
    context.progress(1, 1, "counted")
    context.log_metrics(1, {"characters": len(text)})
    (context.work_dir / "scratch").write_text("not part of the artifact")
    (context.output_dir / "report.json").write_text(
        json.dumps(text.upper() if config.upper else text)
    )
    characters = float(len(text))
    return StageResult({"characters": characters}, {"characters.total": characters})


def resume(config: CountConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    """Counts to ten with a checkpoint at each step; stops on the way as configured elsewhere."""
    found = context.newest_checkpoint()
    start = json.loads((found[0] / "state.json").read_text()) if found else 0
    runs.append(f"from {start}")
    for step in range(start + 1, config.stop_at + 1):
        directory = context.work_dir / "state"
        directory.mkdir(exist_ok=True)
        (directory / "state.json").write_text(str(step))
        context.save_checkpoint(directory, step)
        context.progress(step, config.stop_at)
    (context.output_dir / "report.json").write_text(str(config.stop_at))
    return StageResult()


def nothing(config: CountConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    return StageResult()


def full(config: CountConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    with open("/dev/full", "wb") as device:
        device.write(b"x" * 100_000)
    return StageResult()


def calls_reward(config: CountConfig, inputs: StageInputs, context: StageContext) -> StageResult:
    context.connect("reward")
    return StageResult()


@pytest.fixture(autouse=True)
def stage_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages name their function by module; this file is loaded under no importable name."""
    runs.clear()
    module = ModuleType(MODULE)
    for function in (count, resume, nothing, full, calls_reward):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, MODULE, module)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    return open_configured_store(settings)


@pytest.fixture
def corpus(store: ArtifactStore) -> str:
    return store.put("corpus", {"a.txt": b"hello"}, lineage=Lineage(stage="import")).id


def test_second_run_finds_the_first_ones_artifact(
    store: ArtifactStore, settings: Settings, corpus: str
) -> None:
    reporter = Recorder()
    stage = make_stage()
    first, cached = run_stage(
        stage, {}, {"corpus": [corpus]}, store=store, settings=settings, reporter=reporter
    )
    assert not cached
    assert store.read_bytes(first.id, "report.json") == b'"hello"'
    assert [entry.name for entry in first.manifest.files] == ["report.json"]
    assert first.manifest.lineage.stage == "test.count"
    assert first.manifest.lineage.config == {"upper": False, "stop_at": 10}
    assert first.manifest.lineage.inputs == {"corpus": (corpus,)}
    assert (reporter.seen, reporter.rows) == ([(1, 1, "counted")], [(1, {"characters": 5})])

    second, cached = run_stage(
        stage, {"stop_at": 10}, {"corpus": [corpus]}, store=store, settings=settings
    )
    assert cached
    assert second == first
    assert second.manifest.published == {"characters.total": 5.0}
    assert runs == ["count"]
    assert [path.name for path in settings.scratch_dir.iterdir()] == ["scratch"]


def test_key_changes_with_all_that_may_change_the_output() -> None:
    stage, config, ids = make_stage(), CountConfig(), {"corpus": ["a" * 64]}
    keys = [
        stage_key(stage, config, ids),
        stage_key(make_stage(version=2), config, ids),
        stage_key(make_stage(name="test.other"), config, ids),
        stage_key(stage, CountConfig(upper=True), ids),
        stage_key(stage, config, {"corpus": ["b" * 64]}),
        stage_key(stage, config, {"corpus": ["a" * 64], "extra": ["b" * 64, "c" * 64]}),
        stage_key(stage, config, {"corpus": ["a" * 64], "extra": ["c" * 64, "b" * 64]}),
    ]
    assert len(set(keys)) == len(keys)
    assert stage_key(stage, config, {**ids, "extra": []}) == keys[0]


def test_same_work_in_another_store_has_the_same_id(tmp_path: Path) -> None:
    ids = set()
    for place in ("one", "two"):
        settings = Settings(state_dir=tmp_path / place)
        store = open_configured_store(settings)
        (tmp_path / place / "a.txt").write_text("hello")
        reference = f"path:{tmp_path}/{place}/a.txt"
        artifact, _ = run_stage(
            make_stage(), {}, {"corpus": [reference]}, store=store, settings=settings
        )
        ids.add(artifact.id)
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        ({"uper": True}, {"corpus": ["x"]}, r"stage test.count: unknown key 'uper'.*'upper'"),
        ({"stop_at": 0}, {"corpus": ["x"]}, "stop_at=0 is not accepted"),
        ({}, {}, "input 'corpus' is missing; accepted kinds: corpus"),
        ({}, {"corpus": ["x"], "extras": ["y"]}, r"unknown input 'extras' \(did you mean 'extra'"),
        ({}, {"corpus": ["x", "y"]}, "got 2 artifacts; accepted: one"),
    ],
)
def test_wrong_config_or_inputs_run_nothing(
    store: ArtifactStore,
    settings: Settings,
    config: dict[str, object],
    inputs: dict[str, list[str]],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_stage(make_stage(), config, inputs, store=store, settings=settings)
    assert runs == []


def test_input_of_another_kind_is_refused(
    store: ArtifactStore, settings: Settings, corpus: str
) -> None:
    policy = store.put("policy", {"a": b"x"}, lineage=Lineage(stage="import")).id
    with pytest.raises(ConfigError, match="a policy; accepted kinds: corpus"):
        run_stage(make_stage(), {}, {"corpus": [policy]}, store=store, settings=settings)
    with pytest.raises(NotFoundError):
        run_stage(make_stage(), {}, {"corpus": ["corpus/none"]}, store=store, settings=settings)


def test_altered_input_stops_the_stage(
    store: ArtifactStore, settings: Settings, corpus: str
) -> None:
    (altered,) = (settings.state_dir / f"store/artifacts/{corpus}/files").iterdir()
    altered.write_bytes(b"hellO")
    with pytest.raises(CorruptArtifactError):
        run_stage(make_stage(), {}, {"corpus": [corpus]}, store=store, settings=settings)
    assert runs == []


def test_cancelled_stage_publishes_nothing_and_resumes_where_it_was(
    store: ArtifactStore, settings: Settings, corpus: str
) -> None:
    """Cancelled after 3 reports: the checkpoint of step 4 is saved, its report is refused."""
    stage = make_stage("resume")
    arguments = (stage, {}, {"corpus": [corpus]})
    with pytest.raises(CancelledError, match="cancelled: enough"):
        run_stage(*arguments, store=store, settings=settings, reporter=Recorder(cancel_after=3))
    key = stage_key(stage, CountConfig(), {"corpus": [corpus]})
    assert store.checkpoints.steps(key) == [4, 3]
    assert store.find_output(key) is None

    artifact, cached = run_stage(*arguments, store=store, settings=settings)
    assert not cached
    assert runs == ["from 0", "from 4"]
    assert store.read_bytes(artifact.id, "report.json") == b"10"
    assert store.checkpoints.steps(key) == []


def test_stage_that_writes_nothing_is_an_error(
    store: ArtifactStore, settings: Settings, corpus: str
) -> None:
    with pytest.raises(InvalidInputError, match="holds no files"):
        run_stage(make_stage("nothing"), {}, {"corpus": [corpus]}, store=store, settings=settings)


def test_full_disk_inside_a_stage_has_its_type(
    store: ArtifactStore, settings: Settings, corpus: str
) -> None:
    with pytest.raises(StorageFullError, match=r"stage test\.count"):
        run_stage(make_stage("full"), {}, {"corpus": [corpus]}, store=store, settings=settings)


def test_service_without_a_target_is_named(
    store: ArtifactStore, settings: Settings, corpus: str
) -> None:
    with pytest.raises(ServiceUnavailableError, match="PLUMBLINE_REWARD_TARGET"):
        run_stage(
            make_stage("calls_reward"), {}, {"corpus": [corpus]}, store=store, settings=settings
        )


def test_missing_package_names_the_extra() -> None:
    with pytest.raises(FailedPreconditionError, match=r"install plumbline\[test\]"):
        load_run_function(replace(make_stage(), run="package_that_nobody_has:run"))


def test_console_reporter_writes_the_last_line_always(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ConsoleReporter(interval_s=3600)
    for done in range(1, 6):
        reporter.progress(done, 5, "rows")
    assert capsys.readouterr().err == "1/5 rows\n5/5 rows\n"


def test_scratch_of_a_killed_process_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead/file").write_text("left behind")
    (tmp_path / "dead.lock").touch()
    with scratch_directory(tmp_path) as mine, scratch_directory(tmp_path) as other:
        assert mine.is_dir() and other.is_dir()
        assert not (tmp_path / "dead").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]


def model_directory(path: Path, **files: bytes) -> Path:
    path.mkdir(parents=True)
    for name, content in {"config.json": b"{}", **files}.items():
        (path / name).write_bytes(content)
    return path


def test_model_directory_is_imported_without_what_is_unsafe_or_unused(
    store: ArtifactStore, tmp_path: Path
) -> None:
    directory = model_directory(
        tmp_path / "model",
        **{
            "model.safetensors": b"weights",
            "pytorch_model.bin": b"pickle",
            "tokenizer.json": b"{}",
            "tokenizer.model": b"sp",
            "merges.txt": b"a b",
            "modeling_custom.py": b"import os",
            "README.md": b"read",
            ".gitattributes": b"x",
        },
    )
    artifact = import_path(f"path:{directory}", ("policy",), store=store)
    assert artifact.kind == "policy"
    assert [entry.name for entry in artifact.manifest.files] == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer.model",
    ]
    assert artifact.manifest.lineage == Lineage(stage="import")
    assert store.run_info(artifact.id) == {"source": str(directory)}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pytorch_model.bin": b"x"}, "pytorch_model.bin is a pickle"),
        ({"model.pt": b"x"}, "model.pt is a pickle"),
        ({"model.pkl": b"x"}, "model.pkl is a pickle"),
        ({}, "it has no weights"),
        (
            {
                "one.safetensors": b"x",
                "model.safetensors.index.json": b'{"weight_map": '
                b'{"a": "one.safetensors", "b": "two.safetensors"}}',
            },
            "shard two.safetensors is missing; .* names 2 shards",
        ),
        ({"one.safetensors": b"x", "model.safetensors.index.json": b"{"}, "is not readable"),
    ],
)
def test_incomplete_or_unsafe_model_is_refused(
    store: ArtifactStore, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    directory = model_directory(tmp_path / "model", **files)
    with pytest.raises(CheckpointError, match=message):
        import_path(f"path:{directory}", ("policy",), store=store)


def test_reward_model_directory_keeps_its_kind(store: ArtifactStore, tmp_path: Path) -> None:
    files = {"model.safetensors": b"x", "reward_model.json": b"{}"}
    directory = model_directory(tmp_path / "model", **files)
    kinds = ("policy", "reward-model")
    assert import_path(f"path:{directory}", kinds, store=store).kind == "reward-model"
    assert import_path(f"path:{directory}", ("policy",), store=store).kind == "policy"


def test_snapshot_of_the_hub_cache_is_followed_into_its_blobs_only(
    store: ArtifactStore, tmp_path: Path
) -> None:
    blobs = tmp_path / "models--x/blobs"
    blobs.mkdir(parents=True)
    (blobs / "abc").write_bytes(b"weights")
    directory = model_directory(tmp_path / "models--x/snapshots/rev")
    (directory / "model.safetensors").symlink_to("../../blobs/abc")
    artifact = import_path(f"path:{directory}", ("policy",), store=store)
    assert store.read_bytes(artifact.id, "model.safetensors") == b"weights"
    (directory / "vocab.txt").symlink_to("/etc/hostname")
    with pytest.raises(InvalidInputError, match="symbolic link to /etc/hostname"):
        import_path(f"path:{directory}", ("policy",), store=store)


def test_data_file_is_kept_as_it_is(store: ArtifactStore, tmp_path: Path) -> None:
    for name, stored in [("pairs.jsonl.gz", "pairs.jsonl.gz"), ("数据.jsonl", "data.jsonl")]:
        (tmp_path / name).write_bytes(b"not really compressed")
        artifact = import_path(f"path:{tmp_path / name}", ("preferences",), store=store)
        assert artifact.kind == "preferences"
        assert store.read_bytes(artifact.id, stored) == b"not really compressed"


def test_data_directory_with_a_pickle_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.pkl").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"rows.pkl may be a pickle"):
        import_path(f"path:{tmp_path}/data", ("corpus",), store=store)


def test_paths_that_are_not_accepted(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ConfigError, match="accepted: path:/absolute/path"):
        import_path("path:relative", ("corpus",), store=store)
    with pytest.raises(NotFoundError, match="no file or directory"):
        import_path(f"path:{tmp_path}/none", ("corpus",), store=store)
    with pytest.raises(InvalidInputError, match="is empty"):
        import_path(f"path:{tmp_path}/empty.jsonl", ("corpus",), store=store)
    with pytest.raises(InvalidInputError, match="neither a regular file nor a directory"):
        import_path("path:/dev/null", ("corpus",), store=store)
    with pytest.raises(CheckpointError, match=r"has no config.json"):
        import_path(f"path:{tmp_path}", ("policy",), store=store)


def test_import_roots_bound_what_a_caller_can_read(store: ArtifactStore, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "a.txt").write_text("inside")
    (tmp_path / "b.txt").write_text("outside")
    (root / "link.txt").symlink_to(tmp_path / "b.txt")
    import_path(f"path:{root}/a.txt", ("corpus",), store=store, roots=[root])
    for path in (tmp_path / "b.txt", root / "link.txt", root / ".." / "b.txt"):
        with pytest.raises(PermissionDeniedError, match="PLUMBLINE_IMPORT_ROOTS"):
            import_path(f"path:{path}", ("corpus",), store=store, roots=[root])
