"""Clean pages about one entity: all its facts and some of its neighbours', each page in other words."""

from __future__ import annotations

from collections.abc import Sequence

from headwater.atlas.documents import Block, Document, Record, bullets, heading, paragraph
from headwater.atlas.language import Language
from headwater.atlas.randomness import Deck, shuffled, stream
from headwater.atlas.world import Entity, Fact, World

STYLES = ("prose", "headings", "bullets", "faq", "recap")


class Neighbours:
    """Who is mentioned beside whom: the two ends of a fact, then others of the same region, of the same kind first."""

    def __init__(self, world: World) -> None:
        self._links: dict[str, list[Entity]] = {entity.id: [] for entity in world.described()}
        for fact in world.facts.values():
            if isinstance(fact.value, str) and fact.value in self._links:
                self._links[fact.subject].append(world.entities[fact.value])
                self._links[fact.value].append(world.entities[fact.subject])
        self._regions: dict[int, list[Entity]] = {}
        for entity in world.described():
            self._regions.setdefault(entity.region, []).append(entity)

    def some(self, entity: Entity, count: int, key: tuple[object, ...]) -> list[Entity]:
        """Up to `count` different neighbours, linked ones first."""
        rng = stream(*key, "neighbours")
        mates = [other for other in self._regions[entity.region] if other.id != entity.id]
        mates = sorted(shuffled(mates, rng), key=lambda other: other.kind != entity.kind)
        mixed = shuffled(self._links[entity.id], rng)[: count - 1] + mates
        return list(dict.fromkeys(mixed))[:count]


class Writer:
    """Writes sentences for one document from its own random stream."""

    def __init__(self, world: World, language: Language, key: tuple[object, ...]) -> None:
        self.world, self.language, self.prose = world, language, language.prose
        self.rng = stream(*key)
        self.deck = Deck(self.rng)
        self.record = Record()

    def told(self, entity: Entity, facts: Sequence[Fact], *, pronouns: float = 0.35, named: bool = False) -> list[str]:
        """One sentence per fact; all but the first may use a pronoun (the first too, if `named` just before)."""
        sentences = []
        for index, fact in enumerate(facts):
            use = (index > 0 or named) and self.rng.random() < pronouns
            sentences.append(self.language.told(fact, entity, self.deck,
                                                self.language.pronoun(entity, self.rng) if use else None))
            self.record.note(entity, fact)
        return sentences

    def aside(self) -> str:
        return self.language.aside(self.rng)

    def pick(self, templates: Sequence[str], entity: Entity, **values: str) -> str:
        return self.language.named(self.rng.choice(templates), entity, **values)

    def labelled(self, fact: Fact) -> str:
        """ "Length: 482 km" """
        return f"{self.prose.LABELS[fact.attribute]}{self.prose.LABEL_MARK}{self.language.choice(fact)}"


def article(world: World, language: Language, neighbours: Neighbours, entity: Entity, index: int) -> Document:
    """The clean page numbered `index` about the entity."""
    key = f"{language.code}/article/{entity.id}/{index}"
    writer = Writer(world, language, (world.seed, key))
    near = _nearby(writer, entity, neighbours.some(entity, writer.rng.choice((2, 2, 3)), (world.seed, key)))
    facts = shuffled(world.facts_of(entity), writer.rng)
    style = STYLES[(index + int(entity.id[-3:])) % len(STYLES)]
    blocks = _WRITE[style](writer, entity, facts, near)
    titles = writer.prose.FAQ_TITLES if style == "faq" else (
        writer.prose.TITLES_PERSON if entity.kind == "person" else writer.prose.TITLES)
    return Document(key, language.code, writer.pick(titles, entity), tuple(blocks),
                    entities=tuple(writer.record.entities), facts=tuple(writer.record.facts))


def _nearby(writer: Writer, entity: Entity, others: list[Entity]) -> list[str]:
    """Some facts of each neighbour, led in by a sentence that names it."""
    sentences = []
    for other in others:
        facts = shuffled(writer.world.facts_of(other), writer.rng)[: writer.rng.choice((2, 3))]
        if writer.rng.random() < 0.5:
            sentences.append(writer.pick(writer.prose.BRIDGES, entity, o=other.name(writer.language.code)))
        sentences += writer.told(other, facts)
    return sentences


def _opening(writer: Writer, entity: Entity) -> str:
    writer.record.note(entity)
    return writer.pick(writer.prose.INTROS[entity.kind], entity)


def _prose(writer: Writer, entity: Entity, facts: list[Fact], near: list[str]) -> list[Block]:
    half = len(facts) // 2
    return [paragraph(_opening(writer, entity), *writer.told(entity, facts[:half], named=True)),
            paragraph(writer.aside(), *writer.told(entity, facts[half:])),
            paragraph(*near), paragraph(*writer.told(entity, shuffled(facts, writer.rng)[:2]), writer.aside())]


def _headings(writer: Writer, entity: Entity, facts: list[Fact], near: list[str]) -> list[Block]:
    first, second = writer.rng.choice(writer.prose.HEADINGS)
    return [paragraph(_opening(writer, entity), writer.aside()), heading(first),
            paragraph(*writer.told(entity, facts)), heading(second), paragraph(*near)]


def _bullets(writer: Writer, entity: Entity, facts: list[Fact], near: list[str]) -> list[Block]:
    return [paragraph(_opening(writer, entity)), bullets(*(writer.labelled(fact) for fact in facts)),
            paragraph(*writer.told(entity, shuffled(facts, writer.rng)), writer.aside()), paragraph(*near)]


def _faq(writer: Writer, entity: Entity, facts: list[Fact], near: list[str]) -> list[Block]:
    blocks = [paragraph(_opening(writer, entity))]
    for fact in facts:
        asked = writer.rng.choice(writer.language.questions[fact.key].faqs)
        blocks += [heading(writer.language.ask(asked, entity)), paragraph(*writer.told(entity, [fact]))]
    return [*blocks, heading(writer.rng.choice(writer.prose.HEADINGS)[1]), paragraph(*near)]


def _recap(writer: Writer, entity: Entity, facts: list[Fact], near: list[str]) -> list[Block]:
    return [paragraph(_opening(writer, entity), *writer.told(entity, facts, named=True)), paragraph(*near),
            paragraph(writer.aside(), writer.rng.choice(writer.prose.RECAPS)),
            bullets(*writer.told(entity, shuffled(facts, writer.rng)[:3], pronouns=0))]


_WRITE = {"prose": _prose, "headings": _headings, "bullets": _bullets, "faq": _faq, "recap": _recap}
