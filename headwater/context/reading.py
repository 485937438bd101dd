"""`headwater context perplexity`: one model on long texts, by position, by length, and in a window that slides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator
from rich.table import Table
from torch import Tensor

from headwater.artifacts import make_folder, write_json, write_text
from headwater.context.perplexity import Loss, by_length, by_position, losses, sliding, windows
from headwater.context.texts import corpus_texts, pieces
from headwater.errors import InputError
from headwater.generate.run_folder import find_model
from headwater.model import Decoder
from headwater.model.checkpoint import load_model, read_config
from headwater.model.extension import ContextSettings, check_window
from headwater.plots import Line, Panel, panels
from headwater.progress import print_result, track
from headwater.settings import Distinct, InputPath, Seed, Settings
from headwater.tokenizer import Tokenizer


class PerplexitySettings(Settings):
    """On what text, how far, and in what window."""

    corpus: InputPath
    """A corpus folder, of which the validation split is read."""
    context: ContextSettings = ContextSettings()
    """A longer context than the model's own, and how positions reach it."""
    length: Annotated[int, Field(ge=8)] | None = None
    """Tokens of a text; context.length, else four times the model's own when not set."""
    bounds: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] | None = None
    """Positions at which ranges part, and lengths of context; the model's own length halved, doubled and so on when
    not set."""
    last: Annotated[int, Field(ge=1)] = 64
    """Tokens at the end of every text that are given more and more context."""
    window: Annotated[int, Field(ge=2)] | None = None
    """Tokens of the window that slides; the model's own length when not set, half a text that is no longer than it."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """By which it moves; half of it when not set."""
    languages: Annotated[list[str], Field(min_length=1), Distinct] | None = None
    """All that the split holds when not set."""
    texts: Annotated[int, Field(ge=2)] = 32
    """Of every language."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _ordered(self) -> PerplexitySettings:
        if self.bounds is not None and sorted(set(self.bounds)) != self.bounds:
            raise ValueError("bounds rise")
        return self


class Reading(NamedTuple):
    """Of one language."""

    by_position: dict[tuple[int, int], Loss]
    sliding: dict[tuple[int, int], Loss]
    """The same tokens in the window."""
    by_length: dict[int, Loss]
    direct: Loss
    """Of whole texts."""
    window: Loss
    gain: Loss
    """What the window loses less, text by text: direct less sliding."""


class Plan(NamedTuple):
    """What is read, all settings found."""

    length: int
    bounds: list[int]
    lengths: list[int]
    last: int
    window: int
    stride: int


def perplexity(model: Path, out: Path, settings: PerplexitySettings) -> None:
    """Print tables; write `perplexity.json` and `perplexity.svg` into `out`.

    Raises `InputError` for a model, length or language that cannot be, before any work.
    """
    folder = find_model(model)
    config, tokenizer = read_config(folder)[0], Tokenizer.load(folder)
    if config.prefix_ids:
        raise InputError("this model reads texts both ways up to a mark, so a token's loss is not one given those "
                         "before it", where=folder, fix="give a causal model")
    plan = _plan(settings, config.longest)
    decoder = load_model(folder, context=settings.context)
    ids = _pieces(settings, tokenizer, plan.length)
    make_folder(out, fix="give another folder")
    found = {language: _read(decoder, own, plan) for language, own in track(ids.items(), "languages", len(ids))}
    _tell(plan, found)
    write_json(out / "perplexity.json", {
        "settings": settings.model_dump(mode="json"), **plan._asdict(),
        "loss": {language: _plain(reading) for language, reading in found.items()}})
    write_text(out / "perplexity.svg", panels(_panels(found, plan)))


