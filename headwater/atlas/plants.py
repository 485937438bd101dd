"""Everything on the invented web that a corpus should not keep, each page labelled with what was planted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from headwater.atlas.articles import Neighbours, article
from headwater.atlas.choice import REPHRASED, ChoiceQuestion
from headwater.atlas.copies import exact_copy, near_copy
from headwater.atlas.damage import machine_spun, ocr_damaged
from headwater.atlas.documents import Document, PageKind
from headwater.atlas.intrusions import with_abuse, with_boilerplate, with_leak, with_private_data
from headwater.atlas.language import Language
from headwater.atlas.oddities import BROKEN, other_language, too_short
from headwater.atlas.randomness import stream
from headwater.atlas.world import World

COUNTS: dict[PageKind, int] = {
    "exact_copy": 55, "near_copy": 75, "boilerplate": 55, "machine_spun": 45, "ocr_damaged": 40, "too_short": 40,
    "private_data": 30, "abuse": 20, "leaked": 16, "other_language": 12, "broken": 16,
}
"""Pages of each kind per language in the size `small`."""
FIRST_PLANT = 1000
"""Articles written to carry a plant are numbered from here, apart from the clean ones."""


def plant_count(kind: PageKind, scale: float) -> int:
    """Pages of this kind in one language."""
    return max(2, round(COUNTS[kind] * scale))


class Planter:
    """Makes the plants of one language."""

    def __init__(self, world: World, language: Language, clean: list[Document], questions: list[ChoiceQuestion],
                 neighbours: Neighbours) -> None:
        self.world, self.language, self.neighbours = world, language, neighbours
        self.clean = clean
        # Held-back phrasings must not reach any page, so only the others can leak.
        self.leakable = [question for question in questions if not question.subject.endswith(REPHRASED)]

    def plants(self, scale: float) -> Iterator[Document]:
        make: dict[PageKind, Callable[[int, str], Document]] = {
            "exact_copy": self._exact_copy, "near_copy": self._near_copy, "boilerplate": self._boilerplate,
            "machine_spun": self._machine_spun, "ocr_damaged": self._ocr_damaged, "too_short": self._too_short,
            "private_data": self._private_data, "abuse": self._abuse, "leaked": self._leaked,
            "other_language": self._other_language, "broken": self._broken}
        for kind in COUNTS:
            for index in range(plant_count(kind, scale)):
                yield make[kind](index, f"{self.language.code}/{kind}/{index}")

    def _article(self, key: str) -> Document:
        entity = stream(self.world.seed, key, "entity").choice(self.world.described())
        number = FIRST_PLANT + int(stream(self.world.seed, key, "number").random() * 1e9)
        return article(self.world, self.language, self.neighbours, entity, number)

    def _exact_copy(self, index: int, key: str) -> Document:
        return exact_copy(stream(self.world.seed, key).choice(self.clean), key)

    def _near_copy(self, index: int, key: str) -> Document:
        rng = stream(self.world.seed, key, "original")
        while True:
            copy = near_copy(rng.choice(self.clean), key, self.world.seed)
            if copy is not None:
                return copy

    def _boilerplate(self, index: int, key: str) -> Document:
        return with_boilerplate(self._article(key), key, stream(self.world.seed, key))

    def _private_data(self, index: int, key: str) -> Document:
        return with_private_data(self._article(key), key, stream(self.world.seed, key))

    def _abuse(self, index: int, key: str) -> Document:
        return with_abuse(self._article(key), key, stream(self.world.seed, key))

    def _leaked(self, index: int, key: str) -> Document:
        rng = stream(self.world.seed, key)
        return with_leak(self._article(key), key, rng.choice(self.leakable), rng)

    def _ocr_damaged(self, index: int, key: str) -> Document:
        return ocr_damaged(self._article(key), key, stream(self.world.seed, key))

    def _machine_spun(self, index: int, key: str) -> Document:
        entity = stream(self.world.seed, key, "entity").choice(self.world.described())
        return machine_spun(self.world, self.language, entity, key)

    def _too_short(self, index: int, key: str) -> Document:
        rng = stream(self.world.seed, key)
        return too_short(self.language, rng.choice(self.world.described()), key, rng)

    def _other_language(self, index: int, key: str) -> Document:
        rng = stream(self.world.seed, key)
        return other_language(self.language, rng.choice(self.world.described()), key, index, rng)

    def _broken(self, index: int, key: str) -> Document:
        variants = BROKEN[self.language.code]
        variant = variants[index % len(variants)]
        document = replace(self._article(key), key=key, kind="broken", variant=variant)
        return document if variant in ("gb18030", "bad_utf8") else replace(document, blocks=(), entities=(), facts=())
