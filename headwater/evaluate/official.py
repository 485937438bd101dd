"""Official benchmarks in an evaluation: what is asked of them, and the answers, kept subject by subject."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from headwater.corpus.decontamination.benchmarks import Question
from headwater.errors import InputError
from headwater.evaluate.answers import Answer, read_answers, write_answers
from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.definition import AnsweredBy, Benchmark, Rules
from headwater.evaluate.benchmarks.reading import WHERE, Part, Reading, Row
from headwater.evaluate.code_execution import run_programs
from headwater.evaluate.compare import Comparison, compare
from headwater.evaluate.contaminated import Contamination, recorded, searched
from headwater.evaluate.entries import asked, entry, faults, prompts
from headwater.evaluate.published import Published, names_of, published
from headwater.generate.choice import spread
from headwater.generate.engine import Engine
from headwater.hardware import cores
from headwater.progress import bar, say
from headwater.sandbox.programs import Limits
from headwater.settings import InputPath, Settings, nearest_name


class OfficialSettings(Settings):
    """A benchmark in the files in which it was published, or one's own in the same format."""

    folder: InputPath
    """Where its files lie."""
    format: str | None = None
    """Whose files, prompts and judgement: the name of an official benchmark; as the benchmark is called when not
    set."""
    rules: Rules = "official"
    """official: asked and judged as its authors do; harness: as lm-evaluation-harness does."""
    shots: int | None = Field(default=None, ge=0)
    """Solved examples before each question; None: as many as the rules have."""
    chat: bool = False
    """Asked through the model's chat template, solved examples as earlier turns; else as text to continue, which is
    how the papers' tables were made."""
    answer: AnsweredBy | None = None
    """To a question with choices: the likeliest letter, the choice whose text is likeliest (no letters shown; also
    normalised by its length), or what is read out of the text that the model writes. None: as the rules have it, the
    letter, and in writing through a chat template."""
    execute_code: bool = False
    """Whether programs that the model wrote may be run, behind walls, where a benchmark is judged by them."""
    code: Limits = Limits()
    """What one such program may use."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Most tokens of a written answer; None: as the rules have it."""
    limit: int | None = Field(default=None, gt=0)
    """At most this many questions, evenly spread over the subjects; None: all."""

    @field_validator("format")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        if name is not None:
            _require_known(name)
        return name


def _require_known(name: str) -> None:
    if name not in BENCHMARKS:
        near = nearest_name(name, BENCHMARKS)
        raise ValueError(f"no official benchmark '{name}'; " + (f"did you mean '{near}'?" if near else
                                                                 f"known: {', '.join(BENCHMARKS)}"))


Officials = dict[str, OfficialSettings]


def require_known(officials: Officials) -> Officials:
    """Each is an official one by its format or its own name, and programs may be run where it is judged by them. Raises
    `ValueError`."""
    for name, settings in officials.items():
        if settings.format is None:
            _require_known(name)
        runs_code = BENCHMARKS[settings.format or name].program is not None
        # By its value: settings that were written out in full name every default.
        if not runs_code and (settings.execute_code or settings.code != Limits()):
            raise ValueError(f"{name} is not judged by running programs: execute_code and code have no effect")
        if runs_code and not settings.execute_code:
            raise ValueError(f"{name} is judged by running the programs that the model wrote; set benchmarks.{name}."
                             "execute_code to true if they may run, walled in, on this machine")
    return officials


@dataclass(frozen=True)
class Opened:
    """A benchmark with its files read, and how it is asked."""

    name: str
    benchmark: Benchmark
    settings: OfficialSettings
    reading: Reading
    """All of its rows, also where a limit leaves some out."""
    parts: tuple[Part, ...]
    """What is asked."""

    @property
    def shots(self) -> int:
        """The most that stand before a question."""
        held = max(len(part.shots) for part in self.parts)
        return min(held, self.benchmark.shots if self.settings.shots is None else self.settings.shots)

    @property
    def answer(self) -> AnsweredBy | None:
        asked = self.settings
        written = asked.chat and asked.rules == "official" and self.benchmark.chat is not None
        return "written" if written and asked.answer is None else asked.answer


