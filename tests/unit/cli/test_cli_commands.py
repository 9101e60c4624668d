"""The command as a process: start-up time, exit codes, and that nothing but JSON is on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plumbline.cli.run_commands import typed_params, with_absolute_paths
from plumbline.pipeline.config import load_pipeline


def plumbline(*arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PLUMBLINE_", "REDIS"))}
    return subprocess.run(
        [sys.executable, "-m", "plumbline.cli.main", *arguments],
        cwd=cwd,
        env={**inherited, "PLUMBLINE_CONTEXT": "local"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, plumbline.cli.main\n"
        "heavy = {'torch', 'grpc', 'celery', 'redis', 'pyarrow', 'numpy', 'transformers', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nstagez: []\n", "p.yaml:2: unknown key 'stagez'; did you mean 'stages'?"),
        (
            "name: a\nstages:\n  - name: x\n    uses: curation.curate\n",
            "p.yaml:3: stage 'x' (curation.curate) misses its input 'corpus'",
        ),
        (
            "name: a\nstages:\n"
            "  - {name: x, uses: curation.curate, inputs: {corpus: y}}\n"
            "  - {name: y, uses: curation.curate, inputs: {corpus: x}}\n",
            "the stages wait for one another",
        ),
    ],
)
def test_a_wrong_pipeline_is_one_line_and_exit_code_2(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "p.yaml").write_text(text)

    done = plumbline("run", "p.yaml", "--json", cwd=tmp_path)

    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert not (tmp_path / ".plumbline" / "run").exists(), "nothing was started"


def test_plan_needs_no_service(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "name: a\nstages:\n  x: {uses: curation.synthesize, with: {documents: 100}}\n"
    )

    done = plumbline("plan", "p.yaml", "--json", cwd=tmp_path)

    assert json.loads(done.stdout)["stages"][0] == {
        "name": "x",
        "uses": "curation.synthesize",
        "cached": False,
        "artifact": None,
        "depends_on": [],
        "execution": None,
    }


def test_anonymize_works_alone(tmp_path: Path) -> None:
    done = plumbline("anonymize", "-", cwd=tmp_path, stdin="write to ann@example.org\nhello\n")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "write to <EMAIL>\nhello\n"


def test_curate_works_alone_and_copies_its_files_out(tmp_path: Path) -> None:
    lines = ["A long enough first sentence about rivers and towns."] * 2 + [
        "Another sentence entirely, on the subject of bread and butter."
    ]
    (tmp_path / "docs.txt").write_text("\n".join(lines))

    done = plumbline("curate", "docs.txt", "--out", "curated", "--json", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["metrics"]["documents_in"] == 3
    assert answer["metrics"]["documents_out"] == 2
    assert (tmp_path / "curated" / "documents.parquet").is_file()


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    done = plumbline("jobs", cwd=tmp_path)

    assert done.returncode == 1
    assert "plumbline up" in done.stderr and "Traceback" not in done.stderr


def test_written_paths_become_absolute_where_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "a:\n  - path:x.txt  # here\n  - {b: 'path:/y', c: \"path:${params.p}\"}\n"

    changed = with_absolute_paths(text)

    assert changed == (
        f'a:\n  - "path:{tmp_path}/x.txt"  # here\n  - {{b: "path:/y", c: "path:${{params.p}}"}}\n'
    )


def test_params_take_their_declared_type() -> None:
    loaded = load_pipeline(
        "name: a\nparams: {n: 1, s: a, f: 0.5, p: {type: path}, any: {default: null}}\n"
        "stages: [{name: x, uses: r.o}]\n"
    )

    given = {"n": "3", "s": "7", "f": "2", "p": "1", "any": "[1]"}

    assert typed_params(loaded, given) == {"n": 3, "s": "7", "f": 2.0, "p": "1", "any": [1]}
