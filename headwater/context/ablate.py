"""`headwater context ablate`: what later tokens lose without early ones' positions, and attention by its parts."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from rich.table import Table
from torch import Tensor

from headwater.artifacts import make_folder, write_json, write_text
from headwater.context.ablation import INITIAL, Effect, Similarity, effects
from headwater.context.attention_parts import PARTS, Attention, attention_of
from headwater.context.perplexity import TOKENS
from headwater.context.positional import positional_vectors
from headwater.context.texts import corpus_texts, pieces
from headwater.errors import InputError
from headwater.generate.run_folder import find_model
from headwater.model import ModelConfig
from headwater.model.checkpoint import load_model, read_config
from headwater.plots import Line, Panel, panels
from headwater.progress import print_result, track
from headwater.settings import Distinct, InputPath, Seed, Settings
from headwater.tokenizer import Tokenizer

STRETCHES = ("within", "beyond")
NAMES = {"value": "value", "vector": "positional vector", "basis": "positional basis"}


class AblationSettings(Settings):
    """On what text, how far, and in which blocks."""

    corpus: InputPath
    """A corpus folder, of which the validation split is read."""
    length: Annotated[int, Field(ge=32)] | None = None
    """Tokens of a text; four times the model's own length when not set. Attention is looked at over all of it,
    ablations end with the model's own length."""
    texts: Annotated[int, Field(ge=2)] = 128
    """The more, the less meaning is left in a positional vector."""
    layers: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), Distinct] | None = None
    """Blocks that something is taken from, all of them at once, counted from 0; every one when not set."""
    seed: Seed = 0


