"""Where a chat's lines come from and where its text goes.

Answers go to stdout, everything else to stderr, so that a script gets the answers alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from plumbline.core.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
# What a terminal acts on; a policy may sample it, and must not drive the user's terminal.
_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in "\n\t"
}


class Lines(Protocol):
    """Where questions come from."""

    interactive: bool
    """Whether a person is asked line by line."""

    def read(self, prompt: str, *, remember: bool = True) -> str | None:
        """The next line without its end, or None at the end of input.

        Args:
            remember: whether the line may be called back later.
        Raises:
            KeyboardInterrupt: Ctrl-C.
        """
        ...


class PlainLines:
    """Lines of a stream, such as a pipe."""

    def __init__(self, stream: TextIO, *, echo: TextIO | None = None) -> None:
        self._stream = stream
        self._echo = echo
        self.interactive = echo is not None

    def read(self, prompt: str, *, remember: bool = True) -> str | None:
        """See `Lines`; raises InvalidInputError when the stream is not UTF-8 text."""
        if self._echo is not None:
            self._echo.write(prompt)
            self._echo.flush()
        try:
            line = self._stream.readline()
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"stdin is not UTF-8 text (byte {error.start})") from error
        # Bytes that are no UTF-8 may come as lone surrogates, which no message can carry.
        text = line.encode("utf-8", "replace").decode()
        return text.rstrip("\r\n") if line else None


class TerminalLines:
    """Lines that are edited at a terminal, with history and completion of commands.

    Args:
        history: file that remembers lines from chat to chat.
        commands: what is completed at the beginning of a line.
    """

    interactive = True

    def __init__(
        self,
        history: Path,
        commands: Sequence[str],
        *,
        input_: Input | None = None,
        output: Output | None = None,
    ) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import DummyHistory, FileHistory

        history.parent.mkdir(parents=True, exist_ok=True)
        history.touch(mode=0o600)
        self._remembering: PromptSession[str] = PromptSession(
            history=FileHistory(str(history)),
            completer=WordCompleter(list(commands), sentence=True),
            complete_while_typing=False,
            input=input_,
            output=output,
        )
        self._forgetting: PromptSession[str] = PromptSession(
            history=DummyHistory(), input=input_, output=output
        )

    def read(self, prompt: str, *, remember: bool = True) -> str | None:
        """See `Lines`."""
        session = self._remembering if remember else self._forgetting
        try:
            return str(session.prompt(prompt))
        except EOFError:
            return None


def open_lines(history: Path, commands: Sequence[str]) -> Lines:
    """Lines of stdin, edited where it is a terminal."""
    if not sys.stdin.isatty():
        return PlainLines(sys.stdin)
    try:
        return TerminalLines(history, commands)
    except ModuleNotFoundError:
        # The terminal's own editing has to do where the extra `chat` is not installed.
        return PlainLines(sys.stdin, echo=sys.stderr)


class Screen:
    """What a chat shows.

    Args:
        out: takes answers.
        err: takes everything else.
    """

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err
        self._filter = out.isatty()
        self._dim = err.isatty()

    def heading(self, text: str) -> None:
        """Names the answer that follows."""
        self._write(f"{text}\n")

    def piece(self, text: str) -> None:
        """A piece of an answer, shown at once."""
        self._write(text.translate(_CONTROLS) if self._filter else text)

    def end(self) -> None:
        """The end of an answer."""
        self._write("\n")

    def note(self, text: str) -> None:
        """A line about the chat itself."""
        self._err.write(f"{_DIM}{text}{_PLAIN}\n" if self._dim else f"{text}\n")
        self._err.flush()

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
