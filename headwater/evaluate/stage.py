"""The evaluation stage: every model of a run on the same texts, questions and sample conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from headwater.artifacts import write_json
from headwater.documents import corpus_files
from headwater.evaluate import any_text, calling, official
from headwater.evaluate.compare import BEST
from headwater.evaluate.comparison_table import ComparisonTable
from headwater.evaluate.official import Officials, require_known
from headwater.evaluate.spoken import scores
from headwater.generate.choice import (
    REPHRASED,
    Style,
    accuracy,
    answer_all,
    by_subject,
    read_questions,
    require_questions,
    spread,
)
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.model.extension import ContextSettings
from headwater.progress import print_result, say
from headwater.settings import Change, InputPath, Settings
from headwater.tokenizer import Message, Tokenizer
from headwater.tokenizer.shards import write_shards
from headwater.train.validation import bits_per_byte

Results = dict[str, dict[str, dict[str, Any]]]
"""Task -> language -> `figures`, each metric's value, and what is behind them."""


class EvaluatedModel(Settings):
    path: InputPath
    style: Style = "chat"
    """chat: asked through the chat template; plain: as text to continue, for models not tuned to converse."""
    context: ContextSettings = ContextSettings()
    """A longer context than the model's own."""


class Measures(Settings):
    """What is measured of a model."""

    corpus: InputPath | None = None
    """Corpus folder; bits per byte are taken on its validation split."""
    texts: dict[str, InputPath] = {}
    """Files or folders of any text by name; bits per byte are taken on all of it."""
    choice: dict[str, dict[str, InputPath]] = {}
    """Benchmark name -> language -> folder in MMLU or C-Eval layout."""
    calls: dict[str, InputPath] = {}
    """Files of dialogues that call tools, by name: chat models are asked at every turn whether and what they call."""
    benchmarks: Annotated[Officials, AfterValidator(require_known)] = {}
    """Official benchmarks by name (mmlu, cmmlu, ...), which lm-evaluation-harness asks."""
    training_text: InputPath | None = None
    """What the models were trained on, a corpus folder or any text: questions of official benchmarks that are found in
    it are scored apart too."""
    limit: int | None = Field(default=None, gt=0)
    """At most this many questions of each benchmark of `choice` and language, evenly spread over the file order; None:
    all."""
    spoken: int = Field(default=0, ge=0)
    """Questions of each benchmark and language that chat models also answer in their own words."""

    @property
    def names(self) -> list[str]:
        """Of what is measured."""
        text = ["text"] if self.corpus is not None else []
        return [*text, *self.texts, *self.choice, *self.calls, *self.benchmarks]

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = ["text", *self.texts, *self.choice, *self.calls, *self.benchmarks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"'{twice[0]}' names two things that are measured; call one otherwise")
        alone = [name for name in ("training_text", "against", "groups") if getattr(self, name, None)]
        if alone and not self.benchmarks:
            raise ValueError(f"{alone[0]} says something of official benchmarks alone; give benchmarks too")
        return self

    def check(self, where: str) -> None:
        """Raises `InputError` for a benchmark that cannot be asked; of a folder of questions it names the setting,
        below `where`."""
        require_questions(self.choice, f"{where}.choice")
        for name, asked in self.benchmarks.items():
            official.open_benchmark(name, asked)


class EvaluateSettings(Measures):
    """What is measured on which models."""

    models: dict[str, EvaluatedModel] = Field(min_length=1)
    """By name, in the order in which they came to be."""
    against: Annotated[str | None, Change.MIDWAY] = None
    """The model that the others are tested against on official benchmarks: its name, or best for the best of each; the
    first when not set."""
    groups: Annotated[bool, Change.MIDWAY] = False
    """Whether the table that is printed holds a row for each group of subjects."""
    samples: list[Annotated[list[str], Field(min_length=1)]] = []
    """Conversations shown in the report, each a list of what the user says."""
    sample_tokens: int = Field(default=64, gt=0)

    @model_validator(mode="after")
    def _reference_is_here(self) -> Self:
        if not self.names and not self.samples:
            raise ValueError("nothing is measured: give benchmarks, texts, corpus, choice or samples")
        if self.against not in (None, BEST, *self.models):
            raise ValueError(f"against: no model '{self.against}' among {', '.join(self.models)}")
        return self


