"""`headwater context compare`: one model under every method, by perplexity and by what it finds again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
from pydantic import Field, model_validator
from rich.table import Table

from headwater.artifacts import make_folder, write_json, write_text
from headwater.context.check import verdict
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
from headwater.generate.run_folder import find_model
from headwater.generate.sampling import SamplingParams
from headwater.model import ModelConfig
from headwater.model.checkpoint import read_config
from headwater.model.extension import ContextSettings, extended
from headwater.plots import Line, Panel, heat_maps, panels
from headwater.progress import print_result, say
from headwater.settings import InputPath, Seed, Settings
from headwater.tokenizer import Tokenizer

Method = Literal["none", "linear", "ntk", "dynamic", "yarn", "llama3", "window"]
"""Those that need no more than a length."""


class CompareSettings(Settings):
    """What is compared, on what text."""

    corpus: InputPath
    """A corpus folder: the text of its validation split, of both languages, is read and needles are hidden in it."""
    methods: Annotated[list[Method], Field(min_length=1)] | None = None
    """none: the model as it is, read on beyond its length. When not set, that and, of a model with rotary positions,
    linear, ntk, dynamic, yarn and llama3; of one without positions that sees a window, window."""
    contexts: dict[str, ContextSettings] = {}
    """Further ways by names of your own, for example contexts.streaming.window=1020 contexts.streaming.sinks=4."""
    lengths: list[Annotated[int, Field(ge=64)]] | None = None
    """Tokens; the model's own length, twice and four times it when not set."""
    texts: Annotated[int, Field(ge=2)] = 16
    """Long texts whose perplexity is taken."""
    last: Annotated[int, Field(ge=1)] = 64
    """Tokens at the end of every text that the perplexity is of, the same at every length."""
    tasks: list[Task] = ["passkey", "needle", "several", "lines"]
    languages: list[Language] = ["en", "zh"]
    depths: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)] = [0.0, 0.25, 0.5, 0.75, 1.0]
    """Of the needle, as shares of the text."""
    each: Annotated[int, Field(ge=1)] = 2
    """Questions of every task, language, length and depth."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _fits(self) -> CompareSettings:
        both = set(self.contexts) & {str(name) for name in get_args(Method)}
        if both:
            raise ValueError(f"contexts names a way '{both.pop()}', which is one of methods")
        return self


class Score(NamedTuple):
    """Of one task and language, by length and depth."""

    method: str
    task: str
    language: str
    right: dict[int, list[float]]
    """Share of right answers at every depth."""

    def mean(self, length: int) -> float:
        return float(np.mean(self.right[length]))


def compare(model: Path, out: Path, settings: CompareSettings) -> None:
    """Print a table; write `compare.json`, `perplexity.svg` and, of every task, `TASK.svg` into `out`.

    Raises `InputError` for a model, method or length that cannot be, before any work.
    """
    folder = find_model(model)
    config, tokenizer = read_config(folder)[0], Tokenizer.load(folder)
    trained = config.max_position_embeddings
    lengths = sorted(settings.lengths or [trained, 2 * trained, 4 * trained])
    contexts = _contexts(config, lengths[-1], settings)
    configs = {method: extended(config, context) for method, context in contexts.items()}
    texts = list(corpus_texts(settings.corpus))
    ids = pieces(texts, tokenizer, lengths[-1], settings.texts, settings.seed, where=settings.corpus)
    asked = list(_asked(texts, tokenizer, lengths, settings))
    controls = _controls(asked, tokenizer, settings.seed)
    make_folder(out, fix="give another folder")
    perplexity: dict[str, dict[int, Loss]] = {}
    scores: list[Score] = []
    for method, context in contexts.items():
        say(f"{method}: {_words(configs[method], lengths[-1])}")
        engine = Engine.load(folder, max_batch=1, max_length=lengths[-1], context=context)
        perplexity[method] = by_length(engine.model, ids, lengths, settings.last)
        scores += list(_scores(method, asked, _said(engine, asked), lengths, settings))
    _tell(out, settings, lengths, perplexity, scores, controls)


def _contexts(config: ModelConfig, length: int, settings: CompareSettings) -> dict[str, ContextSettings]:
    """What is compared, by name; no method changes anything within the trained length."""
    fitting: list[Method] = (["linear", "ntk", "dynamic", "yarn", "llama3"] if config.position == "rope" else
                             ["window"] if config.position == "none" and config.sliding_window else [])
    plain = {"none"} if length > config.max_position_embeddings else set(get_args(Method))
    found = {str(method): ContextSettings.parse({} if method in plain else {"length": length, "method": method})
             for method in settings.methods or ["none", *fitting]}
    for name, context in settings.contexts.items():
        if context.length is not None and context.length < length:
            raise InputError(f"{context.length:,} tokens, and texts of {length:,} are read",
                             where=f"contexts.{name}.length", fix=f"give {length}, or shorter lengths")
        found[name] = context.model_copy(update={"length": context.length or length})
    return found


def _words(config: ModelConfig, length: int) -> str:
    """How the positions lie, and whether RoPE's base supports the length."""
    window = "" if not config.sliding_window else f"a window of {config.sliding_window:,}" + (
        f" and {config.attention_sinks} sinks, " if config.attention_sinks else ", ")
    if config.position != "rope":
        return f"{window}positions '{config.position}'"
    scaling = "" if config.rope_scaling is None else f", {config.rope_scaling.kind} x {config.rope_scaling.factor:.4g}"
    return f"{window}base {config.rope_theta:,.0f}{scaling}; {verdict(config, length)}"


