"""Programs in a text: what they are said to do, and what they do in the sandbox.

A program is supported when everything said about it holds: assertions that came with the call,
examples in the form of doctest, and the output written after it. Without any of these, running to
the end proves nothing; an exception refutes it all the same.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.core.errors import InvalidInputError
from plumbline.retriever.tools.records import Claim, ClaimCheck, ClaimKind, ClaimVerdict, checked
from plumbline.retriever.tools.sandbox.runner import Sandbox
from plumbline.retriever.tools.sandbox.watching import Ending, ExpressionValue, Outcome

_FENCE = re.compile(
    r"^(?P<fence>```+|~~~+)[ \t]*(?P<language>[\w+#.-]*)[^\n]*\n(?P<body>.*?)"
    r"(?:^(?P=fence)[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_PYTHON = frozenset({"python", "python3", "py", "pycon"})
_OUTPUT_LEAD = re.compile(
    r"(?:output|prints?|result|输出|运行结果|结果)[^\n]{0,30}[:：]?\s*$", re.I
)
_EXAMPLE = re.compile(
    r"^[ \t]*>>> (?P<call>[^\n]+)\n(?P<result>[ \t]*(?!>>>)\S[^\n]*)", re.MULTILINE
)
_PROMPT = ">>> "
_MAX_EXPRESSION = 2000
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Assertion:
    """An expression and the value that it is said to have."""

    expression: str
    value: Any
    """A Python literal."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program in a text, and what the text says about it."""

    claim: Claim
    source: str
    language: str
    examples: tuple[Assertion, ...] = ()
    output: str | None = None
    """What it is said to print; None where nothing is said."""


def fenced_blocks(text: str) -> list[tuple[int, int]]:
    """Places of the fenced blocks, which are no prose."""
    return [match.span() for match in _FENCE.finditer(text)]


def programs(text: str) -> list[Program]:
    """Programs in fenced blocks; a block after `Output:` is what the one before it prints."""
    found: list[Program] = []
    end = 0
    for match in _FENCE.finditer(text):
        language = match["language"].lower()
        between = text[end : match.start()]
        if found and language not in _PYTHON and _OUTPUT_LEAD.search(between.strip()):
            found[-1] = _with_output(found[-1], match["body"])
        elif match["body"].strip() and (language or _is_python(match["body"])):
            claim = Claim(ClaimKind.CODE, match["body"].strip(), *match.span("body"))
            found.append(_program(claim, match["body"], language or "python"))
        end = match.end()
    return found


def parse_assertion(text: str) -> Assertion:
    """`EXPRESSION == VALUE`, with or without `assert` in front.

    Raises:
        InvalidInputError: it has another form, or the value is no Python literal.
    """
    try:
        if len(text) > _MAX_EXPRESSION:
            raise ValueError(f"longer than {_MAX_EXPRESSION} characters")
        tree = ast.parse(text.strip().removeprefix("assert "), mode="eval").body
        if not isinstance(tree, ast.Compare) or len(tree.ops) != 1:
            raise ValueError("not one comparison")
        if not isinstance(tree.ops[0], ast.Eq):
            raise ValueError("not a comparison with ==")
        return Assertion(ast.unparse(tree.left), ast.literal_eval(tree.comparators[0]))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidInputError(
            f"assertion {text[:100]!r} is refused ({error}); accepted: EXPRESSION == VALUE, where "
            "VALUE is a Python literal",
            field="assertions",
        ) from error


