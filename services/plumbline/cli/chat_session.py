"""A chat from its first line to its last: questions, answers, votes.

Whatever the sampler refuses is told in a sentence and the chat goes on; the question that failed is
not part of the conversation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from plumbline.cli import chat_votes as votes
from plumbline.cli.chat_dialogue import Dialogue, most_tokens, room_for_prompt
from plumbline.cli.chat_sampling import ChatParameters, ChatPolicy, ChatSampler, ReplyStream
from plumbline.cli.chat_screen import Lines, Screen
from plumbline.core.errors import InvalidInputError, PlumblineError
from plumbline.data.records import Message
from plumbline.sampler.seeds import derive_seed

T = TypeVar("T")

Command = Callable[["ChatSession", str], None]

_ADVICE = {
    "NO_DEFAULT_POLICY": "choose one with /policy REF; /policies lists what there is",
    "NO_CHAT_TEMPLATE": "leave, and start again with --template plain or --template transcript",
    "CONTROL_TOKEN": "rephrase it; where an earlier answer holds the token, /clear forgets it",
    "NOT_FOUND": "/policies lists what there is",
    "UNAVAILABLE": "ask again once the service runs; `plumbline up` starts one here",
    "RESOURCE_EXHAUSTED": "ask again in a moment",
    "DEADLINE_EXCEEDED": "ask again, or for a shorter answer (--max-response-tokens)",
}
"""What to do about an error, by its reason or else its code."""


def explain(error: PlumblineError) -> str:
    """An error as a sentence with what to do about it."""
    advice = _ADVICE.get(error.reason) or _ADVICE.get(error.code)
    return f"{error.message}; {advice}" if advice else error.message


class ChatSession:
    """A conversation with one policy, or with two of which the user votes for one answer each time.

    Args:
        policies: one or two.
        commands: what lines beginning with `/` do, by their first word.
        vote_file: where votes go; needed with two policies.
    """

    def __init__(
        self,
        sampler: ChatSampler,
        lines: Lines,
        screen: Screen,
        *,
        policies: Sequence[ChatPolicy],
        parameters: ChatParameters,
        commands: dict[str, Command],
        vote_file: Callable[[], votes.VoteFile],
        system: str = "",
    ) -> None:
        self.sampler = sampler
        self.screen = screen
        self.policies = tuple(policies)
        self.parameters = parameters
        self.dialogue = Dialogue(system=system)
        self.leaving = False
        self._lines = lines
        self._commands = commands
        self.vote_file = vote_file
        self._questions = 0
        """Asked since the seed was set."""

    def run(self) -> None:
        """Read lines until `/exit` or the end of input.

        Raises:
            KeyboardInterrupt: Ctrl-C, where nobody is asked line by line.
        """
        while not self.leaving:
            try:
                line = self._lines.read("you> ")
                if line is None:
                    break
                self.handle(line.strip())
            except KeyboardInterrupt:
                if not self._lines.interactive:
                    raise
                self.screen.note("stopped; Ctrl-D or /exit leaves")
            except PlumblineError as error:
                self.screen.note(explain(error))

    def handle(self, line: str) -> None:
        """Obey a command or answer a question."""
        if line.startswith("/"):
            name, _, argument = line.partition(" ")
            if name not in self._commands:
                raise InvalidInputError(
                    f"there is no command {name}; accepted: {', '.join(self._commands)}"
                )
            self._commands[name](self, argument.strip())
        elif line:
            self.answer(line)

    def begin_seeds_again(self) -> None:
        """Derive the next question's seeds as those of a first one."""
        self._questions = 0

    def answer(self, question: str) -> None:
        """Answer a question by every policy; what was said becomes part of the conversation.

        Raises:
            PlumblineError: what the sampler said.
            KeyboardInterrupt: Ctrl-C before the first piece of an answer.
        """
        self._make_room(question)
        prompt = self.dialogue.prompt(question)
        number, self._questions = self._questions, self._questions + 1
        seeds = [
            derive_seed(self.parameters.seed, len(self.policies) * number + index)
            for index in range(len(self.policies))
        ]
        streams = [
            self.sampler.ask(policy, prompt, self.parameters, seed=seed)
            for policy, seed in zip(self.policies, seeds, strict=True)
        ]
        try:
            if len(streams) == 1:
                self._answer_alone(question, streams[0])
            else:
                self._answer_in_pairs(question, prompt, streams)
        finally:
            for stream in streams:
                stream.cancel()

    def _make_room(self, question: str) -> None:
        """Forget the oldest exchanges until question and answer fit every policy's context."""
        forgotten = 0
        for policy in self.policies:
            while self.dialogue.exchanges and not self._fits(policy, question):
                self.dialogue.drop_oldest()
                forgotten += 1
        if forgotten:
            length = min(policy.context_length for policy in self.policies)
            what = "exchange is" if forgotten == 1 else f"{forgotten} exchanges are"
            self.screen.note(
                f"the conversation outgrows the context of {length} tokens: the oldest {what} "
                "forgotten"
            )

    def _fits(self, policy: ChatPolicy, question: str) -> bool:
        prompt = self.dialogue.prompt(question)
        room = room_for_prompt(policy.context_length, self.parameters.max_response_tokens)
        if most_tokens(prompt) <= room:
            return True
        counted = self.sampler.prompt_tokens(policy, prompt, self.parameters.template)
        return counted is not None and counted <= room

    def _answer_alone(self, question: str, stream: ReplyStream) -> None:
        finished = self._show(stream)
        if not stream.text.strip():
            self.screen.note("the answer is empty, so the question is taken back")
            return
        self.dialogue.add(question, stream.text)
        if not finished:
            self.screen.note("stopped; what there is of the answer stays in the conversation")

    def _answer_in_pairs(
        self, question: str, prompt: tuple[Message, ...], streams: Sequence[ReplyStream]
    ) -> None:
        # Drawn from a seed of the question, so that neither place nor label says whose it is.
        order = [0, 1]
        random.Random(streams[0].seed).shuffle(order)
        answers: list[votes.Answer] = []
        for label, index in zip(votes.LABELS, order, strict=True):
            self.screen.heading(f"[{label}]")
            try:
                finished = self._show(streams[index])
            except PlumblineError as error:
                self.screen.note(f"{label} failed: {explain(error)}")
                continue
            if not finished:
                self.screen.note("stopped; the question is taken back")
                return
            answers.append(self._labelled(label, index, streams[index]))
        self._decide(question, prompt, [answer for answer in answers if answer.text.strip()])

    def _show(self, stream: ReplyStream) -> bool:
        """Show an answer as it comes; False where Ctrl-C stopped it."""
        try:
            for piece in stream:
                self.screen.piece(piece)
        except KeyboardInterrupt:
            stream.cancel()
            self.screen.end()
            return False
        self.screen.end()
        if stream.finish_reason == "length":
            self.screen.note(
                "(cut: max_response_tokens or the context length was reached)",
            )
        return True

    def _labelled(self, label: str, index: int, stream: ReplyStream) -> votes.Answer:
        return votes.Answer(
            label=label,
            text=stream.text,
            policy_id=stream.policy_id,
            policy_name=self.policies[index].name,
            seed=stream.seed,
            finish_reason=stream.finish_reason,
        )

    def _decide(
        self, question: str, prompt: tuple[Message, ...], answers: Sequence[votes.Answer]
    ) -> None:
        """Keep the answer that the user votes for, or the only one."""
        if not answers:
            self.screen.note("there is no answer, so the question is taken back")
            return
        chosen = answers[0]
        if len(answers) == 1:
            self.screen.note(f"only {chosen.label} answered; there is nothing to vote on")
        elif answers[0].text == answers[1].text:
            self.screen.note("both answers are the same; there is nothing to vote on")
        else:
            vote = self._ask_vote()
            if vote is None:
                self.screen.note(f"no vote, so the question is taken back{_reveal(answers)}")
                return
            chosen = next(answer for answer in answers if answer.label == vote.chosen)
            self._keep_vote(prompt, answers, vote)
        self.dialogue.add(question, chosen.text)

    def _keep_vote(
        self, prompt: tuple[Message, ...], answers: Sequence[votes.Answer], vote: votes.Vote
    ) -> None:
        sampling = {
            name: str(value) for name, value in self.parameters.model_dump(exclude={"seed"}).items()
        }
        file = self.vote_file()
        file.add(votes.preference(prompt, answers, vote, sampling=sampling))
        grade = vote.grade.value.replace("_", " ")
        self.screen.note(f"{vote.chosen} is {grade}; kept in {file.path}{_reveal(answers)}")

    def _ask_vote(self) -> votes.Vote | None:
        """The user's vote; None for none."""
        while (line := self._ask(votes.ASK_CHOICE)) is not None:
            try:
                if len(line.split()) > 1:
                    return votes.parse_vote(line)
                chosen = votes.parse_choice(line)
                break
            except InvalidInputError as error:
                self.screen.note(error.message)
        if line is None or chosen is None:
            return None
        grade = self._ask_until(votes.ASK_GRADE, votes.parse_grade)
        if grade is None:
            return None
        safe = self._ask_until(votes.ASK_SAFETY, votes.parse_safety)
        return votes.Vote(chosen, grade, safe)

    def _ask_until(self, prompt: str, parse: Callable[[str], T]) -> T | None:
        while (line := self._ask(prompt)) is not None:
            try:
                return parse(line)
            except InvalidInputError as error:
                self.screen.note(error.message)
        return None

    def _ask(self, prompt: str) -> str | None:
        """An answer of the user's; None when the user leaves."""
        line = self._lines.read(prompt, remember=False)
        if line is None or line.strip() == "/exit":
            self.leaving = True
            return None
        return line


def _reveal(answers: Sequence[votes.Answer]) -> str:
    whose = (f"{answer.label} was {answer.policy_name}" for answer in answers)
    return f"; {', '.join(whose)}"