def _plan(settings: PerplexitySettings, trained: int) -> Plan:
    length = settings.length or settings.context.length or 4 * trained
    window = settings.window or (trained if trained < length else length // 2)
    bounds = settings.bounds or [trained * 2**power // 4 for power in range(30)]
    if window >= length:
        raise InputError(f"a window of {window:,} in texts of {length:,} tokens", where="window",
                         fix="give a window below the length: it has nowhere to slide")
    if settings.last >= length:
        raise InputError(f"the last {settings.last:,} tokens of texts of {length:,}", where="last",
                         fix="give fewer: before them there has to be context")
    if settings.bounds and bounds[-1] >= length:
        raise InputError(f"a bound at {bounds[-1]:,} in texts of {length:,} tokens", where="bounds",
                         fix="give bounds below the length")
    stride = settings.stride or max(1, window // 2)
    windows(length, window, stride)  # refuses what cannot slide
    check_window(settings.context, length)
    inner = [bound for bound in bounds if 1 < bound < length]
    return Plan(length, [1, *inner, length], [bound for bound in inner if bound > settings.last] + [length],
                settings.last, window, stride)


def _pieces(settings: PerplexitySettings, tokenizer: Tokenizer, length: int) -> dict[str, Tensor]:
    texts = list(corpus_texts(settings.corpus))
    held = {language for language, _ in texts}
    missing = sorted(set(settings.languages or ()) - held)
    if missing:
        raise InputError(f"the validation split has no text in '{missing[0]}'", where=settings.corpus,
                         fix=f"give languages of {', '.join(sorted(held))}")
    return {language: pieces([text for text in texts if text[0] == language], tokenizer, length, settings.texts,
                             settings.seed, where=settings.corpus) for language in settings.languages or sorted(held)}


def _read(model: Decoder, ids: Tensor, plan: Plan) -> Reading:
    direct, window = losses(model, ids), sliding(model, ids, plan.window, plan.stride)
    return Reading(by_position(direct, plan.bounds), by_position(window, plan.bounds),
                   by_length(model, ids, plan.lengths, plan.last), Loss.over(direct.mean(1)),
                   Loss.over(window.mean(1)), Loss.over((direct - window).mean(1)))


def _tell(plan: Plan, found: dict[str, Reading]) -> None:
    ranges = list(next(iter(found.values())).by_position)
    at = _table("perplexity by position", [f"{start:,} to {stop - 1:,}" for start, stop in ranges])
    given = _table(f"perplexity of the last {plan.last:,} tokens given a context of",
                   [f"{length:,}" for length in plan.lengths])
    whole = _table(f"perplexity of texts of {plan.length:,} tokens",
                   ["read at once", f"window {plan.window:,}, stride {plan.stride:,}", "at once less window, nats"])
    for language, reading in found.items():
        at.add_row(language, *map(str, reading.by_position.values()))
        at.add_row(f"{language}, window", *map(str, reading.sliding.values()))
        given.add_row(language, *map(str, reading.by_length.values()))
        whole.add_row(language, str(reading.direct), str(reading.window),
                      f"{reading.gain.mean:+.3f} ± {2 * reading.gain.error:.3f}")
    for table in (at, given, whole):
        print_result(table)


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("", *columns):
        table.add_column(name, justify="right" if name else "left")
    return table


def _plain(reading: Reading) -> dict[str, object]:
    ranges = {name: {f"{start}-{stop}": loss._asdict() for (start, stop), loss in getattr(reading, name).items()}
              for name in ("by_position", "sliding")}
    return {**ranges, "by_length": {str(length): loss._asdict() for length, loss in reading.by_length.items()},
            "direct": reading.direct._asdict(), "window": reading.window._asdict(), "gain": reading.gain._asdict()}


def _panels(found: dict[str, Reading], plan: Plan) -> list[Panel]:
    at = []
    for language, reading in found.items():
        moved = {bounds: loss for bounds, loss in reading.sliding.items() if bounds[1] > plan.window}
        at += [_ranges(language, reading.by_position), _ranges(f"{language}, window", moved)]
    given = [_line(language, plan.lengths, list(reading.by_length.values())) for language, reading in found.items()]
    return [Panel(at, "position, up to", "perplexity", f"texts read at once, and in a window of {plan.window:,}",
                  log_x=True, log_y=True),
            Panel(given, "tokens of context", "perplexity", f"the same last {plan.last:,} tokens", log_x=True,
                  log_y=True)]


def _ranges(name: str, found: dict[tuple[int, int], Loss]) -> Line:
    return _line(name, [stop for _, stop in found], list(found.values()))


def _line(name: str, x: list[int], found: list[Loss]) -> Line:
    return Line(name, x, [one.perplexity for one in found], [one.margin for one in found])
