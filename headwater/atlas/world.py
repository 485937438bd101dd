"""The invented world: its entities, and every fact about them in English and Chinese."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from headwater.atlas import values
from headwater.atlas.names import NameGiver
from headwater.atlas.randomness import shuffled, stream
from headwater.atlas.sizes import SIZES, Size, SizeName

Kind = Literal["mountain", "lake", "river", "city", "person"]
LanguageCode = Literal["en", "zh"]
Value = str | int

ATTRIBUTES: dict[Kind, tuple[str, ...]] = {
    "river": ("length", "source", "mouth", "region", "fish"),
    "lake": ("depth", "region", "colour", "known_for"),
    "city": ("river", "founded", "craft", "region"),
    "person": ("birth_city", "birth_year", "occupation", "work"),
}
SUBJECTS: dict[str, Kind] = {"rivers": "river", "lakes": "lake", "cities": "city", "people": "person"}
"""The benchmark's subjects, each over one kind of entity."""


@dataclass(frozen=True)
class Entity:
    """A named thing. `en` and `zh` stand in the middle of a sentence as they are ("the Velna", "维尔纳河")."""

    id: str
    kind: Kind
    en: str
    zh: str
    region: int
    """Index into `values.REGIONS`; a person's region is that of the birth city."""
    feminine: bool = False

    @classmethod
    def named(cls, id: str, kind: Kind, en: str, zh: str, region: int, feminine: bool = False) -> Entity:
        """The entity of this bare name, dressed as its kind is: "Velna" becomes "the Velna", "维尔纳河"."""
        forms = {"river": (f"the {en}", f"{zh}河"), "lake": (f"Lake {en}", f"{zh}湖"),
                 "city": (en, f"{zh}城"), "mountain": (f"Mount {en}", f"{zh}山"), "person": (en, zh)}
        return cls(id, kind, *forms[kind], region, feminine)

    def name(self, language: LanguageCode) -> str:
        return self.en if language == "en" else self.zh

    @property
    def feminine_person(self) -> bool:
        return self.feminine and self.kind == "person"


@dataclass(frozen=True)
class Fact:
    """One thing that is true of an entity; `value` is a number, an entity's id or the English form of a list item."""

    id: str
    subject: str
    attribute: str
    value: Value
    en: str
    zh: str

    @property
    def key(self) -> str:
        """Kind and attribute, by which phrasings are filed: "river.length"."""
        return f"{self.subject.split('-')[0]}.{self.attribute}"

    def text(self, language: LanguageCode) -> str:
        return self.en if language == "en" else self.zh


@dataclass
class World:
    """Entities and facts by id, and what the dialogues and the benchmark do with the facts."""

    seed: int
    size: SizeName
    entities: dict[str, Entity] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    never_asked: frozenset[str] = frozenset()
    """Facts that no dialogue asks for: a right answer to them is knowledge from the pages alone."""
    rephrased: frozenset[str] = frozenset()
    """Facts that the benchmark asks for in the held-back phrasings."""

    def of_kind(self, kind: Kind) -> list[Entity]:
        return [entity for entity in self.entities.values() if entity.kind == kind]

    def facts_of(self, entity: Entity) -> list[Fact]:
        names = ATTRIBUTES.get(entity.kind, ())
        return [self.facts[f"{entity.id}.{name}"] for name in names]

    def fact(self, entity: Entity, attribute: str) -> Fact:
        return self.facts[f"{entity.id}.{attribute}"]

    def askable(self, entity: Entity) -> list[Fact]:
        return [fact for fact in self.facts_of(entity) if fact.id not in self.never_asked]

    def described(self) -> list[Entity]:
        """The entities that have facts, and so pages of their own."""
        return [entity for entity in self.entities.values() if entity.kind in ATTRIBUTES]

    def alike(self, fact: Fact) -> list[Fact]:
        """The facts of the same kind and attribute, this one among them."""
        ending = f".{fact.attribute}"
        return [other for other in self.facts.values() if other.id.endswith(ending) and other.key == fact.key]

    def as_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed, "size": self.size,
            "entities": [asdict(entity) | {"region": values.REGIONS[entity.region][0]}
                         for entity in self.entities.values()],
            "facts": [asdict(fact) for fact in self.facts.values()],
            "never_asked": [name for name in self.facts if name in self.never_asked],
            "rephrased": [name for name in self.facts if name in self.rephrased],
        }


def build_world(size: SizeName, seed: int) -> World:
    """The world of this size and seed."""
    return _Builder(World(seed, size), SIZES[size]).build()


