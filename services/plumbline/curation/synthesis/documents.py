"""Instruction records that documents already hold: questions with answers, titles with texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from plumbline.curation.synthesis.config import ToInstructionsConfig
from plumbline.curation.synthesis.instructions import Conversion, task_record
from plumbline.curation.synthesis.judgement import exact_key, instance_fault
from plumbline.curation.synthesis.parsing import Instance
from plumbline.curation.synthesis.records import Task, text_language
from plumbline.curation.synthesis.requests import split_request
from plumbline.data.records import Document

_QUESTION = re.compile(
    r"^[ \t]*[*#]*[ \t]*(?:q(?:uestion)?|问题?)[ \t]*\d*[ \t]*[*]*[ \t]*[.:：、][*]*[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER = re.compile(
    r"^[ \t]*[*#]*[ \t]*(?:a(?:nswer)?|回?答案?)[ \t]*\d*[ \t]*[*]*[ \t]*[.:：、][*]*[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_TITLE = re.compile(r"(?:#+[ \t]+)?(?P<title>[^\n]{2,80})\n\s*\n?(?P<body>\S.*)\Z", re.DOTALL)
_SENTENCE_END = re.compile(r"[.。!！?？;；,，:：]\Z")
_MIN_BODY_CHARACTERS = 80
_WRITE_ABOUT = {
    "en": 'Write a text with the title "{title}".',
    "zh": "请以《{title}》为题写一篇文章。",
}


def convert_documents(documents: Iterable[Document], config: ToInstructionsConfig) -> Conversion:
    """Instruction records of documents, in order, each text once.

    A document with questions and answers gives one record for each pair; one that begins with a
    title gives the text for it. A document with neither gives none.
    """
    conversion = Conversion()
    seen: set[str] = set()
    for document in documents:
        conversion.funnel.count("documents")
        found = list(_tasks(document, config))
        if not found:
            conversion.funnel.drop("documents", "no_pattern")
        for operator, task in found:
            fault = instance_fault(
                task.instruction, Instance(task.input, task.output), config.outputs
            )
            key = exact_key(f"{task.request}\n{task.output}")
            if fault or key in seen:
                conversion.funnel.drop("tasks", fault or "exact_duplicate")
                continue
            seen.add(key)
            conversion.records.append(task_record(task, operator, document.source))
            conversion.funnel.count("kept")
    return conversion


def _tasks(document: Document, config: ToInstructionsConfig) -> Iterator[tuple[str, Task]]:
    pairs = list(question_pairs(document.text)) if "questions" in config.documents else []
    for question, answer in pairs:
        instruction, material = split_request(question) if config.split_input else (question, "")
        task = Task(document.id, instruction, material, answer, text_language(question))
        yield "question", task
    if not pairs and "titles" in config.documents:
        titled = titled_text(document.text)
        if titled is not None:
            title, body = titled
            language = text_language(body)
            instruction = _WRITE_ABOUT[language].format(title=title)
            yield "title", Task(document.id, instruction, "", body, language)


def question_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Questions and answers that are marked as such, in order.

    A question without an answer of its own is passed over.
    """
    for piece in _QUESTION.split(text)[1:]:
        parts = _ANSWER.split(piece, maxsplit=1)
        if len(parts) == 2 and all(part.strip() for part in parts):
            yield parts[0].strip(), parts[1].strip()


def titled_text(text: str) -> tuple[str, str] | None:
    """A short first line that ends like no sentence, and the text below it; None without one."""
    match = _TITLE.match(text.strip())
    if match is None:
        return None
    title, body = match["title"].strip(" *#"), match["body"].strip()
    if not title or _SENTENCE_END.search(title) or len(body) < _MIN_BODY_CHARACTERS:
        return None
    return title.strip("《》"), body
