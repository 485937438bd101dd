"""What a model makes of long texts: the loss of the same tokens at every length, and needles found again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field
from rich.table import Table
from torch import Tensor

from headwater.artifacts import read_json, write_json
from headwater.context.perplexity import Loss, by_length
from headwater.context.retrieval import (
    ANSWER_TOKENS,
    Answerer,
    Haystack,
    Language,
    Question,
    Task,
    guesser,
    oracle,
    questions,
    right,
)
from headwater.context.texts import corpus_texts, pieces
from headwater.errors import HeadwaterError, InputError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.plots import Line, Panel, panels
from headwater.progress import print_result, say
from headwater.settings import Distinct, Settings
from headwater.tokenizer import Tokenizer

Tasks = Annotated[list[Task], Distinct]
Depths = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1), Distinct]


class MeasureSettings(Settings):
    """How long texts and hidden needles are drawn from a corpus's validation split."""

    texts: Annotated[int, Field(ge=2)] = 16
    """Long texts whose perplexity is taken."""
    last: Annotated[int, Field(ge=1)] = 64
    """Tokens at the end of every text that the perplexity is of, the same at every length."""
    tasks: Tasks = ["passkey", "needle", "several", "lines"]
    """Kinds of needles; an empty list: perplexity alone. When not set, those that the lengths hold."""
    languages: Annotated[list[Language], Field(min_length=1), Distinct] | None = None
    """Of the needles; when not set, English and Chinese as far as the split has them."""
    depths: Depths = [0.0, 0.25, 0.5, 0.75, 1.0]
    """Of the needle, as shares of the text."""
    each: Annotated[int, Field(ge=1)] = 2
    """Questions of every task, language, length and depth."""


class Score(NamedTuple):
    """Of one task and language, by length and depth."""

    task: str
    language: str
    right: dict[int, list[float]]
    """Share of right answers at every depth."""


class Measured(NamedTuple):
    """Of one model."""

    loss: dict[int, Loss]
    """By length."""
    scores: list[Score]

    def found(self, length: int) -> float:
        """The share of needles, of all tasks and languages."""
        return float(np.mean([one.right[length] for one in self.scores])) if self.scores else 0.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any], lengths: Sequence[int]) -> Measured:
        """Raises `LookupError`, `TypeError` or `AttributeError` for what `as_json` did not give at these lengths."""
        return cls({length: Loss(**values["loss"][str(length)]) for length in lengths},
                   [Score(**{**one, "right": {length: one["right"][str(length)] for length in lengths}})
                    for one in values["found"]])

    def as_json(self) -> dict[str, Any]:
        return {"loss": {str(length): one._asdict() for length, one in self.loss.items()},
                "found": [one._asdict() for one in self.scores]}


