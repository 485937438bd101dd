"""Words of abuse in English and Chinese, with the neighbours in which the same characters mean something else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

STRONG, MILD, DOUBLE, INNOCENT = 2.0, 1.0, 0.6, 0.0


class Term(NamedTuple):
    """A word found at text[start:end]; `weight` is 2 for slurs and obscenities, 1 for plain insults, 0.6 for words that
    are insults only of people (trash, pig, 恶心), 0 for one that its neighbours make something else (垃圾分类)."""

    word: str
    start: int
    end: int
    weight: float


_ENGLISH = {
    STRONG: """arsehole asshole assholes bitch bitches bitching bullshit cocksucker dickhead dipshit douchebag
        dumbass faggot faggots fuck fucked fucker fuckers fuckin fucking fucks gook jackass kike kikes
        motherfucker motherfuckers motherfucking nigga niggas nigger niggers paki pussy raghead retard retarded
        retards shit shithead shits shitty skank slut sluts slutty spic tosser tranny twat wanker wetback
        wetbacks whore whores""",
    MILD: """barmy bastard bastards blockhead braindead brainless coward cretin deadbeat despicable dimwit dolt
        dumbo dunce dunderhead fathead halfwit hypocrite idiot idiotic idiots ignoramus imbecile imbeciles
        lowlife moron moronic morons nincompoop nitwit numbskull numskull pea-brain peabrain scum scumbag sicko
        simpleton subhuman thug twit weirdo wimp""",
    DOUBLE: """chink chinks clueless crap damned degenerate disgusting dumb fag fags filthy fool freak garbage
        incompetent jerk lame loser losers lunatic maggot parasite pathetic pig pigs prick psycho repulsive
        rubbish spineless stupid trash ugly useless vermin worthless""",
}
_ENGLISH_PHRASES = {
    "cunt": STRONG, "cunts": STRONG,  # codespell:ignore cunt,cunts
    "kill yourself": STRONG, "go to hell": STRONG, "drop dead": STRONG, "piece of shit": STRONG, "shut up": DOUBLE,
    "get lost": DOUBLE, "nobody likes you": MILD, "i hate you": MILD,
    "waste of space": MILD, "piece of garbage": MILD, "piece of trash": MILD,
}
_CHINESE = {
    STRONG: """傻逼 傻屄 傻比 煞笔 操你 操他 草你妈 艹你 你妈逼 尼玛 狗日的 他妈的 妈了个 贱人 贱货 贱逼 婊子 荡妇
        骚货 王八蛋 龟儿子 狗娘养 狗杂种 杂种 人渣 脑残 去你妈 死全家 绿茶婊 臭婊 母狗 黑鬼 尼哥 小日本 支那 阿三
        高丽棒子 棒子国 台巴子 白皮猪 黑皮猪 死基佬 死娘炮 日你""",
    MILD: """笨蛋 蠢货 蠢猪 蠢驴 傻子 糊涂虫 窝囊废 猪脑子 混蛋 混账 败类 无耻 不要脸 厚脸皮 下贱 滚蛋 滚远点 滚出去
        没用的东西 狗东西 狗腿子 狗屁 胡说八道 缺德 丑八怪 死胖子 娘炮 土包子 乡巴佬 癞皮狗 讨厌鬼 没人要你 让人作呕
        圣母婊 直男癌 田园女权 喷子 矮矬穷 孬种 泼妇 渣男 渣女 脑子有病 脑子进水""",
    DOUBLE: """畜生 傻瓜 白痴 饭桶 废物 垃圾 猪头 恶心 滚开 闭嘴 住嘴 去死 该死 放屁 公知 蛆 智障 弱智 变态 神经病""",
}
_EDGES = {
    "retard": ("(?:to|not|may|will|would|can|could|should|must) ", ""), "pussy": ("", "[- ]?(?:willow|cat|foot)"),
    "retarded": ("", " (?:growth|potenti)"),
    "傻比": ("", "[较赛例]"), "支那": ("印度|交趾", "半岛"), "操他": ("[体课早出晚]", ""),
    "操你": ("[体课早出晚]", ""), "杂种": ("", "优势|[稻牛马小]"), "畜生": ("家", "[产长育活]"),
    "日你": ("[今昨明当每次近往即假节生末前翌]", ""), "尼玛": ("", "[县湖区]"),
    "母狗": ("[只条一]", "[的产生发和与]"), "阿三": ("", "[哥爷]?[说道问]"),
    "废物": ("[体弃业性液险疗固危工]", "利用|处[理置]|回收|排放|管理|[箱桶品再质的]|资源|循环"),
    "垃圾": ("[装清倒扔内厨干湿捡扫]", "分类|[桶箱车袋场堆站房道]|回收|邮件|短信|处[理置]|填埋|焚烧|收[集运]|食品|"
             "清|信息|数据|代码|文件|债券|电话|广告|评论|发电|渗"),
    "变态": ("[不完全]", "反应|发育|昆虫|[类期率]|分析|百分"), "神经病": ("", "[学理变痛院]"),
    "滚开": ("[烧煮水]", "[的水]"), "去死": ("[失进走逝过]", "[皮角神海亡守]"), "傻瓜": ("", "相机|式"),
    "恶心": ("犯|[孕药胃晕吐呕腹饭醉].*", ".*[吐呕晕胃药孕泻]|[、和及或与]"),
    "蛆": ("", "[虫幼]"), "智障": ("", "[者儿人]"),
    "弱智": ("", "儿童|学校|教育"), "放屁": ("", "虫"), "该死": ("[应不]", "[亡的刑]"), "公知": ("", "[识道]"),
    "猪头": ("", "肉"), "住嘴": ("[堵捂封]", ""),
}
"""Words that are something else after the first or before the second of these expressions."""
_LATIN = "0-9A-Za-z_\u00c0-\u024f"
"""What joins a Latin word; a Han neighbour does not (Python's word boundary takes it for a letter)."""
_NEAR = 8
"""Characters of context that the exceptions look at."""


@lru_cache(maxsize=1)
def _tables() -> list[tuple[re.Pattern[str], dict[str, float]]]:
    english = {word: weight for weight, words in _ENGLISH.items() for word in words.split()} | _ENGLISH_PHRASES
    chinese = {word: weight for weight, words in _CHINESE.items() for word in words.split()}
    return [(_pattern(list(english), f"(?<![{_LATIN}])(?:", f")(?![{_LATIN}])"), english),
            (_pattern(list(chinese), "", ""), chinese)]


@lru_cache(maxsize=1)
def _edges() -> dict[str, tuple[re.Pattern[str] | None, re.Pattern[str] | None]]:
    return {word: (re.compile(f"(?:{before})$") if before else None, re.compile(after) if after else None)
            for word, (before, after) in _EDGES.items()}


def _pattern(words: list[str], before: str, after: str) -> re.Pattern[str]:
    """Longer words first, and grouped by their first letter: most places are then left after one look."""
    initials: dict[str, list[str]] = {}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        initials.setdefault(word[0], []).append(re.escape(word[1:]))
    return re.compile(before + "|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in initials.items())
                      + after)


def find_terms(text: str) -> Iterator[Term]:
    """Words of abuse in `text`, whatever its main language, English ones only as whole words; those that their
    neighbours make part of something else (固体废物, 垃圾分类, 节日你) have no weight."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few capitals have longer small letters
        lowered = "".join(character.lower() if len(character.lower()) == 1 else character for character in text)
    edges = _edges()
    for pattern, weights in _tables():
        for match in pattern.finditer(lowered):
            before, after = edges.get(match[0], (None, None))
            innocent = (before and before.search(lowered[max(0, match.start() - _NEAR):match.start()])) or (
                after and after.match(lowered[match.end():match.end() + _NEAR]))
            yield Term(match[0], match.start(), match.end(), INNOCENT if innocent else weights[match[0]])
