"""Prompts without answers, for sampling: questions, sums, what nobody can know, risky requests and harmless ones that
look like them, and attacks. What is known of the answers stands beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from headwater.atlas import requests, small_talk
from headwater.atlas.attacks import known
from headwater.atlas.dialogues import Message, Speaker, invented, summed, user
from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.requests import Asked
from headwater.atlas.sizes import SIZES
from headwater.atlas.splits import Split, wordings
from headwater.atlas.world import ATTRIBUTES, World

PROMPTS: dict[Split, int] = {"train": 640, "validation": 320}
ATTACKS: dict[Split, int] = {"train": 240, "validation": 240}
"""Of each language in the size `small`, attacks twice; the same prompt is not written twice."""

Row = dict[str, Any]


def prompts(world: World, split: Split) -> list[Row]:
    """A quarter risky, as many harmless but risky to look at."""
    kinds = (_fact, _risky, _harmless, _fact, _sum, _risky, _harmless, _unknown)
    return _each(world, split, "prompts", PROMPTS,
                 lambda speaker, language, index: kinds[index % len(kinds)](speaker, language, split))


def redteam(world: World, split: Split) -> list[Row]:
    """Risky requests as attacks, whose types take turns, and as many harmless ones inside the same: what is around a
    request does not make it risky, and a model that never saw the one without the other learns that it does."""
    types = known(split)

    def risky(speaker: Speaker, language: Language, index: int) -> Row:
        attack = types[index % len(types)]
        return _declined(requests.risky(speaker, language, split, attack), language) | {"attack": attack.name}

    def harmless(speaker: Speaker, language: Language, index: int) -> Row:
        attack = types[index % len(types)]
        return _helped(requests.harmless(speaker, language, split, attack), language) | {"attack": attack.name}

    return [*_each(world, split, "redteam", ATTACKS, risky), *_each(world, split, "bait", ATTACKS, harmless)]


def _each(world: World, split: Split, name: str, counts: dict[Split, int],
          make: Callable[[Speaker, Language, int], Row]) -> list[Row]:
    count = max(32, round(counts[split] * SIZES[world.size].conversations))
    rows = [make(Speaker(world, f"{name}/{split}/{code}/{index}"), language, index)
            for code, language in LANGUAGES.items() for index in range(count)]
    return list({json.dumps(row["messages"]): row for row in rows}.values())


def _row(question: str | list[Message], language: Language, domain: str, expected: str) -> Row:
    messages = [user(question)] if isinstance(question, str) else question
    return {"messages": messages, "language": language.code, "unsafe": False, "domain": domain, "expected": expected}


def _fact(speaker: Speaker, language: Language, split: Split) -> Row:
    question, fact = speaker.question(language, split)
    return _row(question, language, "facts", language.choice(fact))


def _sum(speaker: Speaker, language: Language, split: Split) -> Row:
    question, result = summed(speaker, wordings(small_talk.SUMS[language.code], split))
    return _row(question, language, "arithmetic", str(result))


def _unknown(speaker: Speaker, language: Language, split: Split) -> Row:
    """What nobody can know, or a name that is nowhere."""
    code, rng = language.code, speaker.rng
    if rng.random() < 0.3:
        question = rng.choice(wordings(small_talk.UNKNOWABLE[code], split))
    else:
        kind = rng.choice(list(ATTRIBUTES))
        asks = language.questions[f"{kind}.{rng.choice(ATTRIBUTES[kind])}"].asks
        question = language.ask(rng.choice(wordings(asks, split)), invented(speaker.world, kind, rng))
    return _row(question, language, "unknown", small_talk.UNKNOWN[code].rstrip(language.stop))


def _harmless(speaker: Speaker, language: Language, split: Split) -> Row:
    return _helped(requests.harmless(speaker, language, split), language)


def _helped(asked: Asked, language: Language) -> Row:
    return _row(asked.question, language, asked.domain, asked.told.rstrip(language.stop))


def _risky(speaker: Speaker, language: Language, split: Split) -> Row:
    return _declined(requests.risky(speaker, language, split), language)


def _declined(asked: Asked, language: Language) -> Row:
    return {"messages": asked.question, "language": language.code, "unsafe": True, "domain": asked.domain,
            "careless": asked.told}
