"""How far tokenizers compress the same text: a table by kind of text and language, and a plot."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from rich.table import Table

from headwater.artifacts import make_folder, write_json, write_text
from headwater.errors import InputError, MissingExtraError
from headwater.folders import MERGES, VOCABULARIES
from headwater.hardware import cores
from headwater.progress import print_result, track
from headwater.settings import InputPath, Settings
from headwater.tokenizer.compression import Measured, Row
from headwater.tokenizer.texts import batches, read_texts
from headwater.tokenizer.vocabulary import Tokenizer

KINDS = (*VOCABULARIES, *MERGES, *MERGES.values())
"""Names of files that say nothing of the tokenizer: its folder does."""


class ReportSettings(Settings):
    """Which tokenizers, on which text."""

    tokenizers: Annotated[list[InputPath], Field(min_length=1)]
    """Tokenizer or model folders of any family, or files of them."""
    texts: Annotated[dict[str, InputPath | list[InputPath]], Field(min_length=1)]
    """Text by kind: files or folders of text, code, .parquet (`text`), .json or .jsonl (dialogues too), one or several,
    for example {prose: a, code: b, dialogue: [c, d]}. Where Parquet does not name the language, a text with a fifth of
    Han characters counts as Chinese."""
    limit: Annotated[int, Field(ge=1)] = 20_000_000
    """Characters taken of each kind in each language."""
    threads: Annotated[int, Field(ge=0)] = 0
    """0 means all cores."""


def report(out: Path, settings: ReportSettings) -> None:
    """Print the table; write `compression.json`, `compression.md` and, with matplotlib, `compression.svg` into `out`.

    Raises `InputError` for a kind without text and for a folder without a tokenizer.
    """
    make_folder(out, fix="give another target")
    rows = compare(settings)
    write_json(out / "compression.json", [_values(row) for row in rows])
    write_text(out / "compression.md", markdown(rows))
    try:
        write_text(out / "compression.svg", plot(rows))
    except MissingExtraError as error:
        print_result(str(error))
    print_result(_table(rows))


def compare(settings: ReportSettings) -> list[Row]:
    """A row for every tokenizer, kind and language, on the same texts."""
    named = list(dict.fromkeys(path.absolute() for path in settings.tokenizers))
    tokenizers = list(zip(_names(named), map(Tokenizer.load, named)))
    rows = []
    for kind, given in settings.texts.items():
        paths = given if isinstance(given, list) else [given]
        found: dict[str, list[Measured]] = {}
        texts_of_kind = chain.from_iterable(map(read_texts, paths))
        for language, texts in track(batches(texts_of_kind, settings.limit), f"measuring {kind}"):
            if language not in found:
                found[language] = [Measured(tokenizer, settings.threads or cores()) for _, tokenizer in tokenizers]
            for measured in found[language]:
                measured.add(texts)
        if not found:
            raise InputError(f"no text of the kind '{kind}'", where=", ".join(map(str, paths)),
                             fix="give text, JSON, JSON lines or Parquet")
        rows += [measured.row(name, kind, language) for language, own in sorted(found.items())
                 for (name, _), measured in zip(tokenizers, own)]
    return rows


def _names(paths: Sequence[Path]) -> list[str]:
    """What tells each path from the others: its last part, with those before it where two are called alike."""
    said = [path.parts[:-1] if path.name in KINDS else path.parts for path in paths]
    return [next("/".join(own[-depth:]) for depth in range(1, len(own) + 1)
                 if sum(other[-depth:] == own[-depth:] for other in said) == 1 or depth == len(own)) for own in said]


def _values(row: Row) -> dict[str, Any]:
    return {**asdict(row), "bytes_per_token": row.bytes_per_token, "characters_per_token": row.characters_per_token,
            "tokens_per_character": row.tokens_per_character}


HEADINGS = ("kind", "language", "tokenizer", "pieces", "bytes/token", "characters/token", "tokens/character",
            "parts of characters")


def _cells(row: Row) -> tuple[str, ...]:
    return (row.kind, row.language, row.tokenizer, f"{row.vocab_size:,}", f"{row.bytes_per_token:.3f}",
            f"{row.characters_per_token:.3f}", f"{row.tokens_per_character:.4f}", f"{row.partial:.2%}")


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def _table(rows: list[Row]) -> Table:
    table = Table(title="Compression")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number < 3 else "right")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def markdown(rows: list[Row]) -> str:
    """The table, and what its columns mean."""
    lines = ["# Compression", "", f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}",
             *(f"| {' | '.join(map(_escaped, _cells(row)))} |" for row in rows), "",
             "Bytes are those of UTF-8, characters Unicode code points; special tokens are not counted. Baichuan's "
             "published rates (Baichuan 2, table 2) define neither the unit nor the text: tokens per character on "
             "Chinese documentation reproduces that column within 4 % (LLaMA 1.037, ChatGLM2 0.527); tokens per byte "
             "do not. Absolute values move by a fifth with the kind of text: compare tokenizers on the same one."]
    return "\n".join([*lines, ""])


def plot(rows: list[Row]) -> str:
    """Bytes per token of every tokenizer, a row of panels for each kind, a column for each language, as SVG."""
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("the plot needs matplotlib", fix="pip install 'headwater[report]'") from None
    import io

    import matplotlib

    kinds, languages = (list(dict.fromkeys(getattr(row, what) for row in rows)) for what in ("kind", "language"))
    sizes = {row.tokenizer: row.vocab_size for row in rows}
    names = list(sizes)
    figure = Figure(figsize=(3.6 * len(languages) + 2, len(kinds) * (0.7 + 0.28 * len(names))), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(len(kinds), len(languages), squeeze=False, sharey=True).ravel().tolist()
    for axis, (kind, language) in zip(axes, product(kinds, languages)):
        own = {row.tokenizer: row.bytes_per_token for row in rows if (row.kind, row.language) == (kind, language)}
        axis.set_visible(bool(own))
        if not own:
            continue
        axis.barh(range(len(names)), [own[name] for name in names],
                  color=["#c4553b" if number == 0 else "#2a6f9e" for number in range(len(names))], height=0.7)
        for place, name in enumerate(names):
            axis.annotate(f"{own[name]:.2f}", (own[name], place), xytext=(3, 0), textcoords="offset points",
                          va="center", fontsize=8)
        axis.set_title(f"{kind}, {language}".replace("$", r"\$"), fontsize=10)  # "$" begins a formula
        axis.set_yticks(range(len(names)), [f"{name} ({sizes[name]:,})".replace("$", r"\$") for name in names],
                        fontsize=8)
        axis.set_xticks([])
        axis.margins(x=0.2)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.suptitle("UTF-8 bytes per token (longer is better); in brackets the number of pieces", fontsize=11)
    buffer = io.StringIO()
    # The text stays text, whose letters the viewer's fonts have; here only its width is guessed.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "compression"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
