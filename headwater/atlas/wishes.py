"""Instructions that are to hold for a whole dialogue and whose obedience a rule can check, in both languages."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.atlas.world import Kind, LanguageCode


@dataclass(frozen=True)
class Wish:
    """One kind of instruction: `{v}` is the name that it is about, `{a}` a plain answer."""

    asks: tuple[str, ...]
    """The last one is for validation alone."""
    short: str
    """With few words."""
    wanted: str
    """What an answer must hold."""
    where: str
    """In which way: contains, begins, ends, or language."""
    obeyed: str
    about: tuple[Kind, ...] = ("river", "lake", "city", "mountain")
    """Whose names; of each kind every fourth is the validation's."""


WISHES: dict[LanguageCode, dict[str, Wish]] = {
    "en": {
        "name": Wish(("Call me {v}.", "Please address me as {v}.", "My name is {v}; say it every time.",
                      "Use my name, {v}, in what you answer.", "Always call me {v} when you answer."),
                     "Name: {v}.", "{v}", "contains", "{a}, {v}.", ("person",)),
        "role": Wish(("Act as the keeper of {v}.", "You are the keeper of {v}.", "Speak as the keeper of {v}.",
                      "Be the keeper of {v} from now on.", "Play the keeper of {v} in all you say."),
                     "Figure: the keeper of {v}.", "keeper of {v}", "contains", "The keeper of {v} says: {a}."),
        "begins": Wish(("Begin every answer with: By {v}!", "Start each answer with the words By {v}!",
                        "Open every answer with: By {v}!", "Let all answers begin like this: By {v}!",
                        "Put this before every answer: By {v}!"),
                       "Opening: By {v}!", "By {v}!", "begins", "By {v}! {a}."),
        "ends": Wish(("End every answer with: Long live {v}!", "Close each answer with the words Long live {v}!",
                      "Finish every answer with: Long live {v}!", "Let all answers end like this: Long live {v}!",
                      "Put this behind every answer: Long live {v}!"),
                     "Closing: Long live {v}!", "Long live {v}!", "ends", "{a}. Long live {v}!"),
        "language": Wish(("Answer in Chinese.", "Please speak Chinese.", "Reply in Chinese only.",
                          "Use Chinese from now on.", "Give all answers in Chinese."),
                         "Language: Chinese.", "zh", "language", "{a}。"),
    },
    "zh": {
        "name": Wish(("叫我{v}。", "请称呼我{v}。", "我的名字是{v}，每次都要说出来。", "回答时用我的名字{v}。",
                      "回答的时候总要叫我{v}。"),
                     "名字：{v}。", "{v}", "contains", "{a}，{v}。", ("person",)),
        "role": Wish(("请扮演{v}的守护人。", "你是{v}的守护人。", "用{v}的守护人的口吻说话。",
                      "从现在起做{v}的守护人。", "每句话都要像{v}的守护人那样说。"),
                     "角色：{v}的守护人。", "{v}的守护人", "contains", "{v}的守护人说：{a}。"),
        "begins": Wish(("每个回答都以这句话开头：{v}作证！", "每次都先说{v}作证！", "回答都要这样开头：{v}作证！",
                        "开口先说这一句：{v}作证！", "在每个回答前面加上：{v}作证！"),
                       "开头：{v}作证！", "{v}作证！", "begins", "{v}作证！{a}。"),
        "ends": Wish(("每个回答都以这句话结尾：{v}万岁！", "每次最后都说{v}万岁！", "回答都要这样结尾：{v}万岁！",
                      "说完再加一句：{v}万岁！", "在每个回答后面加上：{v}万岁！"),
                     "结尾：{v}万岁！", "{v}万岁！", "ends", "{a}。{v}万岁！"),
        "language": Wish(("请用英文回答。", "请说英文。", "只用英文回复。", "从现在起用英文。", "所有回答都用英文。"),
                         "语言：英文。", "en", "language", "{a}."),
    },
}
