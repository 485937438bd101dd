"""`headwater context positions`: the positional vectors of a model, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from rich.table import Table

from headwater.artifacts import make_folder, write_json, write_text
from headwater.context.positional import PositionalVectors, positional_vectors
from headwater.context.texts import corpus_texts, pieces
from headwater.errors import InputError
from headwater.generate.run_folder import find_model
from headwater.model.checkpoint import load_model
from headwater.model.replacement import write_vectors
from headwater.plots import Line, Panel, panels
from headwater.progress import print_result, say, track
from headwater.settings import Distinct, InputPath, Seed, Settings
from headwater.tokenizer import Tokenizer

TOKENS = 16_384
"""Read in one pass."""


class PositionsSettings(Settings):
    """On what text, and how far."""

    corpus: InputPath
    """A corpus folder, of which the validation split is read."""
    length: Annotated[int, Field(ge=8)] | None = None
    """Tokens of a text; the model's own length when not set. Beyond it, vectors are held against those within."""
    texts: Annotated[int, Field(ge=2)] = 512
    """The more, the less of a mean is chance; the paper takes 32,000."""
    layers: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), Distinct] | None = None
    """Drawn: 0 is what goes into the first block. The first two, the middle and the last when not set."""
    seed: Seed = 0


def decompose(model: Path, out: Path, settings: PositionsSettings) -> None:
    """Print a row a layer; write `vectors.safetensors`, `positions.json` and `positions.svg` into `out`.

    Raises `InputError` for a model, length or layer that cannot be.
    """
    folder = find_model(model)
    decoder, tokenizer = load_model(folder), Tokenizer.load(folder)
    trained = decoder.config.longest
    length, last = settings.length or trained, decoder.config.num_hidden_layers
    layers = settings.layers or sorted({0, 1, last // 2, last})
    if max(layers) > last:
        raise InputError(f"layer {max(layers)} of {last}", where="layers", fix=f"give layers up to {last}")
    ids = pieces(corpus_texts(settings.corpus), tokenizer, length, settings.texts, settings.seed,
                 where=settings.corpus)
    make_folder(out, fix="give another folder")
    found = positional_vectors(decoder, track(ids.split(max(1, TOKENS // length)), "texts"))
    rows = [_row(found, layer, trained) for layer in range(last + 1)]
    write_vectors(out / "vectors.safetensors", {"vectors": found.vectors, "noise": found.noise}, folder)
    write_json(out / "positions.json", {"settings": settings.model_dump(mode="json"), "texts": found.texts,
                                        "layers": rows})
    write_text(out / "positions.svg", panels([_panel(found, layer) for layer in layers]))
    print_result(_table(rows, found.texts, length, trained))
    if buried := [str(layer) for layer, less in enumerate((found.energy() < found.noise).tolist()) if layer and less]:
        say(f"note: after layers {', '.join(buried)} positions leave less than chance in the means of {found.texts} "
            "texts: give more")


def _row(found: PositionalVectors, layer: int, trained: int) -> dict[str, float | None]:
    basis = torch.nn.functional.normalize(found.basis[layer], dim=-1)
    shares = found.principal(layer)[1]
    beyond = (basis[trained:] @ basis[:trained].T).max(1).values.mean() if len(basis) > trained else None
    return {"layer": layer, "energy": float(found.energy()[layer]), "chance": float(found.noise[layer]),
            "first": float(shares[0]), "second": float(shares[1]), "ends": float(basis[0] @ basis[-1]),
            "beyond": None if beyond is None else float(beyond)}


def _table(rows: list[dict[str, float | None]], texts: int, length: int, trained: int) -> Table:
    table = Table(title=f"positional basis over {texts} texts of {length:,} tokens", title_justify="left")
    names = {"layer": "layer", "energy": "squared length", "chance": "by chance", "first": "1st component",
             "second": "2nd", "ends": "first against last position"}
    if length > trained:
        names["beyond"] = f"beyond {trained:,}: likest within"
    for name in names.values():
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{row[name]:.0f}" if name == "layer" else f"{row[name]:.2f}" if name in ("ends", "beyond")
                        else f"{row[name]:.0%}" if name in ("first", "second") else f"{max(0.0, row[name] or 0.0):.4g}"
                        for name in names))  # less than chance is none
    return table


def _panel(found: PositionalVectors, layer: int) -> Panel:
    """The positions along the first two components; the first four, at which attention comes to rest, are marked."""
    places = found.principal(layer)[0]
    return Panel([Line("positions in order", places[:, 0].tolist(), places[:, 1].tolist(), points=False),
                  Line("the first four", places[:4, 0].tolist(), places[:4, 1].tolist(), joined=False)],
                 "1st component", "2nd component", f"after layer {layer}" if layer else "before the first layer")
