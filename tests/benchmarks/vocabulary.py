"""Words and sentence frames of the generated corpora, written for this purpose.

Frames hold slots in braces, named after the class of words that fill them. Classes are lists in
order of frequency: the first word is the commonest.
"""

from __future__ import annotations

import itertools
from functools import cache


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NOUNS = _words("""
time year people way day house work place water side hand part school week group case point town
room family night light market story road river garden field paper window letter table boat
teacher doctor farmer driver village station bridge tower church office kitchen street island
mountain forest valley harbour engine machine factory school lesson question answer reason
result change problem method theory measure number figure record report journal chapter picture
colour shape sound voice song music dance play stage actor writer reader editor author student
friend neighbour guest stranger captain soldier worker baker butcher tailor painter builder
engineer scientist lawyer judge clerk manager owner customer buyer seller trader price value
cost profit loss account bank coin metal stone wood glass leather cotton wool silk cloth dress
coat shoe hat button pocket basket bottle bowl spoon knife plate kettle oven fire smoke ash coal
oil gas wind rain snow storm cloud star moon sun planet season spring summer autumn winter
morning evening hour minute century king queen council party leader vote law rule right duty tax
border map port ship sail rope anchor wave tide beach cliff cave path gate fence wall roof floor
door lock key lamp candle clock bell horse cow sheep goat dog cat bird fish bee ant tree leaf
root seed flower fruit apple pear plum cherry grape berry nut bread butter cheese milk egg honey
salt sugar pepper soup meal lunch dinner supper cup tea coffee wine beer hill lake stream pond
meadow orchard barn stable cart wheel axle hammer nail saw drill tool rod wire pipe pump valve
switch signal screen camera lens film photo
""")
_VERBS = _words("""
walk work call ask look turn show start help play open close follow carry watch reach pass pull
push fill cover join visit study learn mark order count paint clean cook plant wash mend fold
gather collect record report answer explain describe discuss consider accept reject offer reward
thank greet invite welcome admire respect trust doubt question test measure compare select sort
pack load deliver collect return repair restore protect defend attack warn guard search discover
notice remember mention repeat translate publish print record perform practise train coach guide
support finance fund charge borrow order demand produce develop design construct extend reduce
increase improve adjust replace remove attach connect separate divide combine mix stir boil bake
roast fry pour taste smell touch hear climb jump sail row float cross enter leave approach
surround
""")
_ADJECTIVES = _words("""
old new small large long short early late young quiet busy bright dark warm cold dry wet clean
plain rough smooth soft hard heavy light narrow wide deep shallow tall low steep flat round
square broken hidden open closed empty full rich poor cheap dear common rare strange familiar
modern ancient local foreign public private simple complex careful careless gentle proud humble
honest clever patient brave nervous calm cheerful serious famous unknown useful useless careful
strong weak fresh stale sweet bitter sour salty green blue red yellow white black grey brown
golden silver wooden stone northern southern eastern western distant nearby central final first
second third last former present future recent annual daily weekly yearly general special
certain possible likely
""")
_ADVERBS = _words("""
again slowly quickly quietly carefully often sometimes usually rarely early late together alone
well badly gladly sadly nearly almost certainly perhaps later soon indeed firmly openly twice
""")
_PREPOSITIONS = _words("in on near behind under above beside across along through towards beyond")
_TIMES = (
    "in the spring",
    "last winter",
    "on Monday",
    "that evening",
    "for many years",
    "before the war",
    "after the harvest",
    "at noon",
    "in those days",
    "during the holidays",
    "once a month",
    "since then",
)
_FIRST_HALVES = _words("""
sea land wind water fire wood stone snow sun moon night day farm mill salt iron
""")

