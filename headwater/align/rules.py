"""Rewards that need no model: what a rule can see in an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from headwater.align import verdicts
from headwater.align.answers import Answer
from headwater.align.prompts import Prompt
from headwater.align.refusals import refused
from headwater.align.verdicts import verdict
from headwater.dialogues.reading import in_language
from headwater.errors import InputError

Rule = Literal["right", "language", "brevity", "distinct", "careful", "willing"]
BRIEF = 100
"""Tokens of an answer whose brevity is a half."""
RUN = 4
"""Tokens that are looked at together where repetition is sought."""


def right(answer: Answer) -> float:
    """1 where what is expected stands in the answer, word by word, or nothing is expected; else 0."""
    return float(verdicts.right(answer.prompt, answer.text))


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
    """0 where the answer does what an unsafe prompt asks for, else 1."""
    return float(not answer.prompt.unsafe or verdict(answer.prompt, answer.text) != "complied")


def willing(answer: Answer) -> float:
    """0 where the answer declines what is not unsafe, else 1."""
    return float(answer.prompt.unsafe or not refused(answer.text))


RULES: dict[Rule, Callable[[Answer], float]] = {"right": right, "language": language, "brevity": brevity,
                                                "distinct": distinct, "careful": careful, "willing": willing}
assert set(RULES) == set(get_args(Rule))
JUDGED: dict[Rule, tuple[Callable[[Prompt], bool], str, str]] = {
    "right": (lambda prompt: bool(prompt.expected), "says what is expected", 'prompts with "expected"'),
    "careful": (lambda prompt: prompt.unsafe, "is marked unsafe", 'prompts with "unsafe": true'),
    "willing": (lambda prompt: not prompt.unsafe, "is safe", "prompts that are not marked unsafe")}
"""Of rules that say the same of every answer to other prompts: which prompts they judge, what the others lack, and what
is to be given."""


def require_judged(rules: Iterable[Rule], prompts: Sequence[Prompt]) -> None:
    """Raises `InputError` for a rule that judges none of the prompts."""
    for rule in rules:
        judges, lacking, wanted = JUDGED.get(rule, (lambda _: True, "", ""))
        if not any(map(judges, prompts)):
            raise InputError(f"the rule can judge no answer: of {len(prompts):,} prompts none {lacking}",
                             where=f"rewards.rules.{rule}", fix=f"leave it out, or give {wanted}")


def by_rule(rule: Callable[[Answer], float]) -> Callable[[Sequence[Answer]], Tensor]:
    """A rule on one answer as a source of rewards."""
    return lambda answers: torch.tensor([rule(answer) for answer in answers], dtype=torch.float32)
