"""Does a dialogue of several turns train better as one causal sequence than turn by turn with a prefix?

ChatGLM2 made each of the assistant's turns a sample whose history is a prefix read both ways; ChatGLM3 and Baichuan put
the whole dialogue into one causal sequence with the loss on all of the assistant's turns. The same supervision then
takes the prefix way more tokens, the more the longer the dialogues. The same decoder is trained causally, with prefixes
at the same supervision in every update (more rows), and with prefixes at the same number of tokens processed. Expected,
if the claim holds: prefixes process more tokens for the same supervision, and at equal tokens the loss on the
assistant's tokens of unseen dialogues is lower for causal sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from headwater.artifacts import atomic_write, write_jsonl
from headwater.atlas.dialogues import split
from headwater.atlas.world import build_world
from headwater.dialogues.reading import Dialogue, read_dialogues, render_all
from headwater.plots import bars
from headwater.progress import say
from headwater.settings import InputPath
from headwater.studies.learners import ShapedSettings, train
from headwater.studies.trials import Estimate, Verdict, fact, judge, keep, make_table, once, tell
from headwater.tokenizer import Tokenizer
from headwater.train.packing import PackedBatches, PrefixSample, Supervised, separate_turns, work
from headwater.train.validation import target_loss

ARMS = {"causal": "causal", "prefix_supervision": "prefix, same supervision", "prefix_tokens": "prefix, same tokens"}


class TurnsSettings(ShapedSettings):
    """The dialogues and the models."""

    dialogues: list[InputPath] = []
    """Files of dialogues, one in twenty of which is not trained on; none: the invented world's."""
    fewest_turns: Annotated[int, Field(ge=1)] = 2
    """Of the assistant; shorter dialogues are the same either way and are left out."""
    length: Annotated[int, Field(ge=16)] = 256
    rows: Annotated[int, Field(ge=1)] = 4
    """Of causal sequences, in a batch."""


class Result(NamedTuple):
    """One model."""

    arm: str
    seed: int
    loss: float
    """On unseen dialogues, in nats for each of the assistant's tokens, read as the model was trained."""


Sequences = Sequence[Supervised | PrefixSample]


class Lessons(NamedTuple):
    """Dialogues in one of the two forms."""

    train: Sequences
    held_out: Sequences


def run(out: Path, settings: TurnsSettings) -> list[Result]:
    """Count the tokens, train every kind of model; print the table, write `turns.json` and `turns.svg` into `out`. A
    model that is trained already is not trained again. Raises `InputError` for a folder of other settings, and for
    dialogues of which none has as many turns."""
    keep(out, settings)
    tokenizer, causal, prefix = _read(settings, out)
    whole, parted = work(causal.train), work(prefix.train)
    rows = {"causal": settings.rows, "prefix_supervision": round(settings.rows * parted.tokens / whole.tokens),
            "prefix_tokens": settings.rows}
    found = [_result(arm, seed, rows[arm], causal if arm == "causal" else prefix, settings, tokenizer, out)
             for seed in settings.each_seed() for arm in ARMS]
    means = {arm: Estimate.of(one.loss for one in found if one.arm == arm) for arm in ARMS}
    table = make_table(f"{len(causal.train)} dialogues, {whole.targets:,} of their tokens learned in an epoch",
                       ["", "tokens an epoch", "rows", "tokens processed", "loss, nats for the assistant's tokens"],
                       [(words, f"{(whole if arm == 'causal' else parted).tokens:,}", str(rows[arm]),
                         f"{settings.steps * rows[arm] * settings.length:,}", means[arm].words())
                        for arm, words in ARMS.items()])
    results = {"tokens": {"causal": whole.tokens, "prefix": parted.tokens}, "targets": whole.targets,
               "models": [one._asdict() for one in found]}
    drawn = {"tokens processed, millions": {words.replace(", ", ",\n"): (settings.steps * rows[arm] * settings.length
                                                                      / 1e6, 0.0) for arm, words in ARMS.items()},
             "loss on unseen dialogues": {words.replace(", ", ",\n"): (means[arm].mean, 2 * means[arm].error)
                                          for arm, words in ARMS.items()}}
    tell(out, "turns", results, table, verdicts(found, parted.tokens / whole.tokens),
         bars(drawn, title="Dialogues of several turns", width=3.6))
    return found


