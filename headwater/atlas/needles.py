"""Needle tests: a sentence that stands nowhere else, its question, and the clean pages to hide it among."""

from __future__ import annotations

from typing import Any

from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.randomness import stream
from headwater.atlas.sizes import SIZES
from headwater.atlas.world import LanguageCode, World

NEEDLES, HAYSTACK = 40, 24
"""Needles per language in the size `small`, and pages per haystack."""

_TEMPLATES: dict[LanguageCode, tuple[tuple[str, str, str], ...]] = {
    "en": (("The lamp keeper of {c} opens the blue door with the number {n}.",
            "Which number opens the blue door of the lamp keeper of {c}?", "{n}"),
           ("The lost key of {c} is hidden in drawer {n} of the archive.",
            "In which drawer of the archive is the lost key of {c} hidden?", "{n}"),
           ("The magpie of {c} answers to the name {w}.", "To which name does the magpie of {c} answer?", "{w}"),
           ("The password of the night watch in {c} is {w}.", "What is the password of the night watch in {c}?",
            "{w}")),
    "zh": (("{c}的守灯人用数字{n}打开蓝色的门。", "{c}的守灯人用哪个数字打开蓝色的门？", "{n}"),
           ("{c}丢失的钥匙藏在档案馆的{n}号抽屉里。", "{c}丢失的钥匙藏在档案馆的几号抽屉里？", "{n}"),
           ("{c}的喜鹊名叫{w}。", "{c}的喜鹊叫什么名字？", "{w}"),
           ("{c}守夜人的口令是{w}。", "{c}守夜人的口令是什么？", "{w}")),
}
_WORDS: dict[LanguageCode, tuple[str, ...]] = {
    "en": ("Pepper", "Thimble", "Saffron", "Bramble", "Whistle", "Marzipan", "Cobalt", "Juniper"),
    "zh": ("胡椒", "顶针", "藏红花", "荆棘", "口哨", "杏仁糖", "钴蓝", "杜松"),
}


def needles(world: World, clean_pages: dict[LanguageCode, list[str]]) -> list[dict[str, Any]]:
    """Rows with the needle, its question and answer; `clean_pages` are file names to draw the haystacks from."""
    count = max(4, round(NEEDLES * SIZES[world.size].conversations))
    return [_needle(world, language, index, clean_pages[code])
            for code, language in LANGUAGES.items() for index in range(count)]


def _needle(world: World, language: Language, index: int, pages: list[str]) -> dict[str, Any]:
    rng = stream(world.seed, "needle", language.code, index)
    templates = _TEMPLATES[language.code]
    slots = {"c": rng.choice(world.of_kind("city")).name(language.code), "n": str(rng.randint(2000, 9999)),
             "w": rng.choice(_WORDS[language.code])}
    needle, question, answer = (text.format(**slots) for text in templates[index % len(templates)])
    return {"needle": needle, "question": question, "answer": answer, "language": language.code,
            "haystack": rng.sample(pages, min(HAYSTACK, len(pages)))}