def check_program(
    program: Program,
    sandbox: Sandbox,
    *,
    assertions: Sequence[Assertion] = (),
    deadline: float | None = None,
) -> ClaimCheck:
    """Run a program and compare what it does with what is said about it.

    Raises:
        FailedPreconditionError: the machine cannot shut programs in.
        DeadlineExceededError: the deadline passed first.
    """
    claim = program.claim
    if program.language not in _PYTHON:
        why = f"programs in {program.language} are not run; Python is"
        return checked(claim, ClaimVerdict.NOT_ENOUGH_EVIDENCE, why)
    expected = [*assertions, *program.examples]
    outcome = sandbox.run(
        program.source, [assertion.expression for assertion in expected], deadline=deadline
    )
    if outcome.ending is Ending.REFUSED:
        return checked(claim, ClaimVerdict.NOT_ENOUGH_EVIDENCE, f"it was not run: {outcome.why}")
    if outcome.ending is not Ending.FINISHED:
        return checked(claim, ClaimVerdict.REFUTED, _ended(outcome))
    for assertion, got in zip(expected, outcome.values, strict=True):
        if not _holds(assertion, got):
            wanted = f"{assertion.expression} == {assertion.value!r}"[:_SHOWN]
            is_now = got.raised or got.value or "no value"
            correction = f"{assertion.expression} == {got.value}"[:_SHOWN] if got.value else ""
            why = f"{wanted} does not hold: it gives {is_now[:_SHOWN]}"
            return checked(claim, ClaimVerdict.REFUTED, why, correction=correction)
    if program.output is not None and _lines(program.output) != _lines(outcome.stdout):
        printed, said_to = outcome.stdout.strip(), program.output.strip()
        why = f"it prints {printed[:_SHOWN]!r}, not {said_to[:_SHOWN]!r}"
        return checked(claim, ClaimVerdict.REFUTED, why, correction=outcome.stdout[:_SHOWN])
    if not expected and program.output is None:
        why = "it runs to its end; nothing says what it should return or print"
        return checked(claim, ClaimVerdict.NOT_ENOUGH_EVIDENCE, why)
    said = [f"{len(expected)} of {len(expected)} assertions hold"] if expected else []
    said += ["it prints what is said"] if program.output is not None else []
    return checked(claim, ClaimVerdict.SUPPORTED, "; ".join(said))


def _program(claim: Claim, body: str, language: str) -> Program:
    if language == "pycon" or body.lstrip().startswith(_PROMPT):
        # A session: what was typed is the program, what was answered are its examples.
        lines = re.findall(r"^[ \t]*(?:>>>|\.\.\.) ?(.*)$", body, re.MULTILINE)
        return Program(claim, "\n".join(lines), "python", _examples(body))
    return Program(claim, body, language, _examples(body) if language in _PYTHON else ())


def _with_output(program: Program, output: str) -> Program:
    return Program(program.claim, program.source, program.language, program.examples, output)


def _examples(body: str) -> tuple[Assertion, ...]:
    """Examples of doctest whose call is an expression and whose result is a literal."""
    found = []
    for match in _EXAMPLE.finditer(body):
        try:
            ast.parse(match["call"], mode="eval")
            value = ast.literal_eval(match["result"].strip())
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            # A statement, or an object shown in angle brackets: nothing that can be compared.
            continue
        found.append(Assertion(match["call"].strip(), value))
    return tuple(found)


def _is_python(body: str) -> bool:
    if body.lstrip().startswith(_PROMPT):
        return True
    try:
        tree = ast.parse(body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    statements = (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.For, ast.ClassDef, ast.Assign)
    return any(isinstance(node, statements) for node in tree.body)


def _ended(outcome: Outcome) -> str:
    how = {
        Ending.RAISED: "it raises",
        Ending.LIMIT: "it was ended:",
        Ending.CRASHED: "it crashes:",
    }[outcome.ending]
    return f"{how} {outcome.why}"


def _holds(assertion: Assertion, got: ExpressionValue) -> bool:
    if not got.value:
        return False
    try:
        value = ast.literal_eval(got.value)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return _same(value, assertion.value)


def _same(got: Any, wanted: Any) -> bool:
    """Equality of literals, in which floats may differ in their last places."""
    if isinstance(got, float) and isinstance(wanted, int | float):
        return math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(got, list | tuple) and type(got) is type(wanted):
        return len(got) == len(wanted) and all(map(_same, got, wanted))
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(_same(got[key], wanted[key]) for key in got)
    return type(got) is type(wanted) and bool(got == wanted)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
