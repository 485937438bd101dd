"""The text that small language models of a study read, the models, and their training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field, model_validator

from headwater.artifacts import atomic_write
from headwater.atlas.articles import Neighbours
from headwater.atlas.language import LANGUAGES
from headwater.atlas.pages import clean_documents
from headwater.atlas.sizes import SizeName
from headwater.atlas.world import build_world
from headwater.documents import corpus_files
from headwater.hardware import best_precision
from headwater.model import Decoder, ModelConfig, initialise
from headwater.settings import InputPath, Seed, Settings
from headwater.studies.trials import once
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.shards import Shards, write_shards
from headwater.tokenizer.stage import TokenizerSettings
from headwater.tokenizer.stage import run as train_tokenizer
from headwater.train.batches import IGNORE, Batch, Batches
from headwater.train.layouts import Layout
from headwater.train.objective import Objective, next_token
from headwater.train.optimizer import Optimizer, OptimizerSettings
from headwater.train.settings import TrainerSettings
from headwater.train.streams import StreamBatches
from headwater.train.trainer import Trainer

HELD_OUT_EVERY = 25
"""Of the invented world's pages one in so many is not read in training."""
TOKENIZER_CHARACTERS = 4_000_000


class Text(NamedTuple):
    """A corpus, a tokenizer and what it made of the two splits."""

    corpus: Path
    tokenizer: Tokenizer
    train: Shards
    held_out: Shards

    @property
    def vocabulary(self) -> int:
        """Up to a multiple of 64."""
        return -(-self.tokenizer.vocab_size // 64) * 64


class TextSettings(Settings):
    """What the models read."""

    corpus: InputPath | None = None
    """A corpus folder; without one the pages of the invented world."""
    world: SizeName = "small"
    """Size of the invented world."""
    tokenizer: InputPath | None = None
    """Without one a tokenizer is trained on the text."""
    vocab_size: Annotated[int, Field(ge=512)] = 4096
    """Pieces of the tokenizer that is trained."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 means all cores."""

    def text(self, folder: Path) -> Text:
        """Read, or write, everything below the folder."""
        corpus = self.corpus or _invented(folder / "corpus", self.world)
        source = self.tokenizer or folder / "tokenizer"
        if self.tokenizer is None:
            once(source / "trained.json", lambda: train_tokenizer(TokenizerSettings(
                corpus=corpus, vocab_size=self.vocab_size, max_characters=TOKENIZER_CHARACTERS, threads=self.threads),
                source))
        tokenizer = Tokenizer.load(source)
        train, held_out = (write_shards(corpus_files(corpus, split), tokenizer, source, folder / "shards" / split)
                           for split in ("train", "validation"))
        return Text(corpus, tokenizer, train, held_out)


class LearnerSettings(TextSettings):
    """The models and their training."""

    seeds: Annotated[int, Field(ge=1)] = 3
    """Models trained of each kind; those of one seed read the same text in the same order."""
    seed: Seed = 0
    """The first of the seeds."""
    rows: Annotated[int, Field(ge=1)] = 8
    length: Annotated[int, Field(ge=16)] = 128
    """Tokens in a row."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def config(self, vocabulary: int, hidden: int, layers: int, heads: int, **changes: Any) -> ModelConfig:
        """The decoder, with feed-forward layers of about 8/3 of the hidden size."""
        return ModelConfig.parse({
            "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers,
            "intermediate_size": -(-hidden * 8 // 48) * 16, "num_attention_heads": heads,
            "max_position_embeddings": self.length, **changes})

    def trainer_of(self, steps: int, **changes: Any) -> TrainerSettings:
        rate = changes.pop("learning_rate", self.learning_rate)
        return TrainerSettings(**{
            "steps": steps, "rows": self.rows, "sequence_length": self.length, "precision": self.precision,
            "threads": self.threads, "compile": "off", "record_places": False,
            "optimizer": OptimizerSettings(learning_rate=rate, warmup_steps=max(1, min(50, steps // 5))), **changes})

    def each_seed(self) -> range:
        return range(self.seed, self.seed + self.seeds)

    def stream(self, text: Text, seed: int, layout: Layout | None = None) -> StreamBatches:
        return StreamBatches(text.train, rows=self.rows, length=self.length, seed=seed, layout=layout,
                             pad=text.tokenizer.pad)


class ShapedSettings(LearnerSettings):
    """Models of one shape and one length of training."""

    hidden_size: Annotated[int, Field(ge=16)] = 96
    layers: Annotated[int, Field(ge=1)] = 3
    heads: Annotated[int, Field(ge=1)] = 3
    steps: Annotated[int, Field(ge=1)] = 300
    """Optimizer steps of each model."""

    @model_validator(mode="after")
    def _shape_is_possible(self) -> Self:
        self.shaped(vocabulary=64)
        return self

    def shaped(self, vocabulary: int, **changes: Any) -> ModelConfig:
        return self.config(vocabulary, self.hidden_size, self.layers, self.heads, **changes)

    def trainer(self, **changes: Any) -> TrainerSettings:
        return self.trainer_of(self.steps, **changes)


class ComparedSettings(LearnerSettings):
    """Models that are compared by their losses on unseen text."""

    held_out_rows: Annotated[int, Field(ge=8)] = 128
    """Rows of it, as far as there are so many."""

    def unseen(self, text: Text) -> StreamBatches:
        return StreamBatches(text.held_out, rows=8, length=self.length, seed=0, pad=text.tokenizer.pad)

    def losses(self, model: Decoder, text: Text) -> Losses:
        return losses(model, self.unseen(text), self.held_out_rows)


def train(folder: Path, config: ModelConfig, batches: Batches, trainer: TrainerSettings, seed: int,
          objective: Objective = next_token) -> Decoder:
    """A decoder trained from random weights; one that is trained already is read from its checkpoint."""
    model = initialise(Decoder(config), seed)
    folder.mkdir(parents=True, exist_ok=True)
    Trainer(model, objective, batches, trainer).fit(folder)
    return model


class Losses(NamedTuple):
    """Means over the targets of unseen text."""

    cross_entropy: float
    """In nats."""
    max_logit: float


@torch.no_grad()
def losses(model: Decoder, batches: StreamBatches, rows: int) -> Losses:
    """On the first so many rows, or on as many as there are."""
    steps = max(1, min(rows // batches.rows, int(batches.batches_per_epoch)))
    entropy, highest, targets = 0.0, 0.0, 0
    for step in range(steps):
        batch = batches.batch(step)
        sums = next_token(model, batch, 1).sums
        entropy, highest = entropy + float(sums["cross_entropy"]), highest + float(sums["max_z"])
        targets += int((batch.targets != IGNORE).sum())
    return Losses(entropy / targets, highest / targets)


def _invented(folder: Path, size: SizeName) -> Path:
    """The clean pages of the invented world as a corpus folder."""
    pages = list(_pages(size))
    held_out = pages[::HELD_OUT_EVERY]
    for split, chosen in (("validation", held_out), ("train", [page for number, page in enumerate(pages)
                                                               if number % HELD_OUT_EVERY])):
        path = folder / split / "pages.parquet"
        if not path.exists():
            with atomic_write(path) as stream:
                pq.write_table(pa.Table.from_pylist(chosen), stream)
    return folder


def _pages(size: SizeName) -> Iterator[dict[str, str]]:
    """Of both languages in turn."""
    world = build_world(size, 0)
    written = [clean_documents(world, language, Neighbours(world)) for language in LANGUAGES.values()]
    for together in zip(*written):
        yield from ({"text": f"{page.title}\n{page.text}", "language": page.language} for page in together)


def training_step(model: Decoder, settings: LearnerSettings) -> Callable[[], object]:
    """A step of training on random tokens, for timing: forward, backward and update."""
    tokens = torch.randint(0, model.config.vocab_size, (settings.rows, settings.length),
                           generator=torch.Generator().manual_seed(0))
    places = torch.arange(settings.length).expand_as(tokens)
    batch = Batch(tokens, tokens.roll(-1, 1), places, torch.zeros_like(places), places, places)
    optimizer = Optimizer(model.train(), OptimizerSettings())
    half = settings.precision == "bfloat16" or (settings.precision == "auto" and best_precision() == "bfloat16")

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = next_token(model, batch, tokens.numel()).loss
        loss.backward()
        optimizer.step(settings.learning_rate)

    return step
