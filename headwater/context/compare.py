"""`headwater context compare`: one model under every method, by perplexity and by what it finds again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from headwater.artifacts import claim, hash_file, write_json, write_text
from headwater.context.check import described
from headwater.context.measure import Measure, Measured, MeasureSettings
from headwater.documents import corpus_files
from headwater.errors import HeadwaterError, InputError
from headwater.generate.engine import Engine
from headwater.generate.run_folder import find_model
from headwater.model import ModelConfig
from headwater.model.checkpoint import read_config
from headwater.model.extension import ContextSettings, check_window, extended
from headwater.model.replacement import check_vectors, whose
from headwater.plots import heat_maps
from headwater.progress import say
from headwater.settings import Distinct, InputPath, Seed
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.shards import identity

Method = Literal["none", "linear", "ntk", "dynamic", "yarn", "llama3", "window"]
"""Those that need no more than a length."""


class CompareSettings(MeasureSettings):
    """What is compared, on what text."""

    corpus: InputPath
    """A corpus folder: the text of its validation split, of both languages, is read and needles are hidden in it."""
    methods: Annotated[list[Method], Field(min_length=1), Distinct] | None = None
    """none: the model as it is, read on beyond its length. When not set, that and, of a model with rotary positions
    that are not stretched yet and no window, linear, ntk, dynamic, yarn and llama3; of one without positions that sees
    a window, window."""
    contexts: dict[str, ContextSettings] = {}
    """Further ways by names of your own, for example contexts.streaming.window=1020 contexts.streaming.sinks=4."""
    lengths: Annotated[list[Annotated[int, Field(ge=64)]], Field(min_length=1), Distinct] | None = None
    """Tokens; the model's own length, twice and four times it when not set."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _fits(self) -> CompareSettings:
        both = set(self.contexts) & {str(name) for name in get_args(Method)}
        if both:
            raise ValueError(f"contexts names a way '{both.pop()}', which is one of methods")
        for name in self.contexts:
            if not re.fullmatch(r"\w[\w-]{0,59}", name):
                raise ValueError(f"contexts names a way '{name[:80]}', and files are called by it: give a name of at "
                                 "most 60 letters, digits, - and _")
        return self


def compare(model: Path, out: Path, settings: CompareSettings) -> None:
    """Print a table; write `compare.json`, `perplexity.svg` and, of every task, `TASK.svg` into `out`.

    What was measured is kept below `out/ways`, and not measured again when a stopped comparison is started again.
    Raises `InputError` for a model, method or length that cannot be, before any work, and for a folder that holds
    another comparison.
    """
    folder = find_model(model)
    config, tokenizer = read_config(folder)[0], Tokenizer.load(folder)
    lengths = sorted(settings.lengths or [config.longest, 2 * config.longest, 4 * config.longest])
    contexts = _contexts(config, lengths[-1], settings)
    configs = {method: _read_as(method, context, config, folder, settings, lengths[-1])
               for method, context in contexts.items()}
    measure = Measure.of(settings, settings.corpus, tokenizer, lengths, settings.seed)
    claim(out, _compared(folder, config, tokenizer, settings), "comparison", "compare.json")
    found: dict[str, Measured] = {}
    for method, context in contexts.items():
        kept = out / "ways" / f"{method}.json"
        say(f"{method}: {described(configs[method], lengths[-1])}{_replaced(context, config)}")
        if not kept.exists():
            engine = Engine.load(folder, max_batch=1, max_length=lengths[-1], context=context)
            measure.keep({method: measure.take(engine)}, kept)
        found |= measure.kept(kept, [method])
    measure.tell(found)
    write_json(out / "compare.json", measure.as_json(found))
    write_text(out / "perplexity.svg", measure.drawn(found))
    _draw_depths(out, measure, found)


def _contexts(config: ModelConfig, length: int, settings: CompareSettings) -> dict[str, ContextSettings]:
    """What is compared, by name; no method changes anything within the trained length."""
    rotary = config.position == "rope" and config.rope_scaling is None and not config.sliding_window
    fitting: list[Method] = (["linear", "ntk", "dynamic", "yarn", "llama3"] if rotary else
                             ["window"] if config.position == "none" and config.sliding_window else [])
    plain = {"none"} if length > config.longest else set(get_args(Method))
    found = {str(method): ContextSettings.parse({} if method in plain else {"length": length, "method": method})
             for method in settings.methods or ["none", *fitting]}
    for name, context in settings.contexts.items():
        if context.length is not None and context.length < length:
            raise InputError(f"{context.length:,} tokens, and texts of {length:,} are read",
                             where=f"contexts.{name}.length", fix=f"give {length}, or shorter lengths")
        found[name] = context.model_copy(update={"length": context.length or max(length, config.longest)})
    return found


def _read_as(method: str, context: ContextSettings, config: ModelConfig, folder: Path,
             settings: CompareSettings, length: int) -> ModelConfig:
    """The configuration under one way. Raises `InputError`, which names the way."""
    try:
        if context.method == "vectors":
            check_vectors(context, config, folder)
        found = extended(config, context)
        check_window(context, length)
        return found
    except HeadwaterError as error:
        own = method in settings.contexts
        raise InputError(error.what, where=f"contexts.{method}" if own else f"methods, {method}", fix=(
            error.fix or "correct it").replace("context.", f"contexts.{method}.") if own else "leave it out of methods"
            ) from None


def _replaced(context: ContextSettings, config: ModelConfig) -> str:
    if context.method != "vectors" or context.length is None:
        return ""
    return (f", vectors behind block {context.layer} replaced by those stretched "
            f"{context.ratio or context.length / config.longest:.4g} times, times {context.strength:g}")


def _compared(folder: Path, config: ModelConfig, tokenizer: Tokenizer, settings: CompareSettings) -> dict[str, Any]:
    """All that the results are of, contents and not names alone."""
    return {"model": str(folder.resolve()), "weights": whose(folder), "config": config.model_dump(mode="json"),
            "tokenizer": identity(tokenizer), "settings": settings.model_dump(mode="json"),
            "corpus": [file.fingerprint() for file in corpus_files(settings.corpus, "validation")],
            "vectors": {name: hash_file(context.vectors) for name, context in settings.contexts.items()
                        if context.vectors is not None}}


def _draw_depths(out: Path, measure: Measure, found: dict[str, Measured]) -> None:
    """A heat map of length and depth for every task and language, the methods side by side."""
    lengths, depths = measure.lengths, measure.settings.depths
    for number, one in enumerate(next(iter(found.values())).scores):
        maps = {method: [[taken.scores[number].right[length][row] for length in lengths] for row in range(len(depths))]
                for method, taken in found.items()}
        write_text(out / f"{one.task}.{one.language}.svg", heat_maps(
            maps, [f"{length:,}" for length in lengths], [f"{depth:.0%}" for depth in depths], x="tokens",
            y="depth of the needle", title=f"{one.task}, {one.language}: share found again"))
