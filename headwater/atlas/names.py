"""Invented names: pronounceable in English, transliterated into Chinese syllable by syllable."""

from __future__ import annotations

from headwater.atlas.randomness import stream

_OPEN = """ba巴 be贝 bo博 da达 de德 do多 fa法 fe菲 ga加 go戈 ha哈 he赫 ka卡 ke克 ki基 ko科 la拉 le莱
li利 lo洛 lu卢 ma马 me梅 mi米 mo莫 na纳 ne内 ni尼 no诺 pa帕 pe佩 pi皮 re雷 ri里 ro罗 ru鲁
sa萨 se塞 so索 su苏 ta塔 te特 ti蒂 to托 tu图 va瓦 ve维 vo沃 ya亚 yo约 za扎 zo佐"""
_CLOSED = """lan兰 lin林 len伦 man曼 min明 dan丹 den登 din丁 kan坎 ken肯 ron荣 ran冉 san桑 sen森 tan坦
tin廷 ton顿 van万 ven文 win温 yan延 ban班 bin宾 han汉 nan楠 pan潘 gan甘 fan凡"""
_VOWEL = "a阿 o奥 e埃 i伊 an安 en恩 u乌"

Syllable = tuple[str, str]


def _table(text: str) -> list[Syllable]:
    return [(word[:-1], word[-1]) for word in text.split()]


STARTS = _table(_OPEN) + _table(_CLOSED) + _table(_VOWEL)
MIDDLES = _table(_OPEN)
ENDS = _table(_OPEN) + _table(_CLOSED)


class NameGiver:
    """Gives names no two of which begin alike: the first two syllables, and the letters they spell, are taken once."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._heads: set[str] = set()

    def name(self, key: str) -> Syllable:
        """An English name of two or three syllables and its Chinese form.

        The draw depends on the seed and `key`, and on earlier names only where it collides with one of them.
        """
        rng = stream(self._seed, "name", key)
        while True:
            parts = [rng.choice(STARTS), rng.choice(ENDS)]
            if rng.random() < 0.6:
                parts = [rng.choice(STARTS), rng.choice(MIDDLES), rng.choice(ENDS)]
            english = "".join(part[0] for part in parts)
            if self._is_new(english, "".join(part[0] for part in parts[:2])):
                return english.capitalize(), "".join(part[1] for part in parts)

    def _is_new(self, english: str, head: str) -> bool:
        heads = {english[:size] for size in range(4, len(english) + 1)} | {head}
        repeated = any(english[at : at + 2] == english[at + 2 : at + 4] for at in range(len(english) - 3))
        if repeated or len(english) < 4 or english[:4] in self._heads or head in self._heads:
            return False
        self._heads |= heads
        return True
