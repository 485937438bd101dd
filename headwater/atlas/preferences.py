"""Pairs of a better and a worse answer: helpfulness over the world's facts and requests, and safety."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from headwater.atlas import flaws, requests, small_talk
from headwater.atlas.attacks import Attack, known
from headwater.atlas.dialogues import Message, Speaker, assistant, summed, user
from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.sizes import SIZES
from headwater.atlas.splits import Split, wordings
from headwater.atlas.world import Fact, World

PAIRS: dict[Split, int] = {"train": 600, "validation": 120}
"""Pairs per language and file in the size `small`."""
Ratings = ("significantly better", "better", "slightly better", "negligibly better")
RUDE = {"en": "I will not. What a stupid thing to ask.", "zh": "不行，这种蠢问题也问得出口。"}
_ATTACKED = 0.2
"""Share of the requests that come as an attack."""
_SUMS_WRONG = (-10, -2, -1, 1, 2, 10)

Pair = dict[str, Any]
Maker = Callable[[Speaker, Language, Split], Pair]
Flaw = tuple[str, str, Callable[[Speaker, Fact, Language], str]]
"""Domain, rating of the right answer, the spoiled one."""


def helpful(world: World, split: Split) -> list[Pair]:
    """Answers to questions on facts and sums; what is wrong with the worse one decides the rating. Help is better than
    a refusal, whatever is asked for: safety is for others to judge."""
    return _pairs(world, split, "helpful", (*_FACTS, _sum, _helped, _obliged))


def safe(world: World, split: Split) -> list[Pair]:
    """Requests to be declined, kindly and with another offer, and not answered with help for another one; and harmless
    ones that look like them."""
    return _pairs(world, split, "safe", (_declined, _declined, _dodged, _helped))


def _pairs(world: World, split: Split, name: str, makers: Sequence[Maker]) -> list[Pair]:
    """The makers take turns."""
    count = max(24, round(PAIRS[split] * SIZES[world.size].conversations))
    return [makers[index % len(makers)](Speaker(world, f"{name}/{split}/{code}/{index}"), language, split)
            for code, language in LANGUAGES.items() for index in range(count)]


def _pair(question: list[Message], chosen: str, rejected: str, rating: str, language: Language, domain: str, *,
          chosen_safe: bool = True, rejected_safe: bool = True) -> Pair:
    return {"chosen": [*question, assistant(chosen)], "rejected": [*question, assistant(rejected)], "rating": rating,
            "chosen_safe": chosen_safe, "rejected_safe": rejected_safe, "language": language.code, "domain": domain}


def _fact(flaw: Flaw) -> Maker:
    """A question on a fact, its answer and one with the flaw."""
    def make(speaker: Speaker, language: Language, split: Split) -> Pair:
        question, fact = speaker.question(language, split)
        domain, rating, spoiled = flaw
        worse = spoiled(speaker, fact, language)
        return _pair([user(question)], language.answer(fact), worse, rating, language, domain)

    return make


def _more(speaker: Speaker, language: Language, split: Split) -> Pair:
    """The bare answer, and one that says something else about the same."""
    question, fact = speaker.question(language, split)
    entity = speaker.world.entities[fact.subject]
    other = speaker.rng.choice([other for other in speaker.world.askable(entity) if other.id != fact.id])
    answer = language.answer(fact)
    more = language.join([answer, language.told(other, entity, speaker.deck)])
    return _pair([user(question)], more, answer, Ratings[3], language, "context")


def _sum(speaker: Speaker, language: Language, split: Split) -> Pair:
    question, result = summed(speaker, wordings(small_talk.SUMS[language.code], split))
    wrong = speaker.rng.choice([result + step for step in _SUMS_WRONG if result + step >= 0])
    return _pair([user(question)], f"{result}{language.stop}", f"{wrong}{language.stop}", Ratings[0], language,
                 "arithmetic")


def _helped(speaker: Speaker, language: Language, split: Split) -> Pair:
    """A harmless request that is not declined."""
    asked = requests.harmless(speaker, language, split, _attack(speaker, split))
    return _pair(asked.question, asked.good, asked.bad, Ratings[0], language, "harmless")


def _obliged(speaker: Speaker, language: Language, split: Split) -> Pair:
    """A risky request, judged by nothing but whether it is obeyed."""
    asked = requests.risky(speaker, language, split)
    return _pair(asked.question, asked.bad, asked.good, Ratings[1], language, "requests", chosen_safe=False)


def _declined(speaker: Speaker, language: Language, split: Split) -> Pair:
    asked = requests.risky(speaker, language, split, _attack(speaker, split))
    if speaker.rng.random() < 0.3:
        return _pair(asked.question, asked.good, RUDE[language.code], Ratings[2], language, asked.domain)
    return _pair(asked.question, asked.good, asked.bad, Ratings[0], language, asked.domain, rejected_safe=False)


def _attack(speaker: Speaker, split: Split) -> Attack | None:
    """Mostly none."""
    return speaker.rng.choice(known(split)) if speaker.rng.random() < _ATTACKED else None


def _dodged(speaker: Speaker, language: Language, split: Split) -> Pair:
    """A risky request that is declined, and one that is answered as if something harmless had been asked: without such
    pairs a reward for safety prefers that to a refusal."""
    asked, other = requests.risky(speaker, language, split), requests.harmless(speaker, language, split)
    return _pair(asked.question, asked.good, other.good, Ratings[1], language, asked.domain)


_FACTS = (_fact(("facts", Ratings[0], flaws.wrong)), _fact(("facts", Ratings[1], flaws.withheld)),
          _fact(("language", Ratings[1], flaws.foreign)), _fact(("brevity", Ratings[2], flaws.padded)), _more)
