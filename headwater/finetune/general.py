"""What tuning cost: the model before and after on general text and questions."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from rich.table import Table

from headwater.documents import corpus_files
from headwater.generate.choice import accuracies
from headwater.generate.engine import Engine
from headwater.model import Decoder
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.shards import write_shards
from headwater.train.validation import bits_per_byte

Measured = dict[str, float]
"""By `TASK.LANGUAGE.METRIC`."""
BITS = "bits_per_byte"


class GeneralSettings(Settings):
    """What the model is measured on before it is tuned and afterwards, asked as plain text both times."""

    corpus: InputPath | None = None
    """A corpus folder; bits per byte are taken on its validation split."""
    choice: dict[str, dict[str, InputPath]] = {}
    """Benchmark name -> language -> folder in MMLU or C-Eval layout."""
    limit: int | None = Field(default=200, gt=0)
    """At most this many questions of each benchmark and language, evenly spread over the file order; None: all."""

    @property
    def asked(self) -> bool:
        return self.corpus is not None or bool(self.choice)


def measured(model: Decoder, tokenizer: Tokenizer, source: Path, settings: GeneralSettings, out: Path) -> Measured:
    """source: where the tokenizer was loaded from. The texts' ids are kept below `out`."""
    found: Measured = {}
    engine = Engine(model, tokenizer, max_length=model.config.longest)
    if settings.corpus is not None:
        shards = write_shards(corpus_files(settings.corpus, "validation"), tokenizer, source, out / "general")
        bits = bits_per_byte(model, shards, min(engine.max_length, 1024))
        found |= {f"text.{language}.{BITS}": value for language, value in bits.items()}
    right = accuracies(engine, settings.choice, "plain", settings.limit)
    return found | {f"{name}.accuracy": value for name, value in right.items()}


def before_and_after(rows: dict[str, Measured]) -> Table:
    """The same figures of the model before and after, side by side."""
    table = Table(title="What tuning changed")
    table.add_column("measure")
    for name in rows:
        table.add_column(name, justify="right")
    for key in dict.fromkeys(key for row in rows.values() for key in row):
        form = "{:.1%}" if key.endswith(".accuracy") else "{:.3f}"
        table.add_row(key.replace(".", ", ").replace("_", " "),
                      *(form.format(row[key]) if key in row else "" for row in rows.values()))
    return table
