"""Lines in, text out: what a terminal gets, and how a line is edited."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

from plumbline.cli.chat_screen import PlainLines, Screen, TerminalLines
from plumbline.core.errors import InvalidInputError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_answer_cannot_drive_the_terminal() -> None:
    out, err = Terminal(), io.StringIO()
    screen = Screen(out, err)

    screen.piece("red \x1b[31m, title \x9d0;x\x07, tab\tline\n家\r")

    assert out.getvalue() == "red \ufffd[31m, title \ufffd0;x\ufffd, tab\tline\n家\ufffd"


def test_a_pipe_gets_the_answers_alone_and_unchanged() -> None:
    out, err = io.StringIO(), io.StringIO()
    screen = Screen(out, err)

    screen.heading("[A]")
    screen.piece("as it \x1b is")
    screen.end()
    screen.note("something else")

    assert out.getvalue() == "[A]\nas it \x1b is\n"
    assert err.getvalue() == "something else\n"


def test_piped_lines_end_with_their_stream() -> None:
    lines = PlainLines(io.StringIO("hello \r\n\nlast"))

    assert [lines.read("> ") for _ in range(4)] == ["hello ", "", "last", None]
    assert not lines.interactive


def test_text_that_is_not_utf8_is_refused_or_replaced() -> None:
    strict = PlainLines(io.TextIOWrapper(io.BytesIO(b"a \xff\n"), encoding="utf-8"))
    lenient = PlainLines(io.StringIO("a \udcff\n"))

    with pytest.raises(InvalidInputError, match="stdin is not UTF-8 text"):
        strict.read("")
    assert lenient.read("") == "a ?"


def test_a_prompt_is_shown_where_the_terminal_itself_edits() -> None:
    shown = io.StringIO()
    lines = PlainLines(io.StringIO("x\n"), echo=shown)

    assert lines.read("you> ") == "x"
    assert (shown.getvalue(), lines.interactive) == ("you> ", True)


def test_lines_are_edited_remembered_and_kept_private(tmp_path: Path) -> None:
    pytest.importorskip("prompt_toolkit", reason="the extra `chat` is not installed")
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    history = tmp_path / "state" / "chat_history"
    with create_pipe_input() as keys:
        lines = TerminalLines(history, ["/help"], input_=keys, output=DummyOutput())
        # Backspace takes the x away, Ctrl-A goes to the beginning, Ctrl-D ends.
        keys.send_text("hellox\x7f\r")
        keys.send_text("again\x01and \r")
        keys.send_text("a 2\r")
        keys.send_text("\x04")
        read = [lines.read("you> "), lines.read("you> "), lines.read("vote: ", remember=False)]
        read.append(lines.read("you> "))
        keys.send_text("half\x03")
        with pytest.raises(KeyboardInterrupt):
            lines.read("you> ")

    assert read == ["hello", "and again", "a 2", None]
    assert "+and again" in history.read_text()
    assert "+a 2" not in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
