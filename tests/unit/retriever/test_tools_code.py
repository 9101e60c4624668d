"""Programs in a text: what is said about them, and what they do in the sandbox."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.tools.code_claims import check_program, parse_assertion, programs
from plumbline.retriever.tools.records import ClaimCheck, ClaimVerdict
from plumbline.retriever.tools.sandbox.config import SandboxConfig
from plumbline.retriever.tools.sandbox.runner import Sandbox

SUPPORTED, REFUTED, OPEN = (
    ClaimVerdict.SUPPORTED,
    ClaimVerdict.REFUTED,
    ClaimVerdict.NOT_ENOUGH_EVIDENCE,
)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(SandboxConfig(cpu_s=2))


def check(sandbox: Sandbox, text: str, *assertions: str) -> ClaimCheck:
    program = programs(text)[0]
    return check_program(program, sandbox, assertions=[parse_assertion(a) for a in assertions])


DOUBLE = "```python\ndef double(x):\n    return 2 * x\n```"


def test_assertions_decide(sandbox: Sandbox) -> None:
    right = check(sandbox, DOUBLE, "double(2) == 4", "assert double('a') == 'aa'")
    wrong = check(sandbox, DOUBLE, "double(2) == 4", "double(3) == 9")

    assert (right.verdict, right.why) == (SUPPORTED, "2 of 2 assertions hold")
    assert (wrong.verdict, wrong.correction) == (REFUTED, "double(3) == 6")
    assert wrong.why == "double(3) == 9 does not hold: it gives 6"


@pytest.mark.parametrize(
    ("expression", "value", "holds"),
    [
        ("0.1 + 0.2", "0.3", True),
        ("[1, (2, 3)]", "[1, (2, 3)]", True),
        ("(1, 2)", "[1, 2]", False),
        ("True", "1", False),
        ("{'a': 0.30000000000000004}", "{'a': 0.3}", True),
        ("{3, 1}", "{1, 3}", True),
        ("None", "None", True),
        ("'4'", "4", False),
        ("object()", "None", False),
    ],
)
def test_values_are_compared_as_literals(
    sandbox: Sandbox, expression: str, value: str, holds: bool
) -> None:
    found = check(sandbox, "```python\nx = 1\n```", f"{expression} == {value}")

    assert found.verdict is (SUPPORTED if holds else REFUTED), found.why


def test_examples_in_a_docstring_are_what_is_said(sandbox: Sandbox) -> None:
    text = '```python\ndef f(x):\n    """\n    >>> f(2)\n    5\n    """\n    return 2 * x\n```'

    found = check(sandbox, text)

    assert (found.verdict, found.correction) == (REFUTED, "f(2) == 4")


def test_output_written_after_a_program_is_what_is_said(sandbox: Sandbox) -> None:
    program = "```python\nfor i in range(3):\n    print(i)\n```\n"

    assert check(sandbox, program + "Output:\n```\n0\n1\n2\n```").verdict is SUPPORTED
    assert check(sandbox, program + "输出：\n```text\n0\n1\n```").verdict is REFUTED
    assert len(programs(program + "Output:\n```\n0\n```")) == 1


def test_a_session_is_a_program_with_its_answers(sandbox: Sandbox) -> None:
    assert check(sandbox, "```\n>>> x = 3\n>>> x * 2\n6\n```").verdict is SUPPORTED
    assert check(sandbox, "```pycon\n>>> 2 + 2\n5\n```").verdict is REFUTED


def test_running_alone_proves_nothing_and_failing_refutes(sandbox: Sandbox) -> None:
    assert check(sandbox, DOUBLE).verdict is OPEN
    assert (
        check(sandbox, "```python\n1 / 0\n```").why
        == "it raises ZeroDivisionError: division by zero"
    )
    assert check(sandbox, "```python\ndef f(:\n```").verdict is REFUTED


def test_other_languages_are_left_open(sandbox: Sandbox) -> None:
    found = check(sandbox, "```javascript\nthrow new Error()\n```")

    assert (found.verdict, found.why) == (OPEN, "programs in javascript are not run; Python is")


def test_a_program_cannot_look_up_what_is_expected(sandbox: Sandbox) -> None:
    """Everything in the process is searched for the value; it never came in."""
    text = (
        "```python\nimport gc, sys\n"
        "def leak():\n"
        "    wanted = ''.join(map(chr, (51, 49, 51, 51, 55)))\n"
        "    frame, seen = sys._getframe().f_back, []\n"
        "    while frame:\n        seen.append(repr(frame.f_locals))\n"
        "        frame = frame.f_back\n"
        "    return int(wanted) if wanted in ''.join(seen) + repr(gc.get_objects()) else 0\n```"
    )

    assert check(sandbox, text, "leak() == 31337").why == (
        "leak() == 31337 does not hold: it gives 0"
    )


def test_forged_results_are_only_claims(sandbox: Sandbox) -> None:
    """A program that writes results of its own knows no more than one that returns them."""
    text = (
        "```python\nimport os\n"
        "for fd in range(3, 32):\n"
        '    try: os.write(fd, b\'{"index": 0, "value": "1"}\\n{"started": 1}\\nnonsense\\n\')\n'
        "    except OSError: pass\n"
        "def f(): return 1\n```"
    )

    assert check(sandbox, text, "f() == 2").verdict is REFUTED


def test_an_object_that_equals_everything_equals_nothing(sandbox: Sandbox) -> None:
    text = "```python\nclass All:\n    def __eq__(self, other): return True\n```"

    assert check(sandbox, text, "All() == 4").verdict is REFUTED


@pytest.mark.parametrize(
    "text",
    ["f(2)", "f(2) > 3", "f(2) == g(3)", "1 == 1 == 1", "x = 4", "f(", "", "f() == " + "9" * 3000],
)
def test_an_assertion_has_one_form(text: str) -> None:
    with pytest.raises(InvalidInputError, match="accepted: EXPRESSION == VALUE") as caught:
        parse_assertion(text)

    assert caught.value.field == "assertions"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
        max_leaves=8,
    )
)
def test_assertions_keep_any_literal(value: Any) -> None:
    assert parse_assertion(f"f(1) == {value!r}").value == value


def test_prose_blocks_are_no_programs() -> None:
    assert programs("```\nDear all,\nsee you.\n```\n```text\nhello\n```")[0].language == "text"
    assert programs("```\nx = 1\nprint(x)\n```")[0].language == "python"
    assert programs("no code here") == []
