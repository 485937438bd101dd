"""How good a model is before it is made smaller and afterwards: bits per byte of unseen text, and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, model_validator

from headwater.errors import InputError
from headwater.generate.choice import Style, accuracies, require_questions
from headwater.generate.engine import Engine
from headwater.model import Decoder
from headwater.settings import InputPath, Settings
from headwater.tokenizer import Tokenizer
from headwater.tokenizer.shards import Documents
from headwater.train.blanks import BlankInfilling
from headwater.train.validation import TOKENS_PER_BATCH, bits_per_byte


class BenchmarkSettings(Settings):
    """Questions that the model answers before and after."""

    choice: dict[str, dict[str, InputPath]] = {}
    """Benchmark name -> language -> folder in MMLU or C-Eval layout."""
    limit: int | None = Field(default=200, gt=0)
    """At most this many questions of each benchmark and language, evenly spread over the file order; None: all."""
    style: Style = "chat"
    """chat: asked through the chat template; plain: as text to continue, for models not tuned to converse."""

    @model_validator(mode="after")
    def _used(self) -> BenchmarkSettings:
        if not self.choice and (self.limit, self.style) != (200, "chat"):
            raise ValueError("limit and style have no effect without benchmarks.choice")
        return self

    def check(self, tokenizer: Tokenizer) -> None:
        """Raises `InputError` for a folder without questions, and for a tokenizer that no chat goes with."""
        require_questions(self.choice, "benchmarks.choice")
        if self.choice and self.style == "chat":
            try:
                _ = tokenizer.chat
            except InputError as error:
                raise InputError(error.what, where="benchmarks.style", fix="set benchmarks.style=plain") from None


@dataclass(frozen=True)
class Quality:
    """What models are held against, the same before and after."""

    tokenizer: Tokenizer
    benchmarks: BenchmarkSettings
    held_out: Documents | None = None
    """Validation text."""
    blank: BlankInfilling | None = None
    """How text is read by a model of blanks."""

    def bits_per_byte(self, model: Decoder) -> dict[str, float]:
        """By language."""
        length = min(model.config.longest, TOKENS_PER_BATCH)
        return {} if self.held_out is None else bits_per_byte(model, self.held_out, length, self.blank)

    def accuracy(self, model: Decoder) -> dict[str, float]:
        """By BENCHMARK.LANGUAGE."""
        if not self.benchmarks.choice:
            return {}
        engine = Engine(model, self.tokenizer, max_length=model.config.longest)
        return accuracies(engine, self.benchmarks.choice, self.benchmarks.style, self.benchmarks.limit)
