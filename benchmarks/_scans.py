"""Invented damage of bad scans: kinds to learn from, and others that only judge."""

from __future__ import annotations

import random
from collections.abc import Callable

_LATIN = [("rn", "m"), ("m", "rn"), ("l", "1"), ("1", "l"), ("o", "0"), ("0", "O"), ("e", "c"), ("c", "e"), ("h",
          "b"), ("cl", "d"),
          ("d", "cl"), ("vv", "w"), ("w", "vv"), ("i", "l"), ("i", "!"), ("S", "5"), ("B", "8"), ("a", "u"), ("fi",
          "ﬁ"), ("t", "f"),
          ("nn", "im"), ("I", "l"), ("ll", "11"), ("s", "5"), ("u", "ii"), ("y", "v"), ("g", "q"), ("f", "t")]
_ALIKE = ["己已巳", "未末", "土士", "日曰", "人入八", "大太犬", "干千于", "天夫无", "刀力", "白自", "木本术",
          "王玉主", "田由甲申", "几凡",
          "间问", "拔拨", "侯候", "折拆", "亳毫", "戊戍戌", "治冶", "洒酒", "免兔", "今令", "名各", "贷货", "析折",
          "晴睛睛", "暖暧",
          "撤撒", "的旳", "住往", "候侯", "鸟乌", "风凤", "万方", "为办", "没设", "这过", "时吋", "有冇", "们门",
          "来耒", "可司",
          "子孑", "了丁", "和利", "中申", "以似", "上土", "不木", "国囯", "要耍", "会舍", "生牛", "到剑", "地池",
          "也地", "学字", "对村"]
_CONFUSED = {one: group.replace(one, "") for group in _ALIKE for one in group}
_SPLIT = {"好": "女子", "明": "日月", "化": "亻匕", "川": "JII", "小": "/J\\", "北": "4匕", "以": "L人", "林": "木木",
          "加": "力口", "动": "云力",
          "和": "禾口", "的": "白勺", "时": "日寸", "们": "亻门", "行": "彳亍", "如": "女口", "外": "夕卜",
          "功": "工力", "知": "矢口", "新": "亲斤"}
_RARE = "丌亍乜仡兀冂卐厶孓屮巛幺廾彐忒戋攵旮曳殳氽爿璺"
Damage = Callable[[str, str, random.Random], str]


def _letters(text: str, lang: str, rng: random.Random) -> str:
    """Characters taken for others of like shape."""
    share = rng.uniform(0.02, 0.12)
    if lang == "zh":
        return "".join(rng.choice(_CONFUSED[one]) if one in _CONFUSED and rng.random() < 3 * share else one
                       for one in text)
    for shape, read in rng.sample(_LATIN, 12):
        parts = text.split(shape)
        text = parts[0] + "".join((read if rng.random() < 4 * share else shape) + part for part in parts[1:])
    return text


def _specks(text: str, lang: str, rng: random.Random) -> str:
    """Dirt read as punctuation."""
    share = rng.uniform(0.01, 0.06)
    return "".join(one + (rng.choice(".,'`~^|·:;°*_") if rng.random() < share else "") for one in text)


def _gaps(text: str, lang: str, rng: random.Random) -> str:
    """Spaces within words and words run together."""
    share = rng.uniform(0.02, 0.12)
    return "".join("" if one == " " and rng.random() < share else one + (" " if rng.random() < share else "")
                   for one in text)


def _lost(text: str, lang: str, rng: random.Random) -> str:
    """Characters lost or read twice."""
    share = rng.uniform(0.02, 0.08)
    return "".join(one * rng.choice((0, 0, 2)) if rng.random() < share else one for one in text)


def _lines(text: str, lang: str, rng: random.Random) -> str:
    """Lines broken within words, hyphens kept, with a few confused letters."""
    width = rng.randint(20, 60)
    mark = "-\n" if lang == "en" else "\n"
    return _letters(mark.join(text[at:at + width] for at in range(0, len(text), width)), lang, rng)


def _all(text: str, lang: str, rng: random.Random) -> str:
    for damage in rng.sample([_letters, _specks, _gaps, _lost], 3):
        text = damage(text, lang, rng)
    return text


def _split(text: str, lang: str, rng: random.Random) -> str:
    """Characters read as their halves; in English, letters read as capitals and signs."""
    if lang == "zh":
        return "".join(_SPLIT.get(one, one) if rng.random() < 0.5 else one for one in text)
    signs = {"a": "@", "e": "€", "c": "(", "v": "\\/", "n": "ri", "k": "lc", "r": "r'", "p": "jo"}
    return "".join((signs.get(one) or one.swapcase()) if rng.random() < 0.06 else one for one in text)


def _strange(text: str, lang: str, rng: random.Random) -> str:
    """Characters read as rare ones; in English, words with neighbouring letters exchanged."""
    if lang == "zh":
        return "".join(rng.choice(_RARE) if rng.random() < 0.05 else one for one in text)
    out = list(text)
    for at in range(1, len(out)):
        if rng.random() < 0.05 and out[at].isalpha() and out[at - 1].isalpha():
            out[at - 1], out[at] = out[at], out[at - 1]
    return "".join(out)


def _columns(text: str, lang: str, rng: random.Random) -> str:
    """Two columns read across."""
    width = rng.randint(18, 30)
    lines = [text[at:at + width] for at in range(0, len(text), width)]
    half = len(lines) // 2
    return "\n".join(f"{left} {right}" for left, right in zip(lines[:half], lines[half:]))


LEARNT: list[Damage] = [_letters, _letters, _specks, _gaps, _lost, _lines, _all, _all]
UNSEEN: dict[str, Damage] = {"split": _split, "strange": _strange, "columns": _columns}