def open_benchmark(name: str, settings: OfficialSettings) -> Opened:
    """Read its files and say what is wrong with them. Raises `InputError` where there is nothing to ask."""
    benchmark = BENCHMARKS[settings.format or name]
    reading = benchmark.read(settings.folder)
    wrong = ", ".join(f"{kind} {one['asked'] + one['left_out']}" +
                      (f" ({one['left_out']} not asked)" if one["left_out"] else "")
                      for kind, one in faults(reading).items())
    if not reading.questions:
        found = f" that can be asked: {wrong}, the first at {reading.faults[0].where}" if wrong else ""
        raise InputError(f"no question of {benchmark.name} here{found}", where=settings.folder,
                         fix=f"give the folder of {benchmark.name}'s files as they were published")
    if wrong:
        say(f"{name}: rows that are not as they should be: {wrong}")
    return Opened(name, benchmark, settings, reading, tuple(_limited(reading.parts, settings.limit)))


def _limited(parts: tuple[Part, ...], limit: int | None) -> Iterator[Part]:
    wanted = {id(row) for row in spread([row for part in parts for row in part.questions], limit)}
    for part in parts:
        kept = tuple(row for row in part.questions if id(row) in wanted)
        if kept:
            yield replace(part, questions=kept)


def contamination(opened: Opened, text: Path, found: list[Answer]) -> Contamination:
    """Which of its questions the corpus stage found, or a search of any text finds now. Raises `InputError`."""
    wanted = {one.where: one.wanted for one in found}
    return recorded(text, opened.settings.folder) or searched(text, [
        _question(opened.benchmark, row, wanted[row[WHERE]]) for part in opened.parts for row in part.questions])


def _question(benchmark: Benchmark, row: Row, wanted: str) -> Question:
    """As the finder takes it."""
    file, _, number = row[WHERE].rpartition(":")
    if benchmark.choices is None:
        return Question(benchmark.name, file, int(number), benchmark.question(row), (), wanted)
    asked = benchmark.choices(row)
    return Question(benchmark.name, file, int(number), asked.question, asked.texts, asked.texts[asked.answer])


