"""How far tokenizers compress the same text: a table by kind of text and language, and a plot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from rich.table import Table

from headwater.artifacts import write_json, write_text
from headwater.errors import InputError, MissingExtraError
from headwater.progress import print_result, track
from headwater.settings import InputPath, Settings
from headwater.tokenizer.vocabulary import Tokenizer

BATCH = 256
CHINESE = 0.2
"""Share of Han characters from which a text counts as Chinese."""


@dataclass(frozen=True)
class Row:
    """One tokenizer on one kind of text in one language. Bytes are UTF-8, characters Unicode code points; `fallback` is
    the share of tokens that are single bytes of a character without a piece."""

    tokenizer: str
    vocab_size: int
    kind: str
    language: str
    texts: int
    bytes: int
    characters: int
    tokens: int
    fallback: float

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / max(1, self.tokens)

    @property
    def characters_per_token(self) -> float:
        return self.characters / max(1, self.tokens)

    @property
    def tokens_per_character(self) -> float:
        """What the Baichuan 2 report calls the compression rate, as far as its column can be reproduced (lower is
        better)."""
        return self.tokens / max(1, self.characters)


class ReportSettings(Settings):
    """Which tokenizers, on which text."""

    tokenizers: Annotated[list[InputPath], Field(min_length=1)]
    """Tokenizer or model folders of any family."""
    texts: Annotated[dict[str, InputPath], Field(min_length=1)]
    """Text by kind: a file or folder of .txt, .md, .jsonl (with `text`, or dialogues in `messages`) or .parquet, for
    example {prose: a, code: b, dialogue: c, numbers: d}. A text with a fifth of Han characters counts as Chinese."""
    limit: Annotated[int, Field(ge=1)] = 20_000_000
    """Characters taken of each kind."""
    threads: Annotated[int, Field(ge=1)] = 2


def report(out: Path, settings: ReportSettings) -> None:
    """Print the table; write `compression.json`, `compression.md` and, with matplotlib, `compression.svg` into `out`.

    Raises `InputError` for a kind without text and for a folder without a tokenizer.
    """
    rows = compare(settings)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "compression.json", [_values(row) for row in rows])
    write_text(out / "compression.md", markdown(rows))
    try:
        write_text(out / "compression.svg", plot(rows))
    except MissingExtraError as error:
        print_result(str(error))
    print_result(_table(rows))


def compare(settings: ReportSettings) -> list[Row]:
    """A row for every tokenizer, kind and language, on the same texts."""
    tokenizers = {_name(path, settings.tokenizers): Tokenizer.load(path) for path in settings.tokenizers}
    rows = []
    for kind, path in settings.texts.items():
        texts = list(_limited(read_texts(path), settings.limit))
        if not texts:
            raise InputError(f"no text of the kind '{kind}'", where=path, fix="give .txt, .md, .jsonl or .parquet")
        by_language: dict[str, list[str]] = {}
        for text in texts:
            by_language.setdefault(language_of(text), []).append(text)
        for language, own in sorted(by_language.items()):
            rows += [measure(name, tokenizer, kind, language, own, settings.threads)
                     for name, tokenizer in track(tokenizers.items(), f"{kind}, {language}", len(tokenizers))]
    return rows


def measure(name: str, tokenizer: Tokenizer, kind: str, language: str, texts: Sequence[str], threads: int = 1) -> Row:
    """What one tokenizer makes of some texts."""
    tokens = fallback = 0
    single = {index for index in range(tokenizer.vocab_size) if tokenizer.piece(index).startswith("<0x")}
    for start in range(0, len(texts), BATCH):
        ids = tokenizer.encode_packed(texts[start:start + BATCH], threads=threads).ids
        tokens += len(ids)
        fallback += sum(count for index, count in Counter(ids.tolist()).items() if index in single)
    return Row(name, tokenizer.vocab_size, kind, language, len(texts), sum(len(text.encode()) for text in texts),
               sum(map(len, texts)), tokens, fallback / max(1, tokens))


def language_of(text: str) -> str:
    han = sum("\u3400" <= character <= "\u9fff" for character in text)
    return "zh" if han >= CHINESE * max(1, sum(not character.isspace() for character in text)) else "en"


def read_texts(path: Path) -> Iterator[str]:
    """The texts of a file or of every file below a folder, in order. Raises `InputError` for a damaged one."""
    if not path.exists():
        raise InputError("no such file or folder", where=path, fix="give the path of existing text")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        try:
            if file.suffix in (".txt", ".md"):
                yield file.read_text("utf-8")
            elif file.suffix == ".jsonl":
                with file.open(encoding="utf-8") as stream:
                    yield from (_text_of(json.loads(line)) for line in stream if line.strip())
            elif file.suffix == ".parquet":
                for batch in pq.ParquetFile(file).iter_batches(BATCH, columns=["text"]):
                    yield from batch["text"].to_pylist()
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise InputError(f"cannot be read as text: {error}", where=file, fix="give UTF-8 text, or JSON lines with "
                             "`text` or `messages`") from None


def _text_of(row: dict[str, Any]) -> str:
    if "messages" in row:
        return "\n".join(str(message["content"]) for message in row["messages"])
    return str(row["text"])


def _limited(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        yield text[:characters]
        characters -= len(text)


def _name(path: Path, paths: Sequence[Path]) -> str:
    """The folder's name, with its parent's where two are called alike."""
    alike = [one for one in paths if one.name == path.name]
    return path.name if len(alike) == 1 else f"{path.parent.name}/{path.name}"


def _values(row: Row) -> dict[str, Any]:
    return {**asdict(row), "bytes_per_token": row.bytes_per_token, "characters_per_token": row.characters_per_token,
            "tokens_per_character": row.tokens_per_character}


HEADINGS = ("kind", "language", "tokenizer", "pieces", "bytes/token", "characters/token", "tokens/character",
            "single bytes")


def _cells(row: Row) -> tuple[str, ...]:
    return (row.kind, row.language, row.tokenizer, f"{row.vocab_size:,}", f"{row.bytes_per_token:.3f}",
            f"{row.characters_per_token:.3f}", f"{row.tokens_per_character:.4f}", f"{row.fallback:.2%}")


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
             *(f"| {' | '.join(_cells(row))} |" for row in rows), "",
             "Bytes are those of UTF-8, characters Unicode code points; special tokens are not counted. Baichuan's "
             "published rates (Baichuan 2, table 2) define neither the unit nor the text: tokens per character on "
             "Chinese documentation reproduces that column within 4 % (LLaMA 1.037, ChatGLM2 0.527); tokens per byte "
             "do not. Absolute values move by a fifth with the kind of text: compare tokenizers on the same one."]
    return "\n".join([*lines, ""])


def plot(rows: list[Row]) -> str:
    """Bytes per token of every tokenizer, a panel for each kind and language, as SVG."""
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("the plot needs matplotlib", fix="pip install 'headwater[report]'") from None
    import io

    import matplotlib

    panels = list(dict.fromkeys((row.kind, row.language) for row in rows))
    names = list(dict.fromkeys(row.tokenizer for row in rows))
    columns = min(3, len(panels))
    height = -(-len(panels) // columns) * (0.7 + 0.28 * len(names))
    figure = Figure(figsize=(3.4 * columns + 1, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharey=True).ravel().tolist()
    for axis, (kind, language) in zip(axes, panels):
        own = {row.tokenizer: row.bytes_per_token for row in rows if (row.kind, row.language) == (kind, language)}
        axis.barh(range(len(names)), [own[name] for name in names],
                  color=["#c4553b" if number == 0 else "#2a6f9e" for number in range(len(names))], height=0.7)
        for place, name in enumerate(names):
            axis.annotate(f"{own[name]:.2f}", (own[name], place), xytext=(3, 0), textcoords="offset points",
                          va="center", fontsize=8)
        axis.set_title(f"{kind}, {language}", fontsize=10)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_xticks([])
        axis.margins(x=0.2)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    axes[0].invert_yaxis()
    for axis in islice(axes, len(panels), None):
        axis.set_visible(False)
    figure.suptitle("UTF-8 bytes per token (longer is better)", fontsize=11)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "compression"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
