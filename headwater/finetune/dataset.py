"""What is trained on and what is held back: files of dialogues, checked, split and written as sequences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from headwater.corpus.deduplication.duplicates import exact_key
from headwater.dialogues.checks import CheckSettings, checked
from headwater.dialogues.reading import (
    Dialogue,
    ReadingSettings,
    answer_by_answer,
    read_dialogues,
    render_all,
    render_each,
)
from headwater.dialogues.splitting import split
from headwater.errors import InputError
from headwater.progress import say
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Rendered, Tokenizer
from headwater.train.packing import PrefixSample, Supervised, separate_turns


class DatasetSettings(Settings):
    """The dialogues and their way into training."""

    dialogues: list[InputPath] = Field(min_length=1)
    """JSON-lines files or JSON arrays of messages, ShareGPT conversations or Alpaca instructions."""
    validation: list[InputPath] = []
    """Dialogues that are not trained on; their loss is reported by language."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """About this share of the dialogues is held back instead, at least one; which, their words and the seed decide."""
    reading: ReadingSettings = ReadingSettings()
    """How the files are read."""
    checks: CheckSettings | None = CheckSettings()
    """Copies among the dialogues and questions of benchmarks inside them; null seeks neither."""
    turns: Literal["together", "separate"] = "together"
    """together: a dialogue is one sequence, with a loss on every answer. separate: each answer is a sample of its own
    whose history is a prefix read both ways, as ChatGLM was tuned; more tokens for the same answers. A model that is
    not made for prefixes still reads its prompts one way when it answers."""

    @model_validator(mode="after")
    def _one_validation(self) -> Self:
        if self.validation and self.validation_share is not None:
            raise ValueError("validation and validation_share exclude each other: leave one of them")
        return self


Sequences = Sequence[Supervised | PrefixSample]


class Dataset(NamedTuple):
    """Sequences, no longer than asked for."""

    train: Sequences
    validation: dict[str, Sequences]
    """By language."""


def read_dataset(settings: DatasetSettings, tokenizer: Tokenizer, longest: int, seed: int, *,
                 reads: int | None = None) -> Dataset:
    """Read, check, split and render. Raises `InputError` for rows that cannot be used, and where nothing is left.

    reads: the tokens that the model reads, for what to do where no dialogue fits `longest`.
    """
    longer = "raise trainer.sequence_length" + (" and context.length" if reads is not None and longest >= reads else "")
    train, held_out = _sides(settings, seed)
    last_alone, how = not tokenizer.chat.learns_every_answer, settings.reading.on_bad_row
    apart = last_alone and settings.turns == "separate"
    if apart:  # a beginning of one is another one: nothing is cut
        train, held_out = answer_by_answer(train), answer_by_answer(held_out)
    elif last_alone:
        say(f"{tokenizer.chat.name} learns the last answer of a dialogue alone; turns=separate learns each")
    learned, unseen = render_all(train, tokenizer, longest, how, cut=not apart, longer=longer), defaultdict(list)
    for dialogue, rendered in zip(held_out, render_each(held_out, tokenizer, longest, how, cut=not apart)):
        if rendered is not None:
            unseen[dialogue.language].append(rendered)
    if held_out and not unseen:
        raise InputError(f"no validation dialogue fits {longest} tokens", fix=longer)
    return Dataset(_sequences(learned, settings), {name: _sequences(unseen[name], settings) for name in sorted(unseen)})


def _sides(settings: DatasetSettings, seed: int) -> tuple[list[Dialogue], list[Dialogue]]:
    """The dialogues that are trained on, checked, and those that are held back."""
    train, held_out = read_dialogues(settings.dialogues, settings.reading), []
    if settings.validation:
        held_out = read_dialogues(settings.validation, settings.reading)
        train = _without(held_out, train)
    if settings.checks is not None:
        train = checked(train, settings.checks, held_out).dialogues
    if settings.validation_share is not None:
        train, held_out = split(train, settings.validation_share, seed, _words)
        say(f"{len(train):,} dialogues are trained on, {len(held_out):,} are held back")
        if not train:
            raise InputError(f"all {len(held_out):,} dialogues are held back", where="validation_share",
                             fix="give more dialogues, or leave it out" if len(held_out) == 1 else
                             "give a smaller share, or more dialogues")
    if not train:
        raise InputError("no dialogue is left to train on", fix="give more dialogues, or drop fewer by checks")
    return train, held_out


def _without(held_out: list[Dialogue], train: list[Dialogue]) -> list[Dialogue]:
    """The dialogues that are not held back, case, width and blanks aside. Raises `InputError` where that is none."""
    held, learned = ({exact_key(_words(dialogue)) for dialogue in side} for side in (held_out, train))
    both = sum(exact_key(_words(dialogue)) in learned for dialogue in held_out)
    kept = [dialogue for dialogue in train if exact_key(_words(dialogue)) not in held]
    if both:
        say(f"{both:,} of {len(held_out):,} validation dialogues are also among those that are trained on: "
            f"{len(train) - len(kept):,} left out of the training")
    if not kept:
        raise InputError("all dialogues are held back too", where="validation",
                         fix="give other files, or validation_share in their place")
    return kept


def _words(dialogue: Dialogue) -> str:
    return "\n".join(f"{message['role']} {message['content']}" for message in dialogue.messages)


def _sequences(rendered: list[Rendered], settings: DatasetSettings) -> Sequences:
    pairs = [(one.ids, one.loss_mask) for one in rendered]
    return separate_turns(pairs) if settings.turns == "separate" else pairs