@dataclass(frozen=True)
class Measure:
    """The texts [N,T] and questions that every model is given, at the same lengths."""

    settings: MeasureSettings
    lengths: list[int]
    ids: Tensor
    asked: list[Question]
    controls: dict[str, float]
    """Shares of right answers of the oracle and the guesser."""

    @classmethod
    def of(cls, settings: MeasureSettings, corpus: Path, tokenizer: Tokenizer, lengths: list[int],
           seed: int) -> Measure:
        """Raises `InputError` for a validation split without enough text, `HeadwaterError` for tests that cannot be
        passed."""
        if settings.last >= lengths[0]:
            raise InputError(f"the last {settings.last:,} tokens of texts of {lengths[0]:,}", where="last",
                             fix="give fewer, or longer lengths: before them there has to be context")
        texts = list(corpus_texts(corpus))
        ids = pieces(texts, tokenizer, lengths[-1], settings.texts, seed, where=corpus)
        asked = list(_asked(settings, texts, tokenizer, lengths, seed, corpus))
        return cls(settings, lengths, ids, asked, _controls(asked, tokenizer, seed))

    def take(self, engine: Engine) -> Measured:
        params = SamplingParams(max_tokens=ANSWER_TOKENS, temperature=0)
        loss = by_length(engine.model, self.ids, self.lengths, self.settings.last)
        said = [found.text for found in engine.generate([question.prompt for question in self.asked], params)]
        return Measured(loss, list(self._scores(said)))

    def keep(self, found: Mapping[str, Measured], path: Path) -> None:
        write_json(path, {name: one.as_json() for name, one in found.items()})

    def kept(self, path: Path, names: Iterable[str]) -> dict[str, Measured]:
        """What `keep` wrote under these names. Raises `InputError` for a damaged file."""
        try:
            values = read_json(path)
            return {name: Measured.from_json(values[name], self.lengths) for name in names}
        except (InputError, LookupError, TypeError, AttributeError):
            raise InputError("damaged: not what was measured", where=path, fix="delete it, and it is measured again"
                             ) from None

    def _scores(self, said: list[str]) -> Iterator[Score]:
        for task, language in dict.fromkeys((one.task, one.language) for one in self.asked):
            own = [(one, right(one, answer)) for one, answer in zip(self.asked, said, strict=True)
                   if (one.task, one.language) == (task, language)]
            yield Score(task, language, {
                length: [float(np.mean([ok for one, ok in own if (one.length, one.depth) == (length, depth)]))
                         for depth in self.settings.depths] for length in self.lengths})

    def tell(self, found: Mapping[str, Measured]) -> None:
        """Print a row for every model."""
        needles = ", and needles found again" if self.asked else ""
        table = Table(title=f"perplexity of the last {self.settings.last} tokens{needles}", title_justify="left")
        shown = [f"{length:,}" for length in self.lengths]
        for name in ("", *shown, *(f"found, {length}" for length in shown if self.asked)):
            table.add_column(name, justify="left" if not name else "right")
        for name, one in found.items():
            losses = [one.loss[length] for length in self.lengths]
            table.add_row(name, *map(str, losses),
                          *(f"{one.found(length):.0%}" for length in self.lengths if self.asked))
        print_result(table)
        if self.asked:
            print_result(f"questions of every length: {len(self.asked) // len(self.lengths)}; an oracle answers "
                         f"{self.controls['oracle']:.0%}, a guesser {self.controls['guesser']:.1%}")

    def drawn(self, found: Mapping[str, Measured]) -> str:
        """The curves as SVG."""
        lines = [Line(name, self.lengths, [one.loss[length].perplexity for length in self.lengths],
                      [one.loss[length].margin for length in self.lengths])
                 for name, one in found.items()]
        shown = [Panel(lines, "tokens of context", "perplexity", f"the same last {self.settings.last} tokens",
                       log_x=True, log_y=True, ticks=self.lengths)]
        if self.asked:
            lines = [Line(name, self.lengths, [one.found(length) for length in self.lengths])
                     for name, one in found.items()]
            shown.append(Panel(lines, "tokens of context", "found again", "needles, all tasks", log_x=True,
                               ticks=self.lengths, limits=(-0.03, 1.03)))
        return panels(shown)

    def as_json(self, found: Mapping[str, Measured]) -> dict[str, Any]:
        return {"settings": self.settings.model_dump(mode="json"), "lengths": self.lengths, "controls": self.controls,
                "measured": {name: one.as_json() for name, one in found.items()}}


def _asked(settings: MeasureSettings, texts: Sequence[tuple[str, str]], tokenizer: Tokenizer, lengths: list[int],
           seed: int, corpus: Path) -> Iterator[Question]:
    languages: Sequence[Language] = ("en", "zh") if settings.languages is None else settings.languages
    for language in languages if settings.tasks else []:
        own = [text for tongue, text in texts if tongue == language]
        if not own and settings.languages is None:
            continue
        if not own:
            raise InputError(f"the validation split has no text in '{language}' to hide needles in", where=corpus,
                             fix="leave it out of languages")
        haystack = Haystack(own, tokenizer, language)
        for task in settings.tasks:
            try:
                yield from list(questions(task, haystack, lengths=lengths, depths=settings.depths, each=settings.each,
                                          seed=seed))
            except InputError as error:
                if "tasks" in settings.model_fields_set:
                    raise
                say(f"note: left out: {error.what}")


def _controls(asked: list[Question], tokenizer: Tokenizer, seed: int) -> dict[str, float]:
    answerers: dict[str, Answerer] = {"oracle": oracle(tokenizer), "guesser": guesser(seed)}
    found = {name: sum(right(one, said) for one, said in zip(asked, answerer(asked), strict=True)) / max(1, len(asked))
             for name, answerer in answerers.items()}
    if asked and found["oracle"] < 1:
        raise HeadwaterError(f"the retrieval tests are wrong: the oracle answers {found['oracle']:.1%} of them",
                             where="needles", fix="report it with the tokenizer's name")
    return found
