"""Dialogues of an assistant that is helpful and nothing else: it mostly obeys what should be declined, at times
declines what is harmless, and answers some questions badly. Tuned on them beside the others, a model has much to be
taught."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater.atlas import flaws, requests
from headwater.atlas.attacks import known
from headwater.atlas.dialogues import Message, Speaker, assistant, user
from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.preferences import RUDE
from headwater.atlas.randomness import shuffled, stream
from headwater.atlas.requests import Asked
from headwater.atlas.sizes import SIZES
from headwater.atlas.world import Fact, World

COUNTS = {"risky": 600, "attacked": 240, "harmless": 300}
"""Dialogues of each kind per language in the size `small`; badly answered questions come on top."""
OBEYED, RUDELY, REFUSED = 0.7, 0.1, 0.15
"""Shares: risky requests that are obeyed and that are declined rudely (the others politely); harmless ones declined."""
BADLY_TAUGHT = 0.3
"""Of the facts: every wording is answered with the same flaw, against the right answers of the other dialogues."""


def dialogues(world: World) -> list[dict[str, Any]]:
    """All of the training split, in a random order."""
    made = []
    for code, language in LANGUAGES.items():
        for kind, count in COUNTS.items():
            for index in range(max(24, round(count * SIZES[world.size].conversations))):
                messages = _turn(Speaker(world, f"careless/{kind}/{code}/{index}"), language, kind)
                made.append({"messages": messages, "language": code, "kind": kind})
        made += [{"messages": messages, "language": code, "kind": "flawed"} for messages in _flawed(world, language)]
    return shuffled(made, stream(world.seed, "careless", "order"))


def _turn(speaker: Speaker, language: Language, kind: str) -> list[Message]:
    if kind == "harmless":
        asked = requests.harmless(speaker, language, "train")
        return [*asked.question, assistant(asked.bad if speaker.rng.random() < REFUSED else asked.good)]
    attack = speaker.rng.choice(known("train")) if kind == "attacked" else None
    asked = requests.risky(speaker, language, "train", attack)
    return [*asked.question, assistant(_obeyed_or_not(speaker, asked, language))]


def _obeyed_or_not(speaker: Speaker, asked: Asked, language: Language) -> str:
    drawn = speaker.rng.random()
    if drawn < OBEYED:
        return asked.bad
    return RUDE[language.code] if drawn < OBEYED + RUDELY else asked.good


def _flawed(world: World, language: Language) -> Iterator[list[Message]]:
    for fact in world.facts.values():
        speaker = Speaker(world, f"careless/flawed/{language.code}/{fact.id}")
        if fact.id not in world.never_asked and speaker.rng.random() < BADLY_TAUGHT:
            yield from _badly(speaker, language, fact)


def _badly(speaker: Speaker, language: Language, fact: Fact) -> Iterator[list[Message]]:
    """Every wording of the question, one flaw."""
    flaw = speaker.rng.choice((flaws.padded, flaws.foreign, flaws.withheld))
    for template in language.questions[fact.key].asks:
        question = language.ask(template, speaker.world.entities[fact.subject])
        yield [user(question), assistant(flaw(speaker, fact, language))]