class Session:
    """Benchmarks that several models are asked, one model after the other."""

    def __init__(self, opened: list[Opened], text: Path | None, folder: Path) -> None:
        self.opened, self.text, self.folder = opened, text, folder
        self._tokens = {one.name: _answer_tokens(one) for one in opened}
        self._answers: dict[str, dict[str, list[Answer]]] = {one.name: {} for one in opened}
        self._contaminated: dict[str, Contamination] = {}
        self._published: dict[str, dict[str, Published]] = {}

    @classmethod
    def of(cls, officials: Officials, text: Path | None, folder: Path) -> Session:
        """text: what the models were trained on; folder: where answers are kept. Raises `InputError` before any model
        is needed, and `MissingExtraError`."""
        if officials:
            importlib.import_module("headwater.evaluate.harness")  # says what is missing before anything is asked
        return cls([open_benchmark(name, asked) for name, asked in officials.items()], text, folder)

    @property
    def faults(self) -> dict[str, list[dict[str, Any]]]:
        """Benchmark -> its rows that are not as they should be, each with file and row."""
        return {one.name: [{"where": fault.where, "kind": fault.kind, "asked": fault.kept}
                           for fault in one.reading.faults] for one in self.opened}

    def ask(self, engine: Engine, model: str, path: Path) -> dict[str, dict[str, dict[str, Any]]]:
        """Benchmark -> language -> what `results.json` says of this model's answers."""
        chats = [one.name for one in self.opened if one.settings.chat]
        if chats and engine.tokenizer.chat_or_none is None:
            raise InputError(f"{model} has no chat template, through which {', '.join(chats)} are to be asked",
                             where=path, fix=f"set benchmarks.{chats[0]}.chat=false, or give a chat model's folder")
        for name, tokens in self._tokens.items():
            if tokens >= engine.max_length:
                raise InputError(f"{name} asks for answers of {tokens} tokens; {model} reads {engine.max_length}",
                                 where=path, fix=f"set benchmarks.{name}.max_tokens, or give it a longer context")
        self._published[model] = published(names_of(path))
        results: dict[str, dict[str, dict[str, Any]]] = {}
        for one in self.opened:
            found = answers(engine, one, self.folder / model / one.name)
            self._answers[one.name][model] = found
            if self.text is not None and one.name not in self._contaminated:
                self._contaminated[one.name] = contamination(one, self.text, found)
                known = sum(answer.where in self._contaminated[one.name].where for answer in found)
                say(f"{one.name}: {known} of {len(found)} questions were found in the training text")
            written = entry(one.benchmark, one.reading, found, rules=one.settings.rules, shots=one.shots,
                            contamination=self._contaminated.get(one.name))
            values = {metric: value["value"] for metric, value in written["metrics"].items()}
            results[one.name] = {one.benchmark.language: {"figures": values, **written}}
        return results

    def compare(self, against: str | None, *, groups: bool) -> Comparison:
        """Of all models that were asked."""
        rows = [replace(asked(one.benchmark, dict(self._answers[one.name]), self._published), benchmark=one.name)
                for one in self.opened]
        return compare(rows, reference=against, groups=groups)


def _answer_tokens(opened: Opened) -> int:
    """Room for an answer. Raises `InputError` for settings that this benchmark cannot be asked by."""
    from headwater.evaluate.harness.run import prepared

    settings = opened.settings
    return prepared(opened.benchmark, opened.parts[0], settings.rules, shots=settings.shots, answer=opened.answer,
                    max_tokens=settings.max_tokens).answer_tokens


def answers(engine: Engine, opened: Opened, folder: Path) -> list[Answer]:
    """Ask what `folder` does not hold yet, a file for each subject, and give all answers.

    Raises `InputError`, `MissingExtraError`.
    """
    from headwater.evaluate.harness.language_model import EngineLM
    from headwater.evaluate.harness.run import ask

    model, settings, found = EngineLM(engine), opened.settings, list[Answer]()
    with bar(opened.name, sum(len(part.questions) for part in opened.parts)) as shown:
        for part in opened.parts:
            file = folder / f"{part.subject}.jsonl"
            if not file.exists():
                given = ask(model, opened.benchmark, part, settings.rules, shots=settings.shots, chat=settings.chat,
                            answer=opened.answer, max_tokens=settings.max_tokens)
                write_answers(file, _run(opened, part, given))
            found += read_answers(file)
            shown.note(part.subject)
            shown.advance(len(part.questions))
    _tell_short(opened.name, prompts(found))
    return found


def _tell_short(name: str, found: dict[str, int]) -> None:
    if found["shortened"]:
        say(f"{name}: {found['examples_left_out']} solved examples were left out, so that {found['shortened']} prompts "
            "fit")
    if found["cut"]:
        say(f"{name}: {found['cut']} prompts were longer than the model reads and lost their beginning")


def _run(opened: Opened, part: Part, given: list[Answer]) -> list[Answer]:
    """Judged by their programs, where the benchmark is."""
    program = opened.benchmark.program
    if program is None:
        return given
    rows = {row[WHERE]: row for row in part.questions}
    outcomes = run_programs([program(rows[one.where], one.given) for one in given], opened.settings.code,
                            workers=cores())
    return [replace(one, metrics={opened.benchmark.metric: float(outcome.passed)},
                    why=": ".join(filter(None, (outcome.verdict, outcome.error, outcome.message))))
            for one, outcome in zip(given, outcomes, strict=True)]
