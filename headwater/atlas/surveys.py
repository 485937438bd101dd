"""Clean pages about several entities: lists of a region, and two entities side by side."""

from __future__ import annotations

from headwater.atlas.articles import Writer
from headwater.atlas.documents import Document, paragraph, table
from headwater.atlas.language import Language
from headwater.atlas.randomness import shuffled, stream
from headwater.atlas.values import REGIONS
from headwater.atlas.world import ATTRIBUTES, Entity, Kind, World

LONGEST_LIST = 6


def survey(world: World, language: Language, region: int, kind: Kind, index: int) -> Document | None:
    """A list of the region's entities of one kind, as a table and in sentences; None where it has fewer than two."""
    key = f"{language.code}/survey/{region}/{kind}/{index}"
    writer = Writer(world, language, (world.seed, key))
    listed = [entity for entity in world.of_kind(kind) if entity.region == region]
    listed = shuffled(listed, writer.rng)[:LONGEST_LIST]
    if len(listed) < 2:
        return None
    place = REGIONS[region][0 if language.code == "en" else 1]
    columns = shuffled([name for name in ATTRIBUTES[kind] if name != "region"], writer.rng)[: writer.rng.choice((2, 3))]
    header = [writer.prose.NAME_LABELS[kind], *(writer.prose.LABELS[name] for name in columns)]
    title = language.fill(writer.rng.choice(writer.prose.SURVEY_TITLES[kind]), v=place)
    opening = language.fill(writer.rng.choice(writer.prose.SURVEY_INTROS), v=place)
    details = [sentence for entity in listed for sentence in _details(writer, entity)]
    middle = len(details) // 2
    blocks = (paragraph(opening, writer.aside()), table(header, [_row(writer, entity, columns) for entity in listed]),
              paragraph(writer.rng.choice(writer.prose.SURVEY_BRIDGES), *details[:middle]),
              paragraph(*details[middle:], writer.aside()))
    return Document(key, language.code, title, blocks, entities=tuple(writer.record.entities),
                    facts=tuple(writer.record.facts))


def _row(writer: Writer, entity: Entity, columns: list[str]) -> list[str]:
    facts = [writer.world.fact(entity, name) for name in columns]
    for fact in facts:
        writer.record.note(entity, fact)
    return [writer.language.named("{s}", entity), *(writer.language.choice(fact) for fact in facts)]


def _details(writer: Writer, entity: Entity) -> list[str]:
    facts = shuffled(writer.world.facts_of(entity), writer.rng)[:2]
    return writer.told(entity, facts, pronouns=0.2)


def comparison(world: World, language: Language, index: int) -> Document:
    """Two entities of one kind side by side, with the one number they share compared."""
    key = f"{language.code}/comparison/{index}"
    writer = Writer(world, language, (world.seed, key))
    kind = list(ATTRIBUTES)[index % len(ATTRIBUTES)]
    first, second = _pair(world, kind, index)
    code = language.code
    title = language.named(writer.rng.choice(writer.prose.COMPARISON_TITLES), first, o=second.name(code))
    opening = language.named(writer.rng.choice(writer.prose.COMPARISON_INTROS), first, o=second.name(code))
    told = [[opening, _compared(writer, first, second)]]
    for entity in shuffled([first, second], writer.rng):
        told.append(writer.told(entity, shuffled(world.facts_of(entity), writer.rng)))
    told.append([writer.aside(), _compared(writer, first, second)])
    return Document(key, code, title, tuple(paragraph(*sentences) for sentences in told),
                    entities=tuple(writer.record.entities), facts=tuple(writer.record.facts))


def _pair(world: World, kind: Kind, index: int) -> tuple[Entity, Entity]:
    """Both languages compare the same pairs; the one with the larger number comes first."""
    pair = stream(world.seed, "pair", kind, index).sample(world.of_kind(kind), 2)
    pair.sort(key=lambda entity: -int(world.fact(entity, _numeric(kind)).value))
    return pair[0], pair[1]


def _numeric(kind: Kind) -> str:
    return {"river": "length", "lake": "depth", "city": "founded", "person": "birth_year"}[kind]


def _compared(writer: Writer, first: Entity, second: Entity) -> str:
    name, code = _numeric(first.kind), writer.language.code
    one, other = writer.world.fact(first, name), writer.world.fact(second, name)
    writer.record.note(first, one)
    writer.record.note(second, other)
    template = writer.deck.draw("comparison", writer.prose.COMPARISONS[one.key])
    return writer.language.named(template, first, o=second.name(code), v=one.text(code), w=other.text(code))
