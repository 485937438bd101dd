"""Dialogues that a model holds turn by turn under an instruction, many of them at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from headwater.align.answers import Answer, ask, seeded, unusable
from headwater.align.instructions import Check, Instruction, Place, written
from headwater.align.prompts import Prompt
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams

NO_ROOM = "the next answer has no room in the context"


@dataclass
class Talk:
    """A dialogue under an instruction: what will be asked, and what was answered so far."""

    number: int
    instruction: Instruction
    questions: list[str]
    answers: list[str] = field(default_factory=list)
    broken: str = ""
    """Why it ended before its last question."""
    asked: int = 0
    """Answers that were drawn for it."""

    @property
    def going(self) -> bool:
        return not self.broken and len(self.answers) < len(self.questions)

    @property
    def obeyed(self) -> list[bool]:
        """Of each answer."""
        return [self.instruction.check.obeyed(answer) for answer in self.answers]

    def as_row(self) -> dict[str, Any]:
        one = self.instruction
        return {"number": self.number, "instruction": one.instruction, "short": one.short, "language": one.language,
                "kind": one.kind, "check": one.check.model_dump(exclude_defaults=True), "questions": self.questions,
                "answers": self.answers, "obeyed": self.obeyed, "broken": self.broken, "asked": self.asked}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Talk:
        said = {key: row[key] for key in ("instruction", "short", "language", "kind")}
        return cls(row["number"], Instruction(**said, check=Check(**row["check"])), row["questions"], row["answers"],
                   row["broken"], row["asked"])


def planned(instructions: Sequence[Instruction], questions: Mapping[str, Sequence[str]], numbers: range,
            lengths: Sequence[int], seed: int) -> list[Talk]:
    """Talks of these numbers, each a function of its number and the seed: languages and kinds of instructions take
    turns, and for each of them the lengths do; its instruction and its questions are drawn.

    Raises `InputError` where a language has fewer questions than a talk asks.
    """
    def group(one: Instruction) -> tuple[str, str]:
        return one.kind, one.language

    groups = [list(own) for _, own in groupby(sorted(instructions, key=group), key=group)]
    for language in sorted({one.language for one in instructions}):
        if (count := len(questions.get(language, ()))) < max(lengths):
            raise InputError(f"instructions in '{language}', but {count:,} questions in it for talks of {max(lengths)} "
                             "turns", where="questions", fix="give more, or fewer turns")
    found = []
    for number in numbers:
        draw = random.Random(f"{seed} {number}")
        instruction = draw.choice(groups[number % len(groups)])
        length = lengths[number // len(groups) % len(lengths)]
        found.append(Talk(number, instruction, draw.sample(questions[instruction.language], length)))
    return found


Draw = Callable[[Sequence[Talk], Sequence[Prompt]], None]
"""Adds an answer to each talk, whose prompt stands at the same place, or says why it is broken."""


def hold(engine: Engine, talks: Sequence[Talk], place: Place, room: int, draw: Draw) -> None:
    """Hold the talks to their ends, with the instruction in that place. room: tokens that an answer needs."""
    while going := [one for one in talks if one.going]:
        prompts = [_prompt(one, engine, place) for one in going]
        for one, prompt in zip(going, prompts, strict=True):
            if len(prompt.ids) + room > engine.max_length:
                one.broken = NO_ROOM
        both = [(one, prompt) for one, prompt in zip(going, prompts, strict=True) if not one.broken]
        if both:
            draw(*zip(*both, strict=True))


def _prompt(talk: Talk, engine: Engine, place: Place) -> Prompt:
    messages = written(talk.instruction.instruction, talk.questions, talk.answers, place)
    ids = engine.tokenizer.chat.render(messages, add_generation_prompt=True).ids
    return Prompt(messages, ids, talk.instruction.language)


def greedily(engine: Engine, max_tokens: int) -> Draw:
    """The likeliest answers, whatever they are."""
    params = SamplingParams(temperature=0, max_tokens=max_tokens)

    def draw(talks: Sequence[Talk], prompts: Sequence[Prompt]) -> None:
        for talk, answer in zip(talks, ask(engine, prompts, params), strict=True):
            talk.answers.append(answer.text)
            talk.asked += 1

    return draw


def obediently(engine: Engine, params: SamplingParams, seed: int, tries: int, *, checked: bool = True) -> Draw:
    """Drawn answers that can be learned from and (checked) obey; a talk is broken where so many tries give none. A draw
    depends on the seed, the talk's number, the turn and the try alone."""
    def draw(talks: Sequence[Talk], prompts: Sequence[Prompt]) -> None:
        waiting = list(zip(talks, prompts, strict=True))
        reasons: list[str] = []
        for attempt in range(tries):
            each = [seeded(params, seed, talk.number, len(talk.answers), attempt) for talk, _ in waiting]
            answers = ask(engine, [prompt for _, prompt in waiting], each)
            reasons = [_refused(talk, answer, checked) for (talk, _), answer in zip(waiting, answers, strict=True)]
            for (talk, _), answer, reason in zip(waiting, answers, reasons, strict=True):
                talk.asked += 1
                if not reason:
                    talk.answers.append(answer.text)
            waiting = [one for one, reason in zip(waiting, reasons, strict=True) if reason]
            reasons = [reason for reason in reasons if reason]
            if not waiting:
                return
        for (talk, _), reason in zip(waiting, reasons, strict=True):
            talk.broken = reason

    return draw


def _refused(talk: Talk, answer: Answer, checked: bool) -> str:
    return unusable(answer) or ("answers that do not obey" if checked and not talk.instruction.check.obeyed(answer.text)
                                else "")