EN_FRAMES = (
    "The {noun} of the {adjective} {noun} {past} the {noun} {preposition} the {noun}.",
    "A {adjective} {noun} {past} {adverb}, and the {nouns} {past} it {time}.",
    "When the {noun} {past}, the {adjective} {nouns} were {past} by a {noun}.",
    "Most of the {nouns} had been {past} {preposition} the {adjective} {noun} {time}.",
    "It was the {noun} that {past} the {nouns}, not the {adjective} {noun}.",
    "They would {verb} the {noun} and {verb} the {nouns} {time}.",
    "Nobody {past} the {adjective} {noun}, but the {noun} could still {verb} it.",
    "There is a {noun} {preposition} the {noun} where the {nouns} {verb} {adverb}.",
    "In this {noun} we {verb} the {nouns} that {verb} each {adjective} {noun}.",
    "She {past} her {noun} {preposition} the {compound} and {past} to the {noun}.",
    "He has {past} {adjective} {nouns} with his {noun} {time}.",
    "If the {noun} is {adjective}, you should {verb} the {noun} before the {compound}.",
    "Although the {nouns} were {adjective}, every {noun} {past} the {adjective} {noun}.",
    "{time_first} the {noun} {past} more {nouns} than the {compound} had.",
    "Their {compound} is as {adjective} as any {noun} that we have {past}.",
    "What the {noun} {past} to the {nouns} was both {adjective} and {adjective}.",
    "We were told to {verb} the {compound}, to {verb} the {nouns} and to wait.",
    "Between the {noun} and the {compound} lay {adjective} {nouns} of every kind.",
)

_ZH_NOUNS = _words("""
时间 问题 学生 老师 工作 生活 城市 农村 社会 经济 文化 历史 教育 科学 技术 环境
市场 企业 公司 工厂 工人 农民 医生 病人 医院 学校 课程 教室 图书 文章 报纸 新闻
电影 音乐 艺术 画家 作家 读者 朋友 邻居 家庭 父母 孩子 儿童 老人 青年 妇女 客人
主人 司机 乘客 车站 机场 铁路 公路 桥梁 河流 湖泊 山区 森林 草原 沙漠 海岸 港口
渔船 天气 季节 春天 夏天 秋天 冬天 早晨 傍晚 夜晚 阳光 雨水 台风 空气 土地 粮食
蔬菜 水果 茶叶 米饭 面条 早餐 晚饭 厨房 房间 窗户 门口 院子 花园 街道 广场 商店
饭馆 银行 价格 成本 收入 利润 贸易 产品 质量 材料 机器 设备 能源 电力 石油 煤炭
钢铁 汽车 手机 电脑 网络 软件 数据 信息 研究 实验 方法 理论 结果 原因 经验 计划
目标 政策 法律 制度 政府 部门 会议 代表 领导 干部 群众 居民 权利 义务 责任 合同
条件 标准 过程 阶段 水平 能力 作用 影响 变化 发展 关系 组织 活动 比赛 运动 健康
""")
_ZH_VERBS = _words("""
研究 讨论 分析 解决 提高 改善 保护 支持 帮助 参加 组织 管理 建设 修理 生产 销售
购买 运输 收集 整理 记录 报告 介绍 说明 证明 发现 发明 设计 制造 使用 检查 测量
比较 选择 决定 计划 安排 准备 开始 完成 继续 停止 改变 增加 减少 影响 促进 限制
鼓励 批评 表扬 接受 拒绝 要求 希望 相信 怀疑 理解 记住 忘记 观察 访问 欢迎 感谢
照顾 教育 培养 学习 练习 阅读 写作 翻译 出版 表演 欣赏 种植 收获 清洗 打扫 布置
""")
_ZH_ADJECTIVES = _words("""
重要 主要 普通 特别 简单 复杂 美丽 干净 安静 热闹 古老 年轻 现代 传统 丰富 贫穷
先进 落后 明显 严重 合理 有效 积极 消极 认真 仔细 勇敢 谦虚 诚实 聪明 努力 健康
安全 危险 便宜 昂贵 新鲜 温暖 寒冷 潮湿 干燥 宽阔 狭窄 遥远 附近 公开 秘密 全部
部分 长期 短期 当地 国际 地方 中央 基本 必要 可能 正常 特殊
""")
_ZH_ADVERBS = _words("""
已经 正在 常常 往往 逐渐 终于 仍然 几乎 特别 非常 一直 重新 共同 主动 及时 认真
""")
_ZH_TIMES = (
    "去年",
    "今年春天",
    "上个月",
    "多年以来",
    "改革以后",
    "在这段时间里",
    "每到周末",
    "最近几年",
    "从那时起",
    "第二天早上",
    "会议结束后",
    "十年以前",
)