def verdicts(results: list[Result], share: float) -> list[Verdict]:
    """share: tokens that prefixes process for one of the causal way's, at the same supervision."""
    def losses(arm: str) -> list[float]:
        return [one.loss for one in results if one.arm == arm]

    def gains(arm: str) -> list[float]:
        return [other - own for own, other in zip(losses("causal"), losses(arm))]

    return [fact(f"prefixes process more tokens for the same supervision ({share:.2f} times as many)", share - 1),
            judge("at equal tokens processed the causal loss is lower", gains("prefix_tokens")),
            judge("at equal supervision the causal loss is lower", gains("prefix_supervision"))]


def _result(arm: str, seed: int, rows: int, lessons: Lessons, settings: TurnsSettings, tokenizer: Tokenizer,
            out: Path) -> Result:
    def batches(sequences: Sequences, seed: int) -> PackedBatches:
        return PackedBatches(sequences, rows=rows, length=settings.length, seed=seed, pad=tokenizer.pad)

    def measure() -> float:
        say(f"turns: {ARMS[arm]}, model {seed}")
        vocabulary = -(-tokenizer.vocab_size // 64) * 64
        model = train(out / f"{arm}-{seed}", settings.shaped(vocabulary), batches(lessons.train, seed),
                      settings.trainer(rows=rows), seed)
        return target_loss(model, batches(lessons.held_out, 0))

    return Result(arm, seed, float(once(out / f"{arm}-{seed}.json", measure)))


def _read(settings: TurnsSettings, out: Path) -> tuple[Tokenizer, Lessons, Lessons]:
    """The tokenizer, that of the settings or one trained on what is said; the dialogues of several turns as causal
    sequences, and turn by turn."""
    train_on, unseen = _dialogues(settings, out)
    corpus = settings.corpus or _as_corpus(train_on, unseen, out / "corpus")
    tokenizer = settings.model_copy(update={"corpus": corpus}).text(out / "text").tokenizer
    learned, asked = ([(one.ids, one.loss_mask) for one in render_all(chosen, tokenizer, settings.length)]
                      for chosen in (train_on, unseen))
    return tokenizer, Lessons(learned, asked), Lessons(separate_turns(learned), separate_turns(asked))


def _dialogues(settings: TurnsSettings, out: Path) -> tuple[list[Dialogue], list[Dialogue]]:
    if settings.dialogues:
        every = _long(read_dialogues(settings.dialogues), settings)
        return [one for number, one in enumerate(every) if number % 20], every[::20]
    parts = []
    for name, rows in zip(("train", "validation"), split(build_world(settings.world, 0))):
        write_jsonl(out / f"{name}.jsonl", rows)
        parts.append(_long(read_dialogues([out / f"{name}.jsonl"]), settings))
    return parts[0], parts[1]


def _long(dialogues: list[Dialogue], settings: TurnsSettings) -> list[Dialogue]:
    return [one for one in dialogues
            if sum(message["role"] == "assistant" for message in one.messages) >= settings.fewest_turns]


def _as_corpus(train_on: list[Dialogue], unseen: list[Dialogue], folder: Path) -> Path:
    """What is said in the dialogues, as a corpus folder."""
    for name, chosen in (("train", train_on), ("validation", unseen)):
        rows = [{"text": "\n".join(str(message["content"]) for message in one.messages), "language": one.language}
                for one in chosen]
        with atomic_write(folder / name / "dialogues.parquet") as stream:
            pq.write_table(pa.Table.from_pylist(rows), stream)
    return folder