def ablate(model: Path, out: Path, settings: AblationSettings) -> None:
    """Print tables; write `ablations.json` and `ablations.svg` into `out`.

    Raises `InputError` for a model, length or layer that cannot be, before any work.
    """
    folder = find_model(model)
    config, tokenizer = read_config(folder)[0], Tokenizer.load(folder)
    _check(config, settings, folder)
    trained, layers = config.longest, settings.layers or list(range(config.num_hidden_layers))
    length = settings.length or 4 * trained
    ids = pieces(corpus_texts(settings.corpus), tokenizer, length, settings.texts, settings.seed,
                 where=settings.corpus)
    make_folder(out, fix="give another folder")
    decoder = load_model(folder)
    vectors = positional_vectors(decoder, track(ids.split(max(1, TOKENS // length)), "positional vectors"))
    found = effects(decoder, ids[:, :trained], vectors, layers)
    attention = attention_of(decoder, ids, vectors, trained)
    write_json(out / "ablations.json", {
        "settings": settings.model_dump(mode="json"), "texts": len(ids), "length": length, "trained": trained,
        "layers": layers, "effects": [_plain(effect) for effect in found], "attention": _told(attention)})
    write_text(out / "ablations.svg", panels(_panels(attention, trained, length)))
    for table in (_effects(found, min(length, trained), len(ids), layers), _parts(attention, trained),
                  _decay(attention)):
        print_result(table)


def _check(config: ModelConfig, settings: AblationSettings, folder: Path) -> None:
    if config.position_axes > 1:
        raise InputError(f"this model's positions are '{config.position}', two numbers a token, and it reads prompts "
                         "both ways: no token is later than all that it sees", where=folder,
                         fix="give a causal model, with RoPE, ALiBi or no positions")
    if config.attention_sinks:
        raise InputError("this model meets its sinks elsewhere than where they stand, and their scores have no such "
                         "parts", where=folder, fix="give one without attention_sinks")
    last = config.num_hidden_layers - 1
    if settings.layers is not None and max(settings.layers) > last:
        raise InputError(f"block {max(settings.layers)} of 0 to {last}", where="layers",
                         fix=f"give blocks up to {last}")


def _effects(found: list[Effect], length: int, texts: int, layers: list[int]) -> Table:
    """Perplexity and similarity at the targets, with two standard errors."""
    where = "all blocks" if len(layers) > 1 else f"block {layers[0]}"
    if len(layers) > 1 and layers != list(range(len(layers))):
        where = f"blocks {', '.join(map(str, layers))}"
    table = Table(title=f"positions {length // 2:,} to {length - 1:,} of {texts:,} texts, with something taken from "
                        f"other positions in {where}", title_justify="left")
    for name in ("taken", "positions", "perplexity", "change, nats", "Sim", "Sim of the basis"):
        table.add_column(name, justify="left" if name == "taken" else "right")
    for one in found:
        start, stop = one.positions
        table.add_row(*(("nothing", "") if one.part is None else (NAMES[one.part], f"{start:,} to {stop - 1:,}")),
                      str(one.loss), f"{one.change.mean:+.4f} ± {2 * one.change.error:.4f}", _cosine(one.vectors),
                      _cosine(one.basis))
    return table


def _cosine(found: Similarity) -> str:
    return f"{found.mean:.4f} ± {2 * found.error:.4f}"


def _parts(attention: Attention, trained: int) -> Table:
    table = Table(title="attention by what it comes from (query's part, key's part): shares of the scores' variance, "
                        f"and the weight on the first {INITIAL} tokens (even: {_both(attention.even(trained))})",
                  title_justify="left", caption_justify="left",
                  caption="±: two standard errors" if _beyond(attention) is None else
                  f"within {trained:,} tokens / beyond them; ±: two standard errors, the larger")
    for name in ("block", *_shown(attention), "weight", "by position alone"):
        table.add_column(name, justify="right")
    for layer, (shares, rest, error) in enumerate(zip(attention.shares, attention.rest, attention.rest_error)):
        cells = [_both(shares[:, PARTS.index(part)]) for part in _shown(attention)]
        table.add_row(str(layer), *cells, *(f"{_both(mean)} ± {2 * float(own.nan_to_num().max()):.1%}"
                                            for mean, own in zip(rest, error)))
    return table


def _both(found: Tensor) -> str:
    return " / ".join(f"{round(one, 2) + 0.0:.0%}" for one in found.tolist() if not math.isnan(one))


def _decay(attention: Attention) -> Table:
    table = Table(title=f"mean score by distance, over all blocks, less the query's mean over the keys after the first "
                        f"{INITIAL}", title_justify="left")
    lines = _decay_lines(attention)
    for name in ("tokens apart", *(line.name for line in lines)):
        table.add_column(name, justify="right")
    values = [dict(zip(line.x, line.y)) for line in lines]
    for start, stop in pairwise([0, *(2**power for power in range(attention.decay.shape[-1]))]):
        table.add_row(f"{start:,}" if stop - start == 1 else f"{start:,} to {stop - 1:,}",
                      *(f"{own[stop]:+.3f}" if stop in own else "" for own in values))
    return table


def _decay_lines(attention: Attention) -> list[Line]:
    """A point at the end of every bin that holds pairs."""
    mean = attention.decay.mean(0)
    lines = []
    for score, name in ((1, "position alone"), (0, "whole score")):
        for stretch in range(1 if _beyond(attention) is None else 2):
            points = [(2**place, value) for place, value in enumerate(mean[score, stretch].tolist())
                      if not math.isnan(value)]
            lines.append(Line(f"{name}, {STRETCHES[stretch]}", [x for x, _ in points], [y for _, y in points]))
    return lines


def _shown(attention: Attention) -> list[str]:
    """ALiBi's bias where there is one."""
    return [part for number, part in enumerate(PARTS) if number < 4 or bool(attention.shares[:, 0, number].any())]


def _beyond(attention: Attention) -> Tensor | None:
    """The shares beyond the trained length, where a text reaches there."""
    return None if bool(attention.shares[:, 1].isnan().all()) else attention.shares[:, 1]


def _panels(attention: Attention, trained: int, length: int) -> list[Panel]:
    blocks = list(range(len(attention.shares)))
    shares = [Line(part, blocks, attention.shares[:, 0, PARTS.index(part)].tolist()) for part in _shown(attention)]
    places = attention.queries.tolist()
    whole, alone = attention.sink.mean(0).tolist()
    sink = [Line("whole score", places, whole, points=False), Line("position alone", places, alone, points=False),
            Line("even attention", places, (INITIAL / (attention.queries + 1)).tolist(), points=False)]
    if length > trained:
        sink.append(Line("trained length", [trained, trained], [min(whole + alone), 1.0], points=False))
    return [Panel(shares, "block", "share of the variance", "scores by part (query, key)", ticks=blocks),
            Panel(sink, "position of the query", "attention weight", f"on the first {INITIAL} tokens",
                  log_x=True, log_y=True),
            Panel(_decay_lines(attention), "tokens apart, below", "score less the query's mean",
                  "decay with distance", log_x=True)]


def _plain(effect: Effect) -> dict[str, Any]:
    return {name: value._asdict() if hasattr(value, "_asdict") else value for name, value in effect._asdict().items()}


def _told(attention: Attention) -> dict[str, Any]:
    """Lists, by part and stretch; None where a text does not reach."""
    def numbers(found: Any) -> Any:
        if isinstance(found, list):
            return [numbers(one) for one in found]
        return None if isinstance(found, float) and math.isnan(found) else found

    return {"parts": PARTS, "stretches": STRETCHES, "scores": ("whole", "position alone"),
            **{name: numbers(value.tolist()) for name, value in attention._asdict().items()}}
