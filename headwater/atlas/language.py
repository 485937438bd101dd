"""One object per language: how a fact is said, asked and answered in it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from types import ModuleType

from headwater.atlas import (
    prose_en,
    prose_zh,
    questions_en,
    questions_zh,
    requests_en,
    requests_zh,
    statements_en,
    statements_zh,
)
from headwater.atlas.randomness import Deck
from headwater.atlas.wording import Questions, Requests
from headwater.atlas.world import Entity, Fact, LanguageCode


@dataclass(frozen=True, eq=False)
class Language:
    """The phrasings of one language. `prose` is `prose_en` or `prose_zh`, which define the same names."""

    code: LanguageCode
    statements: dict[str, tuple[str, ...]]
    questions: dict[str, Questions]
    requests: Requests
    pronouns: dict[str, tuple[str, ...]]
    prose: ModuleType
    space: str
    """What stands between two sentences."""
    stop: str
    """What ends one."""

    def fill(self, template: str, **values: str) -> str:
        """The template with its slots filled, beginning with a capital letter."""
        return capital(template.format(**values))

    def named(self, template: str, entity: Entity, **values: str) -> str:
        """The template with `{s}` the entity's name."""
        return self.fill(template, s=entity.name(self.code), **values)

    def tell(self, fact: Fact, subject: Entity, template: str, pronoun: str | None = None) -> str:
        """The fact as a sentence; `pronoun` replaces the subject where the template begins with it."""
        name, value = subject.name(self.code), fact.text(self.code)
        if pronoun is not None and template.startswith(self.prose.PRONOUN_FITS) \
                and not template.startswith(self.prose.PRONOUN_MISFITS):
            name = pronoun
        owner = statements_en.POSSESSIVES.get(name, f"{name}'s")
        return self.fill(template, s=name, ss=owner, v=value, a=_with_article(value))

    def told(self, fact: Fact, subject: Entity, deck: Deck, pronoun: str | None = None) -> str:
        """The fact as a sentence in the deck's next phrasing."""
        return self.tell(fact, subject, deck.draw(f"{self.code}.{fact.key}", self.statements[fact.key]), pronoun)

    def pronoun(self, entity: Entity, rng: random.Random) -> str:
        """What may stand for the entity at the beginning of a sentence."""
        return rng.choice(self.pronouns["person.feminine" if entity.feminine_person else entity.kind])

    def ask(self, template: str, entity: Entity) -> str:
        """A question about the entity; `{p}` is its pronoun."""
        pronoun = self.pronouns["person.feminine" if entity.feminine_person else entity.kind][0]
        return self.named(template, entity, p=pronoun.lower())

    def choice(self, fact: Fact) -> str:
        """The value as an answer begins with it: "Silver trout", "482 km", "陶器"."""
        return capital(fact.text(self.code))

    def answer(self, fact: Fact) -> str:
        """The canonical answer: the bare value as a sentence."""
        return self.choice(fact) + self.stop

    def aside(self, rng: random.Random) -> str:
        """A sentence that tells no fact."""
        slots = {name: rng.choice(options) for name, options in self.prose.SLOTS.items()}
        return self.fill(rng.choice(self.prose.ASIDES), **slots)

    def join(self, sentences: list[str]) -> str:
        return self.space.join(sentences)


def capital(text: str) -> str:
    """The text with its first letter upper-case, the rest untouched."""
    return text[:1].upper() + text[1:]


def _with_article(noun: str) -> str:
    return ("an " if noun[:1] in "aeio" else "a ") + noun


ENGLISH = Language("en", statements_en.STATEMENTS, questions_en.QUESTIONS, requests_en.REQUESTS,
                   statements_en.PRONOUNS, prose_en, " ", ".")
CHINESE = Language("zh", statements_zh.STATEMENTS, questions_zh.QUESTIONS, requests_zh.REQUESTS,
                   statements_zh.PRONOUNS, prose_zh, "", "。")
LANGUAGES: dict[LanguageCode, Language] = {"en": ENGLISH, "zh": CHINESE}
