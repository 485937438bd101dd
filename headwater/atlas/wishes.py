"""Instructions that are to hold for a whole dialogue and whose obedience a rule can check, in both languages."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.atlas.world import LanguageCode


@dataclass(frozen=True)
class Wish:
    """One kind of instruction: `{v}` is its value, `{a}` a plain answer."""

    asks: tuple[str, ...]
    """The last one is for validation alone."""
    short: str
    """With few words."""
    wanted: str
    """What an answer must hold."""
    where: str
    """In which way: contains, begins, ends, or language."""
    obeyed: str
    values: tuple[str, ...] = ()
    """Every fourth is the validation's. Where there are none they are names: of the world's cities, or invented."""


NAMED, CITY = "name", "role"
"""The kinds whose values are invented names, and cities."""
WISHES: dict[LanguageCode, dict[str, Wish]] = {
    "en": {
        NAMED: Wish(("Call me {v}.", "Please address me as {v}.", "My name is {v}; say it every time.",
                     "Use my name, {v}, in what you answer.", "Always call me {v} when you answer."),
                    "Name: {v}.", "{v}", "contains", "{a}, {v}."),
        CITY: Wish(("Act as the miller of {v}.", "You are the miller of {v}.", "Speak as the miller of {v}.",
                    "Be the miller of {v} from now on.", "Play the miller of {v} in all you say."),
                   "Figure: the miller of {v}.", "miller of {v}", "contains", "The miller of {v} says: {a}."),
        "begins": Wish(("Begin every answer with: {v}", "Start each answer with the words {v}",
                        "Open every answer with: {v}", "Let all answers begin like this: {v}",
                        "Put this before every answer: {v}"),
                       "Opening: {v}", "{v}", "begins", "{v} {a}.",
                       tuple(f"By the {one}!" for one in (
                           "moon", "waves", "oak", "old mill", "bell", "north wind", "salt", "hammer", "lantern",
                           "red fox", "harvest", "iron gate", "rain", "owl", "bridge", "seven hills"))),
        "ends": Wish(("End every answer with: {v}", "Close each answer with the words {v}",
                      "Finish every answer with: {v}", "Let all answers end like this: {v}",
                      "Put this behind every answer: {v}"),
                     "Closing: {v}", "{v}", "ends", "{a}. {v}",
                     tuple(f"Long live the {one}!" for one in (
                         "tailor", "herring", "mayor", "piper", "goose", "baker", "ferry", "queen", "turnip", "smith",
                         "old clock", "beaver", "choir", "weaver", "lighthouse", "cobbler"))),
        "language": Wish(("Answer in Chinese.", "Please speak Chinese.", "Reply in Chinese only.",
                          "Use Chinese from now on.", "Give all answers in Chinese."),
                         "Language: Chinese.", "zh", "language", "{a}。"),
    },
    "zh": {
        NAMED: Wish(("叫我{v}。", "请称呼我{v}。", "我的名字是{v}，每次都要说出来。", "回答时用我的名字{v}。",
                     "回答的时候总要叫我{v}。"),
                    "名字：{v}。", "{v}", "contains", "{a}，{v}。"),
        CITY: Wish(("请扮演{v}的磨坊主。", "你是{v}的磨坊主。", "用{v}的磨坊主的口吻说话。", "从现在起做{v}的磨坊主。",
                    "每句话都要像{v}的磨坊主那样说。"),
                   "角色：{v}的磨坊主。", "{v}的磨坊主", "contains", "{v}的磨坊主说：{a}。"),
        "begins": Wish(("每个回答都以这句话开头：{v}", "每次都先说{v}", "回答都要这样开头：{v}", "开口先说这一句：{v}",
                        "在每个回答前面加上：{v}"),
                       "开头：{v}", "{v}", "begins", "{v}{a}。",
                       tuple(f"{one}作证！" for one in (
                           "月亮", "海浪", "橡树", "老磨坊", "大钟", "北风", "盐", "铁锤", "灯笼", "红狐狸", "秋收",
                           "铁门", "雨水", "猫头鹰", "石桥", "七座山"))),
        "ends": Wish(("每个回答都以这句话结尾：{v}", "每次最后都说{v}", "回答都要这样结尾：{v}", "说完再加一句：{v}",
                      "在每个回答后面加上：{v}"),
                     "结尾：{v}", "{v}", "ends", "{a}。{v}",
                     tuple(f"{one}万岁！" for one in (
                         "裁缝", "鲱鱼", "市长", "风笛手", "白鹅", "面包师", "渡船", "女王", "萝卜", "铁匠", "老钟",
                         "海狸", "合唱团", "织工", "灯塔", "鞋匠"))),
        "language": Wish(("请用英文回答。", "请说英文。", "只用英文回复。", "从现在起用英文。", "所有回答都用英文。"),
                         "语言：英文。", "en", "language", "{a}."),
    },
}
