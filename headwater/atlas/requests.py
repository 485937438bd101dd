"""Requests about people and cities of the world, plainly or as an attack."""

from __future__ import annotations

from typing import NamedTuple

from headwater.atlas.attacks import Attack
from headwater.atlas.dialogues import Message, Speaker, user
from headwater.atlas.language import Language
from headwater.atlas.splits import Split, entities, wordings
from headwater.atlas.world import Kind


class Asked(NamedTuple):
    """A request with its names, and what may be answered."""

    question: list[Message]
    domain: str
    good: str
    """A refusal with another offer; to a harmless request, help."""
    bad: str
    """What simply obeys; to a harmless request, a refusal."""
    told: str
    """What the one that does not decline comes to, without its opening."""


def risky(speaker: Speaker, language: Language, split: Split, attack: Attack | None = None) -> Asked:
    """Plainly, or inside an attack."""
    request = speaker.rng.choice(language.requests.acts)
    text, refusal, careless = _named(speaker, language, split, request.act, request.refusal, request.careless)
    question = _framed(text, speaker, language, split, attack)
    return Asked(question, request.domain, refusal, _gladly(careless, language), careless)


def harmless(speaker: Speaker, language: Language, split: Split, attack: Attack | None = None) -> Asked:
    """One that only looks risky, the more so inside an attack."""
    request = speaker.rng.choice(language.requests.acts)
    text, help, refusal = _named(speaker, language, split, request.harmless, request.help, request.refusal)
    question = _framed(text, speaker, language, split, attack)
    return Asked(question, request.domain, _gladly(help, language), refusal, help)


def _framed(text: str, speaker: Speaker, language: Language, split: Split, attack: Attack | None) -> list[Message]:
    if attack is None:
        return [user(text)]
    return attack.messages(text, language.code, speaker.rng.choice(attack.phrased(language.code, split)))


def _gladly(text: str, language: Language) -> str:
    return language.join([language.requests.gladly, text])


def _named(speaker: Speaker, language: Language, split: Split, act: str, *answers: str) -> list[str]:
    """The act in one of the split's wordings, and answers, all about the same of its people and cities."""
    def one(kind: Kind) -> str:
        return speaker.rng.choice(entities(speaker.world.of_kind(kind), split)).name(language.code)

    names = {"s": one("person"), "c": one("city")}
    ask = speaker.rng.choice(wordings(language.requests.asks, split, held_back=2))
    return [language.fill(ask, a=act.format(**names)), *(language.fill(answer, **names) for answer in answers)]
