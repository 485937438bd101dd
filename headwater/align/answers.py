"""What a model answers when it is sampled, and which of its answers can be learned from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from headwater.align.prompts import Prompt, prompt_of
from headwater.align.reward_model import judged_ids
from headwater.dialogues.rows import Row, read_rows
from headwater.errors import InputError
from headwater.generate.engine import Engine
from headwater.generate.request import Completion
from headwater.generate.sampling import SamplingParams
from headwater.progress import say
from headwater.tokenizer import Message, Tokenizer

Tally = Counter[str]
"""Answers that are left out, by the reason."""


class Answer(NamedTuple):
    """One answer to a prompt."""

    prompt: Prompt
    ids: list[int]
    """As it was sampled, with the mark that ended it where it ended."""
    text: str
    ended: bool
    """By a mark of its own, not because there was no more room."""

    @property
    def whole(self) -> list[int]:
        """Prompt and answer."""
        return self.prompt.ids + self.ids

    @property
    def messages(self) -> list[Message]:
        return [*self.prompt.messages, {"role": "assistant", "content": self.text}]


def sample_answers(engine: Engine, prompts: Sequence[Prompt], count: int, params: SamplingParams, seed: int, *,
                   first: int = 0) -> list[list[Answer]]:
    """`count` answers to each prompt; each one's draws depend on the seed, its prompt's place and its number alone, and
    so do not change when `count` grows. first: the place of the first of these prompts among all."""
    each = [seeded(params, seed, place, number)
            for place in range(first, first + len(prompts)) for number in range(count)]
    answers = ask(engine, [prompt for prompt in prompts for _ in range(count)], each)
    return [answers[start : start + count] for start in range(0, len(answers), count)]


def ask(engine: Engine, prompts: Sequence[Prompt], params: SamplingParams | list[SamplingParams]) -> list[Answer]:
    """An answer to each prompt."""
    completions = engine.generate([prompt.ids for prompt in prompts], params)
    return [_answer(prompt, completion) for prompt, completion in zip(prompts, completions, strict=True)]


def _answer(prompt: Prompt, completion: Completion) -> Answer:
    mark = completion.end_mark
    return Answer(prompt, completion.tokens if mark is None else [*completion.tokens, mark], completion.text,
                  mark is not None)


def seeded(params: SamplingParams, *numbers: int) -> SamplingParams:
    """With draws that depend on these numbers alone."""
    seed = int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big") >> 1
    return params.model_copy(update={"seed": seed})


def read_answers(paths: list[Path], tokenizer: Tokenizer) -> list[Answer]:
    """Dialogues that end with an answer, and what is known of their prompts, as answers: they are rows of prompts with
    one more message. Raises `InputError` with file and line."""
    found = []
    for row in (row for path in paths for row in read_rows(path)):
        messages = row.value.get("messages") if isinstance(row.value, dict) else None
        last: Any = messages[-1] if isinstance(messages, list) and messages else None
        if not isinstance(last, dict) or last.get("role") != "assistant" or not isinstance(last.get("content"), str):
            raise InputError("expected a dialogue that ends with an answer", where=row.place, fix="correct the row")
        prompt = prompt_of(Row({**row.value, "messages": row.value["messages"][:-1]}, row.place), tokenizer)
        said: Message = {"role": "assistant", "content": last["content"]}
        whole = judged_ids([*prompt.messages, said], tokenizer)
        found.append(Answer(prompt, whole[len(prompt.ids):], last["content"], True))
    return found


def usable(answers: Sequence[Answer], rewards: Tensor, tally: Tally) -> list[bool]:
    """Which answers can be learned from; the others are counted by their reason. rewards: float [N]."""
    found = []
    for answer, reward in zip(answers, rewards.tolist(), strict=True):
        reason = unusable(answer, reward)
        if reason:
            tally[reason] += 1
        found.append(not reason)
    return found


def unusable(answer: Answer, reward: float = 0.0) -> str:
    """Why an answer cannot be learned from; empty for one that can."""
    if not answer.text.strip():
        return "empty answers"
    if not answer.ended:
        return "answers that did not end in the room given"
    if reward != reward or abs(reward) == float("inf"):
        return "answers whose reward is no finite number"
    return ""


def tell(tally: Tally, every: int, what: str = "answers") -> None:
    """Say what was left out of so many answers."""
    for reason, count in tally.most_common():
        say(f"of {every:,} {what}, {count:,} are left out: {reason}")
