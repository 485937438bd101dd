"""Exact copies, and near copies whose true similarity is recorded."""

from __future__ import annotations

import random
from dataclasses import replace

from headwater.atlas.documents import Block, Document
from headwater.atlas.randomness import shuffled, stream
from headwater.atlas.shingles import jaccard
from headwater.atlas.world import LanguageCode

LOWEST, HIGHEST = 0.75, 0.98

SYNONYMS: dict[LanguageCode, dict[str, str]] = {
    "en": {"people": "folk", "called": "named", "mostly": "chiefly", "many": "a good many", "famous": "celebrated",
           "known": "noted", "page": "article", "facts": "figures", "reader": "subscriber", "notebook": "journal",
           "glad": "happy", "gathers": "collects", "ends": "finishes", "stories": "tales",
           "visitor": "guest", "remember": "recall", "slow": "sluggish", "often": "frequently", "begins": "starts",
           "travellers": "wayfarers", "interested in": "curious about", "said": "told", "hard": "difficult",
           "list": "register", "banks": "shores", "oldest": "most ancient", "stands": "sits", "usually": "mostly"},
    "zh": {"人们": "大家", "常常": "时常", "已经": "早已", "最后": "最终", "有名": "出名", "许多": "很多",
           "因为": "由于", "可是": "但是", "故事": "传说", "开始": "起头", "闻名": "著称", "总是": "老是",
           "收集": "汇集", "希望": "盼望", "话题": "话头", "多半": "大多", "知道": "晓得", "附近": "周围",
           "慢慢": "渐渐", "听说": "耳闻", "缓缓": "徐徐", "停下来": "歇一歇", "出产": "产出", "坐落在": "建在",
           "记得": "记住", "整理": "编写", "邻居": "街坊"},
}
NOTICES: dict[LanguageCode, tuple[str, ...]] = {
    "en": ("Updated for the spring edition.", "Photographs will follow.", "Corrections are welcome at the desk.",
           "A shorter version appeared in print.", "Spelling checked by a second reader."),
    "zh": ("春季版有更新。", "照片稍后补上。", "欢迎来信指正。", "纸质版刊登时有删节。", "文字已由第二位编辑校对。"),
}


def exact_copy(original: Document, key: str) -> Document:
    """The same main text at another address."""
    return replace(original, key=key, kind="exact_copy", of=original.key, planted=(original.blocks[0].rows[0][0],))


def near_copy(original: Document, key: str, seed: int) -> Document | None:
    """The page with a few words edited until its similarity falls to a target between the bounds; facts stay true.

    None where the edits at hand cannot bring it there.
    """
    rng = stream(seed, key)
    target = rng.uniform(LOWEST + 0.01, HIGHEST - 0.02)
    best, reached = original, 1.0
    for edit in _edits(original, rng):
        edited = _apply(best, edit, rng)
        similarity = jaccard(original.text, edited.text)
        if similarity >= target:
            best, reached = edited, similarity
    if not LOWEST <= reached <= HIGHEST:
        return None
    before = {row[0] for block in original.blocks for row in block.rows}
    planted = tuple(row[0] for block in best.blocks for row in block.rows if row[0] not in before)
    return replace(best, key=key, kind="near_copy", of=original.key, jaccard=round(reached, 6), planted=planted)


def _edits(document: Document, rng: random.Random) -> list[str]:
    """Words to replace, "swap" and "notice", in random order; at least one changes the wording."""
    words = [word for word in SYNONYMS[document.language] if word in document.text]
    return [*rng.sample(["notice", *words], 1 + min(2, len(words))), *shuffled([*words, "swap", "swap", "notice"], rng)]


def _apply(document: Document, edit: str, rng: random.Random) -> Document:
    blocks = list(document.blocks)
    spots = [at for at, block in enumerate(blocks) if block.kind == "paragraph"]
    if edit == "notice":
        blocks[spots[-1]] = _with_row(blocks[spots[-1]], rng.choice(NOTICES[document.language]))
    elif edit == "swap":
        at = rng.choice(spots)
        blocks[at] = _swapped(blocks[at], rng)
    else:
        new = SYNONYMS[document.language][edit]
        holding = [at for at in spots if any(edit in row[0] for row in blocks[at].rows)]
        if holding:
            at = rng.choice(holding)
            blocks[at] = Block("paragraph", tuple((_replace_word(row[0], edit, new),) for row in blocks[at].rows))
    return replace(document, blocks=tuple(blocks))


def _replace_word(text: str, old: str, new: str) -> str:
    spaced = f" {text} "
    if old.isascii():
        return spaced.replace(f" {old} ", f" {new} ", 1)[1:-1]
    return text.replace(old, new, 1)


def _with_row(block: Block, sentence: str) -> Block:
    return block if (sentence,) in block.rows else Block(block.kind, (*block.rows, (sentence,)))


def _swapped(block: Block, rng: random.Random) -> Block:
    if len(block.rows) < 3:
        return block
    at = rng.randrange(1, len(block.rows) - 1)
    rows = list(block.rows)
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    return Block(block.kind, tuple(rows))