def _asked(texts: list[tuple[str, str]], tokenizer: Tokenizer, lengths: list[int],
           settings: CompareSettings) -> Iterator[Question]:
    for language in settings.languages if settings.tasks else []:
        own = [text for tongue, text in texts if tongue == language]
        if not own:
            raise InputError(f"the validation split has no text in '{language}' to hide needles in",
                             where=settings.corpus, fix="leave it out of languages")
        haystack = Haystack(own, tokenizer, language)
        for task in settings.tasks:
            yield from questions(task, haystack, lengths=lengths, depths=settings.depths, each=settings.each,
                                 seed=settings.seed)


def _controls(asked: list[Question], tokenizer: Tokenizer, seed: int) -> dict[str, float]:
    """Shares of right answers of the oracle and the guesser. Raises `HeadwaterError` where a test cannot be passed."""
    answerers: dict[str, Answerer] = {"oracle": oracle(tokenizer), "guesser": guesser(seed)}
    found = {name: sum(right(one, said) for one, said in zip(asked, answerer(asked), strict=True)) / max(1, len(asked))
             for name, answerer in answerers.items()}
    if asked and found["oracle"] < 1:
        raise HeadwaterError(f"the retrieval tests are wrong: the oracle answers {found['oracle']:.1%} of them",
                             where="context compare", fix="report it with the tokenizer's name")
    return found


def _said(engine: Engine, asked: list[Question]) -> list[str]:
    params = SamplingParams(max_tokens=ANSWER_TOKENS, temperature=0)
    return [found.text for found in engine.generate([question.prompt for question in asked], params)]


def _scores(method: str, asked: list[Question], said: list[str], lengths: list[int],
            settings: CompareSettings) -> Iterator[Score]:
    for task in settings.tasks:
        for language in settings.languages:
            own = [(one, right(one, answer)) for one, answer in zip(asked, said, strict=True)
                   if (one.task, one.language) == (task, language)]
            yield Score(method, task, language, {
                length: [float(np.mean([ok for one, ok in own if (one.length, one.depth) == (length, depth)]))
                         for depth in settings.depths] for length in lengths})


def _tell(out: Path, settings: CompareSettings, lengths: list[int], perplexity: dict[str, dict[int, Loss]],
          scores: list[Score], controls: dict[str, float]) -> None:
    methods = list(perplexity)
    table = Table(title=f"perplexity of the last {settings.last} tokens, and needles found again",
                  title_justify="left")
    for name in ("", *(f"{length:,}" for length in lengths), *(f"found, {length:,}" for length in lengths
                                                                 if settings.tasks)):
        table.add_column(name, justify="left" if not name else "right")
    share = {method: {length: float(np.mean([one.mean(length) for one in scores if one.method == method] or [0.0]))
                      for length in lengths} for method in methods}
    for method in methods:
        found = [perplexity[method][length] for length in lengths]
        table.add_row(method, *map(str, found),
                      *(f"{share[method][length]:.0%}" for length in lengths if settings.tasks))
    print_result(table)
    if settings.tasks:
        count = len(settings.depths) * settings.each * len(settings.tasks) * len(settings.languages)
        print_result(f"{count} questions of every length; an oracle answers {controls['oracle']:.0%}, a guesser "
                     f"{controls['guesser']:.1%}")
    write_json(out / "compare.json", {
        "settings": settings.model_dump(mode="json"), "lengths": lengths, "controls": controls,
        "loss": {method: {str(length): one._asdict() for length, one in found.items()}
                 for method, found in perplexity.items()},
        "found": [one._asdict() for one in scores]})
    lines = [Line(method, lengths, [perplexity[method][length].perplexity for length in lengths],
                  [perplexity[method][length].margin for length in lengths]) for method in methods]
    shown = [Panel(lines, "tokens of context", "perplexity", f"the same last {settings.last} tokens", log_x=True,
                   log_y=True)]
    if settings.tasks:
        shown.append(Panel([Line(method, lengths, [share[method][length] for length in lengths]) for method in methods],
                           "tokens of context", "found again", "needles, all tasks", log_x=True, limits=(-0.03, 1.03)))
    write_text(out / "perplexity.svg", panels(shown))
    for task in settings.tasks:
        for language in settings.languages:
            maps = {one.method: [[one.right[length][row] for length in lengths] for row in range(len(settings.depths))]
                    for one in scores if (one.task, one.language) == (task, language)}
            write_text(out / f"{task}.{language}.svg", heat_maps(
                maps, [f"{length:,}" for length in lengths], [f"{depth:.0%}" for depth in settings.depths],
                x="tokens", y="depth of the needle", title=f"{task}, {language}: share found again"))
