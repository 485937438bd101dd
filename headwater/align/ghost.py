"""Ghost attention (LLaMA 2, 2307.09288, section 3.3): an instruction of the first turn is made to hold to the last."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from headwater.align.answers import tell
from headwater.align.candidates import PORTIONS, DrawingSettings
from headwater.align.instructions import Instruction, read_instructions, read_questions, written
from headwater.align.portions import Rows, in_portions
from headwater.align.recall import BEFORE, LINES, Recall, parts_table, recall, recall_table
from headwater.align.talks import Talk, greedily, hold, obediently, planned
from headwater.align.tuning import TUNED, Tuning, TuningSettings, last_answer
from headwater.artifacts import read_jsonl, write_json, write_jsonl
from headwater.dialogues.reading import Dialogue, answer_by_answer, render_all
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.model import Decoder
from headwater.model.checkpoint import load_model
from headwater.progress import print_result
from headwater.settings import InputPath
from headwater.tokenizer import Tokenizer
from headwater.train.learning import check
from headwater.train.objective import next_token
from headwater.train.packing import Supervised
from headwater.train.settings import TrainerSettings

TALKS, DIALOGUES, RECALL, FOUND = "talks.jsonl", "dialogues.jsonl", "recall", "ghost.json"
AT_ONCE = 64
"""Talks that are held and written together: a kill loses at most these."""
UNSEEN = 1
"""Added to the seed where talks are planned for measuring."""


class GhostSettings(DrawingSettings, TuningSettings):
    """Which instructions are to hold over which questions, and what is learned from dialogues in which they do."""

    instructions: list[InputPath] = Field(min_length=1)
    """JSON lines of {"instruction": ..., "check": {"contains" | "begins" | "ends" | "language": ...}}, with "short",
    "language" and "kind" where they are known."""
    questions: list[InputPath] = Field(min_length=1)
    """Prompts or dialogues: what a user first says there is asked."""
    validation_instructions: list[InputPath] = []
    """Instructions that are not learned from: the share of answers that obey them, before and after."""
    validation_questions: list[InputPath] = []
    dialogues: int = Field(default=400, gt=0)
    """That are held. Languages and kinds of instructions take turns."""
    turns: int = Field(default=6, gt=1)
    """Questions of the longest dialogues."""
    tries: int = Field(default=4, gt=0)
    """Answers that are drawn at most for each that can be learned from."""
    obeying: bool = True
    """Whether an answer has to obey to be learned from."""
    shortened: float = Field(default=0.5, ge=0, le=1)
    """The share of dialogues that are learned with the instruction in few words, where that is known."""
    loss: Literal["last", "every"] = "last"
    """last: on the last answer alone, in dialogues of every length from 2 to `turns`. every: on all answers of
    dialogues of `turns` questions; to a model that reads from left to right as if every turn were the last once."""
    measured: int = Field(default=200, gt=0)
    """Dialogues that recall is measured with."""
    trainer: Annotated[TrainerSettings, TUNED] = Field(default={})  # type: ignore[assignment]  # refused in its own words

    @model_validator(mode="after")
    def _goes_together(self) -> GhostSettings:
        check(self)
        if bool(self.validation_instructions) != bool(self.validation_questions):
            raise ValueError("validation_instructions and validation_questions go together: give both or neither")
        if "measured" in self.model_fields_set and not self.validation_instructions:
            raise ValueError("measured has no effect without validation_instructions")
        return self

    @property
    def lengths(self) -> list[int]:
        """Of the dialogues that are learned from."""
        return list(range(2, self.turns + 1)) if self.loss == "last" else [self.turns]

    def engine(self, model: Decoder, tokenizer: Tokenizer, instructions: Sequence[Instruction]) -> Engine:
        """With room for what is learned, and for the instruction in every turn."""
        longest = max(len(tokenizer.encode(one.instruction)) for one in instructions)
        room = self.trainer.sequence_length + self.turns * longest
        return Engine(model, tokenizer, max_batch=self.max_batch, max_length=min(model.config.longest, room))


def run(settings: GhostSettings, out: Path) -> dict[str, float]:
    """Write `talks.jsonl`, all dialogues that were held; `dialogues.jsonl`, those to be tuned on; the tuned model;
    `recall/`, what was said to unseen instructions; and `ghost.json`. Figures: counts, and recall by turn."""
    tuning = Tuning(settings)
    instructions, questions = read_instructions(settings.instructions), read_questions(settings.questions)
    unseen = _unseen(settings)

    @cache
    def untuned() -> Decoder:
        return load_model(settings.model, device=settings.trainer.training_device())

    talks = _held(settings, tuning.tokenizer, untuned, instructions, questions, out)
    dialogues, facts = _learned_from(settings, talks, out)
    sequences = _sequences(settings, tuning, dialogues)
    said = ("before", "every", *tuning.tokenizer.chat.roles)
    lines = {name: _recalled(settings, tuning.tokenizer, untuned, unseen, name, out) for name in BEFORE
             if unseen and name in said}
    untuned.cache_clear()
    model = tuning.load()
    figures = tuning.fit(model, next_token, tuning.packed(sequences, settings.trainer.rows), out)
    if unseen:
        model.to(settings.trainer.training_device())
        lines["after"] = _recalled(settings, tuning.tokenizer, lambda: model, unseen, "after", out)
        for table in (recall_table(lines), parts_table(lines)):
            print_result(table)
    write_json(out / FOUND, {**facts, "turns": settings.turns, "recall": lines})
    return {**figures, "held": float(facts["held"]), "dialogues": float(facts["dialogues"]),
            **{f"{name}.turn_{turn}": share["rate"] for name, line in lines.items()
               for turn, share in enumerate(line["all"], 1)}}


def _unseen(settings: GhostSettings) -> list[Talk]:
    if not settings.validation_instructions:
        return []
    return planned(read_instructions(settings.validation_instructions), read_questions(settings.validation_questions),
                   range(settings.measured), [settings.turns], settings.seed + UNSEEN)


def _held(settings: GhostSettings, tokenizer: Tokenizer, model: Callable[[], Decoder],
          instructions: list[Instruction], questions: dict[str, list[str]], out: Path) -> list[Talk]:
    """Talks with the instruction in every turn, written to `talks.jsonl`; what was held before is read."""
    if not (out / TALKS).exists():
        engine = settings.engine(model(), tokenizer, instructions)
        draw = obediently(engine, settings.params, settings.seed, settings.tries, checked=settings.obeying)

        def make(numbers: range) -> Rows:
            talks = planned(instructions, questions, numbers, settings.lengths, settings.seed)
            hold(engine, talks, "every", settings.max_tokens, draw)
            return [one.as_row() for one in talks]

        write_jsonl(out / TALKS, in_portions(settings.dialogues, AT_ONCE, make, out / PORTIONS, "dialogues"))
    shutil.rmtree(out / PORTIONS, ignore_errors=True)
    return [Talk.of_row(row) for row in read_jsonl(out / TALKS)]


def _learned_from(settings: GhostSettings, talks: list[Talk], out: Path) -> tuple[list[Dialogue], dict[str, Any]]:
    """Whole talks as dialogues with the instruction in the first turn alone, and what came of all. Raises `InputError`
    where none is whole."""
    left_out = Counter(one.broken for one in talks if one.broken)
    tell(left_out, len(talks), "dialogues")
    whole = [one for one in talks if not one.broken]
    if not whole:
        raise InputError(f"no dialogue can be learned from: {', '.join(left_out)}", where=out / TALKS,
                         fix="tune the model first on dialogues in which instructions are obeyed, raise tries, ask "
                             "fewer turns, or set obeying=false")
    dialogues = [Dialogue(written(_worded(one, settings), one.questions, one.answers, "first"),
                          one.instruction.language) for one in whole]
    write_jsonl(out / DIALOGUES, [{"messages": one.messages, "language": one.language, "kind": talk.instruction.kind}
                                  for one, talk in zip(dialogues, whole, strict=True)])
    asked = sum(one.asked for one in talks)
    said = [obeyed for one in talks for obeyed in one.obeyed]
    return dialogues, {"held": len(talks), "dialogues": len(whole), "left_out": dict(sorted(left_out.items())),
                       "answers_drawn": asked, "answers_kept": len(said), "obeyed": sum(said)}


def _worded(talk: Talk, settings: GhostSettings) -> str:
    """The instruction as it is learned, at times in few words."""
    one, draw = talk.instruction, random.Random(f"{settings.seed} {talk.number} words").random()
    return one.short if one.short and draw < settings.shortened else one.instruction


def _sequences(settings: GhostSettings, tuning: Tuning, dialogues: list[Dialogue]) -> list[Supervised]:
    """Ids and loss masks."""
    every, length = settings.loss == "every", settings.trainer.sequence_length
    if every and not tuning.tokenizer.chat.learns_every_answer:
        dialogues, every = answer_by_answer(dialogues), False
    rendered = render_all(dialogues, tuning.tokenizer, length, cut=False)
    return [(one.ids, one.loss_mask if every else last_answer(one)) for one in rendered]


def _recalled(settings: GhostSettings, tokenizer: Tokenizer, model: Callable[[], Decoder], unseen: list[Talk],
              name: str, out: Path) -> Recall:
    """A line of recall, its talks written to a file; one from before the training that is there is read."""
    path = out / RECALL / f"{name}.jsonl"
    if name not in BEFORE or not path.exists():
        talks = [replace(one, answers=[]) for one in unseen]
        engine = settings.engine(model(), tokenizer, [one.instruction for one in talks])
        hold(engine, talks, LINES[name].place, settings.max_tokens, greedily(engine, settings.max_tokens))
        write_jsonl(path, [one.as_row() for one in talks])
    return recall([Talk.of_row(row) for row in read_jsonl(path)])
