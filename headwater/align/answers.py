"""What a model answers when it is sampled, and which of its answers can be learned from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from headwater.align.prompts import Prompt
from headwater.generate.engine import Engine
from headwater.generate.request import Completion
from headwater.generate.sampling import SamplingParams
from headwater.progress import say
from headwater.tokenizer import Message

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


def sample_answers(engine: Engine, prompts: Sequence[Prompt], count: int, params: SamplingParams, seed: int
                   ) -> list[list[Answer]]:
    """`count` answers to each prompt; each one's draws depend on the seed, its prompt's place and its number alone, and
    so do not change when `count` grows."""
    each = [params.model_copy(update={"seed": _seed(seed, place, number)})
            for place in range(len(prompts)) for number in range(count)]
    completions = engine.generate([prompt.ids for prompt in prompts for _ in range(count)], each)
    answers = [_answer(prompt, completion) for prompt, completion in
               zip((prompt for prompt in prompts for _ in range(count)), completions, strict=True)]
    return [answers[start : start + count] for start in range(0, len(answers), count)]


def _answer(prompt: Prompt, completion: Completion) -> Answer:
    mark = completion.end_mark
    return Answer(prompt, completion.tokens if mark is None else [*completion.tokens, mark], completion.text,
                  mark is not None)


def _seed(*numbers: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big") >> 1


def usable(answers: Sequence[Answer], rewards: Tensor, tally: Tally) -> list[bool]:
    """Which answers can be learned from; the others are counted by their reason. rewards: float [N]."""
    found = []
    for answer, reward in zip(answers, rewards.tolist(), strict=True):
        reason = _unusable(answer, reward)
        if reason:
            tally[reason] += 1
        found.append(not reason)
    return found


def _unusable(answer: Answer, reward: float) -> str:
    if not answer.text.strip():
        return "empty answers"
    if not answer.ended:
        return "answers that did not end in the room given"
    if reward != reward or abs(reward) == float("inf"):
        return "answers whose reward is no finite number"
    return ""


def tell(tally: Tally, every: int) -> None:
    """Say what was left out of so many answers."""
    for reason, count in tally.most_common():
        say(f"of {every:,} answers, {count:,} are left out: {reason}")