ZH_FRAMES = (
    "{time}，{noun}的{noun}{adverb}{verb}了{adjective}的{noun}。",
    "我们应该{adverb}{verb}{noun}，也要{verb}{noun}和{noun}之间的{noun}。",
    "为了{verb}{adjective}的{compound}，{noun}{adverb}{verb}了很多{noun}。",
    "虽然{noun}很{adjective}，但是{noun}{adverb}没有{verb}这个{noun}。",
    "在{adjective}的{noun}里，他们{adverb}{verb}{compound}。",
    "{noun}不仅{verb}了{noun}，而且{verb}了{adjective}的{noun}。",
    "如果{noun}不能{verb}{noun}，那么{compound}就会变得更加{adjective}。",
    "{time}，{compound}的{noun}比以前{adjective}得多。",
    "人们把{noun}看作是{adjective}的{noun}，并且{adverb}{verb}它。",
    "这种{noun}需要{noun}{verb}，也需要{noun}的{verb}和{verb}。",
    "对于{noun}来说，{compound}是{verb}{noun}的{adjective}{noun}。",
    "他{adverb}告诉{noun}，{noun}的{noun}是可以{verb}的。",
    "除了{noun}以外，{adjective}的{noun}还{verb}了{compound}。",
    "因此，{noun}和{noun}{adverb}{verb}，使{noun}更加{adjective}。",
)

_GIVEN = _words("""
Anna Mark Laura Peter Susan David Maria Thomas Helen George Alice Robert Emma Paul
""")
_FAMILY = _words("""
Keller Morton Hughes Sanders Whitman Barlow Norris Fletcher Draper Ellison Harmon
""")
_ZH_FAMILY = _words("王 李 张 刘 陈 杨 赵 黄 周 吴 徐 孙 马 朱 胡 郭 何 林 罗 高")
_ZH_GIVEN = _words("建国 秀英 丽娜 志强 海燕 晓明 文静 国庆 桂花 俊杰 雪梅 德华 春生 佳怡")


@cache
def english_classes() -> dict[str, tuple[str, ...]]:
    """Words by slot."""
    nouns = tuple(dict.fromkeys(_NOUNS))
    verbs = tuple(dict.fromkeys(_VERBS))
    halves = itertools.product(nouns, _FIRST_HALVES)
    return {
        "noun": nouns,
        "nouns": tuple(_plural(noun) for noun in nouns),
        "verb": verbs,
        "past": tuple(_past(verb) for verb in verbs),
        "adjective": tuple(dict.fromkeys(_ADJECTIVES)),
        "adverb": _ADVERBS,
        "preposition": tuple(_PREPOSITIONS),
        "time": _TIMES,
        "time_first": tuple(time[0].upper() + time[1:] for time in _TIMES),
        "compound": tuple(f"{first} {noun}" for noun, first in halves),
    }


@cache
def chinese_classes() -> dict[str, tuple[str, ...]]:
    """Words by slot."""
    nouns = tuple(dict.fromkeys(_ZH_NOUNS))
    # Wide steps, so that neighbours in frequency share no half.
    pairs = [(nouns[i], nouns[(i * step + step) % len(nouns)]) for step in range(3, 20) for i in
             range(len(nouns))]  # fmt: skip
    return {
        "noun": nouns,
        "verb": tuple(dict.fromkeys(_ZH_VERBS)),
        "adjective": tuple(dict.fromkeys(_ZH_ADJECTIVES)),
        "adverb": tuple(_ZH_ADVERBS),
        "time": _ZH_TIMES,
        "compound": tuple(first + second for first, second in pairs if first != second),
    }


def english_names() -> list[str]:
    return [f"{given} {family}" for given in _GIVEN for family in _FAMILY]


def chinese_names() -> list[str]:
    return [family + given for family in _ZH_FAMILY for given in _ZH_GIVEN]


def _plural(noun: str) -> str:
    if noun.endswith(("s", "sh", "ch", "x")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _past(verb: str) -> str:
    irregular = {"hear": "heard", "leave": "left"}
    if verb in irregular:
        return irregular[verb]
    if verb.endswith("e"):
        return verb + "d"
    return verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in "aeiou" else verb + "ed"
