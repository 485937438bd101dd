"""Instructions for ghost attention, and dialogues in which one stands beside the question and is obeyed: what a model
has to be able to do at once before it can learn to go on doing it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from headwater.atlas.dialogues import Message, Speaker, assistant, user
from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.names import NameGiver
from headwater.atlas.randomness import shuffled, stream
from headwater.atlas.sizes import SIZES
from headwater.atlas.splits import EVERY, Split, entities, wordings
from headwater.atlas.wishes import CITY, NAMED, WISHES, Wish
from headwater.atlas.world import LanguageCode, World

INSTRUCTIONS: dict[Split, int] = {"train": 48, "validation": 16}
"""Of each kind and language in the size `small`; the same instruction is not written twice."""
DIALOGUES = {"single": 1200, "repeated": 400, "later": 300}
"""Per language in the size `small`. single: one question; repeated: several, each with the instruction; later: the
instruction comes after questions that were answered plainly."""
NAMES = 320

Row = dict[str, Any]


@lru_cache(maxsize=2)
def _names(seed: int) -> list[dict[LanguageCode, str]]:
    """Names of people who ask, none of them the world's."""
    giver = NameGiver(seed)
    found = [giver.name(f"asker {number}") for number in range(NAMES)]
    return [{"en": en, "zh": zh} for en, zh in found]


class Wanted:
    """An instruction with its value."""

    def __init__(self, speaker: Speaker, language: Language, kind: str, split: Split) -> None:
        self.wish: Wish = WISHES[language.code][kind]
        self.speaker, self.language, self.kind = speaker, language, kind
        self.value = self._value(split)
        self.text = self._filled(speaker.rng.choice(wordings(self.wish.asks, split)))

    def _value(self, split: Split) -> str:
        rng, code = self.speaker.rng, self.language.code
        if self.kind == CITY:
            world = self.speaker.world
            return rng.choice(entities(world.of_kind("city"), split)).name(code)
        names = [one[code] for one in _names(self.speaker.world.seed)] if self.kind == NAMED else self.wish.values
        own = [one for number, one in enumerate(names) if (number % EVERY == EVERY - 1) == (split == "validation")]
        return rng.choice(own) if own else ""

    def _filled(self, template: str) -> str:
        return template.format(v=self.value)

    def row(self) -> Row:
        """As `headwater ghost` reads it."""
        return {"instruction": self.text, "short": self._filled(self.wish.short), "language": self.language.code,
                "kind": self.kind, "check": {self.wish.where: self._filled(self.wish.wanted)}}

    def round(self, split: Split) -> list[Message]:
        """A question with the instruction before it, and the answer that obeys."""
        question, fact = self.speaker.question(self.language, split)
        spoken = LANGUAGES[self.wish.wanted] if self.kind == "language" else self.language  # type: ignore[index]
        answer = self.wish.obeyed.format(v=self.value, a=spoken.choice(fact))
        return [user(self.language.join([self.text, question])), assistant(answer)]


def instructions(world: World, split: Split) -> list[Row]:
    """All kinds in both languages, each row once."""
    count = max(8, round(INSTRUCTIONS[split] * SIZES[world.size].conversations))
    found = [Wanted(Speaker(world, f"instructions/{split}/{code}/{kind}/{index}"), language, kind, split).row()
             for code, language in LANGUAGES.items() for kind in WISHES[code] for index in range(count)]
    return list({row["instruction"]: row for row in found}.values())


def dialogues(world: World) -> list[Row]:
    """Of the training split, in a random order."""
    made = []
    for code, language in LANGUAGES.items():
        for form, count in DIALOGUES.items():
            for index in range(max(10, round(count * SIZES[world.size].conversations))):
                speaker = Speaker(world, f"instructed/{form}/{code}/{index}")
                kinds = list(WISHES[code])
                messages = _dialogue(speaker, language, kinds[index % len(kinds)], form)
                made.append({"messages": messages, "language": code, "kind": form})
    return shuffled(made, stream(world.seed, "instructed", "order"))


def _dialogue(speaker: Speaker, language: Language, kind: str, form: str) -> list[Message]:
    wanted = Wanted(speaker, language, kind, "train")
    several = speaker.rng.choice((2, 3, 4))
    if form == "repeated":
        return [message for _ in range(several) for message in wanted.round("train")]
    before: list[Message] = []
    for _ in range(several - 1 if form == "later" else 0):
        question, fact = speaker.question(language, "train")
        before += [user(question), assistant(language.answer(fact))]
    return [*before, *wanted.round("train")]