class _Builder:
    def __init__(self, world: World, size: Size) -> None:
        self.world, self.size = world, size
        self.names = NameGiver(world.seed)
        self.taken: dict[str, set[Value]] = {}

    def build(self) -> World:
        self._name_entities()
        steps = {"lake": self._lake, "river": self._river, "city": self._city, "person": self._person}
        for kind, tell in steps.items():
            for index, entity in enumerate(self.world.of_kind(kind)):  # type: ignore[arg-type]
                tell(entity, index, stream(self.world.seed, "facts", entity.id))
        self.world.never_asked, self.world.rephrased = _split(self.world)
        return self.world

    def _name_entities(self) -> None:
        counts: dict[Kind, int] = {"mountain": self.size.mountains, "lake": self.size.lakes,
                                   "river": self.size.rivers, "city": self.size.cities, "person": self.size.people}
        for kind, count in counts.items():
            for index in range(count):
                self._add(kind, index)

    def _add(self, kind: Kind, index: int) -> None:
        name = f"{kind}-{index:03d}"
        rng = stream(self.world.seed, "entity", name)
        en, zh = self.names.name(name)
        region = index % self.size.regions
        if kind == "person":
            family, surname = self.names.name(f"{name}.family")
            en, zh = f"{en} {family}", f"{zh}·{surname}"
            region = self.world.entities[self._birth_city(index)].region
        self.world.entities[name] = Entity.named(name, kind, en, zh, region, feminine=rng.random() < 0.5)

    def _birth_city(self, index: int) -> str:
        return f"city-{(index * 7 + 3) % self.size.cities:03d}"

    def _lake(self, lake: Entity, index: int, rng: random.Random) -> None:
        self._metres(lake, "depth", rng, 12, 320 if self.size.lakes < 100 else 980)
        self._region(lake)
        self._pick(lake, "colour", values.COLOURS, rng)
        self._pick(lake, "known_for", values.SIGHTS, rng)

    def _river(self, river: Entity, index: int, rng: random.Random) -> None:
        self._number(river, "length", rng, 62, 1480, "{} km", "{}公里")
        mountains = self.world.of_kind("mountain")
        self._place(river, "source", mountains[(index * 5 + rng.randrange(2)) % len(mountains)])
        lakes = [lake for lake in self.world.of_kind("lake") if lake.region == river.region]
        if rng.random() < 0.7:
            self._place(river, "mouth", rng.choice(lakes))
        else:
            self._pick(river, "mouth", values.SEAS, rng)
        self._region(river)
        self._pick(river, "fish", values.FISH, rng)

    def _city(self, city: Entity, index: int, rng: random.Random) -> None:
        rivers = [river for river in self.world.of_kind("river") if river.region == city.region]
        self._place(city, "river", rivers[(index // self.size.regions) % len(rivers)])
        self._number(city, "founded", rng, 640, 1390, "{}", "{}年")
        self._pick(city, "craft", values.CRAFTS, rng)
        self._region(city)

    def _person(self, person: Entity, index: int, rng: random.Random) -> None:
        self._place(person, "birth_city", self.world.entities[self._birth_city(index)])
        self._number(person, "birth_year", rng, 1420, 1880, "{}", "{}年")
        self._pick(person, "occupation", values.OCCUPATIONS, rng)
        # A stride coprime to the number of titles: different for every person, and not alphabetical.
        title = values.book_title((index * 101 + self.world.seed) % values.BOOKS)
        self._tell(person, "work", title[0], *title)

    def _metres(self, entity: Entity, attribute: str, rng: random.Random, low: int, high: int) -> None:
        self._number(entity, attribute, rng, low, high, "{} m", "{}米")

    def _number(self, entity: Entity, attribute: str, rng: random.Random, low: int, high: int, en: str, zh: str
                ) -> None:
        taken = self.taken.setdefault(f"{entity.kind}.{attribute}", set())
        number = rng.randint(low, high)
        while number in taken:
            number = rng.randint(low, high)
        taken.add(number)
        self._tell(entity, attribute, number, en.format(number), zh.format(number))

    def _pick(self, entity: Entity, attribute: str, pairs: tuple[values.Pair, ...], rng: random.Random) -> None:
        en, zh = rng.choice(pairs)
        self._tell(entity, attribute, en, en, zh)

    def _place(self, entity: Entity, attribute: str, place: Entity) -> None:
        self._tell(entity, attribute, place.id, place.en, place.zh)

    def _region(self, entity: Entity) -> None:
        en, zh = values.REGIONS[entity.region]
        self._tell(entity, "region", en, en, zh)

    def _tell(self, entity: Entity, attribute: str, value: Value, en: str, zh: str) -> None:
        fact = Fact(f"{entity.id}.{attribute}", entity.id, attribute, value, en, zh)
        self.world.facts[fact.id] = fact


def _split(world: World) -> tuple[frozenset[str], frozenset[str]]:
    """Facts never asked for in dialogues (a fifth) and asked for in other words by the benchmark (half).

    Drawn within each attribute, and crossed: half of the never-asked facts are rephrased too.
    """
    ordered = sorted(world.facts.values(), key=lambda fact: fact.key)
    never: set[str] = set()
    other: set[str] = set()
    for key, facts in itertools.groupby(ordered, key=lambda fact: fact.key):
        mixed = shuffled([fact.id for fact in facts], stream(world.seed, "split", key))
        never.update(mixed[4::5])
        other.update(mixed[1::2])
    return frozenset(never), frozenset(other)


def texts(facts: Iterable[Fact], language: LanguageCode) -> list[str]:
    """The facts' values in one language, each once, in order."""
    return list(dict.fromkeys(fact.text(language) for fact in facts))
