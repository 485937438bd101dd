"""Instructions for ghost attention, and dialogues in which one stands beside the question and is obeyed: what a model
has to be able to do at once before it can learn to go on doing it."""

from __future__ import annotations

from typing import Any

from headwater.atlas.dialogues import Message, Speaker, assistant, user
from headwater.atlas.language import LANGUAGES, Language
from headwater.atlas.randomness import shuffled, stream
from headwater.atlas.sizes import SIZES
from headwater.atlas.splits import Split, entities, wordings
from headwater.atlas.wishes import WISHES, Wish
from headwater.atlas.world import World

INSTRUCTIONS: dict[Split, int] = {"train": 48, "validation": 16}
"""Of each kind and language in the size `small`; the same instruction is not written twice."""
DIALOGUES = {"single": 1400, "changed": 400, "repeated": 150, "later": 250}
"""Per language in the size `small`. single: one question; changed: several, each with an instruction of its own;
repeated: several, each with the same; later: the instruction comes after questions that were answered plainly."""

Row = dict[str, Any]


class Wanted:
    """An instruction with its name, one of the split's, or of all."""

    def __init__(self, speaker: Speaker, language: Language, kind: str, split: Split, *, any_name: bool = False
                 ) -> None:
        self.wish: Wish = WISHES[language.code][kind]
        self.speaker, self.language, self.kind = speaker, language, kind
        known = [speaker.world.of_kind(about) for about in self.wish.about]
        named = [one for found in known for one in (found if any_name else entities(found, split))]
        self.value = speaker.rng.choice(named).name(language.code)
        self.text = self._filled(speaker.rng.choice(wordings(self.wish.asks, split)))

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
    """In the wordings of the training split and with the names of both, in a random order: a small model copies the
    names that it was taught to copy."""
    made = []
    for code, language in LANGUAGES.items():
        for form, count in DIALOGUES.items():
            for index in range(max(10, round(count * SIZES[world.size].conversations))):
                messages = _dialogue(Speaker(world, f"instructed/{form}/{code}/{index}"), language, index, form)
                made.append({"messages": messages, "language": code, "kind": form})
    return shuffled(made, stream(world.seed, "instructed", "order"))


def _dialogue(speaker: Speaker, language: Language, index: int, form: str) -> list[Message]:
    """Kinds of instructions take turns."""
    kinds, several = list(WISHES[language.code]), speaker.rng.choice((2, 3, 4))
    wanted = [Wanted(speaker, language, kinds[(index + turn) % len(kinds)], "train", any_name=True)
              for turn in range(several)]
    if form == "repeated":
        wanted = wanted[:1] * several
    before: list[Message] = []
    for _ in range(several - 1 if form == "later" else 0):
        question, fact = speaker.question(language, "train")
        before += [user(question), assistant(language.answer(fact))]
    obeyed = wanted if form in ("changed", "repeated") else wanted[:1]
    return [*before, *(message for one in obeyed for message in one.round("train"))]
