"""`import-values`, `retrieve` and `values`, run in this process against a store of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from plumbline.cli.main import app
from plumbline.core.errors import ConflictError, InvalidInputError, NotFoundError

LAW = """# 示例法

## 第一章 总则

第一条 为了规范示例，制定本法。

第二条 公民应当出示身份证。
"""
AMENDED = """# 示例法

## 第一章 总则

第一条 为了规范示例和例外，制定本法。
"""


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PLUMBLINE_RETRIEVER_TARGET", raising=False)
    monkeypatch.delenv("PLUMBLINE_RETRIEVER_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def laws(root: Path) -> Path:
    folder = root / "laws" / "行政法"
    folder.mkdir(parents=True)
    (folder / "示例法(2020-01-01).md").write_text(LAW, encoding="utf-8")
    (folder / "示例法(2024-01-01).md").write_text(AMENDED, encoding="utf-8")
    return root / "laws"


def test_statutes_of_a_folder_on_the_day_before_and_of_an_amendment(tmp_path: Path) -> None:
    folder = laws(tmp_path)

    planned = answer("import-values", folder, "--kb", "law", "--complete", "--dry-run")
    done = answer("import-values", folder, "--kb", "law", "--complete")
    again = answer("import-values", folder, "--kb", "law", "--complete")

    assert planned["artifact"] is None and planned["dry_run"]
    # The second article is closed by the edition of 2024, which comes with it.
    assert (done["added"], done["changed"], done["ended"]) == (2, 1, 0)
    assert (again["artifact"], again["unchanged"]) == (done["artifact"], 3)
    before = answer(
        "retrieve", "--kb", "law", "--query", "身份证", "--as-of", "2023-12-31", "--k", 1
    )
    after = answer("retrieve", "身份证", "--kb", "law", "--as-of", "2024-01-01")
    assert [(hit["id"], hit["version"], hit["title"], hit["text"]) for hit in before] == [
        ("示例法:2", 1, "示例法 第一章 总则 第二条", "公民应当出示身份证。")
    ]
    assert before[0]["score"] > 0
    assert [(hit["id"], hit["version"]) for hit in after] == [("示例法:1", 2)]
    in_force = answer("values", "in-force", "--kb", "law", "--as-of", "2023-12-31")
    assert [value["id"] for value in in_force] == ["示例法:1", "示例法:2"]


def test_changes_are_told_to_people(tmp_path: Path) -> None:
    rules = tmp_path / "rules.jsonl"
    rules.write_text('{"id": "oven", "text": "Mind the oven."}\n')
    run("import-values", rules, "--kb", "house")
    rules.write_text('{"id": "oven", "text": "Mind the hot oven.", "priority": 2}\n')

    told = run("import-values", rules, "--kb", "house")

    assert told.stdout.splitlines() == [
        "  changed oven version 1 -> 2 (priority, text)",
        "      -Mind the oven.",
        "      +Mind the hot oven.",
    ]
    assert "house: 0 added, 1 changed, 0 unchanged, 0 removed, 0 ended" in told.stderr


def test_history_difference_and_roll_back(tmp_path: Path) -> None:
    rules = tmp_path / "rules.csv"
    rules.write_text("id,text,triggers\na,About bread,bread|rolls\nb,About trains,\n")
    first = answer("import-values", rules, "--kb", "house")["artifact"]
    second = answer("import-values", "--kb", "house", "--revoke", "b")["artifact"]

    states = answer("values", "states", "house")
    difference = answer("values", "diff", first, "house")
    moved = answer("values", "tag", "house", first, "--expect", second)

    assert [(state["artifact"], state["values"]) for state in states] == [(second, 1), (first, 2)]
    assert [(change["action"], change["id"]) for change in difference] == [("removed", "b")]
    assert moved == {"artifact": first, "previous_artifact": second}
    assert [value["id"] for value in answer("values", "list", "--kb", "house")] == ["a", "b"]
    shown = answer("values", "show", "a", "--kb", "house", "--version", 1)
    assert (shown["text"], shown["triggers"]) == ("About bread", ["bread", "rolls"])
    assert len(shown["content_digest"]) == 64
    with pytest.raises(ConflictError):
        run("values", "tag", "house", second, "--expect", second)
    for command in (["states", "house"], ["diff", second, "house"], ["show", "a", "--kb", "house"]):
        assert run("values", *command).stdout
    assert "About bread" in run("values", "list", "--kb", "house").stdout


def test_more_than_a_message_goes_by_way_of_the_store(tmp_path: Path) -> None:
    rules = tmp_path / "rules.jsonl"
    # 9 MB, and values of one message have at most 8; white space costs nothing to embed.
    rows = [{"id": f"v{n}", "text": f"rule{chr(10) * 19_990}{n}"} for n in range(450)]
    rules.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert answer("import-values", rules, "--kb", "house")["added"] == 450

    kinds = [item["kind"] for item in answer("artifacts", "list")]
    assert sorted(kinds) == ["corpus", "knowledge-base"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import-values"], "nothing to import"),
        (["retrieve", "--kb", "house"], "one query is needed"),
        (["retrieve", "a", "--query", "b"], "one query is needed"),
        (["retrieve", "a", "--mode", "best"], "--mode 'best' is unknown; accepted: fused"),
        (["values", "in-force", "--kind", "eternal"], "--kind 'eternal' is unknown"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run(*arguments)


def test_fields_for_all_values_that_leave_them_out(tmp_path: Path) -> None:
    rules = tmp_path / "rules.csv"
    rules.write_text("id,text,jurisdiction,priority\na,Fine,,\nb,Local,CN-11,5\n")

    run("import-values", rules, "--field", "jurisdiction=CN", "--field", "priority=2")

    found = answer("values", "list")
    assert [(value["jurisdiction"], value["priority"]) for value in found] == [
        ("CN", 2),
        ("CN-11", 5),
    ]
    for wrong, message in (("id=x", "no field 'id'"), ("priority=high", "whole number")):
        with pytest.raises(InvalidInputError, match=message):
            run("import-values", rules, "--field", wrong)


def test_complete_is_about_documents(tmp_path: Path) -> None:
    rules = tmp_path / "rules.jsonl"
    rules.write_text('{"id": "a", "text": "fine"}\n')

    with pytest.raises(InvalidInputError, match="none of these values names a source"):
        run("import-values", rules, "--kb", "house", "--complete")


def test_a_broken_file_names_its_line_and_imports_nothing(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    good.write_text('{"id": "a", "text": "fine"}\n')
    bad.write_text('{"id": "b", "text": "fine"}\n{"id": "b c", "text": "not"}\n')

    with pytest.raises(InvalidInputError, match=r"b\.jsonl:2: value id 'b c' is refused"):
        run("import-values", good, bad, "--kb", "house")
    with pytest.raises(NotFoundError, match="'house' does not exist"):
        run("values", "list", "--kb", "house")
