"""Words of abuse in English and Chinese, with the neighbours in which the same characters mean something else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from headwater.corpus.classifying.disguises import LATIN, Disguise, disguise_finder, narrowed

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
        骚货 王八蛋 龟儿子 狗娘养 狗杂种 杂种 人渣 脑残 去你妈 死全家 绿茶婊 臭婊
        臭母狗 骚母狗 贱母狗 黑鬼 尼哥 小日本 支那 阿三
        高丽棒子 棒子国 台巴子 白皮猪 黑皮猪 死基佬 死娘炮 日你""",
    MILD: """笨蛋 蠢货 蠢猪 蠢驴 傻子 糊涂虫 窝囊废 猪脑子 混蛋 混账 败类 无耻 不要脸 厚脸皮 下贱 滚蛋 滚远点 滚出去
        没用的东西 狗东西 狗腿子 狗屁 胡说八道 缺德 丑八怪 死胖子 娘炮 土包子 乡巴佬 癞皮狗 讨厌鬼 没人要你 让人作呕
        圣母婊 直男癌 田园女权 喷子 矮矬穷 孬种 泼妇 渣男 渣女 脑子有病 脑子进水""",
    DOUBLE: """畜生 傻瓜 白痴 饭桶 废物 垃圾 猪头 恶心 滚开 闭嘴 住嘴 去死 该死 放屁 公知 蛆 智障 弱智 变态 神经病
        母狗""",
}
_DRILL = "[曹体课早出晚晨节情贞德志做练收领跳播健间美军律手械]"
_WORRY = "们?的?[这那]?[份点个]?心|[国乡族]"
_EDGES = {
    "pussy": ("", "[- ]?(?:willow|cat|foot)"),
    "retarded": ("", " (?:growth|potenti|by )"),
    "傻比": ("", "[较赛例]"), "支那": ("印度|交趾", "半岛"), "操他": (_DRILL, _WORRY),
    "操你": (_DRILL, _WORRY), "杂种": ("间|远缘|[fF]1|代", "优势|[稻牛马小]|不育|[后子一二]代|植株|自交|细胞|群体|胚"),
    "畜生": ("家", "[产长育活]"),
    "日你": ("[今昨明当每次近往即假节生末前翌周期平昔整终他某同夏冬春秋烈落红旭度忌作念多数几两"
                                                               "一二三四五六七八九十\\d抗]", ""),
    "尼玛": ("", "[县湖区次扎多才顿旺卓]"),
    "母狗": ("(?:^|[^这那])只|[一两三四五六七八九十几\\d]条", "[的产生发和与]"), "阿三": ("", "[哥爷]?[说道问]"),
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
_DOGS = ("pupp|litter|whelp|kennel|spay|neuter|in heat|in season|breeder|breeding|terrier|retriever|spaniel|hound|"
         "collie|shepherd|poodle|stud dog|sired?\\b|veterinar|suckl|lactat")
_SLOWING = ("yeast|ferment|dough|growth|grow(?:s|ing)?\\b|spoil|ripen|corro|oxid|combust|ignition|spark|timing|flame|"
            "fire|reaction|process|rate\\b|moisture|bacteri|mou?ld|progress|develop|cement|concrete|decay|evapor|motion|"
            "speed|erosion|plants?\\b|tissue|heal(?:s|ing)\\b|absor|spread|(?:to|not|may|will|would|can|could|should|must|"
            "that|which|it|and) retard|"
            "retards? (?:(?:the|its|their|both|any|this)|[a-z]{3,}(?:tion|sis|ity|ing|ance|ence|th))\\b")
_TOPICS = {
    "bitch": _DOGS, "bitches": _DOGS, "retard": _SLOWING, "retards": _SLOWING, "retarded": _SLOWING,
    "杂种": "遗传|杂交|后代|孟德尔|性状|基因|品种|育种|亲本|豌豆|水稻|玉米|小麦|纯种|显性|隐性|自交|不育|染色体|"
          "植株|子代|物种",
}
"""Matters in which a plain word of abuse is one of two meanings, where they are spoken of close by."""
_AROUND = 60
"""Characters on either side in which a matter is looked for."""
_NEAR = 8
"""Characters of context that the exceptions look at."""


@lru_cache(maxsize=1)
def _tables() -> list[tuple[re.Pattern[str], dict[str, float]]]:
    english = {word: weight for weight, words in _ENGLISH.items() for word in words.split()} | _ENGLISH_PHRASES
    chinese = {word: weight for weight, words in _CHINESE.items() for word in words.split()}
    return [(_pattern(list(english), f"(?<![{LATIN}])(?:", f")(?![{LATIN}])"), english),
            (_pattern(list(chinese), "", ""), chinese)]


@lru_cache(maxsize=1)
def _disguises() -> Callable[[str], Iterator[Disguise]]:
    return disguise_finder([*_ENGLISH[STRONG].split(), *(word for word in _ENGLISH_PHRASES if " " not in word)])


@lru_cache(maxsize=1)
def _edges() -> dict[str, tuple[re.Pattern[str] | None, re.Pattern[str] | None]]:
    return {word: (re.compile(f"(?:{before})$") if before else None, re.compile(after) if after else None)
            for word, (before, after) in _EDGES.items()}


@lru_cache(maxsize=1)
def _topics() -> dict[str, re.Pattern[str]]:
    return {word: re.compile(topic) for word, topic in _TOPICS.items()}


def _pattern(words: list[str], before: str, after: str) -> re.Pattern[str]:
    """Longer words first, and grouped by their first letter: most places are then left after one look."""
    initials: dict[str, list[str]] = {}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        initials.setdefault(word[0], []).append(re.escape(word[1:]))
    return re.compile(before + "|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in initials.items())
                      + after)


def find_terms(text: str) -> Iterator[Term]:
    """Words of abuse in `text`, whatever its main language, English ones only as whole words, the obscene ones also
    disguised (f*ck); those that their neighbours make part of something else (固体废物, 垃圾分类, 节日你) have no
    weight, those whose other meaning is the matter at hand (a bitch and her puppies) that of words of two
    meanings."""
    lowered = narrowed(text)
    for pattern, weights in _tables():
        for match in pattern.finditer(lowered):
            start, end = match.span()
            yield Term(match[0], start, end, _weight(lowered, match[0], start, end, weights[match[0]]))
    for word, start, end in _disguises()(lowered):
        yield Term(word, start, end, STRONG)


def _weight(text: str, word: str, start: int, end: int, weight: float) -> float:
    before, after = _edges().get(word, (None, None))
    if (before and before.search(text[max(0, start - _NEAR):start])) or (after and after.match(text[end:end + _NEAR])):
        return INNOCENT
    topic = _topics().get(word)
    return DOUBLE if topic and topic.search(text, max(0, start - _AROUND), end + _AROUND) else weight
