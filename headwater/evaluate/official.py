"""Official benchmarks in an evaluation: what is asked of them, and the answers, kept subject by subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from headwater.errors import InputError
from headwater.evaluate.answers import Answer, read_answers, write_answers
from headwater.evaluate.benchmarks.catalogue import BENCHMARKS
from headwater.evaluate.benchmarks.definition import Benchmark, Rules
from headwater.evaluate.benchmarks.reading import Part, Reading
from headwater.evaluate.scores import scores
from headwater.generate.choice import spread
from headwater.generate.engine import Engine
from headwater.progress import bar, say
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
    written: bool | None = None
    """Whether the answer to a question with choices is read out of what the model writes, and not the likeliest
    letter; None: of chat, where the rules have a form for it."""
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
    """Of a benchmark's own name, where no format is given. Raises `ValueError`."""
    for name, settings in officials.items():
        if settings.format is None:
            _require_known(name)
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
    def written(self) -> bool:
        asked = self.settings
        natural = asked.chat and asked.rules == "official" and self.benchmark.chat is not None
        return natural if asked.written is None else asked.written

    @property
    def faults(self) -> dict[str, int]:
        """How many rows are not as they should be, by kind; those that cannot be asked under "not asked" too."""
        counts: Counter[str] = Counter(fault.kind for fault in self.reading.faults)
        left = sum(not fault.kept for fault in self.reading.faults)
        return {**counts, **({"not asked": left} if left else {})}


def open_benchmark(name: str, settings: OfficialSettings) -> Opened:
    """Read its files and say what is wrong with them. Raises `InputError` where there is nothing to ask."""
    benchmark = BENCHMARKS[settings.format or name]
    reading = benchmark.read(settings.folder)
    if not reading.questions:
        raise InputError(f"no question of {benchmark.name} here", where=settings.folder,
                         fix=f"give the folder of {benchmark.name}'s files as they were published")
    opened = Opened(name, benchmark, settings, reading, tuple(_limited(reading.parts, settings.limit)))
    if opened.faults:
        told = ", ".join(f"{kind} {count}" for kind, count in opened.faults.items())
        say(f"{name}: rows that are not as they should be: {told}")
    return opened


def _limited(parts: tuple[Part, ...], limit: int | None) -> Iterator[Part]:
    wanted = {id(row) for row in spread([row for part in parts for row in part.questions], limit)}
    for part in parts:
        kept = tuple(row for row in part.questions if id(row) in wanted)
        if kept:
            yield replace(part, questions=kept)


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
                write_answers(file, ask(model, opened.benchmark, part, settings.rules, shots=settings.shots,
                                        chat=settings.chat, written=opened.written, max_tokens=settings.max_tokens))
            found += read_answers(file)
            shown.note(part.subject)
            shown.advance(len(part.questions))
    if model.cut:
        say(f"{opened.name}: {model.cut} prompts were longer than the model reads and lost their beginning")
    return found


def entry(opened: Opened, found: list[Answer]) -> dict[str, Any]:
    """What `results.json` says of one model's answers."""
    benchmark = opened.benchmark
    scored = scores(found, averaged=benchmark.averaged, groups=benchmark.groups)
    return {"figures": {name: figure.value for name, figure in scored.whole.metrics.items()}, **scored.as_json(),
            "metric": benchmark.metric, "rules": opened.settings.rules, "shots": opened.settings.shots,
            "chance": benchmark.chance, "faults": opened.faults}
