"""Preferences: two answers to one question, of which one is better. Read, checked and split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from headwater.align.preference_forms import RATINGS, Cuts, Pair, PairForm, Rating, form_of
from headwater.corpus.deduplication.duplicates import exact_key
from headwater.dialogues.checks import CheckSettings, checked_by
from headwater.dialogues.forms import check_turns
from headwater.dialogues.reading import ReadingSettings, Tally, each_row, language_of
from headwater.dialogues.rows import Row, Unusable
from headwater.dialogues.splitting import split
from headwater.errors import InputError
from headwater.progress import say
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Message

GAPS = {rating: len(RATINGS) - place for place, rating in enumerate(RATINGS)}
"""4 for significantly better to 1 for negligibly."""


class PreferenceReading(ReadingSettings):
    """How files of preferences are read. Pairs that nothing can be learned from (identical or empty answers, no common
    question, ties) are always left out and counted."""

    score_cuts: Cuts = (3.0, 2.0, 1.0)
    """Gaps of two scores (UltraFeedback's, from 1 to 10) from which on an answer is significantly better, better,
    slightly better; it is negligibly better below the last."""

    @model_validator(mode="after")
    def _cuts_fall(self) -> Self:
        if not self.score_cuts[0] > self.score_cuts[1] > self.score_cuts[2] > 0:
            raise ValueError("score_cuts fall from the first to the last, which is above 0")
        return self


class Preference(NamedTuple):
    """Two answers to one question."""

    chosen: list[Message]
    """The whole dialogue, which ends with the better answer."""
    rejected: list[Message]
    rating: Rating | None = None
    """How much better it is, where that is known."""
    chosen_safe: bool | None = None
    rejected_safe: bool | None = None
    language: str = "en"
    domain: str = ""
    place: str = ""
    """File and line, for messages."""

    @property
    def question(self) -> str:
        """All that is said before the answers."""
        return "\n".join(f"{message['role']} {message['content']}" for message in self.chosen[:-1])

    @property
    def source(self) -> str:
        """The file."""
        return self.place.rpartition(", ")[0]


def read_preferences(paths: list[Path], reading: PreferenceReading | None = None) -> list[Preference]:
    """Preferences of JSON-lines files or JSON arrays, every file in one form of `preference_forms.FORMS`, said aloud.

    Raises `InputError` with file and line for a row of no known form, unless `reading` says to leave it out; and where
    no pair is left.
    """
    tallies = [Tally(path) for path in paths]
    found = [one for tally in tallies for one in each_preference(tally, reading or PreferenceReading())]
    if not found:
        reasons = Counter({reason: len(places) for tally in tallies for reason, places in tally.left_out.items()})
        told = ": " + ", ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common(3)) if reasons else ""
        raise InputError(f"no pair that can be learned from{told}", where=", ".join(map(str, paths)),
                         fix='give rows {"chosen": [messages], "rejected": [messages]} whose answers differ')
    if contradicting := _contradicting(found):
        say(f"of {len(found):,} pairs, {contradicting:,} are contradicted by others, which say of the same two answers "
            "that the other one is better: all are kept, since people disagree")
    return found


def _contradicting(pairs: list[Preference]) -> int:
    """Those whose two answers stand in the other order too, to the same question."""
    orders = [(one.question, one.chosen[-1]["content"], one.rejected[-1]["content"]) for one in pairs]
    seen = set(orders)
    return sum((asked, worse, better) in seen for asked, better, worse in orders)


def each_preference(tally: Tally, reading: PreferenceReading) -> Iterator[Preference]:
    """The preferences of the tally's file, read as a stream."""
    yield from each_row(reading, tally, form_of, partial(_preferences, reading=reading, tally=tally))
    tally.tell()


def _preferences(row: Row, form: PairForm, reading: PreferenceReading, tally: Tally) -> Iterator[Preference]:
    """Those of a row; what cannot be learned from is counted."""
    pairs = form.read(row.value, reading.score_cuts)
    while True:
        try:
            pair = next(pairs)
            _check(pair)
        except StopIteration:
            return
        except Unusable as error:
            tally.leave_out(error, row.place)
            continue
        language = row.value.get("language") or row.value.get("lang") or language_of(pair.chosen)
        yield Preference(*pair, str(language), str(row.value.get("domain") or ""), row.place)


def _check(pair: Pair) -> None:
    """Raises `Unusable`."""
    for side in (pair.chosen, pair.rejected):
        check_turns(side)
    if pair.chosen == pair.rejected:
        raise Unusable("the two answers are the same")
    if pair.chosen[:-1] != pair.rejected[:-1]:
        raise Unusable("the two answers are to different questions")


class PairSettings(Settings):
    """The pairs and their way into training."""

    pairs: list[InputPath] = Field(min_length=1)
    """JSON-lines files or JSON arrays, packed or not: our own form, transcripts of HH-RLHF, ShareGPT, Alpaca,
    UltraFeedback, ranked answers, PKU-SafeRLHF, PandaLM, LLMBar."""
    validation: list[InputPath] = []
    """Pairs that are not learned, and judged afterwards."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """About this share of the questions is held back instead, each with all its pairs; which, the words decide."""
    reading: PreferenceReading = PreferenceReading()
    """How the files are read."""
    checks: CheckSettings | None = CheckSettings()
    """Copies among the questions, and questions of benchmarks inside the pairs; null seeks neither."""

    @model_validator(mode="after")
    def _one_validation(self) -> Self:
        if self.validation and self.validation_share is not None:
            raise ValueError("validation and validation_share exclude each other: leave one of them")
        return self


class Sides(NamedTuple):
    """The same question is never on both."""

    train: list[Preference]
    held_out: list[Preference]


def read_sides(settings: PairSettings, seed: int) -> Sides:
    """Read, check and split. Raises `InputError` for rows that cannot be used, and where nothing is left to learn."""
    train, held_out = read_preferences(settings.pairs, settings.reading), []
    if settings.validation:
        held_out = read_preferences(settings.validation, settings.reading)
        train = _unasked(train, held_out)
    if settings.checks is not None:
        train = _checked(train, settings.checks, held_out)
    if settings.validation_share is not None:
        train, held_out = split(train, settings.validation_share, seed, lambda pair: pair.question)
        say(f"{len(train):,} pairs are learned, {len(held_out):,} are held back")
    if not train:
        raise InputError("no pair is left to learn from",
                         fix="give more pairs, hold fewer back, or drop fewer by checks")
    return Sides(train, held_out)


def _unasked(train: list[Preference], held_out: list[Preference]) -> list[Preference]:
    """Without those whose question is held back."""
    asked = {exact_key(one.question) for one in held_out}
    left = [one for one in train if exact_key(one.question) not in asked]
    if len(left) < len(train):
        say(f"of {len(train):,} pairs, {len(train) - len(left):,} have a question of the validation: left out")
    return left


class _Asked(NamedTuple):
    """A question with all its pairs."""

    words: str
    pairs: list[Preference]

    @property
    def whole(self) -> str:
        """With the answers."""
        return "\n".join([self.words, *(side[-1]["content"] for pair in self.pairs
                                        for side in (pair.chosen, pair.rejected))])


def _checked(pairs: list[Preference], settings: CheckSettings, held_out: list[Preference]) -> list[Preference]:
    """Two pairs of one question are no copies; two questions may be."""
    found = checked_by(_by_question(pairs), settings, _by_question(held_out), compared=lambda one: one.words,
                       searched=lambda one: one.whole, name="questions")
    return [pair for asked in found.dialogues for pair in asked.pairs]


def _by_question(pairs: list[Preference]) -> list[_Asked]:
    found: dict[bytes, _Asked] = {}
    for pair in pairs:
        said = "\n".join(message["content"] for message in pair.chosen[:-1] if message["role"] != "system")
        found.setdefault(exact_key(pair.question), _Asked(said, [])).pairs.append(pair)
    return list(found.values())
