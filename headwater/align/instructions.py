"""Instructions that are to hold for a whole dialogue: what the user says, and how a rule sees whether it is obeyed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from headwater.align.prompts import known
from headwater.align.published import prompt_rows
from headwater.dialogues.reading import in_language, language_of
from headwater.dialogues.rows import Row, read_rows
from headwater.errors import InputError
from headwater.progress import say
from headwater.settings import Settings
from headwater.tokenizer import Message

Place = Literal["first", "every", "system"]
"""Where the instruction stands: before the first question, before every one, or as the system message."""


class Check(Settings):
    """What every answer must be, all of it; the case of letters does not count."""

    contains: str = ""
    begins: str = ""
    ends: str = ""
    language: Literal["", "en", "zh"] = ""
    """By its script; a bare number is of any language."""

    @model_validator(mode="after")
    def _asks_something(self) -> Check:
        if not any(value.strip() for value in (self.contains, self.begins, self.ends, self.language)):
            raise ValueError("nothing is checked: give contains, begins, ends or language")
        return self

    def obeyed(self, answer: str) -> bool:
        """Whether an answer is so."""
        said = answer.strip().casefold()
        return (self.contains.casefold() in said and said.startswith(self.begins.casefold())
                and said.endswith(self.ends.casefold())
                and (not self.language or in_language(answer, self.language)))


class Instruction(Settings):
    """A row of a file of instructions."""

    instruction: str = Field(min_length=1)
    check: Check
    short: str = ""
    """The same in few words; the full one where there is none."""
    language: str = ""
    """Of the questions that go with it; by its script when not given."""
    kind: str = ""
    """What it is counted with."""


def read_instructions(paths: list[Path]) -> list[Instruction]:
    """JSON lines or an array of {"instruction": ..., "check": {...}}. Raises `SettingsError` with file and line for a
    row that is none."""
    found = [_instruction(row) for path in paths for row in read_rows(path)]
    if not found:
        raise InputError("no instructions", where=", ".join(map(str, paths)),
                         fix='give rows {"instruction": "Call me Ann.", "check": {"contains": "Ann"}}')
    return found


def _instruction(row: Row) -> Instruction:
    one = Instruction.parse(row.value, where=row.place)
    return one if one.language else one.model_copy(update={"language": language_of([_user(one.instruction)])})


def read_questions(paths: list[Path]) -> dict[str, list[str]]:
    """What users first say in files of prompts or dialogues, by language, each once. Raises `InputError` with file and
    line for a row without it."""
    found: dict[str, dict[str, None]] = {}
    for path in paths:
        for row in prompt_rows(path):
            values, (*_, asked) = known(_opening(row))
            found.setdefault(values.get("language") or language_of([asked]), {})[asked["content"]] = None
    say("questions: " + (", ".join(f"{language} {len(own):,}" for language, own in sorted(found.items())) or "none"))
    return {language: list(own) for language, own in sorted(found.items())}


def _opening(row: Row) -> Row:
    """The row up to where the user has first spoken."""
    turns = row.value.get("messages") if isinstance(row.value, dict) else None
    if not isinstance(turns, list):
        return row
    end = next((number for number, turn in enumerate(turns, 1)
                if isinstance(turn, dict) and turn.get("role") == "user"), len(turns))
    return row._replace(value={**row.value, "messages": turns[:end]})


def written(instruction: str, questions: Sequence[str], answers: Sequence[str], place: Place) -> list[Message]:
    """The dialogue with its instruction in that place, up to the last answer, or to the question that waits for one."""
    found: list[Message] = [{"role": "system", "content": instruction}] if place == "system" else []
    for turn, question in enumerate(questions[: len(answers) + 1]):
        found.append(_user(beside(instruction, question) if place == "every" or (place, turn) == ("first", 0)
                           else question))
        found += [{"role": "assistant", "content": answer} for answer in answers[turn : turn + 1]]
    return found


def beside(instruction: str, question: str) -> str:
    """The instruction before a question, with a blank between them where the script has one."""
    return f"{instruction}{'' if language_of([_user(instruction)]) == 'zh' else ' '}{question}"


def _user(text: str) -> Message:
    return {"role": "user", "content": text}
