"""Rewards that need no model: what a rule can see in an answer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from headwater.align.answers import Answer
from headwater.dialogues.reading import in_language

Rule = Literal["right", "language", "brevity", "distinct", "careful"]
BRIEF = 100
"""Tokens of an answer whose brevity is a half."""
RUN = 4
"""Tokens that are looked at together where repetition is sought."""


def right(answer: Answer) -> float:
    """1 where the answer says what is expected, or nothing is; else 0. A number is not found inside another one."""
    expected = _plain(answer.prompt.expected)
    return float(re.search(rf"{_edge(expected[:1], '<!')}{re.escape(expected)}{_edge(expected[-1:], '!')}",
                           _plain(answer.text)) is not None)


def language(answer: Answer) -> float:
    """1 where the answer is in the language of the question, or has no letters; else 0."""
    return float(in_language(answer.text, answer.prompt.language))


def brevity(answer: Answer) -> float:
    """1 for no token, 1/2 for a hundred, towards 0 for more. With a negative weight, length is what is rewarded."""
    return BRIEF / (BRIEF + len(answer.ids))


def distinct(answer: Answer) -> float:
    """The share of the answer's runs of four tokens that are different ones (distinct-n, 1510.03055), above 0 to 1."""
    runs = [tuple(answer.ids[start : start + RUN]) for start in range(len(answer.ids) - RUN + 1)]
    return len(set(runs)) / len(runs) if runs else 1.0


def careful(answer: Answer) -> float:
    """0 where the answer says what is known to be careless, else 1."""
    careless = _plain(answer.prompt.careless)
    return float(not careless or careless not in _plain(answer.text))


RULES: dict[Rule, Callable[[Answer], float]] = {"right": right, "language": language, "brevity": brevity,
                                                "distinct": distinct, "careful": careful}
assert set(RULES) == set(get_args(Rule))


def by_rule(rule: Callable[[Answer], float]) -> Callable[[Sequence[Answer]], Tensor]:
    """A rule on one answer as a source of rewards."""
    return lambda answers: torch.tensor([rule(answer) for answer in answers], dtype=torch.float32)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _edge(character: str, beside: str) -> str:
    """What must not stand beside a word's or a number's end; other scripts have no such ends."""
    return f"(?{beside}[a-z0-9])" if re.match("[a-z0-9]", character) else ""
