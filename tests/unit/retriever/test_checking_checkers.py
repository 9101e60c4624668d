from __future__ import annotations

import pytest

from plumbline.core.errors import InvalidInputError
from plumbline.data.records import ValueSpec
from plumbline.retriever.checking.checkers import (
    CHECKER_NAMES,
    Verdict,
    check_reply,
    check_value,
    parse_checker,
    parse_checkers,
)
from plumbline.retriever.checking.language import guess_language

FOLLOWED, BROKEN, UNSEEN = Verdict.FOLLOWED, Verdict.BROKEN, Verdict.NOT_CHECKABLE


@pytest.mark.parametrize(
    ("checker", "reply", "verdict"),
    [
        ("max_words: 3", "one two three", FOLLOWED),
        ("max_words: 3", "one two three four", BROKEN),
        ("max_words: 4", "四个汉字吗", BROKEN),
        ("min_words: 2", "one", BROKEN),
        ("max_sentences: 1", "One. Two.", BROKEN),
        ("min_sentences: 2", "好。好。", FOLLOWED),
        ("max_characters: 5", "12345", FOLLOWED),
        ("max_characters: 5", "123456", BROKEN),
        ("min_characters: 1", " ", BROKEN),
        ("starts_with: Dear guest", "dear guest, welcome", FOLLOWED),
        ("starts_with: Dear guest", "Guest", BROKEN),
        ("ends_with: Stay safe.", "Go. Stay safe!", FOLLOWED),
        ("ends_with: Stay safe.", "Stay safe. Go.", BROKEN),
        ("includes: refund policy", "Our Refund  Policy says", FOLLOWED),
        ("includes: refund policy", "refunds", BROKEN),
        ("avoids: zebra", "a z\u200bebra", BROKEN),
        ("avoids: zebra", "a zebrafish", FOLLOWED),
        (r"matches: Article \d+", "see Article 5", FOLLOWED),
        (r"matches: ^\d+$", "5 apples", BROKEN),
    ],
)
def test_length_and_wording(checker: str, reply: str, verdict: Verdict) -> None:
    finding = parse_checker(checker).check(reply)

    assert finding.verdict is verdict
    assert finding.checker == checker
    assert finding.why


@pytest.mark.parametrize(
    ("tag", "reply", "verdict"),
    [
        ("en", "The law says that this is for you.", FOLLOWED),
        ("en", "La loi est dans le code et elle dit que oui.", BROKEN),
        ("en", "依照法律规定，应当办理身份证。", BROKEN),
        ("en", "A river has more water than a stream.", FOLLOWED),
        ("en", "Ok!", UNSEEN),
        ("en", "12345", UNSEEN),
        ("zh", "依照 GDPR 的规定，应当删除。", FOLLOWED),
        ("zh", "これは日本語の文です。", BROKEN),
        ("zh", "Certainly, this is the answer to it.", BROKEN),
        ("zh", "OK", BROKEN),  # no Han at all
        ("zh-CN", "好的", FOLLOWED),
        ("ja", "これは漢字を含む文です", FOLLOWED),
        ("de", "Das ist die Antwort auf die Frage und nicht mehr.", FOLLOWED),
        ("fr", "Vous avez le droit de retirer les données.", FOLLOWED),
        ("ru", "Это ответ на вопрос.", FOLLOWED),
        ("ko", "이것은 대답입니다", FOLLOWED),
        ("zh", "代码如下：```def is_in(the, of, and_): return to in the of and```", FOLLOWED),
    ],
)
def test_language(tag: str, reply: str, verdict: Verdict) -> None:
    assert parse_checker(f"language: {tag}").check(reply).verdict is verdict


def test_a_text_of_two_scripts_in_equal_parts_has_no_language() -> None:
    assert guess_language("依照法律 according to").tag == "und"


