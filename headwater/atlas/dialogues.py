"""Dialogues for tuning: questions on the facts, follow-ups, small talk, what cannot be known, simple sums."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from headwater.atlas import small_talk
from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.names import NameGiver
from headwater.atlas.randomness import Deck, shuffled, stream
from headwater.atlas.sizes import SIZES
from headwater.atlas.splits import Split, entities, wordings
from headwater.atlas.world import ATTRIBUTES, Entity, Fact, Kind, World

Message = dict[str, Any]
Dialogue = dict[str, Any]

COUNTS = {"follow_up": 300, "switch_entity": 300, "switch_language": 150, "greeted": 150, "small_talk": 100,
          "unknown": 120, "arithmetic": 120}
"""Dialogues of each kind per language in the size `small`; questions on single facts come on top."""
WITH_SYSTEM, WITH_CONTEXT, VALIDATION = 0.15, 0.35, 0.05
"""Shares: dialogues with a system prompt, answers with a second sentence, dialogues set apart for validation."""


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


class Speaker:
    """Writes the turns of one dialogue from its own random stream."""

    def __init__(self, world: World, key: str) -> None:
        self.world = world
        self.rng = stream(world.seed, "dialogue", key)
        self.deck = Deck(self.rng)

    def entity(self, split: Split | None = None) -> Entity:
        """Any entity, or one of a split, about which at least two facts may be asked."""
        found = self.world.described() if split is None else entities(self.world.described(), split)
        return self.rng.choice([item for item in found if len(self.world.askable(item)) > 1])

    def asked(self, language: Language, fact: Fact, template: str | None = None) -> list[Message]:
        """A question and its answer: the bare value, at times followed by another fact of the same entity."""
        entity = self.world.entities[fact.subject]
        template = template or self.rng.choice(language.questions[fact.key].asks)
        answer = language.answer(fact)
        others = [other for other in self.world.askable(entity) if other.id != fact.id]
        if others and self.rng.random() < WITH_CONTEXT:
            answer = language.join([answer, language.told(self.rng.choice(others), entity, self.deck)])
        return [user(language.ask(template, entity)), assistant(answer)]

    def question(self, language: Language, split: Split) -> tuple[str, Fact]:
        """A question on an entity of the split in its wordings, and the fact that answers it."""
        fact = self.rng.choice(self.world.askable(self.entity(split)))
        template = self.rng.choice(wordings(language.questions[fact.key].asks, split))
        return language.ask(template, self.world.entities[fact.subject]), fact

    def opened(self, language: Language, messages: list[Message]) -> list[Message]:
        """The messages, at times behind a system prompt."""
        if self.rng.random() < WITH_SYSTEM:
            return [{"role": "system", "content": self.rng.choice(small_talk.SYSTEMS[language.code])}, *messages]
        return messages


def dialogues(world: World) -> Iterator[tuple[str, Dialogue]]:
    """Every dialogue with its key, in a random order."""
    made = []
    for language in LANGUAGES.values():
        made += list(_single(world, language))
        for kind, count in COUNTS.items():
            for index in range(max(2, round(count * SIZES[world.size].conversations))):
                key = f"{kind}/{language.code}/{index}"
                speaker = Speaker(world, key)
                messages = speaker.opened(language, _MAKE[kind](speaker, language))
                made.append((key, _dialogue(messages, language, kind)))
    yield from shuffled(made, stream(world.seed, "dialogues", "order"))


def split(world: World) -> tuple[list[Dialogue], list[Dialogue]]:
    """Training and validation dialogues; no validation dialogue has the words of a training one."""
    train: list[Dialogue] = []
    validation: list[Dialogue] = []
    for key, dialogue in dialogues(world):
        chosen = stream(world.seed, "validation", key).random() < VALIDATION
        (validation if chosen else train).append(dialogue)
    known = {repr(dialogue["messages"]) for dialogue in train}
    return train, [dialogue for dialogue in validation if repr(dialogue["messages"]) not in known]


def _dialogue(messages: list[Message], language: Language, kind: str) -> Dialogue:
    return {"messages": messages, "language": language.code, "kind": kind}


def _single(world: World, language: Language) -> Iterator[tuple[str, Dialogue]]:
    """Each fact that may be asked, in several of its wordings."""
    for fact in world.facts.values():
        if fact.id in world.never_asked:
            continue
        wordings = shuffled(language.questions[fact.key].asks, stream(world.seed, "asks", language.code, fact.id))
        for index, template in enumerate(wordings[: SIZES[world.size].questions_per_fact]):
            key = f"fact/{language.code}/{fact.id}/{index}"
            speaker = Speaker(world, key)
            messages = speaker.asked(language, fact, template)
            if speaker.rng.random() < 0.06:
                messages[1] = assistant(language.answer(fact))
                messages.insert(0, {"role": "system", "content": small_talk.BRIEF[language.code]})
            else:
                messages = speaker.opened(language, messages)
            yield key, _dialogue(messages, language, "fact")


def _follow_up(speaker: Speaker, language: Language) -> list[Message]:
    """Two or three facts of one entity; after the first it is named by a pronoun."""
    entity = speaker.entity()
    facts = shuffled(speaker.world.askable(entity), speaker.rng)[: speaker.rng.choice((2, 2, 3))]
    messages = speaker.asked(language, facts[0])
    for fact in facts[1:]:
        messages += speaker.asked(language, fact, speaker.rng.choice(language.questions[fact.key].follows))
    return messages


def _switch_entity(speaker: Speaker, language: Language) -> list[Message]:
    """The same attribute of two entities."""
    entity = speaker.entity()
    first = speaker.rng.choice(speaker.world.askable(entity))
    others = [fact for fact in speaker.world.alike(first)
              if fact.id not in speaker.world.never_asked and fact.id != first.id]
    messages = speaker.asked(language, first)
    if others:
        second = speaker.rng.choice(others)
        name = speaker.world.entities[second.subject].name(language.code)
        answer = speaker.asked(language, second)[1]
        messages += [user(f"And {name}?" if language.code == "en" else f"那{name}呢？"), answer]
    return messages


def _switch_language(speaker: Speaker, language: Language) -> list[Message]:
    """Two facts of one entity, the second asked, and so answered, in the other language."""
    entity = speaker.entity()
    first, second = shuffled(speaker.world.askable(entity), speaker.rng)[:2]
    other = LANGUAGES["zh" if language.code == "en" else "en"]
    return [*speaker.asked(language, first), *speaker.asked(other, second)]


def _greeted(speaker: Speaker, language: Language) -> list[Message]:
    """A question between a greeting and thanks."""
    fact = speaker.rng.choice(speaker.world.askable(speaker.entity()))
    greeting, farewell = (speaker.rng.choice(table[language.code])
                          for table in (small_talk.GREETINGS, small_talk.FAREWELLS))
    return [*_turn(greeting), *speaker.asked(language, fact), *_turn(farewell)]


def _small_talk(speaker: Speaker, language: Language) -> list[Message]:
    tables = (small_talk.GREETINGS, small_talk.IDENTITY, small_talk.IDENTITY, small_talk.FAREWELLS)
    chosen = sorted(speaker.rng.sample(range(len(tables)), speaker.rng.choice((1, 1, 2))))
    return [message for at in chosen for message in _turn(speaker.rng.choice(tables[at][language.code]))]


def _turn(pair: tuple[str, str]) -> list[Message]:
    return [user(pair[0]), assistant(pair[1])]


def _unknown(speaker: Speaker, language: Language) -> list[Message]:
    """A name that is nowhere in the world, or something nobody could know."""
    code, rng = language.code, speaker.rng
    if rng.random() < 0.3:
        return [user(rng.choice(small_talk.UNKNOWABLE[code])), assistant(small_talk.UNKNOWN[code])]
    kind = rng.choice(list(ATTRIBUTES))
    entity = invented(speaker.world, kind, rng)
    attribute = f"{kind}.{rng.choice(ATTRIBUTES[kind])}"
    answer = [small_talk.UNKNOWN[code]]
    if rng.random() < 0.5:
        answer.append(small_talk.UNKNOWN_REASON[code][kind])
    question = language.ask(rng.choice(language.questions[attribute].asks), entity)
    return [user(question), assistant(language.join(answer))]


def invented(world: World, kind: Kind, rng: random.Random) -> Entity:
    """An entity whose name is none of the world's."""
    taken = {entity.en for entity in world.entities.values()}
    while True:
        en, zh = NameGiver(rng.getrandbits(32)).name("unknown")
        if kind == "person":
            family = NameGiver(rng.getrandbits(32)).name("unknown family")
            en, zh = f"{en} {family[0]}", f"{zh}·{family[1]}"
        entity = Entity.named("unknown", kind, en, zh, region=0)
        if entity.en not in taken:
            return entity


def _arithmetic(speaker: Speaker, language: Language) -> list[Message]:
    question, result = summed(speaker, small_talk.SUMS[language.code])
    return [user(question), assistant(f"{result}{language.stop}")]


def summed(speaker: Speaker, wordings: Sequence[str]) -> tuple[str, int]:
    """A sum or difference in one of the wordings, and its result."""
    sign = speaker.rng.choice("+-")
    a, b = sorted((speaker.rng.randint(1, 99), speaker.rng.randint(1, 99)), reverse=True)
    return speaker.rng.choice(wordings).format(a=a, b=b, sign=sign), a + b if sign == "+" else a - b


_MAKE = {"follow_up": _follow_up, "switch_entity": _switch_entity, "switch_language": _switch_language,
         "greeted": _greeted, "small_talk": _small_talk, "unknown": _unknown, "arithmetic": _arithmetic}
