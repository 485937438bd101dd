"""The evaluation stage: every model of a run on the same texts, questions and sample conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from headwater.artifacts import write_json
from headwater.documents import corpus_files
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
from headwater.progress import say
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Message
from headwater.tokenizer.shards import write_shards
from headwater.train.validation import bits_per_byte


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
    choice: dict[str, dict[str, InputPath]] = {}
    """Benchmark name -> language -> folder in MMLU or C-Eval layout."""
    limit: int | None = Field(default=None, gt=0)
    """At most this many questions of each benchmark and language, evenly spread over the file order; None: all."""
    spoken: int = Field(default=0, ge=0)
    """Questions of each benchmark and language that chat models also answer in their own words."""

    @property
    def names(self) -> list[str]:
        """Of what is measured."""
        return [*(["text"] if self.corpus is not None else []), *self.choice]

    def check(self, where: str) -> None:
        """Raises `InputError` that names the setting, below `where`, of a benchmark that cannot be asked."""
        require_questions(self.choice, f"{where}.choice")


class EvaluateSettings(Measures):
    """What is measured on which models."""

    models: dict[str, EvaluatedModel] = Field(min_length=1)
    """By name, in the order in which they came to be."""
    samples: list[Annotated[list[str], Field(min_length=1)]] = []
    """Conversations shown in the report, each a list of what the user says."""
    sample_tokens: int = Field(default=64, gt=0)


def run(settings: EvaluateSettings, out: Path) -> dict[str, float]:
    """Write `results.json` (figures per model, subject and language) and `samples.json`.

    Figures are named MODEL/TASK.LANGUAGE.METRIC.
    """
    results: dict[str, Any] = {}
    samples: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    for name, model in settings.models.items():
        say(f"evaluating {name}")
        engine = Engine.load(model.path, context=model.context)
        results[name] = {"text": _text(engine, model.path, settings.corpus, out),
                         **_choice(engine, settings, model.style)}
        figures.update({f"{name}/{figure}": value for figure, value in _figures(results[name]).items()})
        if model.style == "chat":
            samples += [{"model": name, "messages": _converse(engine, turns, settings.sample_tokens)}
                        for turns in settings.samples]
    write_json(out / "results.json", results)
    write_json(out / "samples.json", samples)
    return figures


def _text(engine: Engine, path: Path, corpus: Path | None, out: Path) -> dict[str, float]:
    if corpus is None:
        return {}
    folder = out / "validation"
    # Models of one run may have different tokenizers; the shard is cheap to write again.
    shards = write_shards(corpus_files(corpus, "validation"), engine.tokenizer, path, folder)
    return bits_per_byte(engine.model, shards, engine.max_length)


def _choice(engine: Engine, settings: EvaluateSettings, style: Style) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for task, folders in settings.choice.items():
        for language, folder in folders.items():
            questions = spread(read_questions(folder), settings.limit)
            answered = answer_all(engine, questions, language, style)
            subjects = {subject: {"questions": len(ones), "accuracy": accuracy(ones)}
                        for subject, ones in by_subject(answered).items()}
            results.setdefault(task, {})[language] = {"questions": len(answered), "accuracy": accuracy(answered),
                                                      "subjects": subjects}
            if settings.spoken and style == "chat":
                results[task][language]["spoken"] = scores(engine, spread(questions, settings.spoken), language)
    return results


def _figures(result: dict[str, Any]) -> dict[str, float]:
    figures = {f"text.{language}.bits_per_byte": value for language, value in result["text"].items()}
    for task, languages in result.items():
        if task != "text":
            for language, scored in languages.items():
                figures[f"{task}.{language}.accuracy"] = scored["accuracy"]
                figures.update(_rephrased(task, language, scored["subjects"]))
                figures.update({f"{task}.{language}.{metric}": value
                                for metric, value in scored.get("spoken", {}).items() if metric != "questions"})
    return figures


def _rephrased(task: str, language: str, subjects: dict[str, Any]) -> dict[str, float]:
    """Accuracy over the subjects of rephrased questions: asked in words never trained on."""
    held_back = [scored for subject, scored in subjects.items() if subject.endswith(REPHRASED)]
    if not held_back:
        return {}
    right = sum(scored["accuracy"] * scored["questions"] for scored in held_back)
    return {f"{task}.{language}.rephrased_accuracy": right / sum(scored["questions"] for scored in held_back)}


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
