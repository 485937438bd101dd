"""Does a model that was trained to fill blanks fill them better than one that reads from left to right?

GLM (2103.10360) predicts a blank from the text on both sides of it, a causal model from what stands before. The same
decoder is trained on the same text both ways: blank infilling, with spans and long blanks, against next tokens. Both
then predict the same blanks in unseen text, of one to six tokens. As a control the infilling model also gets the text
before the blank alone. Expected, if the claim holds: the perplexity of a blank with both sides is below 0.9 of that of
the causal model, and below 0.9 of the infilling model's own with the left side alone. (Infilling asks for fewer tokens
of the same text, and there are few steps here: the first may fail where the second holds.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field

from headwater.model import Decoder, ModelConfig
from headwater.plots import bars
from headwater.progress import say
from headwater.studies.learners import ShapedSettings, Text, train
from headwater.studies.trials import Estimate, Verdict, judge, keep, make_table, once, tell
from headwater.train.batches import IGNORE, Batch, Ints, Sample, counted, last_seen, lay
from headwater.train.blanks import BlankInfilling, GlmSettings, glm_ids
from headwater.train.layouts import Causal
from headwater.train.objective import next_token

BELOW = 0.9
"""Of the other's perplexity."""
AXES = 2
READERS = {"infilling": "infilling, both sides", "left": "infilling, left side alone", "causal": "causal, left side"}


class BlanksSettings(ShapedSettings):
    """The models and the blanks."""

    heads: Annotated[int, Field(ge=1)] = 4
    """Each of a size that is a multiple of 4, as two rotary positions ask."""
    hidden_size: Annotated[int, Field(ge=16)] = 96
    steps: Annotated[int, Field(ge=1)] = 800
    """Of the causal models; those of infilling take as many as read the same text."""
    glm: GlmSettings = GlmSettings(token_share=0.5, sentence_share=0.0, document_share=0.5)
    """What infilling blanks out in training."""
    blanks: Annotated[int, Field(ge=10)] = 600
    """Filled in unseen text."""
    longest: Annotated[int, Field(ge=1)] = 6
    """Tokens of a blank: 1 to so many, with equal chance."""

    def shape(self, text: Text) -> ModelConfig:
        """One shape for both, whose positions are two numbers; of causal text the second is 0."""
        return self.shaped(text.vocabulary, position="rope_2d")


class Blank(NamedTuple):
    """A stretch of unseen text and the part of it to be told."""

    ids: Ints
    start: int
    size: int


class Result(NamedTuple):
    """The models of one seed: nats for each token of the blanks, by reader."""

    seed: int
    infilling: float
    left: float
    causal: float


def run(out: Path, settings: BlanksSettings) -> list[Result]:
    """Train both kinds of model and let them fill blanks; print the table, write `blanks.json` and `blanks.svg` into
    `out`. A model that is trained already is not trained again. Raises `InputError` for a folder of other settings."""
    keep(out, settings)
    text = settings.text(out / "text")
    found = [_result(seed, settings, text, out) for seed in settings.each_seed()]
    means = {words: Estimate.of(getattr(one, name) for one in found) for name, words in READERS.items()}
    table = make_table(f"{settings.blanks} blanks of unseen text, {settings.seeds} models of each kind",
                       ["read as", "nats a token", "perplexity"],
                       [(words, one.words(), f"{math.exp(one.mean):.1f}") for words, one in means.items()])
    heights = {words.replace(", ", "\n"): (one.mean, 2 * one.error) for words, one in means.items()}
    tell(out, "blanks", [one._asdict() for one in found], table, verdicts(found),
         bars({"nats for a token of a blank": heights}, title="Filling blanks", width=5.6))
    return found


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """Ratios of perplexities, by the pairs of a seed."""
    found = []
    for name in ("causal", "left"):
        ratios = [math.exp(one.infilling - getattr(one, name)) for one in results]
        found.append(judge(f"perplexity with both sides is below {BELOW} of that of '{READERS[name]}' "
                           f"({Estimate.of(ratios).words()} of it)", [BELOW - one for one in ratios]))
    return found


