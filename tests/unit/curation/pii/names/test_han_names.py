"""Chinese names."""

from __future__ import annotations

import pytest

from plumbline.curation.pii.names.config import NamesConfig
from plumbline.curation.pii.names.recognizer import NameRecognizer
from plumbline.curation.pii.spans import without_overlaps

NAMES = NameRecognizer(NamesConfig())


def names_in(text: str) -> list[str]:
    return [text[s.start : s.end] for s in without_overlaps(NAMES.find([text])[0])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("联系人:周海燕,电话另附", ["周海燕"]),
        ("姓名:赵某某", ["赵某某"]),
        ("本项目由陈志强负责。", ["陈志强"]),
        ("我叫欧阳娜娜,今年二十岁", ["欧阳娜娜"]),
        ("郑晓雯是一名教师。", ["郑晓雯"]),
        ("昨天,吴丽华,36岁,来到医院。", ["吴丽华"]),
        ("经主治医生韩立新诊断", ["韩立新"]),
        ("目前在许文博医生的指导下治疗", ["许文博"]),
        ("张三说他不来。", ["张三"]),
        ("李先生和王女士都同意。", ["李", "王"]),
        ("由约翰·史密斯执导", ["约翰·史密斯"]),
    ],
)
def test_names_are_found_by_their_neighbours(text: str, expected: list[str]) -> None:
    assert names_in(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "请高度重视安全,方便时间安排。",
        "国务院农业农村主管部门会同有关行政主管部门制定办法。",
        "最高人民法院院长和最高人民检察院检察长",
        "平均温度明显高于常年,许多地方严重干旱。",
        "他是一名医生,她是一位老师。",
        "应当依照本法和国家有关规定,任何单位不得违反。",
        "公司名称:某某科技有限公司",
        "王国、黄金、白云、马路、江苏、安徽",
    ],
)
def test_ordinary_prose_holds_no_names(text: str) -> None:
    assert names_in(text) == []


def test_a_found_name_is_found_again_without_context() -> None:
    text = "患者周海燕来诊。其后把周海燕转入病房"
    assert names_in(text) == ["周海燕", "周海燕"]


def test_languages_can_be_left_out() -> None:
    english = NameRecognizer(NamesConfig(languages=("en",)))
    assert english.find(["姓名:周海燕"]) == [[]]


@pytest.mark.parametrize("text", ["欧阳", "张", "患者欧阳", "姓名:", "约翰·", "·", "由长孙"])
def test_a_text_may_end_anywhere(text: str) -> None:
    assert isinstance(names_in(text), list)
