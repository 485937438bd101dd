from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

PLAIN = {"quality": None, "machine_text": None, "toxicity": None, "private_data": None, "repeated_sentences": None}
"""Settings that leave out what judges a text's style: the prose invented here is no style at all."""
ENGLISH = ["river", "water", "city", "bridge", "mountain", "year", "people", "valley", "lake", "source", "mouth",
           "stone", "boat", "market", "winter", "summer", "field", "road", "north", "south", "garden", "school",
           "family", "history", "travel", "forest", "weather", "village", "harbour", "island"]
CHINESE = list("河流水城市桥山年人谷湖源口石船冬夏田路北南园学家史行林天村港岛春秋东西长短高低深浅大小新旧远近")


def english(seed: int, words: int = 160) -> str:
    """Invented English prose of so many words."""
    draw = random.Random(seed)
    sentences = [f"The {' '.join(draw.choices(ENGLISH, k=9))} of the {draw.choice(ENGLISH)} is near number {seed}."
                 for _ in range(words // 16 + 1)]
    return " ".join(sentences)


def chinese(seed: int, characters: int = 200) -> str:
    """Invented Chinese prose of about so many characters."""
    draw = random.Random(seed)
    sentences = ["".join(draw.choices(CHINESE, k=16)) for _ in range(characters // 22 + 1)]
    return "".join(f"这里的{sentence}，是我们的。" for sentence in sentences)


def page(text: str, *, charset: str = "utf-8", declared: str | None = None) -> bytes:
    """An article page around the text, in that encoding."""
    head = f'<meta charset="{declared or charset}">' if declared != "" else ""
    return (f"<html><head>{head}<title>page</title></head><body><nav><a href='/'>Home</a><a href='/x'>About</a></nav>"
            f"<article><h1>A title</h1><p>{text}</p></article><footer>Copyright</footer></body></html>").encode(charset)


@pytest.fixture
def pages(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a folder of so many distinct pages, English and Chinese in turn."""

    def make(count: int) -> Path:
        folder = tmp_path / "pages"
        folder.mkdir()
        for number in range(count):
            text = chinese(number) if number % 2 else english(number)
            (folder / f"{number:04}.html").write_bytes(page(text))
        return folder

    return make
