"""Many answers to every prompt and what they are worth: sampled and kept portion by portion, the best of each found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from headwater.align.answers import Answer, Tally, read_answers, sample_answers, tell, usable
from headwater.align.portions import Rows, in_portions
from headwater.align.prompts import Prompt, read_prompts
from headwater.align.rewards import Scorer
from headwater.artifacts import read_jsonl, write_jsonl
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.sampling import SamplingParams
from headwater.model import Decoder
from headwater.settings import Change, InputPath, Settings
from headwater.tokenizer import Tokenizer

ANSWERS, PORTIONS = "answers.jsonl", "portions"
AT_ONCE = 256
"""Answers that are sampled, judged and written together: a kill loses at most these."""


class DrawingSettings(Settings):
    """How answers are drawn."""

    temperature: float = Field(default=1.0, gt=0, le=100)
    """Logits are divided by it."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the smallest set of most likely tokens whose mass is >= p."""
    max_tokens: int = Field(default=128, gt=0)
    """Of an answer; one that has not ended by then is not learned from."""
    max_batch: Annotated[int, Change.HOW] = Field(default=64, gt=0)
    """Answers that are sampled at once."""

    @property
    def params(self) -> SamplingParams:
        return SamplingParams(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)


class SamplingSettings(DrawingSettings):
    """What is asked, how often, and how answers are drawn."""

    prompts: list[InputPath] = Field(min_length=1)
    """JSON lines of {"messages": [...]} that end with what the user says, or of {"prompt": ...}."""
    answers: int = Field(default=16, gt=0)
    """To each prompt."""
    temperature: float = Field(default=1.2, gt=0, le=100)
    """LLaMA 2 found 1.2 to 1.3 best for 10 to 100 answers (2307.09288, section 3.2.3)."""

    def engine(self, model: Decoder, tokenizer: Tokenizer, paths: list[Path]) -> tuple[Engine, list[Prompt]]:
        """With slots as long as the longest prompt and its answer. Raises `InputError` where no answer has room."""
        room = model.config.longest - self.max_tokens
        if room < 1:
            raise InputError(f"answers of {self.max_tokens} tokens leave no room for a prompt in a context of "
                             f"{model.config.longest}", where="max_tokens", fix="lower it")
        prompts = read_prompts(paths, tokenizer, room)
        longest = max(len(one.ids) for one in prompts) + self.max_tokens
        return Engine(model, tokenizer, max_batch=self.max_batch, max_length=longest), prompts


class Candidate(NamedTuple):
    """An answer and what it is worth."""

    answer: Answer
    reward: float
    earlier: bool = False
    """Of an earlier round."""


def best_of(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best answer to every prompt, of equals the first, in the order in which prompts were first answered."""
    found: dict[str, Candidate] = {}
    for one in candidates:
        asked = json.dumps(one.answer.prompt.messages)
        if asked not in found or one.reward > found[asked].reward:
            found[asked] = one
    return list(found.values())


def with_usable(candidates: Sequence[Candidate], tally: Tally) -> list[Candidate]:
    """Those that can be learned from; the others are counted."""
    rewards = _numbers([one.reward for one in candidates])
    good = usable([one.answer for one in candidates], rewards, tally)
    return [one for one, yes in zip(candidates, good, strict=True) if yes]


def sampled(settings: SamplingSettings, engine: Engine, prompts: list[Prompt], score: Scorer, seed: int, out: Path
            ) -> list[list[Candidate]]:
    """All answers to each prompt, written to `answers.jsonl`; what was sampled before is read, not sampled again."""
    if not (out / ANSWERS).exists():
        rows = list(_portions(settings, engine, prompts, score, seed, out / PORTIONS))
        rewards = score.total({name: _numbers([row["parts"][name] for row in rows]) for name in rows[0]["parts"]})
        write_jsonl(out / ANSWERS, [{**row, "reward": _told(reward)} for row, reward in zip(rows, rewards.tolist())])
    shutil.rmtree(out / PORTIONS, ignore_errors=True)
    found = [Candidate(Answer(prompts[row["prompt"]], row["ids"], row["text"], row["ended"]), _number(row["reward"]))
             for row in read_jsonl(out / ANSWERS)]
    return [found[start : start + settings.answers] for start in range(0, len(found), settings.answers)]


def _portions(settings: SamplingSettings, engine: Engine, prompts: list[Prompt], score: Scorer, seed: int, folder: Path
              ) -> Iterator[dict[str, Any]]:
    """Rows of answers with their parts."""
    def make(places: range) -> Rows:
        asked = prompts[places.start : places.stop]
        found = sample_answers(engine, asked, settings.answers, settings.params, seed, first=places.start)
        answers = [answer for own in found for answer in own]
        parts = score.parts(answers)
        return [{"prompt": places.start + number // settings.answers, "text": answer.text, "ids": answer.ids,
                 "ended": answer.ended,
                 "parts": {name: _told(float(said[number])) for name, said in parts.items()}}
                for number, answer in enumerate(answers)]

    return in_portions(len(prompts), max(1, AT_ONCE // settings.answers), make, folder, "sampling")


def earlier(paths: list[Path], tokenizer: Tokenizer, score: Scorer) -> list[Candidate]:
    """The best answers of earlier rounds that can be learned from, judged again."""
    answers = read_answers(paths, tokenizer)
    if not answers:
        return []
    tally: Tally = Tally()
    kept = with_usable([Candidate(answer, reward, earlier=True)
                        for answer, reward in zip(answers, score(answers).total.tolist(), strict=True)], tally)
    tell(tally, len(answers))
    return kept


def _told(value: float) -> float | None:
    """JSON has no word for what is not finite."""
    return value if abs(value) < float("inf") else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _numbers(values: Sequence[float | None]) -> Tensor:
    return torch.tensor([_number(value) for value in values], dtype=torch.float32)