def run(settings: EvaluateSettings, out: Path) -> dict[str, float]:
    """Write `results.json` (figures per model, subject and language), `samples.json` and, of official benchmarks,
    `comparison.json`, `faults.json` (rows of their files that are not right) and every answer below
    `answers/MODEL/BENCHMARK`: those that are there are not asked again.

    Figures are named MODEL/TASK.LANGUAGE.METRIC.
    """
    opened = official.Session.of(settings.benchmarks, settings.training_text, out / "answers")
    for model in settings.models.values():
        Tokenizer.load(model.path)  # before the first is asked for hours
    results: dict[str, Any] = {}
    samples: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    for name, model in settings.models.items():
        say(f"evaluating {name}")
        engine = Engine.load(model.path, context=model.context)
        results[name] = _measured(engine, settings, model, out)
        results[name] |= opened.ask(engine, name, model.path)
        figures.update({f"{name}/{task}.{language}.{metric}": value for task, languages in results[name].items()
                        for language, found in languages.items() for metric, value in found["figures"].items()})
        if model.style == "chat":
            samples += [{"model": name, "messages": _converse(engine, turns, settings.sample_tokens)}
                        for turns in settings.samples]
    write_json(out / "results.json", results)
    if settings.benchmarks:
        comparison = opened.compare(settings.against, groups=settings.groups)
        write_json(out / "comparison.json", comparison.as_json())
        write_json(out / "faults.json", opened.faults)
        print_result(ComparisonTable(comparison))
    write_json(out / "samples.json", samples)
    return figures


def _measured(engine: Engine, settings: EvaluateSettings, model: EvaluatedModel, out: Path) -> Results:
    results: Results = {}
    if settings.corpus is not None:
        # Models of one run may have different tokenizers; the shard is cheap to write again.
        shards = write_shards(corpus_files(settings.corpus, "validation"), engine.tokenizer, model.path,
                              out / "validation")
        results["text"] = _bits(bits_per_byte(engine.model, shards, engine.max_length))
    for title, path in settings.texts.items():
        results[title] = _bits(any_text.measure(engine, path))
        say("; ".join(f"{title}, {language}: {one['figures']['bits_per_byte']:.4f} bits per byte"
                      for language, one in results[title].items()))
    for task, folders in settings.choice.items():
        results[task] = {language: _choice(engine, settings, model.style, language, folder)
                         for language, folder in folders.items()}
    for name, path in settings.calls.items() if model.style == "chat" else ():
        results[name] = calling.measure(engine, path)
    return results


def _bits(measured: dict[str, float]) -> dict[str, Any]:
    return {language: {"figures": {"bits_per_byte": value}} for language, value in measured.items()}


def _choice(engine: Engine, settings: EvaluateSettings, style: Style, language: str, folder: Path) -> dict[str, Any]:
    questions = spread(read_questions(folder), settings.limit)
    answered = answer_all(engine, questions, language, style)
    groups = by_subject(answered)
    subjects = {subject: {"questions": len(ones), "accuracy": accuracy(ones)} for subject, ones in groups.items()}
    figures = {"accuracy": accuracy(answered)}
    # Asked in words never trained on.
    rephrased = [one for subject, ones in groups.items() if subject.endswith(REPHRASED) for one in ones]
    if rephrased:
        figures["rephrased_accuracy"] = accuracy(rephrased)
    if settings.spoken and style == "chat":
        spoken = scores(engine, spread(questions, settings.spoken), language)
        figures |= {metric: value for metric, value in spoken.items() if metric != "questions"}
    return {"figures": figures, "questions": len(answered), "subjects": subjects}


def _converse(engine: Engine, turns: list[str], tokens: int) -> list[Message]:
    """Greedy answers to the turns, one after the other in one conversation."""
    messages: list[Message] = []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        prompt = engine.tokenizer.chat.render(messages, add_generation_prompt=True).ids
        if len(prompt) >= engine.max_length:
            messages.append({"role": "assistant", "content": "(the conversation fills the model's context)"})
            break
        answer = engine.generate([prompt], SamplingParams(temperature=0, max_tokens=tokens))[0]
        messages.append({"role": "assistant", "content": answer.text})
    return messages