@pytest.mark.parametrize(
    ("tone", "reply", "verdict"),
    [
        ("formal", "Dear Sir, we recommend that you file the form.", FOLLOWED),
        ("formal", "Hey dude, we recommend it.", BROKEN),
        ("formal", "File the form!", BROKEN),
        ("formal", "File the form.", UNSEEN),
        ("formal", "尊敬的用户，请您提交表格。", FOLLOWED),
        ("formal", "亲亲，提交表格哦", BROKEN),
        ("friendly", "Happy to help!", FOLLOWED),
        ("friendly", "That is a stupid question.", BROKEN),
        ("friendly", "很高兴为您解答。", FOLLOWED),
        ("friendly", "The form is blue.", UNSEEN),
        ("formal", "Cool the oven, then file the application.", UNSEEN),
        ("formal", "申请应当在三日内提交。", UNSEEN),
        ("neutral", "根据数据处理申请。", UNSEEN),
        ("neutral", "According to the report, prices rose.", FOLLOWED),
        ("neutral", "An awful report: prices rose.", BROKEN),
        ("neutral", "据报道，物价上涨。", FOLLOWED),
        ("neutral", "Prices rose 🎉", BROKEN),
    ],
)
def test_tone_needs_a_sign(tone: str, reply: str, verdict: Verdict) -> None:
    assert parse_checker(f"tone: {tone}").check(reply).verdict is verdict


@pytest.mark.parametrize(
    ("name", "prompt", "reply", "verdict"),
    [
        ("Nora", "Who are you?", "I am Nora, your guide.", FOLLOWED),
        ("Nora", "Who are you?", "I am ChatGPT.", BROKEN),
        ("Nora", "Who are you?", "A language model.", BROKEN),
        ("Nora", "What is your name?", "Nora!", FOLLOWED),
        ("Nora", "How do I bake?", "I am glad that you ask.", UNSEEN),
        ("Nora", "How do I bake?", "My name is Claude. Use flour.", BROKEN),
        ("Nora Lind", "Hi", "I'm Nora Lind.", FOLLOWED),
        ("Nora", "Where do you live?", "I am Scottish.", UNSEEN),
        ("Nora", "Who are you?", "I'm Olaf.", BROKEN),
        ("Nora", "Who are you?", "I'm an AI, and my name is Nora.", FOLLOWED),
        ("小明", "你是谁？", "我叫小明，很高兴认识你。", FOLLOWED),
        ("小明", "你是谁？", "我是通义千问。", BROKEN),
        ("小明", "你叫什么名字", "我叫小红。", BROKEN),
        ("小明", "怎么做面包", "我是来帮助你的。", UNSEEN),
    ],
)
def test_persona_claims_one_name(name: str, prompt: str, reply: str, verdict: Verdict) -> None:
    finding = parse_checker(f"persona: {name}").check(reply, prompt=prompt)

    assert finding.verdict is verdict


@pytest.mark.parametrize(
    "text",
    [
        "max_word: 3",
        "max_words",
        "max_words: ",
        "max_words: -1",
        "max_words: 0",
        "max_words: many",
        "language: xx",
        "tone: rude",
        "matches: (a",
        "avoids: a\nb",
        "includes: " + "a" * 401,
    ],
)
def test_a_checker_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="accepted") as refused:
        parse_checkers([text])

    assert refused.value.field == "checkers"


def test_a_misspelt_checker_gets_the_nearest_name() -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'max_words'"):
        parse_checker("max_word: 3")


def test_checkers_print_as_they_are_written() -> None:
    arguments = {"language": "zh", "tone": "formal", "matches": "a+", "persona": "Nora"}
    for name in CHECKER_NAMES:
        argument = arguments.get(name, "3")
        assert str(parse_checker(f"{name}: {argument}")) == f"{name}: {argument}"


def test_the_worst_finding_counts() -> None:
    checkers = parse_checkers(["max_words: 5", "tone: formal", "avoids: zebra"])

    assert check_reply(checkers, "one zebra").verdict is BROKEN
    assert check_reply(checkers, "one horse").verdict is UNSEEN
    assert check_reply(checkers, "Dear horse").verdict is FOLLOWED
    assert check_reply((), "anything").verdict is UNSEEN


def test_a_value_s_own_checkers_stand_in_for_its_prose() -> None:
    prose = ValueSpec(id="a", text="End the reply with: bye.")
    both = ValueSpec(id="a", text="End the reply with: bye.", checkers=("max_words: 2",))

    assert check_value(prose, "See you").verdict is BROKEN
    assert check_value(both, "See you").verdict is FOLLOWED