def _result(seed: int, settings: BlanksSettings, text: Text, out: Path) -> Result:
    def measure() -> dict[str, float]:
        blanks = choose(text, settings)
        infilling = _trained("infilling", seed, settings, text, out)
        causal = _trained("causal", seed, settings, text, out)
        reader = Reader(text)
        return {"infilling": _nats(infilling, [reader.infilling(one, left=False) for one in blanks]),
                "left": _nats(infilling, [reader.infilling(one, left=True) for one in blanks]),
                "causal": _nats(causal, [reader.causal(one) for one in blanks])}

    return Result(seed, **once(out / f"seed-{seed}.json", measure))


def _trained(kind: str, seed: int, settings: BlanksSettings, text: Text, out: Path) -> Decoder:
    say(f"blanks: {kind}, model {seed}")
    layout: Any = Causal(AXES)
    if kind == "infilling":
        layout = BlankInfilling(settings.glm, glm_ids(text.tokenizer), axes=AXES)
    stream, plain = settings.stream(text, seed, layout), settings.stream(text, seed)
    steps = round(settings.steps * stream.batches_per_epoch / plain.batches_per_epoch)
    return train(out / f"{kind}-{seed}", settings.shape(text), stream, settings.trainer_of(steps), seed)


def choose(text: Text, settings: BlanksSettings) -> list[Blank]:
    """Blanks with at least a quarter of a row's text on either side, the same ones for every model."""
    draw, found = np.random.default_rng(0), []
    room = settings.length - 2  # [MASK] and <sop>
    long_enough = [one for one in range(text.held_out.documents) if len(text.held_out.document(one)) >= room]
    for _ in range(settings.blanks):
        ids = text.held_out.document(int(draw.choice(long_enough))).astype(np.int64)
        begin = int(draw.integers(0, len(ids) - room + 1))
        size = int(draw.integers(1, settings.longest + 1))
        start = int(draw.integers(room // 4, room - room // 4 - size + 1))
        found.append(Blank(ids[begin : begin + room], start, size))
    return found


class Reader:
    """Blanks as samples of a row, with targets on their tokens alone."""

    def __init__(self, text: Text) -> None:
        self.ids = glm_ids(text.tokenizer)

    def causal(self, blank: Blank) -> Sample:
        end = blank.start + blank.size
        tokens = blank.ids[: end]
        targets = np.full(end, IGNORE)
        targets[blank.start - 1 : end - 1] = tokens[blank.start :]
        return Sample(tokens, targets, counted(end, AXES), last_seen(end, 0), np.arange(end))

    def infilling(self, blank: Blank, *, left: bool) -> Sample:
        """The text with [MASK] for the blank, and what follows it unless `left`; then <sop> and the blank."""
        start, end = blank.start, blank.start + blank.size
        after = blank.ids[end:] if not left else blank.ids[:0]
        context = np.concatenate([blank.ids[:start], [self.ids.mask], after])
        told = blank.ids[start:end]
        tokens = np.concatenate([context, [self.ids.sop], told])
        targets = np.full(len(tokens), IGNORE)
        targets[len(context) : len(tokens) - 1] = told
        positions = np.stack([np.append(np.arange(len(context)), np.full(blank.size + 1, start)),
                              np.append(np.zeros(len(context), dtype=np.int64), np.arange(1, blank.size + 2))])
        return Sample(tokens, targets, positions, last_seen(len(tokens), len(context)), np.arange(len(tokens)))


@torch.no_grad()
def _nats(model: Decoder, samples: list[Sample], rows: int = 16) -> float:
    """Mean over the blanks' tokens."""
    longest = max(len(one.tokens) for one in samples)
    nats, targets = 0.0, 0
    for begin in range(0, len(samples), rows):
        batch: Batch = lay([[one] for one in samples[begin : begin + rows]], longest, pad=0, axes=AXES)
        nats += float(next_token(model, batch, 1).sums["cross_entropy"])
        targets += int((batch.targets != IGNORE).sum())
    return nats / targets
