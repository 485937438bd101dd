"""Machine-spun text and OCR damage."""

from __future__ import annotations

import random
from dataclasses import replace

from headwater.atlas.articles import Writer
from headwater.atlas.documents import Block, Document, paragraph
from headwater.atlas.language import Language
from headwater.atlas.randomness import shuffled
from headwater.atlas.world import Entity, LanguageCode, World

DAMAGED_SHARE = 0.09
"""Share of an OCR page's characters that are damaged."""

SPUN: dict[LanguageCode, tuple[str, ...]] = {
    "en": ("If you are looking for {s} {l}, then {s} {l} {v} is the best {s} {l} for you.",
           "{s} {l} is {v}, and {s} {l} of {v} is a very good {l} for everyone.",
           "Want to know {s} {l}? {s} {l} guide says {s} {l} is {v}.",
           "Best {s} {l} {v} online, top {s} {l} {v} review, cheap {s} {l} {v} today.",
           "In this article we will discuss {s} {l}, so let us discuss {s} {l} {v} now."),
    "zh": ("{s}的{l}是什么？下面小编带大家了解一下{s}的{l}，{s}的{l}就是{v}。",
           "很多朋友都想知道{s}的{l}，其实{s}的{l}是{v}，{s}的{l}真的是{v}。",
           "{s}{l}{v}，{s}{l}{v}大全，最新{s}{l}{v}推荐。",
           "关于{s}的{l}，相信大家都很好奇，{s}的{l}是{v}，你学会了吗？",
           "小编觉得{s}的{l}{v}非常好，喜欢{s}{l}的朋友不要错过{s}的{l}。"),
}
SPUN_ENDINGS: dict[LanguageCode, tuple[str, ...]] = {
    "en": ("Click here for best price of {s}, best price of {s}, best offer of {s}.",
           "Share this {s} article with {s} friends to get more {s} article."),
    "zh": ("以上就是小编为大家整理的{s}的全部内容，希望对关注{s}的朋友有帮助。",
           "想了解更多{s}，请点击{s}，收藏{s}，转发{s}。"),
}
_CONFUSED: dict[LanguageCode, dict[str, str]] = {
    "en": {"l": "1", "o": "0", "e": "c", "m": "rn", "i": "!", "a": "@", "s": "5", "t": "+", "n": "ri", "h": "li",
           "g": "9", "d": "cl", "w": "vv", "u": "ii"},
    "zh": {"的": "旳", "大": "太", "日": "曰", "人": "入", "河": "诃", "城": "诚", "湖": "糊", "地": "池", "是": "昰",
           "在": "任", "有": "冇", "来": "耒", "到": "剄", "最": "曼", "年": "牛", "了": "丁", "上": "土", "一": "—",
           "水": "氷", "里": "甲", "名": "各", "出": "岀", "生": "牛", "和": "秈", "么": "幺", "个": "亇", "问": "间"},
}
_SPECKS = "|~^*_\\`¬§"


def machine_spun(world: World, language: Language, entity: Entity, key: str) -> Document:
    """Keyword-stuffed sentences from a spinner, all its facts in each of several turns."""
    writer = Writer(world, language, (world.seed, key))
    sentences: list[str] = []
    for fact in shuffled(world.facts_of(entity) * 3, writer.rng):
        template = writer.deck.draw("spun", SPUN[language.code])
        label = writer.prose.LABELS[fact.attribute].lower()
        sentences.append(language.named(template, entity, l=label, v=fact.text(language.code)))
        writer.record.note(entity, fact)
    sentences += [language.named(ending, entity) for ending in SPUN_ENDINGS[language.code]]
    blocks = tuple(paragraph(*sentences[at : at + 5]) for at in range(0, len(sentences), 5))
    return Document(key, language.code, writer.pick(writer.prose.TITLES, entity), blocks, "machine_spun",
                    tuple(writer.record.entities), tuple(writer.record.facts), planted=tuple(sentences[:3]))


def ocr_damaged(original: Document, key: str, rng: random.Random) -> Document:
    """The text as a bad scan reads it: confused characters, specks and lost characters. It tells no fact reliably."""
    blocks = tuple(Block(block.kind, tuple(tuple(_damaged(cell, original.language, rng) for cell in row)
                                           for row in block.rows)) for block in original.blocks)
    before = {row[0] for block in original.blocks for row in block.rows}
    planted = [row[0] for block in blocks for row in block.rows if row[0] not in before]
    return replace(original, key=key, kind="ocr_damaged", blocks=blocks, facts=(), planted=tuple(planted[:3]))


def _damaged(text: str, language: LanguageCode, rng: random.Random) -> str:
    out = []
    for character in text:
        if rng.random() >= DAMAGED_SHARE:
            out.append(character)
        elif character in _CONFUSED[language]:
            out.append(_CONFUSED[language][character])
        elif rng.random() < 0.5:
            out.append(rng.choice(_SPECKS))
    return "".join(out)
